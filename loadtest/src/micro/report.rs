//! What `loadtest micro` prints.

use std::fmt::Write as _;

use artifact::Lane;
use serde::Serialize;

use super::{
    door::DoorCost,
    guest::{GOALS, Goal, Guest},
    limits::LimitsCost,
    measure::Measured,
    pair::Pair,
    stages::Stages,
    syscalls::Counted,
};
use crate::{Verdict, counters::Allocations, machine::Machine, statistics::Summary, stop::STOPPED};

/// Page faults a cycle may have: none, when rounded to hundredths. What is below is the kernel moving pages once in
/// thousands of cycles.
const PAGE_FAULTS_MAX: f64 = 0.005;
/// System calls a cycle may have: one, when rounded to tenths. What is below is clock readings and polls when the epoch
/// ticked, once in a hundred cycles.
const SYSCALLS_MAX: f64 = 1.05;

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub settings: String,
    pub guests: Vec<GuestReport>,
    pub stopped: bool,
}

/// One guest.
#[derive(Debug, Serialize)]
pub struct GuestReport {
    pub guest: String,
    pub lane: Lane,
    /// Instantiate + run + read the answer + drop, in µs.
    pub cycle_us: Summary,
    /// Store and instance, in µs.
    pub instantiate_us: Summary,
    /// All that is billed to the guest, in µs: instantiate, run, tear down.
    pub billed_us: Summary,
    /// The same on plain wasmtime in the same run, in µs.
    pub plain_us: Summary,
    /// Store and instance on plain wasmtime, in µs.
    pub plain_instantiate_us: Summary,
    /// Our median over plain wasmtime's.
    pub ratio: f64,
    pub page_faults: f64,
    pub plain_page_faults: f64,
    pub syscalls: Counted,
    pub allocations: Allocations,
    pub door: DoorCost,
    /// Of core modules only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsCost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<Stages>,
    /// What two threads do beside one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// The same with one engine for both: what they would lose by sharing one. No goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_together: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Of the cycle, the instance, page faults and system calls.
    pub verdict: Verdict,
    /// Of these, what is above its goal.
    pub missed: Vec<&'static str>,
}

impl GuestReport {
    /// Compares the figures with the guest's goal.
    pub fn new(
        guest: &Guest,
        ours: &Measured,
        plain: &Measured,
        allocations: Allocations,
        syscalls: Counted,
        door: DoorCost,
        stages: Option<Stages>,
    ) -> GuestReport {
        let goal = GOALS.iter().find(|goal| goal.guest == guest.name).copied();
        let missed = goal.map(|goal| missed(&goal, ours, &syscalls)).unwrap_or_default();
        let verdict = match (&goal, missed.is_empty()) {
            (None, _) => Verdict::NoGoal,
            (Some(_), true) => Verdict::Met,
            (Some(_), false) => Verdict::NotMet,
        };
        GuestReport {
            guest: guest.name.clone(),
            lane: guest.lane,
            cycle_us: ours.cycle_us,
            instantiate_us: ours.instantiate_us,
            billed_us: ours.guest_us,
            plain_us: plain.cycle_us,
            plain_instantiate_us: plain.instantiate_us,
            ratio: ours.cycle_us.median / plain.cycle_us.median,
            page_faults: ours.page_faults,
            plain_page_faults: plain.page_faults,
            syscalls,
            allocations,
            door,
            limits: None,
            stages,
            pair: None,
            pair_together: None,
            goal,
            verdict,
            missed,
        }
    }
}

/// System calls that were not counted, for want of strace, are not judged.
fn missed(goal: &Goal, measured: &Measured, syscalls: &Counted) -> Vec<&'static str> {
    let calls = match syscalls {
        Counted::Counted { per_cycle, .. } => *per_cycle,
        Counted::NotCounted { .. } => 0.0,
    };
    let instantiate_us = goal.instantiate_us.unwrap_or(f64::INFINITY);
    let figures = [
        ("cycle", measured.cycle_us.median > goal.cycle_us),
        ("inst", measured.instantiate_us.median > instantiate_us),
        ("faults", measured.page_faults >= PAGE_FAULTS_MAX),
        ("syscalls", calls >= SYSCALLS_MAX),
    ];
    figures.iter().filter(|(_, is_missed)| *is_missed).map(|(name, _)| *name).collect()
}

impl Report {
    pub fn new(machine: Machine, settings: String, guests: Vec<GuestReport>, stopped: bool) -> Report {
        Report { machine, settings, guests, stopped }
    }

