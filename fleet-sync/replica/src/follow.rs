//! The loop around the follower: events in, outputs out. Every decision about order and trust is the state machine's.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_sync_proto::{
    Hello, Position, Report, ToOrigin,
    follower::{self, Alarm, Follower, Input, Output, PENDING_BATCHES_MAX},
    frame::{self, TO_ORIGIN_BYTES_MAX},
    inspect::{Inspect, Inspected},
    logs::AppLogs,
    wire::PROTOCOL,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    activator::Activator,
    applier::{Applier, Done, Work},
    clock::{now_ms, random},
    identity::Identity,
    link::{Event, Link},
    renewal,
    replica::{Inner, ReplicaError},
    store::Loaded,
};

/// How often the follower looks at its timers; short, so that a delay of 200 ms means something.
const TICK: Duration = Duration::from_millis(100);
/// Counters are sent this often while they change, and this often when they do not.
const REPORT_EVERY: Duration = Duration::from_secs(1);
const REPORT_IDLE_EVERY: Duration = Duration::from_secs(15);
/// How often the certificate's life is looked at while a stream is open.
const RENEWAL_EVERY: Duration = Duration::from_secs(60);
/// At shutdown the batch at work gets this long.
const GRACE: Duration = Duration::from_secs(5);
/// Batches, and as many checkpoints between them.
const WORK_MAX: usize = 2 * PENDING_BATCHES_MAX;
const DONE_MAX: usize = 16;

