//! What `loadtest compare` prints.

use std::fmt::Write as _;

use serde::Serialize;

use super::goals::{self, Judged, Known};
use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    run::report::settings,
    servers::{
        Server, Wire,
        lineup::{self, LeftOut},
    },
    statistics::Summary,
    stop::STOPPED,
    under_load::figures::{self, Figures, Measured, Round},
};

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    pub scenario: Scenario,
    pub wire: Wire,
    pub rounds: u32,
    /// It was told to stop: rounds are missing.
    pub stopped: bool,
}

impl Method {
    /// Names and values.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Method { scenario, rounds, .. } = self;
        let rounds = format!("{rounds} interleaved; every server started anew, alone");
        let mut rows =
            vec![("scenario", settings(scenario)), ("seed", scenario.seed.to_string()), ("rounds", rounds)];
        if self.stopped {
            rows.push(("stopped", STOPPED.to_owned()));
        }
        rows
    }
}

/// One server.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub what: String,
    pub figures: Option<Figures>,
    /// Why there are none.
    pub void: Option<String>,
    /// CPU of a request, over the bare server's.
    pub cpu_ratio: Option<f64>,
    /// Requests a second, over the bare server's.
    pub rate_ratio: Option<f64>,
    /// Those that count.
    pub rounds: Vec<Round>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub method: Method,
    pub servers: Vec<Row>,
    pub left_out: Vec<LeftOut>,
    pub warnings: Vec<String>,
    pub goals: Vec<Judged>,
    pub verdict: Verdict,
}

impl Report {
    pub fn new(
        machine: Machine,
        method: Method,
        measured: Vec<(Server, Vec<Measured>)>,
        left_out: Vec<LeftOut>,
    ) -> Report {
        let doubt = measured.iter().find_map(|(server, _)| lineup::doubt(&server.what));
        let of_rounds = measured.iter().flat_map(|(server, rounds)| figures::warnings(server.name, rounds));
        let warnings = doubt.into_iter().chain(of_rounds).collect();
        let mut servers: Vec<Row> =
            measured.into_iter().map(|(server, rounds)| Row::new(server, &rounds)).collect();
        compare(&mut servers, method.wire);
        let goals = goals::judge(method.wire, |name| match servers.iter().find(|row| row.name == name) {
            None => Known::No,
            Some(row) => row.figures.map_or(Known::Void, |figures| Known::Us(figures.cpu_us.median)),
        });
        let verdict = goals::verdict(&goals);
        Report { machine, method, servers, left_out, warnings, goals, verdict }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.text());
        for (name, value) in self.method.rows() {
            let _ = writeln!(text, "{name:<10}{value}");
        }
        text.push('\n');
        self.table(&mut text);
        self.void(&mut text);
        for one in &self.left_out {
            let _ = writeln!(text, "left out: {}", one.text());
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        self.goals(&mut text);
        text
    }

    fn table(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<15} {:>22} {:>6} {:>24} {:>6} {:>8} {:>8} {:>8} {:>9} {:>6} {:>6}",
            "median [range]",
            "CPU µs/request",
            "ratio",
            "requests/s",
            "ratio",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "switches",
            "MiB",
            "peak"
        );
        for row in &self.servers {
            let Some(figures) = &row.figures else { continue };
            let _ = writeln!(
                text,
                "{:<15} {:>22} {:>6} {:>24} {:>6} {:>8.0} {:>8.0} {:>8.0} {:>9.2} {:>6.0} {:>6.0}",
                row.name,
                range(figures.cpu_us, 1),
                ratio(row.cpu_ratio),
                range(figures.requests_per_second, 0),
                ratio(row.rate_ratio),
                figures.p50_us.median,
                figures.p99_us.median,
                figures.p999_us.median,
                figures.switches.median,
                figures.rss_mib.median,
                figures.peak_mib.median,
            );
        }
        text.push('\n');
    }

    fn void(&self, text: &mut String) {
        for row in &self.servers {
            match &row.void {
                Some(why) => _ = writeln!(text, "void: {}: {why}", row.name),
                None => _ = writeln!(text, "{:<15} {}", row.name, row.what),
            }
        }
    }

    fn goals(&self, text: &mut String) {
        if !self.goals.is_empty() {
            text.push('\n');
        }
        for judged in &self.goals {
            let Judged { goal, verdict, .. } = judged;
            let _ = writeln!(text, "goal: {goal:<50} {:>12}  {}", judged.reached(), verdict.text());
        }
    }
}

