//! Every script of a folder in a process of its own, and the table of what they came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use artifact::{Target, container::Container, keys::Trusted, statement::TrustedStatement};
use spec_runner::plan::{self, Report};

use crate::{expected::Expected, runner::Runners, suite};

/// Of the directives that pass, at most one part in so many is skipped.
const SKIPPED_PART_MAX: u64 = 5;

/// Runs the scripts of `folder` and compares failures with the expected ones.
pub fn run(folder: &Path, allocator: &str, brief: bool, runners: &Runners) -> anyhow::Result<()> {
    let started = Instant::now();
    let expected = Expected::read()?;
    let target = target_of(folder)?;
    let names = names(folder)?;
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..runners.jobs {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = report(runners.script(target.arch(), folder, name, allocator));
                    reports.lock().expect("no panic").insert(name.clone(), report);
                }
            });
        }
    });
    let tally = tally(&reports.into_inner().expect("no panic"), &expected, allocator, brief);
    if !brief {
        tally.print_skipped();
    }
    let Tally { passed, known, wrong, .. } = tally;
    let skipped: u64 = tally.skipped.values().map(|(count, _)| count).sum();
    println!(
        "{passed} directives passed, {known} failed as expected, {wrong} not as expected, {skipped} skipped"
    );
    println!("{target}, {allocator}: {} files in {:.1?}", names.len(), started.elapsed());
    ensure!(wrong == 0, "{wrong} directives did not come out as expected");
    // 6 % are, for features that are off. A feature that goes off by mistake would skip its thousands.
    ensure!(
        skipped * SKIPPED_PART_MAX <= passed,
        "{skipped} directives are skipped: is a feature off that was on?"
    );
    Ok(())
}

/// A runner that died is a failure at no line.
fn report(output: anyhow::Result<String>) -> Report {
    let report = output.and_then(|text| serde_json::from_str(&text).context("reading the runner's report"));
    report.unwrap_or_else(|error| Report { failed: vec![(0, format!("{error:#}"))], ..Report::default() })
}

/// All of a folder is of one target: any container's statement says which.
fn target_of(folder: &Path) -> anyhow::Result<Target> {
    let code = folder.join(plan::CODE_FOLDER);
    let mut entries = fs::read_dir(&code).with_context(|| format!("reading {}", code.display()))?;
    let Some(entry) = entries.next() else { bail!("{} is empty", code.display()) };
    let container = fs::read(entry?.path())?;
    let key = fs::read_to_string(folder.join(plan::KEY_FILE))?.parse().context("reading the key")?;
    let statement = TrustedStatement::open(&Container::decode(&container)?.envelope, &Trusted::new([key]))?;
    Ok(statement.statement().target)
}

fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let root = folder.join(plan::SCRIPT_FOLDER);
    let mut names = Vec::new();
    for suite in fs::read_dir(&root).with_context(|| format!("reading {}", root.display()))? {
        for file in fs::read_dir(suite?.path())? {
            let path = file?.path();
            let name = path.strip_prefix(&root)?.with_extension("");
            names.push(name.to_str().context("a file name that is no text")?.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The sums of all reports.
#[derive(Default)]
struct Tally {
    passed: u64,
    known: u64,
    wrong: u64,
    /// By reason: directives, and the files they stand in.
    skipped: BTreeMap<String, (u64, BTreeSet<String>)>,
}

/// Prints every surprise, and a line for each file unless `brief`.
fn tally(reports: &BTreeMap<String, Report>, expected: &Expected, allocator: &str, brief: bool) -> Tally {
    let mut tally = Tally::default();
    for (name, report) in reports {
        let failed: BTreeSet<u32> = report.failed.iter().map(|(line, _)| *line).collect();
        for (line, what) in &report.failed {
            if expected.is_known(name, *line, allocator, what) {
                tally.known += 1;
            } else {
                tally.wrong += 1;
                println!("FAILED {name}:{line} {}", what.replace('\n', " "));
            }
        }
        for line in expected.lines(name, allocator).into_iter().filter(|line| !failed.contains(line)) {
            tally.wrong += 1;
            println!("PASSED although expected.txt says otherwise: {name}:{line}");
        }
        tally.passed += report.passed;
        for (reason, count) in &report.skipped {
            let entry = tally.skipped.entry(reason.clone()).or_default();
            entry.0 += count;
            entry.1.insert(name.clone());
        }
        if !brief {
            let skipped: u64 = report.skipped.values().sum();
            let (passed, failed) = (report.passed, report.failed.len());
            println!("{name:<56} {passed:>6} passed {skipped:>6} skipped {failed:>4} failed");
        }
    }
    tally
}

impl Tally {
    fn print_skipped(&self) {
        println!("\nskipped directives, by reason:");
        for (reason, (count, files)) in &self.skipped {
            println!("{count:>7} in {:>3} files: {reason}", files.len());
        }
        println!("\nfiles not run:");
        for (proposal, files, why) in suite::off() {
            println!("{files:>7} {proposal}: {why}");
        }
        println!();
    }
}
