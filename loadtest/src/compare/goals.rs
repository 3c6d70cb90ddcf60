//! What is to be reached, and whether it was. All are of CPU a request: requests a second say as much about the client,
//! which shares the machine.

use serde::Serialize;

use crate::{Verdict, servers::Wire};

/// A goal of one server against another.
#[derive(Debug, Clone, Copy)]
struct Goal {
    wire: Wire,
    ours: &'static str,
    other: &'static str,
    reach: Reach,
}

#[derive(Debug, Clone, Copy)]
enum Reach {
    /// Our CPU is at most this many times the other's.
    AtMost(f64),
    /// The other's CPU is at least this many times ours.
    Fewer(f64),
}

/// One row each.
#[rustfmt::skip]
const GOALS: [Goal; 13] = [
    Goal { wire: Wire::H1, ours: "fastly-hello", other: "hyper", reach: Reach::AtMost(2.0) },
    Goal { wire: Wire::H1, ours: "wasi-hello", other: "hyper", reach: Reach::AtMost(2.3) },
    Goal { wire: Wire::H1, ours: "as-hello", other: "hyper", reach: Reach::AtMost(1.9) },
    Goal { wire: Wire::H1, ours: "wasi-hello", other: "wasmtime-tuned", reach: Reach::Fewer(3.0) },
    Goal { wire: Wire::H1, ours: "wasi-hello", other: "wasmtime", reach: Reach::Fewer(8.0) },
    Goal { wire: Wire::H1, ours: "fastly-hello", other: "viceroy", reach: Reach::Fewer(17.0) },
    Goal { wire: Wire::H1, ours: "fastly-hello", other: "workerd", reach: Reach::Fewer(2.5) },
    Goal { wire: Wire::H2, ours: "fastly-hello", other: "hyper", reach: Reach::AtMost(1.8) },
    Goal { wire: Wire::H2, ours: "wasi-hello", other: "hyper", reach: Reach::AtMost(2.0) },
    Goal { wire: Wire::H2, ours: "as-hello", other: "hyper", reach: Reach::AtMost(1.7) },
    Goal { wire: Wire::H3, ours: "fastly-hello", other: "quinn", reach: Reach::AtMost(1.7) },
    Goal { wire: Wire::H3, ours: "wasi-hello", other: "quinn", reach: Reach::AtMost(1.7) },
    Goal { wire: Wire::H3, ours: "as-hello", other: "quinn", reach: Reach::AtMost(1.7) },
];

/// What is known of a server's CPU a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    Us(f64),
    /// It was to be measured, and was not.
    Void,
    /// It was left out.
    No,
}

/// A goal and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    pub goal: String,
    /// The ratio that the goal speaks of.
    pub reached: Option<f64>,
    pub verdict: Verdict,
}

impl Judged {
    /// The ratio, for a person.
    pub fn reached(&self) -> String {
        match (self.reached, self.verdict) {
            (Some(ratio), _) => format!("{ratio:.2}"),
            (None, Verdict::NoGoal) => "not measured".to_owned(),
            (None, _) => "void".to_owned(),
        }
    }
}

/// The most CPU in µs that a server may take by a goal against the bare server.
pub fn ceiling(wire: Wire, ours: &str, bare: &str, bare_us: f64) -> Option<f64> {
    let of = GOALS.iter().find(|goal| (goal.wire, goal.ours, goal.other) == (wire, ours, bare))?;
    match of.reach {
        Reach::AtMost(times) => Some(times * bare_us),
        Reach::Fewer(_) => None,
    }
}

/// Judges the goals of `wire`. One whose servers were not both asked for has no verdict; a void figure has not met it.
pub fn judge(wire: Wire, cpu_us: impl Fn(&str) -> Known) -> Vec<Judged> {
    let of_wire = GOALS.iter().filter(|goal| goal.wire == wire);
    of_wire.map(|goal| goal.judge(cpu_us(goal.ours), cpu_us(goal.other))).collect()
}

/// Of all together: none that could be judged is no verdict.
pub fn verdict(judged: &[Judged]) -> Verdict {
    let any = |verdict| judged.iter().any(|one| one.verdict == verdict);
    match (any(Verdict::NotMet), any(Verdict::Met)) {
        (true, _) => Verdict::NotMet,
        (false, true) => Verdict::Met,
        (false, false) => Verdict::NoGoal,
    }
}

