//! What executions of an app cost by the node's own bill, from its metrics.

use crate::{deploy::fleet::Fleet, under_load::metrics::Metrics};

/// Of one app, since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill {
    /// CPU of executions; each is rounded down to whole µs.
    cpu_us: u64,
    executions: u64,
}

impl Bill {
    /// Now.
    pub fn of(fleet: &Fleet, app: &str) -> anyhow::Result<Bill> {
        Ok(Bill::by(&fleet.metrics()?, app))
    }

    /// CPU in µs of one execution since `before`; `None` if there was none.
    pub fn each_us_since(self, before: Bill) -> Option<f64> {
        let executions = self.executions.saturating_sub(before.executions);
        (executions > 0).then(|| self.cpu_us.saturating_sub(before.cpu_us) as f64 / executions as f64)
    }

    fn by(metrics: &Metrics, app: &str) -> Bill {
        let sum = |name: &str| metrics.sum(name, &format!("app=\"{app}\""));
        Bill { cpu_us: sum("skerry_cpu_microseconds_total"), executions: sum("skerry_instances_total") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP skerry_cpu_microseconds_total CPU time of executions.\n\
        skerry_cpu_microseconds_total{app=\"a\",tenant=\"default\",version=\"1\"} 90\n\
        skerry_cpu_microseconds_total{app=\"a\",tenant=\"default\",version=\"2\"} 10\n\
        skerry_cpu_microseconds_total{app=\"ab\",tenant=\"default\",version=\"1\"} 5000\n\
        skerry_instances_total{app=\"a\",tenant=\"default\",version=\"1\"} 9\n\
        skerry_instances_total{app=\"a\",tenant=\"default\",version=\"2\"} 1\n";

    #[test]
    fn versions_of_an_app_are_added_and_other_apps_are_not() {
        let bill = Bill::by(&Metrics::said(TEXT), "a");
        assert_eq!(bill, Bill { cpu_us: 100, executions: 10 });
        assert_eq!(bill.each_us_since(Bill::default()), Some(10.0));
        assert_eq!(bill.each_us_since(bill), None);
        assert_eq!(Bill::by(&Metrics::said(TEXT), "b"), Bill::default());
    }
}
