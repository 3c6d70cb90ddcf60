//! What `loadtest counts` prints.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::{
    baseline::{Baseline, Compared, Count, Standing, Taken},
    kept::Kept,
};
use crate::{Verdict, machine::Machine};

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub taken: Taken,
    /// The machines that the baseline knows.
    pub kept: Vec<Taken>,
    pub counts: Vec<Compared>,
    /// What this machine cannot count, and why.
    pub left_out: Vec<String>,
    /// What was counted and compared with nothing, and why. It fails nothing, not even where nothing may be left out: no
    /// machine can make up for not being another.
    pub skipped: Option<String>,
    pub verdict: Verdict,
}

impl Report {
    /// Compares `now` with what is kept. What was left out fails the check only where nothing may be.
    pub fn new(
        machine: Machine,
        kept: &Kept,
        now: Baseline,
        left_out: Vec<String>,
        must_not_skip: bool,
    ) -> anyhow::Result<Report> {
        let counts = kept.of(&now.taken).context("the baseline keeps no counts")?.compare(&now);
        let is_whole = left_out.is_empty() || !must_not_skip;
        let fails = |one: &Compared| match one.standing {
            Standing::Worse | Standing::New => true,
            // Said in `left_out`, or a hole in the command.
            Standing::Missing => left_out.is_empty(),
            Standing::Kept | Standing::Better | Standing::NotComparable => false,
        };
        let verdict = match is_whole && !counts.iter().any(fails) {
            true => Verdict::Met,
            false => Verdict::NotMet,
        };
        let (taken, kept) = (now.taken, kept.machines());
        let skipped = skipped(&counts, &taken, &kept);
        Ok(Report { machine, taken, kept, counts, left_out, skipped, verdict })
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\nsettings  {}\n\nCounts of one request (percent above the \
             baseline):\n\n",
            self.machine.text(),
            self.taken
        );
        let _ = write!(text, "{:<30}", "request");
        Count::ALL.iter().for_each(|count| {
            let _ = write!(text, " {:>17}", count.text());
        });
        text.push('\n');
        let mut names: Vec<&str> = self.counts.iter().map(|one| one.request.as_str()).collect();
        names.dedup();
        for name in names {
            let _ = write!(text, "{name:<30}");
            for count in Count::ALL {
                let found = self.counts.iter().find(|one| one.request == name && one.count == count);
                let _ = write!(text, " {:>17}", found.map_or("-".to_owned(), cell));
            }
            text.push('\n');
        }
        self.findings(&mut text);
        let _ = writeln!(text, "\ncheck     {}", self.verdict.text());
        // Last, so that nobody takes the verdict for one on everything.
        if let Some(skipped) = &self.skipped {
            let _ = writeln!(text, "SKIPPED   {skipped}");
        }
        text
    }

    /// What a person has to do something about.
    fn findings(&self, text: &mut String) {
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "\nSKIPPED: {}", self.left_out.join("; "));
        }
        for one in &self.counts {
            let what = format!("{} of {}", one.count.text(), one.request);
            let (now, kept) = (figure(one.count, one.now), figure(one.count, one.kept));
            let _ = match one.standing {
                Standing::Worse => writeln!(text, "\nMORE THAN A TENTH WORSE: {what}: {now}, was {kept}"),
                Standing::Better => writeln!(
                    text,
                    "\nmore than a tenth better: {what}: {now}, was {kept}; lower the baseline, so that it is not lost \
                     unseen: loadtest counts --write"
                ),
                Standing::New => {
                    writeln!(text, "\nnot in the baseline: {what}: {now}; loadtest counts --write")
                }
                Standing::Missing => writeln!(text, "\nnot counted: {what}, which was {kept}"),
                Standing::Kept | Standing::NotComparable => Ok(()),
            };
        }
    }
}

fn skipped(counts: &[Compared], taken: &Taken, kept: &[Taken]) -> Option<String> {
    let skipped = counts.iter().filter(|one| one.standing == Standing::NotComparable).count();
    let kept: Vec<String> = kept.iter().map(Taken::to_string).collect();
    (skipped > 0).then(|| {
        format!(
            "{skipped} of {} counts (instructions, system calls, page faults): the baseline knows {}, and no machine like \
             this one: {taken}; on one that is to stay, loadtest counts --write adds it",
            counts.len(),
            kept.join("; "),
        )
    })
}

