//! Options that change a scenario, so that nobody has to copy its file for another number.

use std::time::Duration;

use anyhow::Context as _;

use crate::generate::{Arrivals, Scenario};

const HEADING: &str = "Instead of the scenario's own";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// Seconds that count
    #[arg(long, value_name = "N", help_heading = HEADING)]
    seconds: Option<f64>,
    /// Connections
    #[arg(long, value_name = "N", help_heading = HEADING)]
    connections: Option<u32>,
    /// Threads of the client
    #[arg(long, value_name = "N", help_heading = HEADING)]
    threads: Option<u32>,
    /// Requests a second, of an open loop; a closed one becomes an open one with Poisson arrivals
    #[arg(long, value_name = "N", help_heading = HEADING)]
    rate: Option<f64>,
    /// Seed of arrivals and hosts
    #[arg(long, value_name = "N", help_heading = HEADING)]
    seed: Option<u64>,
}

impl Overrides {
    /// The scenario with what was given, if that can be run.
    pub fn of(&self, mut scenario: Scenario) -> anyhow::Result<Scenario> {
        if let Some(seconds) = self.seconds {
            let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= Scenario::TIME_MAX);
            scenario.duration = time.with_context(|| {
                format!("--seconds must be above 0 and at most {}: {seconds}", Scenario::TIME_MAX.as_secs())
            })?;
        }
        if let Some(connections) = self.connections {
            scenario.connections = connections;
        }
        if let Some(threads) = self.threads {
            scenario.threads = threads;
        }
        if let Some(per_second) = self.rate {
            let arrivals = match scenario.arrivals {
                Arrivals::Constant { .. } => Arrivals::Constant { per_second },
                Arrivals::Closed | Arrivals::Poisson { .. } => Arrivals::Poisson { per_second },
            };
            scenario = scenario.arriving(arrivals);
        }
        if let Some(seed) = self.seed {
            scenario.seed = seed;
        }
        Ok(scenario.checked()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Scenario {
        Scenario::named("hello-h1").unwrap()
    }

    #[test]
    fn what_is_given_replaces_what_the_file_says_and_no_more() {
        assert_eq!(Overrides::default().of(hello()).unwrap(), hello());
        let all = Overrides {
            seconds: Some(0.5),
            connections: Some(7),
            threads: Some(2),
            rate: Some(50.0),
            seed: Some(9),
        };
        let changed = Scenario {
            duration: Duration::from_millis(500),
            connections: 7,
            threads: 2,
            seed: 9,
            ..hello().arriving(Arrivals::Poisson { per_second: 50.0 })
        };
        assert_eq!(all.of(hello()).unwrap(), changed);
        let even = hello().arriving(Arrivals::Constant { per_second: 1.0 });
        assert_eq!(all.of(even).unwrap().arrivals, Arrivals::Constant { per_second: 50.0 });
    }

    #[test]
    fn a_number_that_cannot_be_run_is_told() {
        let told = |overrides: Overrides| overrides.of(hello()).unwrap_err().to_string();
        let none = Overrides::default;
        for seconds in [-1.0, f64::NAN, 3601.0] {
            assert!(
                told(Overrides { seconds: Some(seconds), ..none() }).starts_with("--seconds must be above 0")
            );
        }
        assert!(told(Overrides { seconds: Some(0.0), ..none() }).contains("must be above 0"));
        let rate = told(Overrides { rate: Some(0.0), connections: Some(0), ..none() });
        assert!(
            rate.contains("connections must be 1 to 10000") && rate.contains("per_second must be"),
            "{rate}"
        );
    }
}
