//! The client: one connection on a thread of its own, which asks when it is told to. Its allocations are not counted.

use std::{
    net::SocketAddr,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    counters,
    generate::{
        Roots, Scenario, Target,
        hosts::Popularity,
        link::{Plan, Sender},
    },
};

/// For all answers that were asked for: a thread that is stepped takes a second for one.
const ANSWERS_TIME_MAX: Duration = Duration::from_secs(120);

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1 in the clear.
    H1,
    /// HTTP/2 over TLS.
    H2Tls,
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wire::H1 => "over h1",
            Wire::H2Tls => "over h2 with TLS",
        })
    }
}

/// See the module. Closes its connection when dropped.
pub struct Asker {
    orders: UnboundedSender<Order>,
    answers: Receiver<Result<(), String>>,
}

/// This many requests, one after the other, and this long a rest before each.
struct Order {
    requests: u64,
    rest: Duration,
}

impl Asker {
    /// Connects. `host` is the authority that is asked for.
    pub fn connect(wire: Wire, address: SocketAddr, host: &str) -> anyhow::Result<Asker> {
        let protocol = match wire {
            Wire::H1 => "protocol = 'h1'",
            Wire::H2Tls => "protocol = 'h2'\ntls = true",
        };
        let scenario = Scenario::parse(&format!("name = 'counts'\n{protocol}\n{REST}"))?;
        let target = Target { address, authority: host.to_owned(), roots: Roots::Any };
        let plan = Plan::new(&scenario, &target, &Popularity::new(&scenario.hosts, host))?;
        let (orders, taken) = unbounded_channel();
        let (said, answers) = mpsc::channel();
        thread::Builder::new()
            .name("asker".into())
            .spawn(move || {
                counters::leave_this_thread_out();
                // Who is told nothing has gone.
                let _ = said.send(serve(&plan, taken, &said));
            })
            .context("starting the client's thread")?;
        Ok(Asker { orders, answers })
    }

    /// Asks and waits for the answers, which must be 200.
    pub fn ask(&self, requests: u64, rest: Duration) -> anyhow::Result<()> {
        self.begin(requests, rest)?;
        anyhow::ensure!(self.has_answered(ANSWERS_TIME_MAX)?, "no answer within {ANSWERS_TIME_MAX:?}");
        Ok(())
    }

    /// Asks. The answers are waited for by [`Asker::has_answered`].
    pub fn begin(&self, requests: u64, rest: Duration) -> anyhow::Result<()> {
        self.orders.send(Order { requests, rest }).map_err(|_| anyhow!("the client's thread has ended"))
    }

    /// Have all answers come, at the latest after this time? An error is one of the client.
    pub fn has_answered(&self, within: Duration) -> anyhow::Result<bool> {
        match self.answers.recv_timeout(within) {
            Ok(answered) => answered.map(|()| true).map_err(|error| anyhow!(error)),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(anyhow!("the client's thread has ended")),
        }
    }
}

/// What a scenario says that does not matter here.
const REST: &str = "connections = 1\nduration_seconds = 1\n\
                    request = { headers = { user-agent = 'curl/8.14.1', accept = '*/*' } }";

fn serve(
    plan: &Plan,
    mut orders: UnboundedReceiver<Order>,
    said: &mpsc::Sender<Result<(), String>>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.map_err(|error| format!("starting a runtime: {error}"))?.block_on(async {
        let mut sender = Sender::connect(plan).await?;
        while let Some(Order { requests, rest }) = orders.recv().await {
            for _ in 0..requests {
                if !rest.is_zero() {
                    tokio::time::sleep(rest).await;
                }
                let answer = sender.exchange(plan, 0).await?;
                if answer.status != 200 {
                    return Err(format!("the answer was {}", answer.status));
                }
            }
            let _ = said.send(Ok(()));
        }
        Ok(())
    })
}
