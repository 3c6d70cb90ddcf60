//! Lines of followed apps, from a node's server to a listener at the origin, over loopback.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use artifact::{AppId, nack::Nack};
use async_trait::async_trait;
use fleet_sync_origin::Listening;
use fleet_sync_proto::{
    inspect::Serving,
    logs::{AppLogs, Follow, LogLine, Said, listener::Heard},
};
use fleet_sync_replica::{Activation, Activator, Report};
use parking_lot::Mutex;
use support::{Control, Node, eventually, id};
use tokio::sync::oneshot;

/// A server that serves everything and says a line of so many bytes whenever it may, as long as it is followed.
struct Talker {
    line_bytes: usize,
    lines: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    followed: Follow,
    /// Number of the next line.
    next: u64,
    ticks: u64,
    told: u64,
    taken: u64,
}

#[async_trait]
impl Activator for Talker {
    async fn activate(&self, _: Activation) -> Vec<(AppId, Nack)> {
        Vec::new()
    }

    fn report(&self) -> Report {
        Report::default()
    }

    fn inspect(&self, _: &AppId) -> Option<Serving> {
        None
    }

    fn follow(&self, follow: Follow) {
        self.state.lock().followed = follow;
    }

    fn tick(&self) {
        self.state.lock().ticks += 1;
    }

    fn logs(&self) -> Vec<AppLogs> {
        let mut state = self.state.lock();
        let Some(followed) = state.followed.apps.first().cloned() else { return Vec::new() };
        state.told += 1;
        let line = |number| LogLine {
            time_us: state.next + number,
            version: 1,
            request: "0a".into(),
            said: Said::Stdout { text: "x".repeat(self.line_bytes) },
        };
        let lines = (0..self.lines as u64).map(line).collect();
        let (id, asked, first) = (followed.id, followed.asked, state.next);
        vec![AppLogs { id, asked, run: 1, first, lines, gaps: vec![], caught_up: true }]
    }

    fn logs_taken(&self) {
        let mut state = self.state.lock();
        state.taken += 1;
        state.next += self.lines as u64;
    }
}

/// A node that says so many lines of so many bytes at once.
fn start(node: &Node, lines: usize, line_bytes: usize) -> (Arc<Talker>, oneshot::Sender<()>) {
    let talker = Arc::new(Talker { line_bytes, lines, state: Mutex::default() });
    let (stop, stopped) = oneshot::channel::<()>();
    let (replica, server) = (node.replica.clone(), talker.clone());
    tokio::spawn(async move { replica.run(server, async { drop(stopped.await) }).await.unwrap() });
    (talker, stop)
}

async fn line(listening: &Listening) -> (String, String, u64) {
    loop {
        let heard = tokio::time::timeout(Duration::from_secs(10), listening.next()).await;
        match heard.expect("within 10 s").expect("listening goes on") {
            Heard::Line { node, pop, seq, .. } => return (node.to_string(), pop.to_string(), seq),
            Heard::From { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_once_each_while_somebody_listens_and_over_a_restart_of_the_origin() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let (talker, _stop) = start(&node, 1, 10);
    eventually("the node is connected", || node.replica.status().connected).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(talker.state.lock().told, 0, "nobody listens");

    let listening = control.origin.listen(&id("shop"), 0).unwrap();
    let other = control.origin.listen(&id("blog"), 0).unwrap();
    drop(other);
    let (name, _) = node.replica.node().unwrap();
    for number in 0..5 {
        let (node, pop, seq) = line(&listening).await;
        assert_eq!((node, pop.as_str(), seq), (name.to_string(), "fra1", number));
    }
    assert!(listening.awaited().is_empty(), "the node has said that it is up to date");
    drop(listening);
    eventually("the node is told that nobody listens", || talker.state.lock().followed.apps.is_empty()).await;

    // It goes on although nobody is there who says so.
    let ticks = talker.state.lock().ticks;
    eventually("time passes", || talker.state.lock().ticks > ticks + 3).await;
    control.restart().await;
    let listening = control.origin.listen(&id("shop"), 0).unwrap();
    let (_, _, first) = line(&listening).await;
    assert!(first >= 4, "what was taken is not told again; that of the last one may be lost: {first}");
    assert_eq!(line(&listening).await.2, first + 1);
    control.origin.stop_listening();
    while listening.next().await.is_some() {}
    assert!(control.origin.listen(&id("shop"), 0).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_that_nobody_reads_delays_no_release_and_is_counted() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let (talker, _stop) = start(&node, 60, 900);
    let listening = control.origin.listen(&id("shop"), 0).unwrap();
    eventually("enough for the listener's room and more", || talker.state.lock().taken > 20).await;
    let rev = control.deploy("shop", b"native code").await;
    let begun = Instant::now();
    control.converged(rev).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let (told, taken) = {
        let state = talker.state.lock();
        (state.told, state.taken)
    };
    assert!(told - taken <= 1 && told < 400, "one message at a time, ten a second: {told}, {taken}");

    let (mut lines, mut missing) = (0, 0);
    while missing == 0 {
        match listening.next().await.unwrap() {
            Heard::Line { seq, .. } => {
                assert_eq!(seq, lines);
                lines += 1;
            }
            Heard::Slow { lines } => missing = lines,
            Heard::From { .. } => {}
            Heard::Lost { .. } => panic!("the node lost nothing"),
        }
    }
    assert!(lines > 500, "{lines}");
    assert_eq!(line(&listening).await.2, lines + missing, "it goes on where the missing ones end");
}
