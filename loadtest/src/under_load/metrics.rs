//! What a node says of itself: its metrics, as Prometheus reads them.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;

use crate::questions::Client;

/// A node that does not tell them by then will not: those of thousands of apps are megabytes.
const TIME_MAX: Duration = Duration::from_secs(30);

/// All of them, at a moment.
#[derive(Debug, Clone)]
pub struct Metrics(String);

impl Metrics {
    /// Now, of the node that tells them at `admin`.
    pub fn of(admin: SocketAddr) -> anyhow::Result<Metrics> {
        let doing = || format!("asking {admin} for the node's metrics");
        let answer =
            Client::plain(admin, TIME_MAX).get(&admin.to_string(), "/metrics").with_context(doing)?;
        anyhow::ensure!(answer.status == 200, "{}: it answers {}", doing(), answer.status);
        Ok(Metrics(String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// The value of a series, by its name and labels as they are printed.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Whole numbers of all series of this name that have the label, `key="value"`, added.
    pub fn sum(&self, name: &str, label: &str) -> u64 {
        let lines =
            self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
        let labelled = lines.filter(|(labels, _)| labels.split(',').any(|one| one == label));
        labelled.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
    }

    /// A histogram's buckets: each bound, and how many values were not above it. The last bound is infinite.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let bucket = |line: &str| {
            let line = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.trim().parse().ok()?))
        };
        self.0.lines().filter_map(bucket).collect()
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
impl Metrics {
    /// What a node could have said.
    pub fn said(text: &str) -> Metrics {
        Metrics(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let metrics = Metrics::said("# HELP a b\nskerry_apps_more 7\nskerry_apps 3\nx{a=\"b\"} 1.5\n");
        assert_eq!(metrics.get("skerry_apps"), Some(3.0));
        assert_eq!(metrics.get(r#"x{a="b"}"#), Some(1.5));
        assert_eq!(metrics.get("skerry"), None);
    }

    #[test]
    fn buckets_are_found_with_the_last_that_has_no_bound() {
        let text = "x_bucket{le=\"0.5\"} 2\nx_bucket{le=\"+Inf\"} 3\nx_sum 4\nxy_bucket{le=\"1\"} 9\n";
        assert_eq!(Metrics::said(text).buckets("x"), [(0.5, 2.0), (f64::INFINITY, 3.0)]);
        assert_eq!(Metrics::said(text).buckets("z"), []);
    }

    #[test]
    fn series_with_a_label_are_added_and_others_are_not() {
        let text =
            "x{app=\"a\",version=\"1\"} 9\nx{app=\"a\",version=\"2\"} 1\nx{app=\"ab\"} 50\nxy{app=\"a\"} 7\n";
        assert_eq!(Metrics::said(text).sum("x", "app=\"a\""), 10);
        assert_eq!(Metrics::said(text).sum("x", "app=\"b\""), 0);
    }
}
