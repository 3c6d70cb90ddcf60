//! The lane with runs that do exactly what each test needs: a run is any future.

use std::{
    future::pending,
    sync::mpsc as std_mpsc,
    thread::current,
    time::{Duration, Instant},
};

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::*;
use crate::{
    exchange::Responder,
    front::{BodyError, OutboundBody},
    guest::drive::{Wall, drive},
    lane::TICK_NS,
    limits::{Limit, LimitReached},
    testing::{self, local},
};

const SLOW: &str = "slow-0";
/// Places of one tenant, of [`testing::slow_lane`].
const TENANT_PLACES: usize = testing::SLOW_LANE_INSTANCES / PART / TENANT_PART;

fn lane() -> SlowLane {
    testing::slow_lane()
}

fn app() -> Arc<Deployment> {
    Arc::new(testing::deployment("test", 1, AppConfig::default()))
}

fn offender() -> Arc<Deployment> {
    let app = app();
    app.standing.ended(10 * TICK_NS, End::ByItself);
    app
}

/// Drives what `guest` makes of its bill and its responder.
async fn driven<G>(
    lane: &SlowLane,
    app: &Arc<Deployment>,
    bill: &Arc<Bill>,
    guest: impl FnOnce(Arc<Bill>, Responder) -> G,
) -> Result<Response<OutboundBody>, Failure>
where
    G: Future<Output = wasmtime::Result<()>> + Send + 'static,
{
    let (responder, head) = Responder::new();
    let run = Box::pin(guest(bill.clone(), responder));
    let account = testing::account(app, bill);
    drive(run, head, bill.clone(), Duration::from_secs(60), account, Some(lane.lanes())).await
}

fn here() -> String {
    current().name().unwrap_or_default().to_owned()
}

fn burn(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {}
}

/// What the epoch callback does to a guest whose slice is over.
async fn slice_over(bill: &Bill) {
    bill.yielding();
    tokio::task::yield_now().await;
}

/// A response whose body comes through a channel of one place, and looks complete when the channel closes.
fn streaming() -> (mpsc::Sender<Frame<Bytes>>, Response<OutboundBody>) {
    let (send, mut receive) = mpsc::channel(1);
    let frames = stream::poll_fn(move |cx| receive.poll_recv(cx).map(|frame| frame.map(Ok)));
    (send, Response::new(OutboundBody::stream(StreamBody::new(frames))))
}