    /// Met only if every guest with a goal meets it, limits cost no more than they may, and a second thread adds what it
    /// should.
    pub fn verdict(&self) -> Verdict {
        let dear = |limits: &LimitsCost| limits.verdict() == Verdict::NotMet;
        let hampered = |pair: &Pair| pair.verdict() == Verdict::NotMet;
        let missed = |guest: &GuestReport| {
            guest.verdict == Verdict::NotMet
                || guest.limits.as_ref().is_some_and(dear)
                || (guest.goal.is_some() && guest.pair.as_ref().is_some_and(hampered))
        };
        match self.guests.iter().any(missed) {
            true => Verdict::NotMet,
            false => Verdict::Met,
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\nsettings  {}\n", self.machine.text(), self.settings);
        if self.stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        text.push('\n');
        let _ = writeln!(
            text,
            "{:<14} {:<6} {:>22} {:>6} {:>8} {:>6} {:>22} {:>6} {:>7} {:>8} {:>7}  verdict",
            "guest",
            "lane",
            "cycle µs [range]",
            "goal",
            "inst µs",
            "goal",
            "plain µs [range]",
            "ratio",
            "faults",
            "syscalls",
            "allocs"
        );
        for guest in &self.guests {
            let _ = writeln!(
                text,
                "{:<14} {:<6} {:>22} {:>6} {:>8.2} {:>6} {:>22} {:>6.2} {:>7.2} {:>8} {:>7.0}  {}",
                guest.guest,
                guest.lane.to_string(),
                range(guest.cycle_us),
                shown(guest.goal.map(|goal| goal.cycle_us)),
                guest.instantiate_us.median,
                shown(guest.goal.and_then(|goal| goal.instantiate_us)),
                range(guest.plain_us),
                guest.ratio,
                guest.page_faults,
                guest.syscalls.short(),
                guest.allocations.count,
                guest.judged(),
            );
        }
        text.push_str("Goals of faults and system calls: 0.00 and, rounded to tenths, 1.0.\n");
        text.push_str("\nTwo threads at once, cycles a second:\n");
        for guest in &self.guests {
            let Some(pair) = &guest.pair else { continue };
            let together = guest.pair_together.as_ref().and_then(Pair::ratio);
            let together = together
                .map_or_else(String::new, |ratio| format!("; sharing an engine {:.2} times", ratio.median));
            let _ = writeln!(text, "  {:<14} {}{together}", guest.guest, pair.text());
        }
        text.push_str("\nSystem calls of a cycle:\n");
        for guest in &self.guests {
            let _ = writeln!(text, "  {:<14} {}", guest.guest, guest.syscalls.long());
        }
        text.push_str("\nThe host door, unwatched:\n");
        for guest in &self.guests {
            let DoorCost { passes, pass_ns } = guest.door;
            let percent = guest.door.percent_of(guest.cycle_us.median);
            let _ = writeln!(
                text,
                "  {:<14} {passes} passes of {pass_ns:.2} ns: {percent:.2} % of a cycle",
                guest.guest
            );
        }
        for guest in &self.guests {
            let Some(limits) = guest.limits else { continue };
            let _ = writeln!(text, "\nLimits of {}: {}", guest.guest, limits.text());
        }
        if self.guests.iter().any(|guest| guest.stages.is_some()) {
            text.push_str("\nStages, mean µs by the clock:\n");
            let _ = writeln!(
                text,
                "  {:<14} {:>7} {:>12} {:>9} {:>7} {:>6} | {:>8}",
                "guest", "begin", "instantiate", "run+drop", "drive", "read", "account"
            );
        }
        for guest in &self.guests {
            let Some(stages) = guest.stages else { continue };
            let Stages { begin_us, instantiate_us, run_and_drop_us, drive_us, read_us, account_us } = stages;
            let _ = writeln!(
                text,
                "  {:<14} {begin_us:>7.2} {instantiate_us:>12.2} {run_and_drop_us:>9.2} {drive_us:>7.2} {read_us:>6.2} \
                 | {account_us:>8.2}",
                guest.guest
            );
        }
        text
    }
}

impl GuestReport {
    fn judged(&self) -> String {
        match self.missed.is_empty() {
            true => self.verdict.text().to_owned(),
            false => format!("{}: {}", self.verdict.text(), self.missed.join(", ")),
        }
    }
}

fn shown(goal_us: Option<f64>) -> String {
    goal_us.map_or("-".to_owned(), |goal_us| format!("{goal_us:.1}"))
}

fn range(summary: Summary) -> String {
    format!("{:.2} [{:.2}..{:.2}]", summary.median, summary.min, summary.max)
}

impl Counted {
    fn short(&self) -> String {
        match self {
            Counted::Counted { per_cycle, .. } => format!("{per_cycle:.2}"),
            Counted::NotCounted { .. } => "?".to_owned(),
        }
    }

