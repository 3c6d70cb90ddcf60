//! The driver alone, with runs that do exactly what each test needs: a run is any future.

use std::{cell::Cell, rc::Rc, time::Instant as Clock};

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::*;
use crate::{
    account::access_log::AccessLog,
    exchange::{RequestId, Responder},
    testing::{connection, local},
};

type Chunks = mpsc::Sender<Frame<Bytes>>;

/// A response whose body comes through a channel of one place, as a guest's does.
fn streaming(announced: Option<u64>) -> (Chunks, Response<OutboundBody>) {
    let (send, mut receive) = mpsc::channel(1);
    let frames = stream::poll_fn(move |cx| receive.poll_recv(cx).map(|frame| frame.map(Ok)));
    let mut response = Response::new(OutboundBody::stream(StreamBody::new(frames)));
    if let Some(bytes) = announced {
        response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    }
    (send, response)
}

fn frame(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

fn burn(time: Duration) {
    let until = Clock::now() + time;
    while Clock::now() < until {}
}

/// Drives what `guest` makes of its bill and its responder, with a minute of wall time.
async fn driven<G>(
    guest: impl FnOnce(Arc<Bill>, Responder) -> G,
    account: Arc<Account>,
) -> Result<Response<OutboundBody>, Failure>
where
    G: Future<Output = wasmtime::Result<()>> + Send + 'static,
{
    let bill = Arc::new(Bill::default());
    let (responder, head) = Responder::new();
    let run = Box::pin(guest(bill.clone(), responder));
    drive(run, head, bill, Duration::from_secs(60), account, None).await
}

async fn text(body: OutboundBody) -> Result<String, BodyError> {
    body.collect().await.map(|read| String::from_utf8(read.to_bytes().to_vec()).unwrap())
}

/// An account whose line is read back when it is closed.
struct Book(tempfile::NamedTempFile, Arc<Account>);

impl Book {
    fn open() -> Book {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = AccessLog::start(file.reopen().unwrap()).unwrap();
        let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        let account = Account::open(&head, None, &connection(), RequestId::new(), None, &log);
        Book(file, account)
    }

    /// The `error` of the line, once every other holder let go.
    async fn close(self) -> Option<String> {
        drop(self.1);
        loop {
            let text = std::fs::read_to_string(self.0.path()).unwrap();
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&text) {
                return line.get("error").map(|error| error.as_str().unwrap().to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[test]
fn a_guest_that_writes_between_its_slices_lets_others_run() {
    local(async {
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        let neighbour = tokio::task::spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let guest = async |bill: Arc<Bill>, responder: Responder| {
            let (chunks, response) = streaming(None);
            responder.send(response);
            for _ in 0..40 {
                burn(Duration::from_millis(1));
                let _ = chunks.send(frame("x")).await;
                bill.yielding();
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        let started = Clock::now();
        let response =
            driven(|bill, responder| Box::pin(guest(bill, responder)), Account::none()).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(20), "the head waited for {:?}", started.elapsed());
        assert_eq!(text(response.into_body()).await.unwrap(), "x".repeat(40));
        assert!(turns.get() >= 30, "the neighbour had {} turns", turns.get());
        neighbour.abort();
    });
}

#[test]
fn many_small_chunks_are_joined_and_then_stream() {
    // Unconstrained: the channel of the test spends more of tokio's budget than a guest's.
    local(tokio::task::unconstrained(async {
        for (chunks_sent, streams) in [(QUICK_FRAMES_MAX - 1, false), (QUICK_FRAMES_MAX * 3, true)] {
            let guest = move |responder: Responder| async move {
                let (chunks, response) = streaming(None);
                responder.send(response);
                for _ in 0..chunks_sent {
                    let _ = chunks.send(frame("x")).await;
                }
                Ok(())
            };
            let response = driven(|_, responder| guest(responder), Account::none()).await.unwrap();
            let mut body = response.into_body();
            assert_eq!(matches!(body, OutboundBody::Boxed(_)), streams);
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(first.len(), chunks_sent.min(QUICK_FRAMES_MAX));
            assert_eq!(first.len() + text(body).await.unwrap().len(), chunks_sent);
        }
    }));
}

/// Answers `ab` in two steps with a pause between, then works on and notes its end.
async fn pausing(
    announced: Option<u64>,
    responder: Responder,
    done: mpsc::Sender<()>,
) -> wasmtime::Result<()> {
    let (chunks, response) = streaming(announced);
    responder.send(response);
    let _ = chunks.send(frame("a")).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let _ = chunks.send(frame("b")).await;
    drop(chunks);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let _ = done.send(()).await;
    Ok(())
}

#[test]
fn a_body_is_not_over_while_its_guest_runs_and_the_guest_ends_in_peace() {
    local(async {
        let (book, (done, mut ended)) = (Book::open(), mpsc::channel(1));
        let account = book.1.clone();
        let response = driven(|_, responder| pausing(None, responder, done), account).await.unwrap();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            assert!(!body.is_end_stream(), "its reader would stop the guest");
        }
        drop(body);
        assert_eq!(ended.recv().await, Some(()));
        assert_eq!(book.close().await, None);
    });
}

#[test]
fn a_body_dropped_at_its_announced_end_is_whole_and_before_it_the_clients_doing() {
    local(async {
        for (frames, finishes) in [(2, true), (1, false), (0, false)] {
            let (book, (done, mut ended)) = (Book::open(), mpsc::channel(1));
            let account = book.1.clone();
            let response = driven(|_, responder| pausing(Some(2), responder, done), account).await.unwrap();
            let mut body = response.into_body();
            for _ in 0..frames {
                body.frame().await.unwrap().unwrap();
            }
            drop(body);
            assert_eq!(ended.recv().await.is_some(), finishes, "after {frames} frames");
            let error = (!finishes).then(|| "client_gone".to_owned());
            assert_eq!(book.close().await, error, "after {frames} frames");
        }
    });
}

/// Its guest has done nothing wrong that would end it: it goes on, as one whose client needs no body.
#[test]
fn a_body_of_another_length_than_announced_breaks_off_and_its_guest_goes_on() {
    local(async {
        for (announced, frames) in [(3, 2), (1, 1), (0, 0)] {
            let (done, mut ended) = mpsc::channel(1);
            let guest = |_: Arc<Bill>, responder: Responder| pausing(Some(announced), responder, done);
            let mut body = driven(guest, Account::none()).await.unwrap().into_body();
            for _ in 0..frames {
                body.frame().await.unwrap().unwrap();
            }
            for _ in 0..2 {
                let next = body.frame().await.unwrap().map(drop);
                assert_eq!(next, Err(BodyError::GuestAborted), "{announced}");
            }
            drop(body);
            assert_eq!(ended.recv().await, Some(()), "{announced}");
        }
        // With trailers, collected.
        for (announced, good) in [(None, true), (Some(1), true), (Some(2), false), (Some(0), false)] {
            let frames = vec![frame("a"), Frame::trailers(HeaderMap::new())];
            let Collected::Whole(body) = whole(frames, announced) else { panic!("not whole") };
            assert_eq!(text(body).await.is_ok(), good, "{announced:?}");
        }
    });
}

#[test]
fn an_announced_empty_body_that_nobody_asks_for_does_not_stop_its_guest() {
    local(async {
        let (book, (done, mut ended)) = (Book::open(), mpsc::channel(1));
        let account = book.1.clone();
        let guest = move |_: Arc<Bill>, responder: Responder| async move {
            let (chunks, response) = streaming(Some(0));
            responder.send(response);
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(chunks);
            let _ = done.send(()).await;
            Ok(())
        };
        let response = driven(guest, account).await.unwrap();
        drop(response);
        assert_eq!(ended.recv().await, Some(()));
        assert_eq!(book.close().await, None);
    });
}

#[test]
fn a_panic_in_the_middle_of_a_body_is_never_a_clean_end() {
    local(async {
        let book = Book::open();
        let account = book.1.clone();
        let guest = |_: Arc<Bill>, responder: Responder| async move {
            let (chunks, response) = streaming(None);
            responder.send(response);
            let _ = chunks.send(frame("a")).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            panic!("on purpose, in a host function")
        };
        let response = driven(guest, account).await.unwrap();
        assert_eq!(text(response.into_body()).await, Err(BodyError::GuestAborted));
        assert_eq!(book.close().await.as_deref(), Some("internal"));
    });
}

#[test]
fn a_run_that_never_waits_in_time_is_stopped_by_the_wall() {
    local(async {
        let bill = Arc::new(Bill::default());
        let (responder, head) = Responder::new();
        let run = Box::pin(async move {
            let _unsent = responder;
            burn(Duration::from_millis(60));
            std::future::pending().await
        });
        let ended = drive(run, head, bill, Duration::from_millis(60), Account::none(), None).await;
        assert_eq!(ended.map(drop).unwrap_err(), Failure::WallLimit);
    });
}