fn frame(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

async fn text(response: Response<OutboundBody>) -> Result<String, BodyError> {
    let read = response.into_body().collect().await?;
    Ok(String::from_utf8(read.to_bytes().to_vec()).unwrap())
}

/// Until the lane is empty: bounded, and not by the clock of the assertion.
async fn emptied(lane: &SlowLane) {
    for _ in 0..10_000 {
        if lane.lanes().jobs() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{} jobs are still in the lane", lane.lanes().jobs());
}

#[test]
fn a_run_over_its_tick_goes_on_in_the_slow_lane_and_its_body_arrives() {
    local(async {
        let (lane, app, bill) = (lane(), app(), Arc::default());
        let guest = async |bill: Arc<Bill>, responder: Responder| {
            let (chunks, response) = streaming();
            let _ = chunks.send(frame(&format!("{} ", here() == SLOW))).await;
            slice_over(&bill).await;
            responder.send(response);
            // A task and a timer made in the lane belong to its own runtime.
            let helper = tokio::task::spawn_local(async {
                tokio::time::sleep(Duration::from_millis(2)).await;
                here()
            });
            let _ = chunks.send(frame(&helper.await.unwrap_or_default())).await;
            slice_over(&bill).await;
            let _ = chunks.send(frame(&format!(" {}", here()))).await;
            Ok(())
        };
        let response = driven(&lane, &app, &bill, |bill, responder| Box::pin(guest(bill, responder)));
        let text = text(response.await.unwrap()).await.unwrap();
        assert_eq!(text, format!("false {SLOW} {SLOW}"));
        emptied(&lane).await;
    });
}

#[test]
fn a_run_that_only_waits_stays_and_one_that_uses_more_than_a_tick_in_all_goes() {
    local(async {
        let (lane, app) = (lane(), app());
        for (burnt, slow) in [(0, false), (300, true)] {
            let bill = Arc::default();
            let guest = move |responder: Responder| async move {
                for _ in 0..8 {
                    burn(Duration::from_micros(burnt));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                responder.send(Response::new(OutboundBody::from(here())));
                Ok(())
            };
            let response = driven(&lane, &app, &bill, |_, responder| guest(responder)).await.unwrap();
            assert_eq!(text(response).await.unwrap() == SLOW, slow, "{burnt} µs a slice");
        }
    });
}

#[test]
fn an_offender_begins_in_the_slow_lane_until_it_has_paid() {
    local(async {
        let (lane, app) = (lane(), offender());
        let mut threads = Vec::new();
        for _ in 0..50 {
            let bill = Arc::default();
            let guest = |responder: Responder| async move {
                responder.send(Response::new(OutboundBody::from(here())));
                Ok(())
            };
            let response = driven(&lane, &app, &bill, |_, responder| guest(responder)).await.unwrap();
            threads.push(text(response).await.unwrap());
            emptied(&lane).await;
        }
        assert_eq!(threads.iter().take_while(|thread| *thread == SLOW).count(), 40, "4 for each of 10 ticks");
        assert!(threads[40..].iter().all(|thread| thread != SLOW), "{threads:?}");
    });
}

#[test]
fn a_panic_in_the_lane_is_that_runs_alone() {
    local(async {
        let (lane, app) = (lane(), offender());
        let bill = Arc::default();
        let guest = |responder: Responder| async move {
            let _unsent = responder;
            panic!("on purpose, in a host function")
        };
        let ended = driven(&lane, &app, &bill, |_, responder| guest(responder)).await;
        assert_eq!(ended.map(drop).unwrap_err(), Failure::Internal);
        let guest = |responder: Responder| async move {
            responder.send(Response::new(OutboundBody::from("well")));
            Ok(())
        };
        let response = driven(&lane, &app, &Arc::default(), |_, responder| guest(responder)).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "well");
    });
}

#[test]
fn a_run_that_fails_in_the_lane_never_leaves_a_body_that_looks_complete() {
    local(async {
        let (lane, app) = (lane(), offender());
        for first in [None, Some("a")] {
            let guest = move |responder: Responder| async move {
                let (chunks, response) = streaming();
                responder.send(response);
                if let Some(first) = first {
                    let _ = chunks.send(frame(first)).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                drop(chunks); // the body ends, and its reader looks before the run has said why
                burn(Duration::from_millis(20));
                Err(wasmtime::Error::from(LimitReached(Limit::Cpu)))
            };
            let ended = driven(&lane, &app, &Arc::default(), |_, responder| guest(responder)).await;
            match ended {
                Ok(response) => assert_eq!(text(response).await, Err(BodyError::GuestAborted)),
                Err(failure) => assert_eq!(failure, Failure::CpuLimit),
            }
        }
    });
}

/// Tells on which thread it is dropped, and takes its time for it.
struct Instance(std_mpsc::Sender<String>);

impl Drop for Instance {
    fn drop(&mut self) {
        burn(Duration::from_millis(3));
        let _ = self.0.send(here());
    }
}

#[test]
fn a_run_nobody_waits_for_is_torn_down_in_the_lane_at_its_own_cost() {
    local(async {
        let (lane, app) = (lane(), offender());
        let (told, ended) = std_mpsc::channel();
        let bill: Arc<Bill> = Arc::default();
        let instance = Instance(told);
        let guest = move |responder: Responder| async move {
            let _held = (responder, instance);
            pending().await
        };
        let asked = driven(&lane, &app, &bill, |_, responder| guest(responder));
        let gone = tokio::time::timeout(Duration::from_millis(20), asked).await;
        assert!(gone.is_err());
        emptied(&lane).await;
        assert_eq!(ended.recv().unwrap(), SLOW);
        assert!(bill.cpu_ns() > 0 && !bill.is_in_slice());
        assert_eq!(app.standing.start(&Strain::default(), || 0), Start::Slow);
    });
}

#[test]
fn the_wall_ends_a_run_in_the_lane() {
    local(async {
        let (lane, app, bill) = (lane(), offender(), Arc::<Bill>::default());
        let (responder, head) = Responder::new();
        let run = Box::pin(async move {
            let _unsent = responder;
            pending().await
        });
        let (account, wall) = (testing::account(&app, &bill), Duration::from_millis(20));
        let ended = drive(run, head, bill.clone(), wall, account, Some(lane.lanes())).await;
        assert_eq!(ended.map(drop).unwrap_err(), Failure::WallLimit);
        assert!(bill.limits_met().has(Limit::Wall));
        emptied(&lane).await;
    });
}

#[test]
fn a_full_lane_refuses_and_has_room_again() {
    local(async {
        // Wide enough not to end meanwhile.
        let limits = Limits { cpu_ms: 30_000, ..Limits::default() };
        let config = AppConfig { limits, ..AppConfig::default() };
        let (lane, app) = (lane(), Arc::new(testing::deployment("test", 1, config)));
        app.standing.ended(10 * TICK_NS, End::ByItself);
        let enter = |run: Run, bill: Arc<Bill>| {
            let account = testing::account(&app, &bill);
            lane.lanes().enter(Job { run, bill, account, deployment: app.clone() })
        };
        let busy = || {
            let bill = Arc::<Bill>::default();
            let its = bill.clone();
            let run = async move {
                loop {
                    slice_over(&its).await;
                }
            };
            enter(Box::pin(run), bill)
        };
        let mut tickets: Vec<_> = (0..TENANT_PLACES).map(|_| busy().ok().unwrap()).collect();
        assert!(busy().is_err());
        let bill = Arc::<Bill>::default();
        let guest = |responder: Responder| async move {
            responder.send(Response::new(OutboundBody::from(here())));
            Ok(())
        };
        let begun_here = driven(&lane, &app, &bill, |_, responder| guest(responder)).await.unwrap();
        assert_ne!(text(begun_here).await.unwrap(), SLOW, "the serving thread has time to spare");
        assert!(!bill.limits_met().has(Limit::SlowLane));
        // One that does not stop before its end, as in the middle of a fill, and ends by itself.
        let fill = |responder: Responder| async move {
            burn(Duration::from_millis(15));
            responder.send(Response::new(OutboundBody::Empty));
            Ok(())
        };
        for _ in 0..20 {
            if lane.lanes().has_spare() {
                assert!(driven(&lane, &app, &Arc::default(), |_, responder| fill(responder)).await.is_ok());
            }
        }
        let refused = driven(&lane, &app, &bill, |_, responder| guest(responder)).await;
        assert_eq!(refused.map(drop).unwrap_err(), Failure::SlowLaneFull);
        assert!(bill.limits_met().has(Limit::SlowLane));
        tickets.clear();
        emptied(&lane).await;
        assert!(busy().is_ok());
    });
}

#[test]
fn what_it_takes_to_make_the_first_instance_is_no_offence_and_the_next_is() {
    local(async {
        let (lane, app) = (lane(), app());
        let guest = async |bill: Arc<Bill>, responder: Responder, is_first: bool| {
            if is_first {
                bill.is_first();
            }
            burn(Duration::from_millis(3));
            bill.instantiated(bill.slice_ns_running());
            responder.send(Response::new(OutboundBody::from(here())));
            Ok(())
        };
        for (is_first, then) in [(true, Start::Fast), (false, Start::Slow)] {
            let bill = Arc::default();
            let answer = driven(&lane, &app, &bill, |bill, responder| guest(bill, responder, is_first));
            let answer = answer.await;
            assert!(answer.is_ok());
            assert_eq!(lane.lanes().start(&app.standing), then, "first: {is_first}");
        }
    });
}

/// Until every job in the lane waits.
async fn all_wait(lane: &SlowLane) {
    for _ in 0..10_000 {
        if lane.lanes().0.door.lock().taken == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("jobs still have places");
}

#[test]
fn guests_that_wait_take_no_place_and_always_come_back() {
    local(async {
        let (lane, app) = (lane(), offender());
        let (wake, woken) = tokio::sync::watch::channel(false);
        let mut tickets = Vec::new();
        for _ in 0..3 {
            for _ in 0..TENANT_PLACES {
                let bill = Arc::<Bill>::default();
                let mut woken = woken.clone();
                let run = Box::pin(async move {
                    let _ = woken.wait_for(|woken| *woken).await;
                    Ok(())
                });
                let account = testing::account(&app, &bill);
                let job = Job { run, bill, account, deployment: app.clone() };
                tickets.push(lane.lanes().enter(job).ok().unwrap());
            }
            all_wait(&lane).await;
        }
        assert_eq!(lane.lanes().jobs(), 3 * TENANT_PLACES);
        let _ = wake.send(true);
        for mut ticket in tickets {
            assert_eq!(std::future::poll_fn(|cx| ticket.poll_end(cx)).await, None);
        }
        emptied(&lane).await;
        let door = lane.lanes().0.door.lock();
        assert!(door.taken == 0 && door.of_tenants.is_empty(), "{} taken", door.taken);
    });
}

#[test]
fn what_nobody_waits_for_goes_before_its_tenants_other_guests() {
    local(async {
        let (lane, app) = (lane(), offender());
        let (note, noted) = std_mpsc::channel();
        let (go, gate) = std_mpsc::channel::<()>();
        let enter = |run: Run| {
            let bill = Arc::<Bill>::default();
            let account = testing::account(&app, &bill);
            lane.lanes().enter(Job { run, bill, account, deployment: app.clone() }).ok().unwrap()
        };
        let (begins, begun) = std_mpsc::channel();
        let holds_the_thread = enter(Box::pin(async move {
            let _ = begins.send(());
            let _ = gate.recv();
            Ok(())
        }));
        begun.recv().unwrap();
        let guest = |name: &str| {
            let (note, name) = (note.clone(), name.to_owned());
            Box::pin(async move {
                let _ = note.send(name);
                Ok(())
            })
        };
        let (first, second) = (enter(guest("first")), enter(guest("second")));
        let held = Instance(note.clone());
        let dropped = enter(Box::pin(async move {
            let _held = held;
            pending().await
        }));
        drop(dropped);
        go.send(()).unwrap();
        assert_eq!([(); 3].map(|()| noted.recv().unwrap()), [SLOW, "first", "second"]);
        drop((holds_the_thread, first, second));
    });
}

#[test]
fn the_cpu_limit_ends_a_guest_that_the_host_polls_for_ever() {
    local(async {
        let (lane, app) = (lane(), app());
        for lanes in [None, Some(lane.lanes())] {
            let bill = Arc::<Bill>::default();
            let (responder, head) = Responder::new();
            // No epoch callback has a say here: only the host works.
            let run = Box::pin(async move {
                let _unsent = responder;
                loop {
                    burn(Duration::from_micros(400));
                    tokio::task::yield_now().await;
                }
            });
            let (account, wall) = (testing::account(&app, &bill), Duration::from_secs(60));
            let ended = drive(run, head, bill.clone(), wall, account, lanes).await;
            assert_eq!(ended.map(drop).unwrap_err(), Failure::CpuLimit);
            assert!(bill.limits_met().has(Limit::Cpu) && bill.cpu_ns() >= 50_000_000);
        }
    });
}

/// Tells whether it is dropped at the cost of its guest.
struct Billed(Arc<Bill>, std_mpsc::Sender<bool>);

impl Drop for Billed {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.is_in_slice());
    }
}

#[test]
fn a_run_nobody_waits_for_is_torn_down_on_the_serving_thread_at_its_own_cost() {
    local(async {
        let (lane, app) = (lane(), app());
        let strained = Strain::default();
        strained.held(Who::Stranger, 0, 1_000 * TICK_NS);
        for _ in 0..16 {
            let (told, ended) = std_mpsc::channel();
            let bill: Arc<Bill> = Arc::default();
            let instance = Billed(bill.clone(), told);
            let guest = move |responder: Responder| async move {
                let _held = (responder, instance);
                pending().await
            };
            let asked = driven(&lane, &app, &bill, |_, responder| guest(responder));
            assert!(asked.now_or_never().is_none()); // and dropped
            assert!(ended.recv().unwrap() && !bill.is_in_slice());
        }
        assert_eq!(app.standing.start(&strained, || 0), Start::Slow, "nothing is earned by being dropped");
    });
}

#[test]
fn a_deadline_that_came_with_the_request_is_not_the_guests_fault() {
    local(async {
        let (app, bill) = (app(), Arc::<Bill>::default());
        let (responder, head) = Responder::new();
        let run = Box::pin(async move {
            let _unsent = responder;
            pending().await
        });
        let wall = Wall { left: Duration::from_millis(5), is_inherited: true };
        let ended = drive(run, head, bill.clone(), wall, testing::account(&app, &bill), None).await;
        assert_eq!(ended.map(drop).unwrap_err(), Failure::Deadline);
        assert!(!bill.limits_met().has(Limit::Wall));
    });
}

#[test]
fn a_lane_that_ends_drops_what_is_in_it() {
    local(async {
        let (lane, app, bill) = (lane(), offender(), Arc::<Bill>::default());
        let (told, ended) = std_mpsc::channel();
        let (lanes, account) = (lane.lanes().clone(), testing::account(&app, &bill));
        let instance = Instance(told);
        let run = Box::pin(async move {
            let _held = instance;
            pending().await
        });
        let job = Job { run, bill: bill.clone(), account, deployment: app.clone() };
        let mut ticket = lanes.enter(job).ok().unwrap();
        drop(lane);
        assert_eq!(ended.recv().unwrap(), SLOW);
        let end = std::future::poll_fn(|cx| ticket.poll_end(cx)).await;
        assert!(matches!(end, None | Some(Failure::Internal)));
        let (run, account) = (Box::pin(pending()), testing::account(&app, &bill));
        assert!(lanes.enter(Job { run, bill, account, deployment: app }).is_err(), "closed");
    });
}