fn cell(one: &Compared) -> String {
    let figure = figure(one.count, one.now);
    match one.percent().filter(|_| one.standing != Standing::NotComparable) {
        Some(percent) if percent.abs() >= 0.05 => format!("{figure} {percent:+.1}%"),
        _ => figure,
    }
}

/// Of events, hundredths; of bytes and instructions, whole ones.
fn figure(count: Count, value: Option<f64>) -> String {
    match (count, value) {
        (_, None) => "none".to_owned(),
        (Count::AllocatedBytes | Count::Instructions, Some(value)) => format!("{value:.0}"),
        (Count::Allocations | Count::PageFaults | Count::SystemCalls, Some(value)) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(request: &str, counts: &[(Count, f64)]) -> Baseline {
        let taken = Taken { target: "x86_64-v3".into(), reset: "PAGEMAP_SCAN".into() };
        Baseline { taken, requests: [(request.to_owned(), counts.iter().copied().collect())].into() }
    }

    /// Of a file that keeps one machine.
    fn keeping(one: &Baseline) -> Kept {
        let mut kept = Kept::default();
        kept.keep(one.clone());
        kept
    }

    fn report(kept: &Baseline, now: Baseline, left_out: &[&str], must_not_skip: bool) -> Report {
        let machine = Machine {
            cpu: "CPU".into(),
            cores: 2,
            kernel: "6.18".into(),
            load: 0.1,
            commit: "abc".into(),
            wasmtime: "48",
            build: "debug".into(),
        };
        let left_out = left_out.iter().map(|reason| (*reason).to_owned()).collect();
        Report::new(machine, &keeping(kept), now, left_out, must_not_skip).unwrap()
    }

    #[test]
    fn a_regression_fails_and_is_named() {
        let kept = baseline("hello over h1", &[(Count::Instructions, 50_000.0), (Count::PageFaults, 0.0)]);
        let now = baseline("hello over h1", &[(Count::Instructions, 56_000.0), (Count::PageFaults, 0.0)]);
        let report = report(&kept, now, &[], false);
        assert_eq!(report.verdict, Verdict::NotMet);
        let text = report.text();
        for part in ["56000 +12.0%", "WORSE: instructions of hello over h1: 56000, was 50000", "NOT MET"] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_gain_passes_and_asks_for_a_lower_baseline() {
        let kept = baseline("hello", &[(Count::Allocations, 40.0)]);
        let report = report(&kept, baseline("hello", &[(Count::Allocations, 30.0)]), &[], false);
        assert_eq!(report.verdict, Verdict::Met);
        assert!(report.text().contains("lower the baseline"), "{}", report.text());
    }

    #[test]
    fn what_is_not_in_the_baseline_or_not_counted_fails() {
        let (one, other) = (baseline("a", &[(Count::Allocations, 1.0)]), baseline("b", &[]));
        assert_eq!(report(&one, other.clone(), &[], false).verdict, Verdict::NotMet);
        assert_eq!(report(&other, one, &[], false).verdict, Verdict::NotMet);
    }

    #[test]
    fn what_a_machine_cannot_make_is_said_and_fails_only_where_nothing_may_be_left_out() {
        let (kept, now) = (baseline("a", &[(Count::Allocations, 1.0)]), baseline("b", &[]));
        let allowed = report(&kept, now.clone(), &["a was not built"], false);
        assert_eq!(allowed.verdict, Verdict::Met);
        assert!(allowed.text().contains("SKIPPED: a was not built"));
        assert_eq!(report(&kept, now, &["a was not built"], true).verdict, Verdict::NotMet);
    }

    #[test]
    fn another_machine_is_said() {
        let kept = baseline("a", &[(Count::SystemCalls, 1.0)]);
        let mut now = baseline("a", &[(Count::SystemCalls, 5.0)]);
        now.taken.reset = "copying".into();
        let report = report(&kept, now, &[], true);
        assert_eq!(report.verdict, Verdict::Met);
        let text = report.text();
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("SKIPPED   1 of 1 counts"), "{text}");
        assert!(
            last.contains("knows target x86_64-v3, slots reset by PAGEMAP_SCAN, and no machine"),
            "{text}"
        );
    }
}
