//! What `loadtest compile` prints.

use std::fmt::Write as _;

use artifact::Target;
use serde::Serialize;

use super::service::Answer;
use crate::{Verdict, machine::Machine, statistics::Spread};

/// A small component for all levels, nothing known of it: the median at most.
const AT_ONCE_GOAL_MS: f64 = 300.0;
/// A program with another script: of its functions at most.
const COMPILED_GOAL: f64 = 0.1;
/// And of its time without what is known.
const TIME_GOAL: f64 = 0.5;

/// All levels, asked for at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct AtOnce {
    pub levels: usize,
    pub ms: Spread,
    /// Processor time of all jobs of a run, in ms.
    pub cpu_ms: f64,
}

/// A program for one level, alone on the machine.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    pub target: Target,
    pub ms: f64,
    /// Processor time of its job.
    pub cpu_s: f64,
    /// Signed and compressed.
    pub artifact_bytes: usize,
}

/// A program for each level.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    pub name: String,
    pub wasm_bytes: usize,
    /// Of the largest of its jobs, resident.
    pub job_peak_bytes: u64,
    pub levels: Vec<Level>,
}

/// A program after another like it.
#[derive(Debug, Clone, Serialize)]
pub struct Again {
    pub name: String,
    pub target: Target,
    pub without_ms: f64,
    /// The one before, which found nothing and left its functions.
    pub learning_ms: f64,
    pub ms: f64,
    /// Processor time of the jobs without and with functions.
    pub without_cpu_s: f64,
    pub cpu_s: f64,
    pub found: u64,
    pub compiled: u64,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub hello: String,
    pub at_once: AtOnce,
    pub programs: Vec<Program>,
    pub again: Again,
    pub verdict: Verdict,
}

impl Level {
    pub fn new(target: Target, answer: &Answer) -> Level {
        Level { target, ms: answer.ms, cpu_s: answer.cpu_s, artifact_bytes: answer.blob.len() }
    }
}

impl Again {
    fn part_compiled(&self) -> f64 {
        self.compiled as f64 / (self.found + self.compiled).max(1) as f64
    }

    fn part_of_time(&self) -> f64 {
        self.ms / self.without_ms
    }
}

impl Report {
    pub fn new(
        machine: Machine,
        hello: String,
        at_once: AtOnce,
        programs: Vec<Program>,
        again: Again,
    ) -> Report {
        let met = at_once.ms.p50 <= AT_ONCE_GOAL_MS
            && again.part_compiled() <= COMPILED_GOAL
            && again.part_of_time() <= TIME_GOAL;
        let verdict = if met { Verdict::Met } else { Verdict::NotMet };
        Report { machine, hello, at_once, programs, again, verdict }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Report { machine, hello, at_once: AtOnce { levels, ms, cpu_ms }, programs, again, .. } = self;
        let mut text = format!("{}\n", machine.text());
        let _ = writeln!(
            text,
            "\n{hello} for {levels} levels at once, nothing known: p50 {:.0} ms, max {:.0} ms, {cpu_ms:.0} ms of processor time (goal p50 {AT_ONCE_GOAL_MS:.0} ms: {})",
            ms.p50,
            ms.max,
            reached(ms.p50 <= AT_ONCE_GOAL_MS),
        );
        for program in programs {
            program.text(&mut text);
        }
        let Again { name, target, without_ms, learning_ms, ms, without_cpu_s, cpu_s, found, compiled } =
            again;
        let (part, time) = (again.part_compiled(), again.part_of_time());
        let _ = writeln!(
            text,
            "\n{name} for {target} after another script: {compiled} of {} functions compiled, {:.1} % (goal {:.0} %: {})\n\
             {ms:.0} ms, without {without_ms:.0} ms: {:.0} % (goal {:.0} %: {}); the first, which leaves its functions, {learning_ms:.0} ms\n\
             {cpu_s:.2} s of processor time, without {without_cpu_s:.2} s: {:.0} %",
            found + compiled,
            part * 100.0,
            COMPILED_GOAL * 100.0,
            reached(part <= COMPILED_GOAL),
            time * 100.0,
            TIME_GOAL * 100.0,
            reached(time <= TIME_GOAL),
            cpu_s / without_cpu_s * 100.0,
        );
        text
    }
}

impl Program {
    fn text(&self, text: &mut String) {
        let Program { name, wasm_bytes, job_peak_bytes, levels } = self;
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "\n{name}, {:.2} MiB of wasm, a job has {:.0} MiB at most\n{:<14} {:>8} {:>11} {:>14} {:>12}",
            mib(*wasm_bytes as f64),
            mib(*job_peak_bytes as f64),
            "level",
            "s",
            "processor",
            "artifact, MiB",
            "of the wasm"
        );
        for Level { target, ms, cpu_s, artifact_bytes } in levels {
            let bytes = *artifact_bytes as f64;
            let part = bytes / *wasm_bytes as f64;
            let _ = writeln!(
                text,
                "{:<14} {:>8.2} {cpu_s:>11.2} {:>14.2} {part:>12.2}",
                target.name(),
                ms / 1e3,
                mib(bytes)
            );
        }
    }
}

fn reached(met: bool) -> &'static str {
    if met { Verdict::Met.text() } else { Verdict::NotMet.text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(p50: f64, compiled: u64, ms: f64) -> Report {
        let again = Again {
            name: "js-echo".into(),
            target: Target::X86_64V3,
            without_ms: 6_000.0,
            learning_ms: 6_100.0,
            ms,
            without_cpu_s: 8.0,
            cpu_s: 2.0,
            found: 1_000 - compiled,
            compiled,
        };
        let level = Level { target: Target::Aarch64, ms: 6_200.0, cpu_s: 9.0, artifact_bytes: 3 << 20 };
        let program = Program {
            name: "js-app".into(),
            wasm_bytes: 6 << 20,
            job_peak_bytes: 400 << 20,
            levels: vec![level],
        };
        let at_once = AtOnce { levels: 5, ms: Spread::of(&[p50]).unwrap(), cpu_ms: 310.0 };
        Report::new(Machine::here(), "wasi-hello".into(), at_once, vec![program], again)
    }

    #[test]
    fn every_goal_counts() {
        assert_eq!(report(300.0, 100, 3_000.0).verdict, Verdict::Met);
        for missed in [report(301.0, 100, 3_000.0), report(300.0, 101, 3_000.0), report(300.0, 100, 3_001.0)]
        {
            assert_eq!(missed.verdict, Verdict::NotMet);
            assert!(missed.text().contains("NOT MET"));
        }
    }

    #[test]
    fn the_text_has_each_figure_with_its_goal() {
        let text = report(250.0, 62, 1_900.0).text();
        for said in [
            "wasi-hello for 5 levels at once, nothing known: p50 250 ms, max 250 ms, 310 ms of processor time (goal p50 300 ms: met)",
            "js-app, 6.00 MiB of wasm, a job has 400 MiB at most",
            "aarch64            6.20        9.00           3.00         0.50",
            "62 of 1000 functions compiled, 6.2 % (goal 10 %: met)",
            "1900 ms, without 6000 ms: 32 % (goal 50 %: met)",
            "2.00 s of processor time, without 8.00 s: 25 %",
        ] {
            assert!(text.contains(said), "{said} not in:\n{text}");
        }
    }
}
