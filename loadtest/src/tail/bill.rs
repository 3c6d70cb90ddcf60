//! What executions of an app cost by the node's own bill, from its metrics.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

use crate::deploy::client::parse;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Of an answer: a thousand apps have a few lines each.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Of one app, since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bill {
    /// CPU of executions; each is rounded down to whole µs.
    cpu_us: u64,
    executions: u64,
}

impl Bill {
    /// Now.
    pub fn of(admin: SocketAddr, app: &str) -> anyhow::Result<Bill> {
        let doing = || format!("asking {admin} for the node's metrics");
        Ok(Bill::parse(&metrics(admin).with_context(doing)?, app))
    }

    /// CPU in µs of one execution since `before`; `None` if there was none.
    pub fn each_us_since(self, before: Bill) -> Option<f64> {
        let executions = self.executions.saturating_sub(before.executions);
        (executions > 0).then(|| self.cpu_us.saturating_sub(before.cpu_us) as f64 / executions as f64)
    }

    fn parse(text: &str, app: &str) -> Bill {
        let label = format!("app=\"{app}\"");
        let sum = |name: &str| {
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
            let of_app = lines.filter(|(labels, _)| labels.split(',').any(|one| one == label));
            of_app.filter_map(|(_, value)| value.trim().parse::<u64>().ok()).sum()
        };
        Bill { cpu_us: sum("skerry_cpu_microseconds_total"), executions: sum("skerry_instances_total") }
    }
}

fn metrics(admin: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let answer = parse(&bytes)?.context("the answer was cut off")?;
    anyhow::ensure!(answer.status == 200, "it answers {}", answer.status);
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
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
        let bill = Bill::parse(TEXT, "a");
        assert_eq!(bill, Bill { cpu_us: 100, executions: 10 });
        assert_eq!(bill.each_us_since(Bill::default()), Some(10.0));
        assert_eq!(bill.each_us_since(bill), None);
        assert_eq!(Bill::parse(TEXT, "b"), Bill::default());
    }
}
