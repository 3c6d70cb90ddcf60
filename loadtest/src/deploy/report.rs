//! What `loadtest deploy` prints.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{Verdict, machine::Machine, statistics::Spread, stop::STOPPED};

/// From deploy to the first 200, small component, one node: the median at most.
const GOAL_MS: f64 = 500.0;

/// One deploy, times in ms.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub version: u64,
    /// From starting the command to the first 200 of this very version.
    pub first_answer_ms: f64,
    /// From starting the command to its end.
    pub cli_ms: f64,
    /// Said by the control plane: validate and compile for every target.
    pub compile_ms: f64,
    /// Said by the control plane: the durable record.
    pub publish_ms: f64,
    /// Said by the command: from the durable record to the last node's acknowledgement.
    pub active_ms: f64,
    /// Processor levels it was compiled for.
    pub targets: usize,
}

/// All deploys, as they were measured.
#[derive(Debug, Default)]
pub struct Deploys {
    /// The first deploy of the fleet: processes and caches are cold, the host name is new.
    pub first: Option<Run>,
    /// Those that count.
    pub runs: Vec<Run>,
}

/// What is told of those that count.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spreads {
    pub first_answer_ms: Spread,
    pub cli_ms: Spread,
    pub compile_ms: Spread,
    pub publish_ms: Spread,
    pub active_ms: Spread,
    /// Of the command before and after: its start, reading and sending the program, validating it.
    pub rest_ms: Spread,
}

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub what: &'static str,
    pub wasm_bytes: usize,
    pub first: Option<Run>,
    pub runs: usize,
    /// None if it was told to stop before there was one.
    #[serde(flatten)]
    pub spreads: Option<Spreads>,
    pub goal_ms: f64,
    pub stopped: bool,
    pub verdict: Verdict,
}

impl Spreads {
    /// `None` of nothing.
    fn of(runs: &[Run]) -> Option<Spreads> {
        let spread = |of: fn(&Run) -> f64| Spread::of(&runs.iter().map(of).collect::<Vec<f64>>());
        Some(Spreads {
            first_answer_ms: spread(|run| run.first_answer_ms)?,
            cli_ms: spread(|run| run.cli_ms)?,
            compile_ms: spread(|run| run.compile_ms)?,
            publish_ms: spread(|run| run.publish_ms)?,
            active_ms: spread(|run| run.active_ms)?,
            rest_ms: spread(|run| run.cli_ms - run.compile_ms - run.publish_ms - run.active_ms)?,
        })
    }
}

impl Report {
    pub fn new(
        machine: Machine,
        new_apps: bool,
        wasm_bytes: usize,
        deploys: Deploys,
        stopped: bool,
    ) -> Report {
        let Deploys { first, runs } = deploys;
        let spreads = Spreads::of(&runs);
        let met = spreads.is_some_and(|spreads| spreads.first_answer_ms.p50 <= GOAL_MS);
        Report {
            machine,
            what: if new_apps { "a new app each" } else { "a new version each" },
            wasm_bytes,
            first,
            runs: runs.len(),
            spreads,
            goal_ms: GOAL_MS,
            stopped,
            verdict: if met { Verdict::Met } else { Verdict::NotMet },
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Report { machine, what, wasm_bytes, first, runs, spreads, goal_ms, stopped, verdict } = self;
        let targets = first.as_ref().map_or(0, |first| first.targets);
        let mut text = format!(
            "{}\ndeploys   {runs}, {what}, {wasm_bytes} bytes of wasm, {targets} targets, one node\n",
            machine.text()
        );
        if *stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        if let Some(spreads) = spreads {
            spreads.text(&mut text);
        }
        if let Some(Run { first_answer_ms, .. }) = first {
            let _ = writeln!(text, "\nfirst deploy of the fleet: first 200 after {first_answer_ms:.0} ms");
        }
        let reached = if spreads.is_some() { verdict.text() } else { "not measured" };
        let _ = writeln!(text, "goal: p50 ≤ {goal_ms:.0} ms: {reached}");
        text
    }
}

impl Spreads {
    fn text(&self, text: &mut String) {
        let _ = writeln!(text, "\n{:<36} {:>8} {:>8} {:>8}", "ms", "p50", "p90", "max");
        let mut row = |name: &str, Spread { p50, p90, max }: Spread| {
            let _ = writeln!(text, "{name:<36} {p50:>8.0} {p90:>8.0} {max:>8.0}");
        };
        row("deploy → first 200", self.first_answer_ms);
        row("the command, start to end", self.cli_ms);
        row("  compile (said by control plane)", self.compile_ms);
        row("  publish (said by control plane)", self.publish_ms);
        row("  active on the node (said by CLI)", self.active_ms);
        row("  rest of the command", self.rest_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first_answer_ms: f64) -> Run {
        Run {
            version: 1,
            first_answer_ms,
            cli_ms: 320.0,
            compile_ms: 200.0,
            publish_ms: 10.0,
            active_ms: 30.0,
            targets: 4,
        }
    }

    fn report(times: &[f64]) -> Report {
        let machine = Machine {
            cpu: "CPU".into(),
            cores: 2,
            kernel: "6.18".into(),
            load: 0.1,
            commit: "abc".into(),
            wasmtime: "48",
            build: "release".into(),
        };
        let runs = times.iter().map(|time| run(*time)).collect();
        let deploys = Deploys { first: Some(run(900.0)), runs };
        Report::new(machine, false, 75_000, deploys, times.len() < 3)
    }

    #[test]
    fn the_median_decides() {
        assert_eq!(report(&[100.0, 500.0, 9000.0]).verdict, Verdict::Met);
        assert_eq!(report(&[100.0, 501.0, 9000.0]).verdict, Verdict::NotMet);
    }

    #[test]
    fn the_text_names_machine_split_and_verdict() {
        let text = report(&[100.0, 400.0, 900.0]).text();
        for part in
            ["CPU, 2 cores", "a new version each", "4 targets", "first 200 after 900 ms", "≤ 500 ms: met"]
        {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let rest = text.lines().find(|line| line.contains("rest of the command")).unwrap();
        assert!(rest.contains(" 80 "), "{rest}");
    }
    #[test]
    fn one_that_was_stopped_says_so_and_has_what_there_was() {
        let cut = report(&[100.0]);
        assert!(
            cut.text().contains("stopped   before its end") && cut.text().contains("met"),
            "{}",
            cut.text()
        );
        assert_eq!(serde_json::to_value(&cut).unwrap()["first_answer_ms"]["p50"], 100.0);
        let at_once = report(&[]);
        assert_eq!(at_once.verdict, Verdict::NotMet);
        assert!(at_once.text().contains("≤ 500 ms: not measured"), "{}", at_once.text());
        assert!(serde_json::to_value(&at_once).unwrap()["first_answer_ms"].is_null());
    }
}
