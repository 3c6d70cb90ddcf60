//! What `loadtest tail` prints.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    neighbours::attack::Attacked,
    run::report::settings,
    servers::lineup,
    statistics::Summary,
    stop::STOPPED,
    under_load::figures::{self, Figures, Measured},
};

/// A node's latency over bare hyper's at the same rate, the guest's own time beside it.
const BARE_TIMES: f64 = 1.5;
/// p99 beside hostile neighbours over the quiet one.
const QUIET_TIMES: f64 = 2.0;

/// How it was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Method {
    pub rounds: u32,
    /// Fewer, if it was told to stop: one that was cut is none.
    pub rounds_whole: u32,
    /// Of the most that is answered.
    pub part: f64,
    pub hostile: u32,
    /// But for its rate, which is each lane's own.
    pub scenario: Scenario,
    /// Its binary.
    pub node: String,
    /// It was told to stop: rounds are missing.
    pub stopped: bool,
}

/// One lane's hello, as it was measured.
#[derive(Debug, Clone)]
pub struct Lane {
    pub name: &'static str,
    pub per_second_max: f64,
    pub per_second: f64,
    /// CPU of an execution by the node's bill, of each round.
    pub own_us: Vec<f64>,
    pub quiet: Vec<Measured>,
    pub bare: Vec<Measured>,
    pub beside: Vec<Measured>,
    pub hostile: Attacked,
}

/// One lane's hello, as it is told.
#[derive(Debug, Serialize)]
pub struct Row {
    pub name: &'static str,
    pub per_second_max: f64,
    pub per_second: f64,
    pub own_us: Option<Summary>,
    pub quiet: Told,
    pub bare: Told,
    pub beside: Told,
    pub hostile: Attacked,
}

/// Median and range of the rounds, or why there are none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Figures(Box<Figures>),
    Void(String),
}

/// One figure of several.
type Of = fn(&Figures) -> Summary;

/// A goal and what came of it, in µs.
#[derive(Debug, PartialEq, Serialize)]
pub struct Goal {
    pub goal: String,
    pub reached_us: Option<f64>,
    pub limit_us: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub method: Method,
    pub lanes: Vec<Row>,
    pub warnings: Vec<String>,
    pub goals: Vec<Goal>,
    pub verdict: Verdict,
}

