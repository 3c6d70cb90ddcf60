//! What is told of a server: of one round, and of all.

use std::time::Duration;

use serde::Serialize;

use super::{
    seen::{Seen, void},
    usage::{Machine, Usage},
};
use crate::statistics::{Point, Summary};

/// The client's threads are busy for this part of the time: it was what held the answers up.
const CLIENT_BUSY: f64 = 0.95;
/// A client that sleeps between two looks and finds each answer at the first or the second was never busy for so long, and
/// yet held the answers up.
const LOOKS_MIN: f64 = 2.5;
/// Cores that neither the server nor the client had. What the kernel does for the sockets of both is 0.1 to 0.2.
const OTHERS_CORES_MAX: f64 = 0.4;
/// Cores that the machine's own host took away.
const STOLEN_CORES_MAX: f64 = 0.05;
/// Part of the requests that may start late before it is said.
const LATE_MAX: f64 = 0.01;

/// A look at the counters, while the client asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Since the measured time began.
    pub at: Duration,
    /// Answers so far.
    pub answered: u64,
    pub server: Usage,
    pub machine: Machine,
    /// CPU of this process.
    pub client: Duration,
}

/// One server in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Of the server, for a request.
    pub cpu_us: f64,
    /// Context switches of the server, for a request.
    pub switches: f64,
    pub rss_mib: f64,
    pub peak_mib: f64,
    /// Part of the time that the client's threads were busy.
    pub client_busy: f64,
    /// Of a client that sleeps between two looks at its sockets: how many it took for an answer.
    pub looks_for_an_answer: Option<f64>,
    /// Cores that were neither the server's nor the client's.
    pub others_cores: f64,
    pub stolen_cores: f64,
    /// Part of the requests that did not start when they were to.
    pub late: f64,
    pub latency_us: Vec<Point>,
    /// Answers of each whole second.
    pub per_second: Vec<u64>,
}

/// A round that counts, or why it does not.
pub type Measured = Result<Round, String>;

impl Round {
    /// From what the client saw and the looks at both ends of the measured time.
    pub fn new(seen: &Seen, first: Look, last: Look, client_threads: u32) -> Measured {
        if !seen.wrong.is_empty() {
            return Err(seen.not_200());
        }
        if seen.stopped_early {
            return Err("it was stopped".to_owned());
        }
        let requests = last.answered.saturating_sub(first.answered);
        if requests == 0 || last.at <= first.at {
            return Err("nothing was answered between two looks".to_owned());
        }
        let (requests, time) = (requests as f64, (last.at - first.at).as_secs_f64());
        let server = last.server.cpu.saturating_sub(first.server.cpu);
        let client = last.client.saturating_sub(first.client);
        let busy = last.machine.busy.saturating_sub(first.machine.busy);
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        Ok(Round {
            requests_per_second: seen.answered as f64 / seen.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_us: us(seen.p50),
            p99_us: us(seen.p99),
            p999_us: us(seen.p999),
            cpu_us: us(server) / requests,
            switches: last.server.switches.saturating_sub(first.server.switches) as f64 / requests,
            rss_mib: last.server.rss_kib as f64 / 1024.0,
            peak_mib: last.server.peak_kib as f64 / 1024.0,
            client_busy: seen.client_cpu.as_secs_f64()
                / (seen.elapsed.as_secs_f64() * f64::from(client_threads)),
            looks_for_an_answer: seen.looks_for_an_answer,
            others_cores: busy.saturating_sub(server + client).as_secs_f64() / time,
            stolen_cores: last.machine.stolen.saturating_sub(first.machine.stolen).as_secs_f64() / time,
            late: seen.late_starts as f64 / seen.answered.max(1) as f64,
            latency_us: seen.latency_us.clone(),
            per_second: seen.per_second.clone(),
        })
    }

    /// What makes its figures doubtful.
    pub fn warnings(&self) -> Vec<String> {
        let Round { client_busy, looks_for_an_answer, others_cores, stolen_cores, late, .. } = *self;
        let mut warnings = Vec::new();
        if client_busy >= CLIENT_BUSY {
            warnings.push(format!(
                "the client was the bottleneck ({:.0} % busy): compare its CPU, not its requests/s",
                client_busy * 100.0
            ));
        }
        warnings.extend(looks_for_an_answer.and_then(held_up_by_sleeps));
        if others_cores > OTHERS_CORES_MAX {
            warnings.push(format!("the machine was noisy: others used {others_cores:.2} cores"));
        }
        if stolen_cores > STOLEN_CORES_MAX {
            warnings.push(format!("the machine's host took {stolen_cores:.2} cores away"));
        }
        if late > LATE_MAX {
            warnings.push(format!("{:.1} % of the requests started late", late * 100.0));
        }
        warnings
    }
}

/// What is to be said where a client that sleeps between two looks was the bottleneck.
pub fn held_up_by_sleeps(looks_for_an_answer: f64) -> Option<String> {
    (looks_for_an_answer < LOOKS_MIN).then(|| {
        format!(
            "the client was the bottleneck: it sleeps between two looks at its sockets, and {looks_for_an_answer:.1} looks \
             found an answer; compare the server's CPU, not its requests/s"
        )
    })
}

