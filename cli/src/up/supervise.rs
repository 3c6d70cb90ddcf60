//! Watching the parts: one that ends unexpectedly is started again, after a pause that doubles while it keeps ending.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{layout::Layout, part::Part, start::Fleet, stop::Stop};

/// How often the parts are looked at.
const LOOK_MS: u64 = 50;
/// How often the logs' sizes are looked at.
const TRIM_S: u64 = 5;
/// Pause before the first restart.
const PAUSE_MS_MIN: u64 = 100;
/// Longest pause: a part that cannot start is tried, and complained about, this often.
const PAUSE_MS_MAX: u64 = 10_000;
/// A part that ran this long is healthy: its next end starts with the first pause again.
const HEALTHY_S: u64 = 30;

/// What is known of a part that is watched.
struct Watch {
    started: Instant,
    /// Ends in a row.
    ends: u32,
    state: State,
}

enum State {
    Running,
    /// Ended; to be started then.
    Resting(Instant),
    /// Started again, not ready yet.
    Starting,
}

/// Returns when it is time to stop.
pub fn until_stopped(fleet: &mut Fleet, layout: &Layout, ready_file: Option<&Path>, stop: &Stop) {
    let begin = Instant::now();
    let mut watches: Vec<Watch> =
        fleet.parts.iter().map(|_| Watch { started: begin, ends: 0, state: State::Running }).collect();
    let mut trim_at = begin + Duration::from_secs(TRIM_S);
    while !stop.is_raised() {
        let now = Instant::now();
        for (part, watch) in fleet.parts.iter_mut().zip(&mut watches) {
            if watch.look(part, now) == Look::ReadyAgain {
                eprintln!("{} is back (process {})", part.server, part.pid());
                fleet.ready.processes.insert(part.server.to_owned(), part.pid());
                if let Err(error) = fleet.ready.write(layout, ready_file) {
                    eprintln!("{}", error.report());
                }
            }
        }
        if now >= trim_at {
            fleet.parts.iter().for_each(Part::trim_log);
            trim_at = now + Duration::from_secs(TRIM_S);
        }
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

#[derive(PartialEq)]
enum Look {
    Nothing,
    ReadyAgain,
}

impl Watch {
    fn look(&mut self, part: &mut Part, now: Instant) -> Look {
        match self.state {
            State::Running | State::Starting => {
                if let Some(status) = part.ended() {
                    self.rest(part.server, &status.to_string(), part.log(), now);
                } else if matches!(self.state, State::Starting) && part.ready::<serde_json::Value>().is_some()
                {
                    self.state = State::Running;
                    return Look::ReadyAgain;
                }
            }
            State::Resting(until) if now >= until => {
                self.started = now;
                match part.restart() {
                    Ok(()) => self.state = State::Starting,
                    Err(error) => self.rest(part.server, &error.report(), part.log(), now),
                }
            }
            State::Resting(_) => {}
        }
        Look::Nothing
    }

    fn rest(&mut self, server: &str, why: &str, log: &Path, now: Instant) {
        if now.duration_since(self.started) >= Duration::from_secs(HEALTHY_S) {
            self.ends = 0;
        }
        let pause = pause(self.ends);
        self.ends = self.ends.saturating_add(1);
        self.state = State::Resting(now + pause);
        eprintln!(
            "{server} ended ({why}); starting it again in {} ms; its log is {}",
            pause.as_millis(),
            log.display()
        );
    }
}

fn pause(ends: u32) -> Duration {
    let doubled = PAUSE_MS_MIN.saturating_mul(1 << ends.min(20));
    Duration::from_millis(doubled.min(PAUSE_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let ms: Vec<_> = [0, 1, 2, 6, 7, 1000].map(|ends| pause(ends).as_millis()).to_vec();
        assert_eq!(ms, [100, 200, 400, 6400, 10_000, 10_000]);
    }
}
