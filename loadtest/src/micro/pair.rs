//! What a second serving thread adds: the cycle on two pinned threads at once, beside each of them alone in the same run.
//!
//! The two share what the serving threads of a node share (deployment, counters, what the host offers) and have the rest each
//! for themselves: engine, pool, program. A second figure is with one engine for both. Cycles a second, by the clock: a thread that waits for the other has no CPU time to show for it. Turns are
//! short and interleaved, so that a machine that drifts drifts for all; the figure is the median of the rounds.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    guest::{Bench, pin_to},
    host::{Host, Shared},
    measure::{Cycle, cycles},
};
use crate::{
    Verdict,
    statistics::Summary,
    under_load::usage::{Machine, Usage},
};

/// Cycles a second of two threads together, for each of one.
const GOAL: f64 = 1.9;
/// Each has three turns: one thread, the other, both.
const ROUNDS: usize = 15;
/// Of one turn. Longer than the scheduler's and the epoch's ticks, short beside what makes a machine drift.
const TURN: Duration = Duration::from_millis(40);
/// Before the first.
const WARM_UP: Duration = Duration::from_millis(300);
/// Cycles between two looks at the clock.
const CYCLES_PER_LOOK: u64 = 16;
/// Part of a core that others may have meanwhile.
const OTHERS_MAX: f64 = 0.05;
/// Part of a core that the machine's own host may take meanwhile.
const STOLEN_MAX: f64 = 0.005;

/// The result, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Pair {
    Measured {
        /// Cycles a second of both at once over the mean of each alone.
        ratio: Summary,
        goal: f64,
        /// Cores that others were busy on meanwhile.
        others: f64,
        /// Cores that the machine's own host took meanwhile.
        stolen: f64,
    },
    NotMeasured {
        reason: String,
    },
}

impl Pair {
    /// Against [`GOAL`]; a machine of one core has none.
    pub fn verdict(&self) -> Verdict {
        match self {
            Pair::Measured { ratio, goal, .. } if ratio.median >= *goal => Verdict::Met,
            Pair::Measured { .. } => Verdict::NotMet,
            Pair::NotMeasured { .. } => Verdict::NoGoal,
        }
    }

    /// The figure, if there is one.
    pub fn ratio(&self) -> Option<&Summary> {
        match self {
            Pair::Measured { ratio, .. } => Some(ratio),
            Pair::NotMeasured { .. } => None,
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        match self {
            Pair::NotMeasured { reason } => format!("not measured: {reason}"),
            Pair::Measured { ratio, goal, others, stolen } => {
                let mut text = format!(
                    "{:.2} times one [{:.2}..{:.2}] (goal at least {goal:.1}: {})",
                    ratio.median,
                    ratio.min,
                    ratio.max,
                    self.verdict().text()
                );
                if *others > OTHERS_MAX {
                    text +=
                        &format!("; WARNING: others were busy on {others:.2} cores: fewer than 2 were free");
                }
                if *stolen > STOLEN_MAX {
                    text += &format!("; WARNING: {stolen:.3} cores were stolen");
                }
                text
            }
        }
    }
}

/// Measures a guest on the last two cores.
pub fn measure(bench: &Bench, shared: [&Shared; 2]) -> anyhow::Result<Pair> {
    let [.., one, other] = bench.cores[..] else {
        return Ok(Pair::NotMeasured { reason: "this process may use one core only".to_owned() });
    };
    let before = (Instant::now(), Machine::now()?, Usage::of(&[std::process::id()])?);
    let together = Barrier::new(2);
    let (one, other) = thread::scope(|scope| {
        let on = |core: usize, index: usize| {
            let together = &together;
            scope.spawn(move || one_thread(core, index, together, || Host::of(shared[index].clone())))
        };
        let (one, other) = (on(one, 0), on(other, 1));
        (one.join(), other.join())
    });
    let panicked = |_| anyhow::anyhow!("a measuring thread panicked");
    let (one, other) = (one.map_err(panicked)??, other.map_err(panicked)??);
    let ratios: Vec<f64> = one.iter().zip(&other).map(|(one, other)| ratio(*one, *other)).collect();
    let ratio = Summary::of(&ratios).ok_or_else(|| anyhow::anyhow!("no round was measured"))?;
    let elapsed = before.0.elapsed().as_secs_f64();
    let (machine, own) = (Machine::now()?, Usage::of(&[std::process::id()])?);
    let busy = machine.busy.saturating_sub(before.1.busy);
    let others = busy.saturating_sub(own.cpu.saturating_sub(before.2.cpu));
    let stolen = machine.stolen.saturating_sub(before.1.stolen);
    let cores = |time: Duration| time.as_secs_f64() / elapsed;
    Ok(Pair::Measured { ratio, goal: GOAL, others: cores(others), stolen: cores(stolen) })
}

/// Cycles a second of one thread in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    alone: f64,
    beside: f64,
}

fn ratio(one: Round, other: Round) -> f64 {
    (one.beside + other.beside) / ((one.alone + other.alone) / 2.0)
}

/// What a thread does in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Alone,
    Idle,
    Beside,
}