impl Row {
    fn new(server: Server, rounds: &[Measured]) -> Row {
        let figures = Figures::of(rounds);
        Row {
            name: server.name,
            what: server.what,
            void: figures.as_ref().err().cloned(),
            figures: figures.ok(),
            cpu_ratio: None,
            rate_ratio: None,
            rounds: rounds.iter().filter_map(|round| round.as_ref().ok().cloned()).collect(),
        }
    }
}

/// Fills in the ratios to the bare server.
fn compare(rows: &mut [Row], wire: Wire) {
    let Some(bare) = rows.iter().find(|row| row.name == wire.bare()).and_then(|row| row.figures) else {
        return;
    };
    for row in rows {
        let Some(figures) = row.figures else { continue };
        row.cpu_ratio = Some(figures.cpu_us.median / bare.cpu_us.median);
        row.rate_ratio = Some(figures.requests_per_second.median / bare.requests_per_second.median);
    }
}

pub fn range(Summary { median, min, max }: Summary, digits: usize) -> String {
    format!("{median:.digits$} [{min:.digits$}..{max:.digits$}]")
}

pub fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::under_load::figures::tests::round;

    pub fn report() -> Report {
        let machine = Machine {
            cpu: "CPU".into(),
            cores: 2,
            kernel: "6.18".into(),
            load: 0.1,
            commit: "abc".into(),
            wasmtime: "48",
            build: "release".into(),
        };
        let scenario = Scenario::named("hello-h1").unwrap();
        let method = Method { scenario, wire: Wire::H1, rounds: 2, stopped: false };
        let with = |cpu_us| Ok(Round { cpu_us, ..round() });
        let noisy = Ok(Round { cpu_us: 16.0, others_cores: 1.0, ..round() });
        let measured = vec![
            (Server::called("hyper"), vec![with(8.0), with(8.5)]),
            (Server::called("fastly-hello"), vec![with(15.0), noisy]),
            (Server::called("wasi-hello"), vec![with(20.0), Err("3 requests were not answered 200".into())]),
        ];
        let cure = Some("npm i -g deno".to_owned());
        let left_out = vec![LeftOut { name: "deno", why: "deno is not installed".into(), cure }];
        Report::new(machine, method, measured, left_out)
    }

    #[test]
    fn the_text_has_figures_ratios_goals_and_all_that_is_wrong() {
        let text = report().text();
        for part in [
            "CPU, 2 cores",
            "hello-h1: H1 in the clear, 64 connections × 1 on 1 threads, 10s after 2s",
            "seed      0",
            "8.0 [8.0..8.5]   1.00",
            "15.0 [15.0..16.0]   1.88",
            "void: wasi-hello: round 2 of 2: 3 requests were not answered 200",
            "left out: deno: deno is not installed; npm i -g deno",
            "warning: fastly-hello, round 2: the machine was noisy",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let goal = |part: &str| text.lines().find(|line| line.contains(part)).unwrap().to_owned();
        assert!(goal("fastly-hello ≤ 2 × the CPU of hyper").ends_with("1.88  met"), "{text}");
        assert!(goal("wasi-hello ≤ 2.3 ×").ends_with("void  NOT MET"), "{text}");
        assert!(goal("than viceroy").ends_with("not measured  -"), "{text}");
    }

    #[test]
    fn json_has_the_same() {
        let report = serde_json::to_value(report()).unwrap();
        assert_eq!(report["servers"][1]["cpu_ratio"], 1.875);
        assert_eq!(report["servers"][2]["figures"], serde_json::Value::Null);
        assert_eq!(report["left_out"][0]["cure"], "npm i -g deno");
        assert_eq!(report["verdict"], "not_met");
    }
}