pub(crate) async fn run(
    replica: Arc<Inner>,
    identity: Identity,
    loaded: Loaded,
    activator: Arc<dyn Activator>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ReplicaError> {
    let follower =
        Follower::new(now_ms(), hello(&replica, &identity), loaded.view.position(), loaded.highest);
    let (work, at_work) = mpsc::channel(WORK_MAX);
    let (tell, mut done) = mpsc::channel(DONE_MAX);
    let applier = Applier::new(replica.clone(), activator.clone(), loaded, tell);
    let applier = tokio::spawn(applier.run(at_work));
    let mut reports = Reports { activator: activator.clone(), sent: None, sent_at: Instant::now() };
    let mut shell = Shell { replica, activator, follower, work, link: None, frames: None };

    tokio::pin!(shutdown);
    let mut tick = interval(TICK);
    let mut report = interval(REPORT_EVERY);
    let mut renewal = interval(RENEWAL_EVERY);
    loop {
        let input = tokio::select! {
            () = &mut shutdown => break,
            applied = done.recv() => match applied {
                Some(Done { position, failed }) => Input::Applied { position, failed },
                None => return Err(ReplicaError::ApplierEnded),
            },
            event = shell.event() => match shell.heard(event) {
                Some(input) => input,
                None => continue,
            },
            _ = tick.tick() => {
                shell.handle(Input::Tick);
                shell.activator.tick();
                match shell.next_logs() {
                    Some(logs) => Input::Logs(logs),
                    None => continue,
                }
            }
            _ = report.tick(), if shell.frames.is_some() => match reports.due() {
                Some(report) => Input::Report(report),
                None => continue,
            },
            _ = renewal.tick() => {
                let replica = shell.replica.clone();
                tokio::spawn(async move { renewal::renew_if_due(&replica).await });
                continue;
            }
        };
        shell.handle(input);
    }
    drop(shell); // closes the stream, and ends the applier after the batch at work
    done.close();
    if tokio::time::timeout(GRACE, applier).await.is_err() {
        tracing::warn!("stopped in the middle of a batch; it is taken up again at the next start");
    }
    Ok(())
}

struct Shell {
    replica: Arc<Inner>,
    activator: Arc<dyn Activator>,
    follower: Follower,
    work: mpsc::Sender<Work>,
    link: Option<Link>,
    /// Set while the stream is open.
    frames: Option<mpsc::Sender<Bytes>>,
}

impl Shell {
    /// The link's next event; pending while there is no link.
    async fn event(&mut self) -> Option<Event> {
        match &mut self.link {
            Some(link) => link.events.recv().await,
            None => std::future::pending().await,
        }
    }

    fn heard(&mut self, event: Option<Event>) -> Option<Input> {
        match event {
            Some(Event::Connected(frames)) => {
                self.frames = Some(frames);
                Some(Input::Connected)
            }
            Some(Event::Message(message)) => Some(Input::Message(*message)),
            Some(Event::Ended(error)) => {
                tracing::info!(error = &error as &dyn std::error::Error, "no stream to the control plane");
                Some(self.hang_up())
            }
            None => Some(self.hang_up()),
        }
    }

    fn hang_up(&mut self) -> Input {
        (self.link, self.frames) = (None, None);
        Input::Disconnected { random: random() }
    }

    fn handle(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.follower.handle(now_ms(), input) {
                if self.act(output) == Act::HangUp && self.link.is_some() {
                    inputs.push(self.hang_up());
                }
            }
        }
        let mut status = self.replica.status.lock();
        (status.connected, status.stale) = (self.follower.is_connected(), self.follower.is_stale());
    }

    fn act(&mut self, output: Output) -> Act {
        match output {
            Output::Connect => self.link = Some(Link::open(self.replica.clone())),
            Output::Disconnect => return Act::HangUp,
            Output::Send(message) => return self.send(&message),
            Output::Apply(batch) => return self.hand_over(Work::Batch(batch)),
            Output::Highest(checkpoint) => return self.hand_over(Work::Highest(checkpoint)),
            Output::Follow(follow) => self.activator.follow(follow),
            Output::LogsTaken => self.activator.logs_taken(),
            Output::Inspect(inspect) => return self.inspected(&inspect),
            Output::Alarm(alarm) => self.alarm(&alarm),
        }
        Act::GoOn
    }

    /// Lines to send now: none while an ack or a report waits, or lines are under way. So they go last, and never fill the
    /// queue.
    fn next_logs(&self) -> Option<Vec<AppLogs>> {
        let frames = self.frames.as_ref().filter(|_| self.follower.may_tell())?;
        let idle = frames.capacity() == frames.max_capacity();
        Some(if idle { self.activator.logs() } else { Vec::new() }).filter(|logs| !logs.is_empty())
    }

    /// Answers, unless the origin reads so slowly that acks and reports need what room is left.
    fn inspected(&self, inspect: &Inspect) -> Act {
        let has_room = |frames: &mpsc::Sender<Bytes>| frames.capacity() > frames.max_capacity() / 2;
        if !self.frames.as_ref().is_some_and(has_room) {
            return Act::GoOn;
        }
        let serving = self.activator.inspect(&inspect.id);
        self.send(&ToOrigin::Inspected(Inspected { number: inspect.number, serving }))
    }

    fn send(&self, message: &ToOrigin) -> Act {
        let Some(frames) = &self.frames else { return Act::GoOn };
        match frame::encode(message, TO_ORIGIN_BYTES_MAX) {
            Ok(frame) => match frames.try_send(Bytes::from(frame)) {
                Ok(()) => Act::GoOn,
                Err(_) => Act::HangUp, // the origin does not read
            },
            // Every message is brought within its limits before; this one is lost, the stream is not.
            Err(error) => {
                tracing::error!(error = %error, "encoding a message to the control plane");
                Act::GoOn
            }
        }
    }

    fn hand_over(&self, work: Work) -> Act {
        // Room for every batch the follower may have out is never taken by checkpoints. One that is left out
        // costs nothing: the next one is higher.
        if matches!(work, Work::Highest(_)) && self.work.capacity() <= PENDING_BATCHES_MAX {
            return Act::GoOn;
        }
        match self.work.try_send(work) {
            Ok(()) => Act::GoOn,
            Err(error) => {
                tracing::error!(error = %error, "the applier takes no work; dialling anew");
                Act::HangUp
            }
        }
    }

    fn alarm(&self, alarm: &Alarm) {
        match alarm {
            Alarm::Fresh => tracing::info!("{alarm}"),
            Alarm::BadCheckpoint(_)
            | Alarm::Regression { .. }
            | Alarm::Broken { .. }
            | Alarm::Reset { .. }
            | Alarm::Stale => {
                tracing::error!(alarm = alarm as &dyn std::error::Error, "following the release log");
            }
        }
        self.replica.status.lock().alarm = Some(alarm.to_string());
    }
}

#[derive(PartialEq)]
enum Act {
    GoOn,
    HangUp,
}

struct Reports {
    activator: Arc<dyn Activator>,
    sent: Option<Report>,
    sent_at: Instant,
}

impl Reports {
    fn due(&mut self) -> Option<Report> {
        let report = self.activator.report();
        if self.sent.as_ref() == Some(&report) && self.sent_at.elapsed() < REPORT_IDLE_EVERY {
            return None;
        }
        (self.sent, self.sent_at) = (Some(report.clone()), Instant::now());
        Some(report)
    }
}

fn hello(replica: &Inner, identity: &Identity) -> follower::Identity {
    let hello = Hello {
        protocol: PROTOCOL,
        node: identity.node.clone(),
        pop: identity.pop.clone(),
        position: Position::START, // filled in by the follower
        targets: replica.config.targets.clone(),
        serving: replica.config.serving.clone(),
        software: replica.config.software.clone(),
    };
    follower::Identity { hello, trusted: identity.release_trust() }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