/// The turns of the first thread and of the second.
const TURNS: [[Turn; 3]; 2] =
    [[Turn::Alone, Turn::Idle, Turn::Beside], [Turn::Idle, Turn::Alone, Turn::Beside]];

/// All rounds of one thread. One that fails still keeps its turns, since the other waits for it.
fn one_thread<C: Cycle>(
    core: usize,
    index: usize,
    together: &Barrier,
    make: impl FnOnce() -> anyhow::Result<C>,
) -> anyhow::Result<Vec<Round>> {
    pin_to(core);
    wasmtime::Engine::tls_eager_initialize();
    let mut ready = super::runtime().and_then(|runtime| {
        let host = make()?;
        rate(&runtime, &host, WARM_UP)?;
        Ok((runtime, host))
    });
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = Round::default();
        for turn in TURNS[index] {
            together.wait();
            let measured = match (&ready, turn) {
                (Ok((runtime, host)), Turn::Alone | Turn::Beside) => rate(runtime, host, TURN),
                _ => Ok(0.0),
            };
            together.wait();
            match (measured, turn) {
                (Ok(rate), Turn::Alone) => round.alone = rate,
                (Ok(rate), Turn::Beside) => round.beside = rate,
                (Ok(_), Turn::Idle) => {}
                (Err(error), _) => ready = Err(error),
            }
        }
        rounds.push(round);
    }
    ready.map(|_| rounds)
}

/// Cycles a second for this long.
fn rate(runtime: &tokio::runtime::LocalRuntime, host: &impl Cycle, turn: Duration) -> anyhow::Result<f64> {
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < turn {
        runtime.block_on(cycles(host, CYCLES_PER_LOOK))?;
        done += CYCLES_PER_LOOK;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Mutex};

    use super::{super::measure::Spent, *};

    /// Takes a tenth of a millisecond, under a lock if there is one.
    struct Sleeps<'a>(Option<&'a Mutex<()>>);

    impl Cycle for Sleeps<'_> {
        async fn cycle(&self) -> anyhow::Result<Spent> {
            let _held = self.0.map(|lock| lock.lock().unwrap());
            thread::sleep(Duration::from_micros(100));
            Ok(Spent::default())
        }
    }

    fn both(lock: Option<&Mutex<()>>) -> f64 {
        let together = Barrier::new(2);
        let (one, other) = thread::scope(|scope| {
            let on = |index: usize| {
                let together = &together;
                scope.spawn(move || one_thread(0, index, together, || Ok(Sleeps(lock))).unwrap())
            };
            let (one, other) = (on(0), on(1));
            (one.join().unwrap(), other.join().unwrap())
        });
        let ratios: Vec<f64> = one.iter().zip(&other).map(|(one, other)| ratio(*one, *other)).collect();
        Summary::of(&ratios).unwrap().median
    }

    #[test]
    fn two_that_do_not_meet_do_twice_as_much_and_two_that_share_a_lock_do_not() {
        let (free, locked) = (both(None), both(Some(&Mutex::new(()))));
        assert!((1.7..2.3).contains(&free), "{free}");
        assert!(locked < 1.4, "{locked}");
    }

    /// Fails after some cycles.
    struct Fails(Cell<u32>);

    impl Cycle for Fails {
        async fn cycle(&self) -> anyhow::Result<Spent> {
            self.0.set(self.0.get() + 1);
            thread::sleep(Duration::from_millis(1));
            anyhow::ensure!(self.0.get() < 1_000, "out of cycles");
            Ok(Spent::default())
        }
    }

    #[test]
    fn one_that_fails_does_not_leave_the_other_waiting() {
        let together = Barrier::new(2);
        let (failing, fine) = thread::scope(|scope| {
            let failing = scope.spawn(|| one_thread(0, 0, &together, || Ok(Fails(Cell::new(0)))));
            let fine = scope.spawn(|| one_thread(0, 1, &together, || Ok(Sleeps(None))));
            (failing.join().unwrap(), fine.join().unwrap())
        });
        assert!(failing.unwrap_err().to_string().contains("out of cycles"));
        assert_eq!(fine.unwrap().len(), ROUNDS);
    }

    #[test]
    fn what_makes_the_figure_doubtful_is_said() {
        let ratio = Summary { median: 1.95, min: 1.9, max: 1.99 };
        let quiet = Pair::Measured { ratio, goal: GOAL, others: 0.01, stolen: 0.0 };
        assert_eq!((quiet.verdict(), quiet.text().contains("WARNING")), (Verdict::Met, false));
        let busy = Pair::Measured { ratio, goal: GOAL, others: 0.4, stolen: 0.1 };
        assert!(
            busy.text().contains("busy on 0.40 cores") && busy.text().contains("0.100 cores were stolen")
        );
        let ratio = Summary { median: 1.89, ..ratio };
        let slow = Pair::Measured { ratio, goal: GOAL, others: 0.0, stolen: 0.0 };
        assert_eq!(slow.verdict(), Verdict::NotMet);
        let alone = Pair::NotMeasured { reason: "one core".into() };
        assert_eq!((alone.verdict(), alone.text()), (Verdict::NoGoal, "not measured: one core".to_owned()));
    }
}