    fn long(&self) -> String {
        match self {
            Counted::Counted { by_name, .. } if by_name.is_empty() => "none".to_owned(),
            Counted::Counted { by_name, .. } => {
                let each = by_name.iter().map(|(name, calls)| format!("{name} {calls:.2}"));
                each.collect::<Vec<_>>().join(", ")
            }
            Counted::NotCounted { reason } => format!("not counted: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(cycle_us: f64, instantiate_us: f64, page_faults: f64) -> Measured {
        let of = |median: f64| Summary { median, min: median - 1.0, max: median + 1.0 };
        Measured {
            cycle_us: of(cycle_us),
            instantiate_us: of(instantiate_us),
            guest_us: of(9.0),
            page_faults,
        }
    }

    fn report_of(name: &str, ours: Measured, syscalls: f64) -> GuestReport {
        let guest = Guest {
            name: name.to_owned(),
            lane: Lane::Wasi,
            wasm: artifact::Digest::ZERO,
            wasm_bytes: 8,
            container: vec![],
        };
        let syscalls =
            Counted::Counted { per_cycle: syscalls, by_name: [("ioctl".to_owned(), syscalls)].into() };
        let allocations = Allocations { count: 40.0, bytes: 9000.0 };
        let door = DoorCost { passes: 9, pass_ns: 2.0 };
        GuestReport::new(&guest, &ours, &measured(15.0, 5.0, 0.0), allocations, syscalls, door, None)
    }

    fn report(name: &str, cycle_us: f64, page_faults: f64) -> GuestReport {
        report_of(name, measured(cycle_us, 5.0, page_faults), 1.0)
    }

    fn whole(guests: Vec<GuestReport>) -> Report {
        let machine = Machine {
            cpu: "CPU".into(),
            cores: 2,
            kernel: "6.18".into(),
            load: 0.1,
            commit: "abc".into(),
            wasmtime: "48",
            build: "release".into(),
        };
        Report::new(machine, "target x86_64-v3".into(), guests, false)
    }

    #[test]
    fn a_figure_is_met_at_its_goal_and_without_page_faults() {
        assert_eq!(report("wasi-hello", 10.5, 0.0).verdict, Verdict::Met);
        assert_eq!(report("wasi-hello", 10.6, 0.0).verdict, Verdict::NotMet);
        assert_eq!(report("wasi-hello", 10.0, 1.0).verdict, Verdict::NotMet);
        assert_eq!(report("echo", 1000.0, 1.0).verdict, Verdict::NoGoal);
        assert_eq!(whole(vec![report("echo", 99.0, 0.0)]).verdict(), Verdict::Met);
        assert_eq!(
            whole(vec![report("wasi-hello", 99.0, 0.0), report("echo", 1.0, 0.0)]).verdict(),
            Verdict::NotMet
        );
    }

    #[test]
    fn the_instance_alone_has_a_goal() {
        let wasi = |instantiate_us| report_of("wasi-hello", measured(9.0, instantiate_us, 0.0), 1.0);
        assert_eq!(wasi(7.0).verdict, Verdict::Met);
        assert_eq!((wasi(7.1).verdict, wasi(7.1).judged()), (Verdict::NotMet, "NOT MET: inst".to_owned()));
        assert_eq!(report_of("as-hello", measured(7.0, 7.4, 0.0), 1.0).verdict, Verdict::Met);
    }

    #[test]
    fn one_system_call_rounded_to_tenths_is_the_goal() {
        let wasi = |calls| report_of("wasi-hello", measured(9.0, 5.0, 0.0), calls).verdict;
        assert_eq!((wasi(1.04), wasi(1.05), wasi(2.0)), (Verdict::Met, Verdict::NotMet, Verdict::NotMet));
    }

    #[test]
    fn a_second_thread_counts_for_guests_with_a_goal() {
        let ratio = Summary { median: 1.5, min: 1.4, max: 1.6 };
        let pair = || Some(Pair::Measured { ratio, goal: 1.9, others: 0.0, stolen: 0.0 });
        let hampered = GuestReport { pair: pair(), ..report("wasi-hello", 9.0, 0.0) };
        let text = whole(vec![hampered]);
        assert_eq!(text.verdict(), Verdict::NotMet);
        assert!(text.text().contains("1.50 times one [1.40..1.60]"), "{}", text.text());
        let echo = GuestReport { pair: pair(), ..report("echo", 9.0, 0.0) };
        assert_eq!(whole(vec![echo]).verdict(), Verdict::Met);
    }

    #[test]
    fn the_text_names_machine_figures_and_verdict() {
        let text = whole(vec![report("wasi-hello", 10.5, 0.0)]).text();
        for part in [
            "CPU, 2 cores",
            "commit    abc",
            "10.50 [9.50..11.50]",
            "0.70",
            "met",
            "ioctl 1.00",
            "9 passes of 2.00 ns: 0.17 %",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let value = serde_json::to_value(whole(vec![report("wasi-hello", 10.5, 0.0)])).unwrap();
        let guest = &value["guests"][0];
        for key in [
            "cycle_us",
            "instantiate_us",
            "plain_us",
            "ratio",
            "page_faults",
            "syscalls",
            "allocations",
            "goal",
        ] {
            assert!(!guest[key].is_null(), "{key} is missing in {guest}");
        }
        assert_eq!(guest["verdict"], "met");
        assert_eq!(guest["syscalls"]["per_cycle"], 1.0);
    }
}