impl Goal {
    fn judge(&self, ours: Known, other: Known) -> Judged {
        let (reached, verdict) = match (ours, other) {
            (Known::No, _) | (_, Known::No) => (None, Verdict::NoGoal),
            (Known::Us(ours), Known::Us(other)) => {
                let (ratio, met) = self.reach.of(ours, other);
                (Some(ratio), if met { Verdict::Met } else { Verdict::NotMet })
            }
            _ => (None, Verdict::NotMet),
        };
        Judged { goal: self.text(), reached, verdict }
    }

    fn text(&self) -> String {
        let Goal { ours, other, reach, .. } = self;
        match reach {
            Reach::AtMost(times) => format!("{ours} ≤ {times} × the CPU of {other}"),
            Reach::Fewer(times) => format!("{ours} ≥ {times} × less CPU than {other}"),
        }
    }
}

impl Reach {
    fn of(self, ours: f64, other: f64) -> (f64, bool) {
        match self {
            Reach::AtMost(times) => (ours / other, ours / other <= times),
            Reach::Fewer(times) => (other / ours, other / ours >= times),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(figures: &[(&str, Known)]) -> Vec<(Option<f64>, Verdict)> {
        let known = |name: &str| figures.iter().find(|(of, _)| *of == name).map_or(Known::No, |(_, us)| *us);
        judge(Wire::H1, known).into_iter().map(|one| (one.reached, one.verdict)).collect()
    }

    #[test]
    fn a_ratio_at_the_goal_has_reached_it() {
        let figures =
            [("hyper", Known::Us(8.0)), ("fastly-hello", Known::Us(16.0)), ("wasi-hello", Known::Us(18.5))];
        let judged = judged(&figures);
        assert_eq!(judged[0], (Some(2.0), Verdict::Met));
        assert_eq!(judged[1], (Some(18.5 / 8.0), Verdict::NotMet));
        assert_eq!(judged[2], (None, Verdict::NoGoal), "as-hello was left out");
    }

    #[test]
    fn a_ceiling_is_of_this_protocol_and_of_the_bare_server() {
        assert_eq!(ceiling(Wire::H1, "fastly-hello", "hyper", 8.0), Some(16.0));
        assert_eq!(ceiling(Wire::H2, "fastly-hello", "hyper", 10.0), Some(18.0));
        assert_eq!(ceiling(Wire::H1, "fastly-hello", "viceroy", 8.0), None);
        assert_eq!(ceiling(Wire::H1, "deno", "hyper", 8.0), None);
    }

    #[test]
    fn peers_are_to_need_more() {
        let judged = judged(&[
            ("wasi-hello", Known::Us(18.0)),
            ("fastly-hello", Known::Us(16.0)),
            ("wasmtime-tuned", Known::Us(54.0)),
            ("wasmtime", Known::Us(143.0)),
            ("viceroy", Known::Us(295.0)),
            ("workerd", Known::Us(46.0)),
        ]);
        let verdicts: Vec<Verdict> = judged[3..].iter().map(|one| one.1).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::NotMet, Verdict::Met, Verdict::Met]);
        assert_eq!(judged[3].0, Some(3.0));
    }

    #[test]
    fn a_void_figure_has_not_met_its_goal_and_a_missing_one_has_none() {
        assert_eq!(
            judged(&[("hyper", Known::Us(8.0)), ("fastly-hello", Known::Void)])[0],
            (None, Verdict::NotMet)
        );
        assert_eq!(judged(&[("fastly-hello", Known::Void)])[0], (None, Verdict::NoGoal));
    }

    #[test]
    fn one_that_is_not_met_decides_and_none_is_no_verdict() {
        let one = |verdict| Judged { goal: String::new(), reached: None, verdict };
        assert_eq!(verdict(&[one(Verdict::Met), one(Verdict::NotMet)]), Verdict::NotMet);
        assert_eq!(verdict(&[one(Verdict::NoGoal), one(Verdict::Met)]), Verdict::Met);
        assert_eq!(verdict(&[one(Verdict::NoGoal)]), Verdict::NoGoal);
    }
}