impl Lane {
    /// One that answers `most` a second and is to be asked for `part` of it.
    pub fn new(name: &'static str, most: f64, part: f64) -> Lane {
        Lane {
            name,
            per_second_max: most,
            per_second: most * part,
            own_us: Vec::new(),
            quiet: Vec::new(),
            bare: Vec::new(),
            beside: Vec::new(),
            hostile: Attacked::default(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let named =
            [("quiet", &self.quiet), ("bare hyper", &self.bare), ("beside hostile ones", &self.beside)];
        let of = |(what, rounds): (&str, &Vec<Measured>)| {
            figures::warnings(&format!("{} {what}", self.name), rounds)
        };
        named.into_iter().flat_map(of).collect()
    }

    fn row(self) -> Row {
        Row {
            name: self.name,
            per_second_max: self.per_second_max,
            per_second: self.per_second,
            own_us: Summary::of(&self.own_us),
            quiet: Told::of(&self.quiet),
            bare: Told::of(&self.bare),
            beside: Told::of(&self.beside),
            hostile: self.hostile,
        }
    }
}

impl Told {
    fn of(rounds: &[Measured]) -> Told {
        Figures::of(rounds).map_or_else(Told::Void, |figures| Told::Figures(Box::new(figures)))
    }

    fn us(&self, of: Of) -> Option<f64> {
        match self {
            Told::Figures(figures) => Some(of(figures).median),
            Told::Void(_) => None,
        }
    }
}

impl Row {
    fn goals(&self) -> Vec<Goal> {
        let name = self.name;
        let quantiles: [(&str, Of); 3] = [
            ("p50", |figures| figures.p50_us),
            ("p99", |figures| figures.p99_us),
            ("p99.9", |figures| figures.p999_us),
        ];
        let mut goals: Vec<Goal> = quantiles
            .into_iter()
            .map(|(quantile, of)| {
                let own = self.own_us.map(|own| own.median);
                let limit = self.bare.us(of).zip(own).map(|(bare, own)| BARE_TIMES * bare + own);
                let goal = format!("{name}: {quantile} ≤ {BARE_TIMES} × hyper's + its own time");
                Goal::new(goal, self.quiet.us(of), limit)
            })
            .collect();
        let p99 = |told: &Told| told.us(|figures| figures.p99_us);
        // Neighbours that were not there prove nothing.
        let limit = p99(&self.quiet).filter(|_| self.hostile.ended() > 0);
        let goal = format!("{name}: p99 beside hostile ones ≤ {QUIET_TIMES} × quiet");
        goals.push(Goal::new(goal, p99(&self.beside), limit.map(|quiet| quiet * QUIET_TIMES)));
        goals
    }
}

impl Goal {
    /// What was not measured was not met.
    fn new(goal: String, reached_us: Option<f64>, limit_us: Option<f64>) -> Goal {
        let met = reached_us.zip(limit_us).is_some_and(|(reached, limit)| reached <= limit);
        Goal { goal, reached_us, limit_us, verdict: if met { Verdict::Met } else { Verdict::NotMet } }
    }
}

impl Report {
    pub fn new(machine: Machine, method: Method, lanes: Vec<Lane>) -> Report {
        let of_lanes = lanes.iter().flat_map(Lane::warnings);
        let warnings = lineup::doubt(&method.node).into_iter().chain(of_lanes).collect();
        let lanes: Vec<Row> = lanes.into_iter().map(Lane::row).collect();
        let goals: Vec<Goal> = lanes.iter().flat_map(Row::goals).collect();
        let met = !goals.is_empty() && goals.iter().all(|goal| goal.verdict == Verdict::Met);
        let verdict = if met { Verdict::Met } else { Verdict::NotMet };
        Report { machine, method, lanes, warnings, goals, verdict }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Method { rounds, rounds_whole, part, hostile, scenario, node, stopped } = &self.method;
        let mut text = format!(
            "{}\nload      {}, at {:.0} % of the most each lane answers\nseed      {}, the next in each round\n\
             rounds    {rounds_whole} of {rounds}: {node} quiet and beside {hostile} hostile neighbours in flight, then bare hyper\n",
            self.machine.text(),
            settings(scenario),
            part * 100.0,
            scenario.seed,
        );
        if *stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        let _ = writeln!(
            text,
            "\n{:<14} {:<18} {:>11} {:>20} {:>22} {:>24}",
            "median [range]", "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs"
        );
        for row in &self.lanes {
            row.text(&mut text);
        }
        text.push('\n');
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        for Goal { goal, reached_us, limit_us, verdict } in &self.goals {
            let us = |us: &Option<f64>| us.map_or_else(|| "void".to_owned(), |us| format!("{us:.0}"));
            let (reached, limit) = (us(reached_us), us(limit_us));
            let _ = writeln!(text, "goal: {goal:<60} {reached:>8} of {limit:>8} µs  {}", verdict.text());
        }
        text
    }
}

impl Row {
    fn text(&self, text: &mut String) {
        let Row { name, per_second_max, per_second, own_us, hostile, .. } = self;
        for (what, told) in
            [("bare hyper", &self.bare), ("quiet", &self.quiet), ("beside hostile ones", &self.beside)]
        {
            let _ = match told {
                Told::Void(why) => writeln!(text, "{name:<14} {what:<19} void: {why}"),
                Told::Figures(figures) => writeln!(
                    text,
                    "{name:<14} {what:<19} {:>10.0} {:>20} {:>22} {:>24}",
                    figures.requests_per_second.median,
                    range(figures.p50_us),
                    range(figures.p99_us),
                    range(figures.p999_us),
                ),
            };
        }
        let own = own_us.map_or_else(|| "unknown".to_owned(), |own| format!("{:.1} µs", own.median));
        let ended: Vec<_> =
            hostile.statuses.iter().map(|(status, count)| format!("{count} × {status}")).collect();
        let _ = writeln!(
            text,
            "{name:<14} at most {per_second_max:.0}/s, asked {per_second:.0}/s; own time {own} of CPU (the node's bill, \
             mean of the quiet run); hostile answers: {}, {} without one",
            if ended.is_empty() { "none".to_owned() } else { ended.join(", ") },
            hostile.errors
        );
    }
}

fn range(Summary { median, min, max }: Summary) -> String {
    format!("{median:.0} [{min:.0}..{max:.0}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::under_load::figures::{Round, tests::round};

    fn with(p50_us: f64, p99_us: f64, p999_us: f64) -> Vec<Measured> {
        vec![Ok(Round { p50_us, p99_us, p999_us, ..round() })]
    }

    fn lane() -> Lane {
        Lane {
            own_us: vec![10.0],
            bare: with(100.0, 400.0, 1000.0),
            quiet: with(160.0, 600.0, 1511.0),
            beside: with(200.0, 1200.0, 9000.0),
            hostile: Attacked { statuses: [(504, 5)].into(), errors: 0 },
            ..Lane::new("fastly-hello", 10_000.0, 0.6)
        }
    }

    fn report(lane: Lane) -> Report {
        let scenario = Scenario::named("hello-h1").unwrap();
        let node = "edge-node 0.1.0 (release), fastly-hello".to_owned();
        let method =
            Method { rounds: 1, rounds_whole: 1, part: 0.6, hostile: 8, scenario, node, stopped: false };
        Report::new(Machine::here(), method, vec![lane])
    }

    fn verdicts(lane: Lane) -> Vec<bool> {
        report(lane).goals.iter().map(|goal| goal.verdict == Verdict::Met).collect()
    }

    #[test]
    fn a_node_may_take_half_more_than_hyper_and_its_guests_own_time() {
        assert_eq!(verdicts(lane()), [true, true, false, true]);
        assert_eq!(report(lane()).goals[0].limit_us, Some(160.0));
        assert_eq!(report(lane()).verdict, Verdict::NotMet);
        let met = Lane { quiet: with(160.0, 600.0, 1510.0), ..lane() };
        assert_eq!(report(met).verdict, Verdict::Met);
    }

    #[test]
    fn p99_beside_hostile_ones_may_be_twice_the_quiet_one_and_they_must_have_been_there() {
        let slow = Lane { beside: with(1.0, 1201.0, 1.0), ..lane() };
        assert!(!verdicts(slow)[3]);
        let alone = Lane { hostile: Attacked { statuses: [(503, 5)].into(), errors: 0 }, ..lane() };
        assert!(!verdicts(alone)[3]);
    }

    #[test]
    fn what_is_void_is_not_met_and_said() {
        let void = Lane { bare: vec![Err("3 requests were not answered 200".into())], ..lane() };
        let report = report(void);
        assert!(
            report.goals[..3].iter().all(|goal| goal.verdict == Verdict::NotMet && goal.limit_us.is_none())
        );
        let text = report.text();
        for part in [
            "bare hyper          void: 3 requests were not answered 200",
            "at 60 % of the most",
            "edge-node 0.1.0 (release)",
            "at most 10000/s, asked 6000/s; own time 10.0 µs",
            "hostile answers: 5 × 504, 0 without one",
            "160 of     void µs  NOT MET",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
