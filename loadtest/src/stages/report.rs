//! What `loadtest stages` prints.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::tally::{OfThread, Sorted};
use crate::{
    generate::Scenario, machine::Machine, run::report::settings, servers::lineup, under_load::figures::Round,
};

/// Part of the samples that no rule may know before it is a warning.
const UNSORTED_MAX: f64 = 0.05;
/// Part of the samples that may be lost before it is one.
const LOST_MAX: f64 = 0.05;
/// Fewer samples say little: a stage of a tenth is known within a tenth of itself by 900.
const SAMPLES_MIN: u64 = 900;

/// How it was measured.
#[derive(Debug, Serialize)]
pub struct Method {
    pub scenario: Scenario,
    /// How long `perf` sampled each guest.
    pub recorded: Duration,
    /// Of each thread that runs.
    pub samples_per_second: u32,
    /// Its binary.
    pub node: String,
    /// It was told to stop: guests are missing.
    pub stopped: bool,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub method: Method,
    pub guests: Vec<Guest>,
}

/// What was measured of a guest.
#[derive(Debug)]
pub struct Measured {
    /// Without `perf`.
    pub alone: Round,
    /// With it.
    pub beside: Round,
    /// By the CPU of the former.
    pub sorted: Sorted,
}

/// One guest, as it is told.
#[derive(Debug, Serialize)]
pub struct Guest {
    pub name: &'static str,
    pub told: Told,
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Figures(Figures),
    Void(String),
}

/// The stages' µs sum to `cpu_us`.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Of a request, without `perf`.
    pub cpu_us: f64,
    pub cpu_us_with_perf: f64,
    pub requests_per_second: f64,
    #[serde(flatten)]
    pub sorted: Sorted,
}

impl Guest {
    pub fn new(name: &'static str, measured: Result<Measured, String>) -> Guest {
        match measured {
            Err(why) => Guest { name, told: Told::Void(why), warnings: Vec::new() },
            Ok(Measured { alone, beside, sorted }) => {
                let mut warnings = alone.warnings();
                warnings.extend(doubts(&sorted));
                let figures = Figures {
                    cpu_us: alone.cpu_us,
                    cpu_us_with_perf: beside.cpu_us,
                    requests_per_second: alone.requests_per_second,
                    sorted,
                };
                Guest { name, told: Told::Figures(figures), warnings }
            }
        }
    }

    fn text(&self, text: &mut String) {
        let _ = match &self.told {
            Told::Void(why) => writeln!(text, "\n{}: void: {why}", self.name),
            Told::Figures(figures) => {
                let _ = writeln!(text, "\n{}", self.name);
                figures.text(text);
                Ok(())
            }
        };
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
    }
}

/// What makes the stages doubtful.
fn doubts(sorted: &Sorted) -> Vec<String> {
    let Sorted { samples, lost, .. } = *sorted;
    let unsorted: u64 = sorted.unsorted().map(|stage| stage.samples).sum();
    let part = |of: u64, all: u64| of as f64 / all.max(1) as f64;
    let mut doubts = Vec::new();
    if samples < SAMPLES_MIN {
        doubts.push(format!("{samples} samples say little: ask for longer, or with more connections"));
    }
    if part(unsorted, samples) > UNSORTED_MAX {
        let percent = part(unsorted, samples) * 100.0;
        doubts.push(format!(
            "no rule knows {percent:.1} % of the samples: loadtest/src/stages/rules.rs needs one"
        ));
    }
    if part(lost, samples + lost) > LOST_MAX {
        doubts.push(format!("perf lost {:.1} % of the samples", part(lost, samples + lost) * 100.0));
    }
    doubts
}

impl Report {
    /// Has some guest no figure?
    pub fn is_void(&self) -> bool {
        self.guests.iter().any(|guest| matches!(guest.told, Told::Void(_)))
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Method { scenario, recorded, samples_per_second, node, stopped } = &self.method;
        let mut text = format!(
            "{}\nload      {}\nnode      {node}\nstages    by perf's stacks of {recorded:?} after the warm-up, \
             {samples_per_second} a second of each thread; µs are shares of the CPU without perf\n",
            self.machine.text(),
            settings(scenario),
        );
        if *stopped {
            text += "stopped   before its end; this is what there was\n";
        }
        for guest in &self.guests {
            guest.text(&mut text);
        }
        if let Some(doubt) = lineup::doubt(node) {
            let _ = writeln!(text, "\nwarning: {doubt}");
        }
        text
    }
}

