//! Nothing escapes the host door: one request of each lane is recorded, for a guest that reads clocks and random bytes,
//! streams its body and selects over two fetches; then played back where there is no body, backend, store or configuration,
//! and the answer is equal to the last byte.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, thread, time::Duration};

use artifact::manifest::{AppConfig, Backend, Limits};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    exchange::Exchange,
    front::InboundBody,
    host::{
        Host,
        door::{Event, Source},
        kv::Away,
        outbound::{Outbound, Settings},
        tape::{Recording, Tape},
    },
    testing::{self, Seen, ask_in, local, program},
};

/// Requests the backend answers, of both guests together.
const CONNECTIONS_MAX: usize = 8;
/// Several reads of the guests, which read 4 KiB at once.
const BODY_BYTES: usize = 10_000;

#[test]
fn an_answer_is_played_back_without_the_world() {
    let backend = backend();
    for (guest, steps) in [("seam", "poll ready"), ("fastly-seam", "select ready")] {
        let Some(program) = program(guest) else { continue };
        let (live, recording) = local(async {
            let tape = Tape::record();
            let mut exchange = world(backend);
            exchange.door = tape.door();
            let seen = ask_in(&program, exchange, request(backend)).await.unwrap();
            (seen, tape.recording())
        });
        let text = String::from_utf8_lossy(&live.body).into_owned();
        assert_eq!((live.head.status.as_u16(), live.error), (200, None), "{guest}: {text}");
        for part in ["a status 200", "b status 200", "one of /a", "two of /b", "request chunk", steps] {
            assert!(text.contains(part), "{guest} did not learn {part:?}: {text}");
        }

        let again = Tape::play(recording.clone());
        let replayed = local(async {
            let mut exchange = nothing();
            exchange.door = again.door();
            ask_in(&program, exchange, recorded_request(&recording)).await.unwrap()
        });
        assert_eq!(String::from_utf8_lossy(&replayed.body), text, "{guest}");
        assert_eq!(parts(&replayed), parts(&live), "{guest}");
        assert_eq!(again.recording(), recording, "{guest} learned or caused something else");

        // What it answers is what it was told: another clock, another answer.
        let mut other = recording.clone();
        for event in other.learned.get_mut(&Source::Clock).into_iter().flatten() {
            match event {
                Event::Number(ns) => *ns += 1,
                Event::Time(time) => *time += Duration::from_secs(1),
                _ => {}
            }
        }
        let told_other = local(async {
            let mut exchange = nothing();
            exchange.door = Tape::play(other).door();
            ask_in(&program, exchange, recorded_request(&recording)).await.unwrap()
        });
        assert_ne!(told_other.body, live.body, "{guest}");
    }
}

fn parts(seen: &Seen) -> (u16, &HeaderMap, &HeaderMap) {
    (seen.head.status.as_u16(), &seen.head.headers, &seen.trailers)
}

fn limits() -> Limits {
    Limits { cpu_ms: 5_000, ..Limits::default() }
}

/// An exchange that can reach all its guest asks for.
fn world(backend: SocketAddr) -> Exchange {
    let origin = Backend { url: format!("http://{backend}"), ..Backend::default() };
    let entry = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let config = AppConfig {
        backends: [("origin".to_owned(), origin.clone()), ("other".to_owned(), origin)].into(),
        config_stores: [("settings".to_owned(), [entry("greeting", "hello")].into())].into(),
        kv_stores: vec!["kv".to_owned()],
        limits: limits(),
        ..AppConfig::default()
    };
    let mut exchange = testing::exchange(config);
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    let outbound = Outbound::new(Settings { allow, ..Settings::default() });
    exchange.host = Arc::new(Host { outbound, ..testing::bare_host() });
    exchange
}

/// An exchange with nothing behind it.
fn nothing() -> Exchange {
    let mut exchange = testing::exchange(AppConfig { limits: limits(), ..AppConfig::default() });
    exchange.host = Arc::new(Host { kv: Arc::new(Away), ..testing::bare_host() });
    exchange
}

fn request(backend: SocketAddr) -> Request<InboundBody> {
    let body: Vec<u8> = (0..BODY_BYTES).map(|n| b'a' + (n % 26) as u8).collect();
    Request::post("/seam?x=1")
        .header("host", "test.localhost")
        .header("content-length", body.len())
        .header("x-url-a", format!("http://{backend}/a"))
        .header("x-url-b", format!("http://{backend}/b"))
        .body(InboundBody::Full(Bytes::from(body)))
        .unwrap()
}

/// The head that was recorded, without a body.
fn recorded_request(recording: &Recording) -> Request<InboundBody> {
    let head = recording.caused[&Source::Request].front().expect("a request begins with its head");
    let Event::Head(line, headers) = head else { panic!("a head, not {head:?}") };
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target).body(InboundBody::Empty).unwrap();
    *request.headers_mut() = headers.clone();
    request
}

/// A backend that answers in two pieces, some time apart, and `/b` later than `/a`. Its thread ends with the process or
/// after [`CONNECTIONS_MAX`] connections.
fn backend() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            for _ in 0..CONNECTIONS_MAX {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(two_pieces)),
                );
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
    });
    address
}

async fn two_pieces(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let pause = Duration::from_millis(if path == "/a" { 5 } else { 15 });
    let pieces = [format!("one of {path}\n"), format!("two of {path}\n")];
    let stream = futures_util::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        tokio::time::sleep(pause).await;
        let piece = pieces.next()?;
        Some((Ok(Frame::data(Bytes::from(piece))), pieces))
    });
    Ok(Response::new(StreamBody::new(stream)))
}
