//! Who asks: HTTP/1.1 in the clear over one kept connection, for one host after the other.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{questions::Client, stop};

/// An answer that takes longer is none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Asks each host once, one after the other, and expects its own mark in its answer. Times in µs, from writing the
/// question to having read the whole answer.
pub fn each_once<'a>(
    address: SocketAddr,
    apps: impl IntoIterator<Item = (&'a str, &'a str)>,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<f64>> {
    let mut client = Client::plain(address, ANSWER_TIME_MAX);
    let mut us = Vec::new();
    for (host, mark) in apps {
        stop::check(stop)?;
        client.open()?;
        let asked = Instant::now();
        let answer = client.get(host, "/").map_err(|error| anyhow::anyhow!("asking {host}: {error}"))?;
        us.push(asked.elapsed().as_nanos() as f64 / 1e3);
        let body = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(
            answer.status == 200 && body.contains(mark),
            "{host} answered {}: {body}, and not 200 with {mark}",
            answer.status
        );
    }
    Ok(us)
}

/// Asks one host `per_second` times a second until told to stop, over `connections`. Times in µs: from when a question
/// was due, unless this thread itself woke late. A question without a 200 is an error.
pub fn steadily(
    address: SocketAddr,
    host: &str,
    per_second: f64,
    connections: u32,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<f64>> {
    let between = Duration::from_secs_f64(f64::from(connections) / per_second);
    let start = Instant::now();
    let ask = |number: u32| {
        let (mut client, mut us) = (Client::plain(address, ANSWER_TIME_MAX), Vec::new());
        client.open()?;
        let mut due = start + between.mul_f64(f64::from(number) / f64::from(connections));
        while !stop.load(Relaxed) {
            let now = Instant::now();
            let from = if now < due {
                thread::sleep(due - now);
                Instant::now()
            } else {
                due
            };
            let answer = client.get(host, "/")?;
            anyhow::ensure!(answer.status == 200, "{host} answered {}", answer.status);
            us.push(from.elapsed().as_nanos() as f64 / 1e3);
            due += between;
        }
        anyhow::Ok(us)
    };
    thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || ask(number))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("an asking thread panicked"))??);
        }
        Ok(all)
    })
}