impl Figures {
    fn text(&self, text: &mut String) {
        let Figures { cpu_us, cpu_us_with_perf, requests_per_second, sorted } = self;
        let Sorted { samples, lost, threads } = sorted;
        for thread in threads {
            self.thread(thread, text);
        }
        let _ = writeln!(text, "  {:<48} {cpu_us:>8.2} µs  100.0 %", "all");
        for function in sorted.unsorted().flat_map(|stage| &stage.functions) {
            let _ = writeln!(text, "not sorted: {} × {}", function.samples, function.name);
        }
        let _ = writeln!(
            text,
            "{samples} samples, {lost} lost; {requests_per_second:.0} requests a second; CPU of a request without perf \
             {cpu_us:.2} µs, with it {cpu_us_with_perf:.2} µs"
        );
    }

    fn thread(&self, OfThread { thread, us, stages, .. }: &OfThread, text: &mut String) {
        let percent = |us: f64| 100.0 * us / self.cpu_us.max(f64::MIN_POSITIVE);
        let _ = writeln!(text, "  {:<48} {us:>8.2} µs {:>6.1} %", thread.text(), percent(*us));
        for stage in stages {
            let _ =
                writeln!(text, "    {:<46} {:>8.2} µs {:>6.1} %", stage.stage, stage.us, percent(stage.us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        stages::tally::{Tally, tests::ten},
        under_load::figures::tests::round,
    };

    fn report(measured: Result<Measured, String>) -> Report {
        let scenario = Scenario::named("hello-h1").unwrap();
        let node = "edge-node 0.1.0 (debug)".to_owned();
        let recorded = Duration::from_secs(5);
        let method = Method { scenario, recorded, samples_per_second: 799, node, stopped: false };
        Report { machine: Machine::here(), method, guests: vec![Guest::new("fastly-hello", measured)] }
    }

    fn measured(tally: Tally) -> Measured {
        let alone = Round { cpu_us: 20.0, ..round() };
        Measured { alone, beside: Round { cpu_us: 23.5, ..round() }, sorted: tally.sorted(20.0) }
    }

    #[test]
    fn stages_stand_beneath_their_threads_with_what_perf_costs() {
        let text = report(Ok(measured(ten()))).text();
        let without_spaces = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "fastly-hello serving threads 14.00 µs 70.0 % make store and instance, fibers 8.00 µs 40.0 %",
            "slow lane 2.00 µs 10.0 % guest code 2.00 µs 10.0 %",
            "logs 2.00 µs 10.0 % access-log 2.00 µs 10.0 %",
            "all 20.00 µs 100.0 %",
            "not sorted: 1 × strange::a",
            "10 samples, 3 lost; 10000 requests a second; CPU of a request without perf 20.00 µs, with it 23.50 µs",
            "perf's stacks of 5s after the warm-up, 799 a second",
            "warning: the node is a debug build",
        ] {
            assert!(without_spaces.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn what_is_doubtful_is_said() {
        let text = report(Ok(measured(ten()))).text();
        for part in [
            "10 samples say little",
            "no rule knows 20.0 % of the samples",
            "perf lost 23.1 % of the samples",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let mut sure = ten();
        for _ in 0..SAMPLES_MIN {
            sure.add(crate::stages::tally::tests::serving());
        }
        assert_eq!(report(Ok(measured(sure))).guests[0].warnings, Vec::<String>::new());
    }

    #[test]
    fn a_guest_without_figures_is_void() {
        let void = report(Err("with perf: 3 requests were not answered 200".to_owned()));
        assert!(void.is_void() && void.text().contains("void: with perf: 3 requests"), "{}", void.text());
        assert!(!report(Ok(measured(ten()))).is_void());
    }

    #[test]
    fn stages_are_told_to_programs_beside_the_figures() {
        let json = serde_json::to_value(report(Ok(measured(ten())))).unwrap();
        let figures = &json["guests"][0]["told"]["figures"];
        assert_eq!((&figures["cpu_us"], &figures["samples"]), (&20.0.into(), &10.into()));
        assert_eq!(figures["threads"][0]["thread"], "serving");
        assert_eq!(figures["threads"][0]["stages"][2]["functions"][0]["name"], "strange::a");
    }
}
