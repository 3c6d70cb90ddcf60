//! What `loadtest growth` prints.

use std::fmt::Write as _;

use serde::Serialize;

use super::apps::Programs;
use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    run::report::settings,
    servers::{Server, lineup},
    statistics::Summary,
    stop::STOPPED,
    under_load::figures::{self, Figures, Measured},
};

/// A ratio to hyper may be this far from the median of all of its lane.
const FLAT: f64 = 0.15;
/// CPU of a request with many active apps over that with one.
const APPS_TIMES: f64 = 1.5;

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    pub rounds: u32,
    /// Over connections; fewer, if it was told to stop: one that was cut is none.
    pub rounds_whole: u32,
    /// But for its connections.
    pub scenario: Scenario,
    /// Its binary.
    pub node: String,
    pub left_out: Vec<String>,
    /// It was told to stop: rounds are missing.
    pub stopped: bool,
}

/// One count of connections, as it was measured.
#[derive(Debug, Clone)]
pub struct At {
    pub connections: u32,
    pub nodes: Vec<Lane>,
    pub bare: Vec<Measured>,
}

/// One lane's hello over so many connections.
#[derive(Debug, Clone)]
pub struct Lane {
    pub name: &'static str,
    pub rounds: Vec<Measured>,
}

/// One app and many, as they were measured.
#[derive(Debug, Clone)]
pub struct Many {
    pub apps: u32,
    pub programs: Programs,
    pub guest: &'static str,
    /// What deploying them took, in s. None, as what follows, if it was told to stop before.
    pub deploy_s: Option<f64>,
    /// Native code in the node's memory at the end. More than `code_bytes_max` is not kept: what does not fit is
    /// loaded again when it is asked for.
    pub code_mib: Option<f64>,
    /// One app, before there were others.
    pub alone: Vec<Measured>,
    /// One app, when there were others that nobody asked.
    pub among: Vec<Measured>,
    /// All of them.
    pub many: Vec<Measured>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: String,
    /// Of connections, or of apps that are asked.
    pub count: u32,
    /// CPU of a request in µs.
    pub cpu_us: Option<Summary>,
    /// Why there is none.
    pub void: Option<String>,
    pub requests_per_second: Option<f64>,
    pub rss_mib: Option<f64>,
    /// CPU over bare hyper's at the same load; with many apps: over one's, alone.
    pub ratio: Option<f64>,
}

/// A node with many apps.
#[derive(Debug, Serialize)]
pub struct Fleet {
    pub guest: &'static str,
    pub programs: Programs,
    pub deploy_s: Option<f64>,
    pub code_mib: Option<f64>,
}

/// A goal and what came of it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Goal {
    pub goal: String,
    pub reached: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub method: Method,
    pub connections: Vec<Row>,
    pub apps: Vec<Row>,
    pub fleets: Vec<Fleet>,
    pub warnings: Vec<String>,
    pub goals: Vec<Goal>,
    pub verdict: Verdict,
}

impl At {
    pub fn new(connections: u32, nodes: &[Server]) -> At {
        let nodes = nodes.iter().map(|node| Lane { name: node.name, rounds: Vec::new() }).collect();
        At { connections, nodes, bare: Vec::new() }
    }
}

impl Many {
    pub fn new(apps: u32, programs: Programs, guest: &'static str) -> Many {
        let (deploy_s, code_mib) = (None, None);
        let (alone, among, many) = (Vec::new(), Vec::new(), Vec::new());
        Many { apps, programs, guest, deploy_s, code_mib, alone, among, many }
    }
}

impl Row {
    fn of(name: &str, count: u32, rounds: &[Measured], reference: Option<f64>) -> Row {
        let figures = Figures::of(rounds);
        let void = figures.as_ref().err().cloned();
        let figures = figures.ok();
        let cpu_us = figures.map(|figures| figures.cpu_us);
        Row {
            name: name.to_owned(),
            count,
            void,
            ratio: cpu_us.zip(reference).map(|(cpu, reference)| cpu.median / reference),
            requests_per_second: figures.map(|figures| figures.requests_per_second.median),
            rss_mib: figures.map(|figures| figures.rss_mib.median),
            cpu_us,
        }
    }

    fn median(&self) -> Option<f64> {
        self.cpu_us.map(|cpu| cpu.median)
    }
}

