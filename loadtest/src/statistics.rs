//! What is said of a row of measurements.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Points of a curve of latencies: as many as a plot shows.
const QUANTILES: [f64; 12] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// Median and range. The median of batches ignores the few that the machine disturbed; the range shows how many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let sorted = sorted(values);
        Some(Summary { median: percentile(&sorted, 50.0)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// Percentiles of single events, as of deploys.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub p50: f64,
    pub p90: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let sorted = sorted(values);
        Some(Spread {
            p50: percentile(&sorted, 50.0)?,
            p90: percentile(&sorted, 90.0)?,
            max: *sorted.last()?,
        })
    }
}

/// What this part of all did not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    pub quantile: f64,
    pub us: f64,
}

impl Point {
    /// The curve of a histogram of nanoseconds.
    pub fn all(latency_ns: &Histogram<u64>) -> Vec<Point> {
        let at = |quantile| Point { quantile, us: latency_ns.value_at_quantile(quantile) as f64 / 1e3 };
        QUANTILES.map(at).to_vec()
    }

    /// For a person.
    pub fn name(&self) -> String {
        quantile_name(self.quantile)
    }
}

/// For a person.
pub fn quantile_name(quantile: f64) -> String {
    match quantile {
        0.0 => "least".to_owned(),
        1.0 => "most".to_owned(),
        part => format!("p{}", (part * 1e6).round() / 1e4),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The smallest value that at least `percent` of all do not exceed (nearest rank: always a value that was measured).
fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_odd_and_an_even_row() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.0, "nearest rank, never an average");
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(Spread::of(&values).unwrap(), Spread { p50: 10.0, p90: 18.0, max: 20.0 });
        assert_eq!(Spread::of(&[7.0]).unwrap(), Spread { p50: 7.0, p90: 7.0, max: 7.0 });
        assert_eq!(Spread::of(&[]), None);
    }
}
