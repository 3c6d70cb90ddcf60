//! What `loadtest neighbours` prints.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Args, attack::Attacked, bills::Bills, load::Asked};
use crate::{Verdict, machine::Machine, statistics::Summary, stop::STOPPED};

/// Of one tenant, and of many.
pub const PHASES: usize = 2;
/// Part of the good tenant's questions that must be answered.
const ANSWERED_PERCENT_MIN: f64 = 99.0;
/// p99 under attack over p99 in peace.
const P99_RATIO_MAX: f64 = 2.0;
/// CPU of a killed loop over its limit.
pub const LOOP_OVER_MS_MAX: f64 = 10.0;
/// The limit that kills: the default of an app.
const CPU_LIMIT_MS: f64 = 50.0;

/// Times of the good tenant's answers, in µs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Times {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One attack as it is reported.
#[derive(Debug, Serialize)]
pub struct Phase {
    pub name: &'static str,
    pub asked: u64,
    pub answered_percent: f64,
    pub times: Option<Times>,
    /// Hostile answers that were not a killed guest's.
    pub refused: u64,
    pub killed: u64,
    pub killed_loops: usize,
    pub killed_fills: usize,
    /// CPU beyond the limit by their own bills.
    pub loop_over_ms: Over,
    pub fill_over_ms: Over,
    /// The dearest of those that filled their memory once and ended, instance and teardown included.
    pub one_fill_ms: f64,
}

/// See [`Phase::loop_over_ms`].
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Over {
    pub median: f64,
    pub max: f64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub hostile: u32,
    pub fill_mib: u32,
    pub threads: u32,
    pub seconds: u64,
    /// What one core answers, and what the good tenant asks. None, as what follows, if it was told to stop before.
    pub per_second_max: Option<f64>,
    pub per_second: Option<f64>,
    pub quiet: Option<Times>,
    pub phases: Vec<Phase>,
    pub stopped: bool,
    pub verdict: Verdict,
}

/// What was measured, in this order.
#[derive(Debug, Default)]
pub struct Found {
    pub per_second_max: Option<f64>,
    pub quiet: Option<Times>,
    pub phases: Vec<Phase>,
}

impl Times {
    pub fn of(asked: &Asked) -> Option<Times> {
        let us = |part| asked.latency_ns.value_at_quantile(part) as f64 / 1e3;
        let times = Times { p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999), max_us: us(1.0) };
        (asked.answered > 0).then_some(times)
    }
}

impl Phase {
    pub fn new(name: &'static str, asked: Asked, attacked: &Attacked, bills: &Bills) -> Phase {
        let killed = |app| bills.take(app, Some("cpu_limit"));
        let over = |us: &[f64]| {
            let ms: Vec<f64> = us.iter().map(|us| us / 1e3 - CPU_LIMIT_MS).collect();
            Summary::of(&ms).map_or(Over::default(), |ms| Over { median: ms.median, max: ms.max })
        };
        let (loops, fills) = (killed("loop"), killed("fill"));
        Phase {
            name,
            asked: asked.asked,
            answered_percent: 100.0 * asked.answered as f64 / asked.asked.max(1) as f64,
            times: Times::of(&asked),
            // A 200 is of one that fills once, to learn what that costs now.
            refused: attacked.statuses.values().sum::<u64>() - attacked.with(504) - attacked.with(200)
                + attacked.errors,
            killed: attacked.with(504),
            killed_loops: loops.len(),
            killed_fills: fills.len(),
            loop_over_ms: over(&loops),
            fill_over_ms: over(&fills),
            one_fill_ms: bills
                .take("fill-once", None)
                .into_iter()
                .chain(killed("fill-once"))
                .fold(0.0, |most, us| f64::max(most, us / 1e3)),
        }
    }
}

impl Report {
    pub fn new(machine: Machine, args: &Args, found: Found, stopped: bool) -> Report {
        let Found { per_second_max, quiet, phases } = found;
        let met = |phase: &Phase| {
            let in_time =
                |times: Times| quiet.is_some_and(|quiet| times.p99_us <= P99_RATIO_MAX * quiet.p99_us);
            phase.answered_percent >= ANSWERED_PERCENT_MIN
                && phase.times.is_some_and(in_time)
                && phase.loop_over_ms.max <= LOOP_OVER_MS_MAX
                && phase.fill_over_ms.max <= phase.one_fill_ms
                && phase.killed_loops > 0
                && phase.killed_fills > 0
        };
        let all_met = phases.len() == PHASES && phases.iter().all(met);
        Report {
            machine,
            hostile: args.hostile,
            fill_mib: args.fill_mib,
            threads: args.threads,
            seconds: args.seconds,
            per_second_max,
            per_second: per_second_max.map(|most| most * args.part()),
            quiet,
            phases,
            stopped,
            verdict: if all_met { Verdict::Met } else { Verdict::NotMet },
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.text());
        if self.stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        let _ = writeln!(
            text,
            "\n{} serving threads; {} loops and {} fills of {} MiB in flight, {} s each",
            self.threads, self.hostile, self.hostile, self.fill_mib, self.seconds,
        );
        if let (Some(most), Some(asked)) = (self.per_second_max, self.per_second) {
            let _ = writeln!(text, "the good tenant: {most:.0} requests/s at most, asks {asked:.0}/s");
        }
        text.push('\n');
        let Some(quiet) = &self.quiet else { return text };
        let row = |text: &mut String, name: &str, answered: f64, times: &Times| {
            let Times { p50_us, p99_us, p999_us, max_us } = times;
            let ratio = p99_us / quiet.p99_us;
            let _ = writeln!(
                text,
                "{name:<18} answered {answered:>6.2} %  p50 {p50_us:>7.0}  p99 {p99_us:>7.0}  p99.9 {p999_us:>8.0}  max {max_us:>8.0} µs  p99/quiet {ratio:.2}"
            );
        };
        row(&mut text, "quiet", 100.0, quiet);
        for phase in &self.phases {
            match &phase.times {
                Some(times) => row(&mut text, phase.name, phase.answered_percent, times),
                None => text.push_str("nothing was answered\n"),
            }
        }
        text.push('\n');
        for phase in &self.phases {
            let Phase {
                name,
                killed,
                refused,
                killed_loops,
                killed_fills,
                loop_over_ms,
                fill_over_ms,
                one_fill_ms,
                ..
            } = phase;
            let _ = writeln!(
                text,
                "{name:<18} killed {killed} ({refused} other answers); over 50 ms CPU: {killed_loops} loops {:.2} ms, at most {:.2}; {killed_fills} fills {:.2} ms, at most {:.2}; one whole fill {one_fill_ms:.2}",
                loop_over_ms.median, loop_over_ms.max, fill_over_ms.median, fill_over_ms.max,
            );
        }
        let _ = writeln!(
            text,
            "\ngoals: answered >= {ANSWERED_PERCENT_MIN} %, p99 <= {P99_RATIO_MAX} x quiet, loops <= {LOOP_OVER_MS_MAX} ms over, fills <= one fill over: {}",
            if self.phases.len() == PHASES { self.verdict.text() } else { "not measured" }
        );
        text
    }
}
