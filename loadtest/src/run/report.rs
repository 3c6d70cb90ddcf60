//! What a run gave, with all that is needed to judge and repeat it.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    generate::{Outcome, Scenario, Target},
    machine::Machine,
    statistics::Point,
    stop::STOPPED,
    under_load::figures::held_up_by_sleeps,
};

/// Of the CPU its threads could use. Above, the client is what was measured.
const CLIENT_BUSY_MAX: f64 = 0.9;
/// Of the CPU time of the whole machine, taken by others on the same hardware.
const STEAL_MAX: f64 = 0.01;
/// Of all starts.
const LATE_MAX: f64 = 0.01;

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub scenario: Scenario,
    pub address: String,
    pub authority: String,
    pub answered: u64,
    pub per_second_mean: f64,
    pub elapsed_s: f64,
    pub errors: std::collections::BTreeMap<String, u64>,
    pub statuses: std::collections::BTreeMap<u16, u64>,
    /// Of slow readers: answers that had begun and that they had not taken whole by the end.
    pub under_way: u64,
    /// From start to the last byte; in an open loop from the intended start.
    pub latency_us: Vec<Point>,
    pub latency_mean_us: f64,
    pub per_second: Vec<u64>,
    pub bytes_in: u64,
    pub client_cpu_s: f64,
    pub late_starts: u64,
    /// Of a client that sleeps between two looks at its sockets: how many it took for an answer.
    pub looks_for_an_answer: Option<f64>,
    pub stopped_early: bool,
    /// Why the figures may not be the target's.
    pub warnings: Vec<String>,
    /// Why there are no figures to be had from the run.
    pub void: Option<String>,
}

impl Report {
    /// `steal` is the share of the machine's CPU time that others took meanwhile.
    pub fn new(
        machine: Machine,
        scenario: Scenario,
        target: &Target,
        outcome: Outcome,
        steal: f64,
    ) -> Report {
        Report {
            warnings: warnings(&machine, &scenario, &outcome, steal),
            void: void(&outcome),
            address: target.address.to_string(),
            authority: target.authority.clone(),
            answered: outcome.answered,
            per_second_mean: outcome.rate(),
            elapsed_s: outcome.elapsed.as_secs_f64(),
            latency_us: Point::all(&outcome.latency_ns),
            latency_mean_us: outcome.latency_ns.mean() / 1e3,
            bytes_in: outcome.bytes_in,
            client_cpu_s: outcome.client_cpu.as_secs_f64(),
            under_way: outcome.under_way,
            late_starts: outcome.late_starts,
            looks_for_an_answer: outcome.looks_for_an_answer(&scenario),
            stopped_early: outcome.stopped_early,
            errors: outcome.errors,
            statuses: outcome.statuses,
            per_second: outcome.per_second,
            machine,
            scenario,
        }
    }

    /// For a person at a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.text());
        for (name, value) in self.rows() {
            let _ = writeln!(text, "{name:<10}{value}");
        }
        let _ = writeln!(text, "\nlatency         µs");
        for point in &self.latency_us {
            let _ = writeln!(text, "{:<9} {:>10.1}", point.name(), point.us);
        }
        let _ = writeln!(text, "mean      {:>10.1}", self.latency_mean_us);
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }

    /// Names and values that are not plots.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let counts = |counts: Vec<String>| if counts.is_empty() { "none".into() } else { counts.join(", ") };
        let statuses = self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        let errors = self.errors.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        let mut rows = vec![
            ("target", format!("{} as {}", self.address, self.authority)),
            ("scenario", settings(&self.scenario)),
            ("seed", self.scenario.seed.to_string()),
            ("answers", format!("{} in {:.2} s", self.answered, self.elapsed_s)),
            ("a second", format!("{:.1}", self.per_second_mean)),
            ("bytes in", self.bytes_in.to_string()),
            ("statuses", counts(statuses)),
            ("errors", counts(errors)),
            ("client", format!("{:.2} s of CPU, {} late starts", self.client_cpu_s, self.late_starts)),
        ];
        if self.under_way > 0 {
            let text = "answers were being taken slowly at the end; they are neither answers nor errors";
            rows.push(("under way", format!("{} {text}", self.under_way)));
        }
        if self.stopped_early {
            rows.push(("stopped", STOPPED.to_owned()));
        }
        rows
    }
}