impl Report {
    pub fn new(machine: Machine, method: Method, at: Vec<At>, many: Vec<Many>) -> Report {
        let mut warnings: Vec<String> = lineup::doubt(&method.node).into_iter().collect();
        let mut connections = Vec::new();
        for At { connections: count, nodes, bare } in &at {
            warnings.extend(figures::warnings(&format!("hyper over {count} connections"), bare));
            let hyper = Row::of("hyper", *count, bare, None);
            for Lane { name, rounds } in nodes {
                warnings.extend(figures::warnings(&format!("{name} over {count} connections"), rounds));
                connections.push(Row::of(name, *count, rounds, hyper.median()));
            }
            connections.push(hyper);
        }
        let mut goals = flat(&connections, &method.left_out);
        let (mut apps, mut fleets) = (Vec::new(), Vec::new());
        for Many { apps: count, programs, guest, deploy_s, code_mib, alone, among, many } in &many {
            for (name, rounds) in
                [("one app, alone", alone), ("one app among them", among), ("all apps", many)]
            {
                warnings.extend(figures::warnings(&format!("{guest}, {name}"), rounds));
            }
            let one = Row::of(&format!("{guest}, alone"), 1, alone, None);
            let among = Row::of(&format!("{guest}, one of {count}"), 1, among, one.median());
            let all = Row::of(&format!("{guest}, all"), *count, many, one.median());
            let goal = format!("{count} apps of {guest} ≤ {APPS_TIMES} × the CPU of one");
            goals.push(Goal::at_most(goal, all.ratio, APPS_TIMES));
            apps.extend([one, among, all]);
            fleets.push(Fleet { guest, programs: *programs, deploy_s: *deploy_s, code_mib: *code_mib });
        }
        let met = !goals.is_empty() && goals.iter().all(|goal| goal.verdict == Verdict::Met);
        Report {
            machine,
            method,
            connections,
            apps,
            fleets,
            warnings,
            goals,
            verdict: if met { Verdict::Met } else { Verdict::NotMet },
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Method { rounds, rounds_whole, scenario, node, left_out, stopped } = &self.method;
        let mut text = format!(
            "{}\nload      {}\nseed      {}\nrounds    {rounds_whole} of {rounds}: {node}, then bare hyper\n",
            self.machine.text(),
            settings(scenario),
            scenario.seed,
        );
        if *stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        table(&mut text, "connections", "over hyper", &self.connections);
        table(&mut text, "apps asked", "over alone", &self.apps);
        for Fleet { guest, programs, deploy_s, code_mib } in &self.fleets {
            let Some(deploy_s) = deploy_s else { continue };
            let programs = match programs {
                Programs::Own => "a program each",
                Programs::Shared => "one program",
            };
            let code = code_mib.map_or_else(|| "unknown".to_owned(), |mib| format!("{mib:.0} MiB"));
            let _ = writeln!(
                text,
                "{guest}: deploying all apps, {programs}, took {deploy_s:.0} s; native code in memory at the end: {code}"
            );
        }
        text.push('\n');
        for one in left_out {
            let _ = writeln!(text, "left out: {one}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        for Goal { goal, reached, verdict } in &self.goals {
            let reached = reached.map_or_else(|| "void".to_owned(), |reached| format!("{reached:.2}"));
            let _ = writeln!(text, "goal: {goal:<76} {reached:>6}  {}", verdict.text());
        }
        text
    }
}

impl Goal {
    /// What was not measured was not met.
    fn at_most(goal: String, reached: Option<f64>, limit: f64) -> Goal {
        let met = reached.is_some_and(|reached| reached <= limit);
        Goal { goal, reached, verdict: if met { Verdict::Met } else { Verdict::NotMet } }
    }
}

/// Of each lane: how far the ratio that is farthest from their median is from it.
fn flat(rows: &[Row], left_out: &[String]) -> Vec<Goal> {
    let mut names: Vec<&str> =
        rows.iter().map(|row| row.name.as_str()).filter(|name| *name != "hyper").collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &&str| {
        let ratios: Option<Vec<f64>> =
            rows.iter().filter(|row| row.name == **name).map(|row| row.ratio).collect();
        // All counts, or it is not known to be flat.
        let ratios = ratios.filter(|ratios| left_out.is_empty() && ratios.len() > 1);
        let off = ratios.and_then(|ratios| {
            let Summary { median, min, max } = Summary::of(&ratios)?;
            Some((max - median).max(median - min) / median)
        });
        let goal = format!("{name} over hyper, any connections: within ± {FLAT} of the median");
        Goal::at_most(goal, off, FLAT)
    };
    names.iter().map(of).collect()
}

fn table(text: &mut String, count: &str, ratio: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<26} {count:>12} {:>22} {ratio:>11} {:>11} {:>6}",
        "median [range]", "CPU µs/request", "requests/s", "MiB"
    );
    for Row { name, count, cpu_us, void, requests_per_second, rss_mib, ratio } in rows {
        let Some(Summary { median, min, max }) = cpu_us else {
            let why = void.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{name:<26} {count:>12} void: {why}");
            continue;
        };
        let cpu = format!("{median:.1} [{min:.1}..{max:.1}]");
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let whole = |value: &Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let (rate, mib) = (whole(requests_per_second), whole(rss_mib));
        let _ = writeln!(text, "{name:<26} {count:>12} {cpu:>22} {ratio:>11} {rate:>11} {mib:>6}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::under_load::figures::{Round, tests::round};

    fn cpu(cpu_us: f64) -> Vec<Measured> {
        vec![Ok(Round { cpu_us, ..round() })]
    }

    fn at(connections: u32, node_us: f64, hyper_us: f64) -> At {
        let nodes = vec![Lane { name: "wasi-hello", rounds: cpu(node_us) }];
        At { connections, nodes, bare: cpu(hyper_us) }
    }

    fn many(alone_us: f64, many_us: f64) -> Many {
        Many {
            apps: 1_000,
            programs: Programs::Own,
            guest: "fastly-hello",
            deploy_s: Some(100.0),
            code_mib: Some(1023.8),
            alone: cpu(alone_us),
            among: cpu(alone_us),
            many: cpu(many_us),
        }
    }

    fn report(at: Vec<At>, many: Vec<Many>, left_out: &[&str]) -> Report {
        let scenario = Scenario::named("hello-h1").unwrap();
        let left_out = left_out.iter().map(|one| (*one).to_owned()).collect();
        let method = Method {
            rounds: 1,
            rounds_whole: 1,
            scenario,
            node: "edge-node".into(),
            left_out,
            stopped: false,
        };
        Report::new(Machine::here(), method, at, many)
    }

    #[test]
    fn ratios_near_their_median_are_flat_whatever_hyper_itself_does() {
        // 2.0, 2.1 and 1.72: 14 % below the median at most.
        let flat =
            report(vec![at(16, 20.0, 10.0), at(256, 42.0, 20.0), at(2_000, 51.6, 30.0)], Vec::new(), &[]);
        assert_eq!((flat.verdict, flat.goals.len()), (Verdict::Met, 1));
        let off = flat.goals[0].reached.unwrap();
        assert!((off - 0.14).abs() < 1e-9, "{off}");
        let steep =
            report(vec![at(16, 20.0, 10.0), at(256, 20.0, 10.0), at(2_000, 24.0, 10.0)], Vec::new(), &[]);
        assert_eq!(steep.verdict, Verdict::NotMet);
    }

    #[test]
    fn a_void_count_or_one_that_was_left_out_is_not_known_to_be_flat() {
        let void = At { bare: vec![Err("it ended".into())], ..at(256, 20.0, 10.0) };
        let report_of = |middle: At, left_out: &[&str]| {
            report(vec![at(16, 20.0, 10.0), middle, at(2_000, 20.0, 10.0)], Vec::new(), left_out)
        };
        let told = report_of(void, &[]);
        assert_eq!(told.goals[0].reached, None);
        assert_eq!(told.verdict, Verdict::NotMet);
        assert!(told.text().contains("256 void: it ended"), "{}", told.text());
        assert_eq!(report_of(at(256, 20.0, 10.0), &["5000 connections: no"]).verdict, Verdict::NotMet);
    }

    #[test]
    fn many_apps_may_cost_half_more_than_one_alone() {
        let verdict = |many_us| report(Vec::new(), vec![many(10.0, many_us)], &[]).goals[0].verdict;
        assert_eq!((verdict(15.0), verdict(15.1)), (Verdict::Met, Verdict::NotMet));
        let text = report(Vec::new(), vec![many(10.0, 15.0)], &[]).text();
        for part in [
            "fastly-hello, one of 1000",
            "1.50",
            "a program each, took 100 s; native code in memory at the end: 1024 MiB",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