/// What makes figures doubtful in any of these rounds of `what`.
pub fn warnings(what: &str, rounds: &[Measured]) -> Vec<String> {
    let numbered = (1..).zip(rounds).filter_map(|(number, round)| Some((number, round.as_ref().ok()?)));
    let told = |(number, round): (u32, &Round)| {
        round.warnings().into_iter().map(move |one| format!("{what}, round {number}: {one}"))
    };
    numbered.flat_map(told).collect()
}

/// Of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    pub requests_per_second: Summary,
    pub p50_us: Summary,
    pub p99_us: Summary,
    pub p999_us: Summary,
    pub cpu_us: Summary,
    pub switches: Summary,
    pub rss_mib: Summary,
    pub peak_mib: Summary,
}

impl Figures {
    /// One round that does not count voids them all: a server that failed once was not measured under the same load.
    pub fn of(rounds: &[Measured]) -> Result<Figures, String> {
        if let Some(why) = void(rounds) {
            return Err(why);
        }
        let rounds: Vec<&Round> = rounds.iter().filter_map(|round| round.as_ref().ok()).collect();
        let summary = |of: fn(&Round) -> f64| {
            let values: Vec<f64> = rounds.iter().map(|round| of(round)).collect();
            Summary::of(&values).ok_or_else(|| "it was not measured".to_owned())
        };
        Ok(Figures {
            requests_per_second: summary(|round| round.requests_per_second)?,
            p50_us: summary(|round| round.p50_us)?,
            p99_us: summary(|round| round.p99_us)?,
            p999_us: summary(|round| round.p999_us)?,
            cpu_us: summary(|round| round.cpu_us)?,
            switches: summary(|round| round.switches)?,
            rss_mib: summary(|round| round.rss_mib)?,
            peak_mib: summary(|round| round.peak_mib)?,
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// 10,000 requests within a second, 10 µs of CPU each.
    pub fn round() -> Round {
        let seen = Seen {
            answered: 20_000,
            elapsed: 2 * S,
            p50: S / 5_000,
            p99: S / 1_000,
            p999: S / 500,
            client_cpu: S,
            ..Seen::default()
        };
        let server = Usage { cpu: S, switches: 100, rss_kib: 2048, peak_kib: 4096 };
        let machine = Machine { busy: 10 * S, stolen: Duration::ZERO };
        let first = Look { at: S / 10, answered: 500, server, machine, client: S };
        let last = Look {
            at: S / 10 + S,
            answered: 10_500,
            server: Usage { cpu: S + S / 10, switches: 5_100, ..server },
            machine: Machine { busy: 11 * S, ..machine },
            client: S + S / 2,
        };
        Round::new(&seen, first, last, 1).unwrap()
    }

    #[test]
    fn cpu_and_switches_count_between_the_looks_and_rates_over_all_of_the_time() {
        let round = round();
        assert!((round.cpu_us - 10.0).abs() < 1e-9, "{round:?}");
        assert_eq!(round.switches, 0.5);
        assert_eq!(round.requests_per_second, 10_000.0);
        assert_eq!((round.p50_us, round.p99_us, round.p999_us), (200.0, 1000.0, 2000.0));
        assert_eq!((round.rss_mib, round.peak_mib), (2.0, 4.0));
        assert_eq!(round.client_busy, 0.5);
        assert!((round.others_cores - 0.4).abs() < 1e-9, "{round:?}");
        assert_eq!(round.warnings(), Vec::<String>::new());
    }

    #[test]
    fn what_makes_figures_doubtful_is_said() {
        let doubtful =
            Round { client_busy: 0.99, others_cores: 0.9, stolen_cores: 0.2, late: 0.05, ..round() };
        let warnings = doubtful.warnings().join("\n");
        let late_looks = Round { looks_for_an_answer: Some(2.6), ..round() };
        assert_eq!(late_looks.warnings(), Vec::<String>::new());
        let asleep = Round { looks_for_an_answer: Some(2.1), ..round() };
        assert!(asleep.warnings().concat().contains("2.1 looks found an answer"), "{:?}", asleep.warnings());
        for part in ["99 % busy", "others used 0.90 cores", "took 0.20 cores", "5.0 % of the requests"] {
            assert!(warnings.contains(part), "{part:?} is missing in\n{warnings}");
        }
    }

    #[test]
    fn an_answer_that_is_no_200_voids_a_round_and_a_round_voids_them_all() {
        let seen = Seen { asked: 6, wrong: vec![("status 503".into(), 2)], ..Seen::default() };
        let void = Round::new(&seen, Look::default(), Look::default(), 1);
        let why = "2 of 6 requests were not answered 200: 2 × status 503";
        assert_eq!(void, Err(why.to_owned()));
        assert_eq!(Figures::of(std::slice::from_ref(&void)), Err(why.to_owned()));
        let many = Figures::of(&vec![void.clone(); 9]).unwrap_err();
        assert!(many.contains("round 3 of 9") && many.ends_with("; and 6 more"), "{many}");
        let rounds = [void.clone(), Ok(round()), void];
        assert_eq!(Figures::of(&rounds), Err(format!("round 1 of 3: {why}; round 3 of 3: {why}")));
        assert!(Round::new(&Seen::default(), Look::default(), Look::default(), 1).is_err());
    }

    #[test]
    fn figures_are_median_and_range() {
        let with = |cpu_us| Ok(Round { cpu_us, ..round() });
        let figures = Figures::of(&[with(9.0), with(12.0), with(10.0)]).unwrap();
        assert_eq!(figures.cpu_us, Summary { median: 10.0, min: 9.0, max: 12.0 });
    }
}