/// One line that says all of a scenario.
pub fn settings(scenario: &Scenario) -> String {
    let Scenario { name, protocol, tls, connections, threads, streams, duration, warm_up, .. } = scenario;
    let Scenario { arrivals, request, hosts, pace, new_connection_each, .. } = scenario;
    let tls = if *tls { "TLS" } else { "in the clear" };
    let new = if *new_connection_each { ", a new connection each" } else { "" };
    let refused = match scenario.pause_after_503 {
        Duration::ZERO => String::new(),
        pause => format!(", {pause:?} of silence after a 503"),
    };
    let looks = match scenario.look_every {
        Duration::ZERO => String::new(),
        every => format!(", the client looks at its sockets every {every:?}"),
    };
    format!(
        "{name}: {protocol:?} {tls}, {connections} connections × {streams} on {threads} threads, {duration:?} after \
         {warm_up:?}, {arrivals:?}, {} {} with {} bytes, hosts {hosts:?}, pace {pace:?}{new}{refused}{looks}",
        request.method, request.path, request.body_bytes
    )
}

fn void(outcome: &Outcome) -> Option<String> {
    let errors = outcome.errors_total();
    if errors > 0 {
        return Some(format!("{errors} requests had no whole answer"));
    }
    let refused: u64 =
        outcome.statuses.iter().filter(|(status, _)| **status >= 400).map(|(_, count)| count).sum();
    if refused > 0 {
        return Some(format!("{refused} answers were errors, with a status of 400 or above"));
    }
    (outcome.answered == 0).then(|| match outcome.under_way {
        0 => "nothing was answered".to_owned(),
        count => {
            format!("nothing was answered whole: all {count} answers were under way; give it more --seconds")
        }
    })
}

fn warnings(machine: &Machine, scenario: &Scenario, outcome: &Outcome, steal: f64) -> Vec<String> {
    let mut warnings = Vec::new();
    if machine.load > machine.cores as f64 {
        warnings.push(format!(
            "the machine was busy before the run: load {:.1} on {} cores",
            machine.load, machine.cores
        ));
    }
    if steal > STEAL_MAX {
        warnings.push(format!("others took {:.1} % of the machine's CPU time (steal)", steal * 100.0));
    }
    let could = outcome.elapsed.as_secs_f64() * f64::from(scenario.threads);
    let busy = outcome.client_cpu.as_secs_f64() / could.max(f64::MIN_POSITIVE);
    if busy > CLIENT_BUSY_MAX {
        warnings.push(format!(
            "the client was the bottleneck: its threads were busy for {:.0} % of the time; give it more threads",
            busy * 100.0
        ));
    }
    warnings.extend(outcome.looks_for_an_answer(scenario).and_then(held_up_by_sleeps));
    let asked = outcome.answered + outcome.errors_total();
    if outcome.late_starts as f64 > LATE_MAX * asked as f64 {
        warnings.push(format!(
            "{} of {asked} requests started more than 1 ms late: all connections were busy, or the client was",
            outcome.late_starts
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_error_statuses_void_a_run() {
        let mut outcome = Outcome { answered: 3, ..Outcome::empty() };
        outcome.statuses.insert(200, 3);
        assert_eq!(void(&outcome), None);
        outcome.statuses.insert(503, 2);
        assert_eq!(void(&outcome).unwrap(), "2 answers were errors, with a status of 400 or above");
        outcome.errors.insert("connecting: refused".into(), 1);
        assert_eq!(void(&outcome).unwrap(), "1 requests had no whole answer");
        assert_eq!(void(&Outcome::empty()).unwrap(), "nothing was answered");
        let slow = Outcome { under_way: 7, ..Outcome::empty() };
        assert!(void(&slow).unwrap().starts_with("nothing was answered whole: all 7"));
        assert_eq!(void(&Outcome { answered: 1, ..slow }), None);
    }

    #[test]
    fn a_noisy_machine_and_a_busy_client_are_told() {
        let scenario = Scenario::named("hello-h1").unwrap();
        let machine = Machine { load: 0.0, ..Machine::here() };
        // 64 connections: the client gets to 61 answers in a look.
        let looks = 1000 * 3 / 61;
        let mut outcome =
            Outcome { answered: 1000, looks, elapsed: Duration::from_secs(10), ..Outcome::empty() };
        assert_eq!(warnings(&machine, &scenario, &outcome, 0.0), Vec::<String>::new());
        outcome.client_cpu = Duration::from_millis(9500);
        outcome.late_starts = 11;
        let machine = Machine { load: 99.0, cores: 2, ..machine };
        let told = warnings(&machine, &scenario, &outcome, 0.05);
        assert!(told.len() == 4 && told[2].contains("95 %"), "{told:?}");
        outcome.looks = 1000 * 2 / 61;
        let told = warnings(&machine, &scenario, &outcome, 0.05);
        assert!(told.len() == 5 && told[3].contains("2.0 looks found an answer"), "{told:?}");
    }
}
