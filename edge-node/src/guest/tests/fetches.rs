//! Requests of a component, to an origin on loopback: rules of the interface that need one, and each of them played back
//! with no origin to reach.

use std::{sync::Arc, time::Duration};

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    failure::Failure,
    front::InboundBody,
    guest::Program,
    host::{
        door::Door,
        outbound::{Outbound, Settings},
        tape::Tape,
    },
    testing::{self, Seen, ask_in, local, program},
};

/// A rule, where its request goes (`-`: to nobody the app may reach), and what it must say; `None`: a trap.
const RULES: &[(&str, &str, Option<&str>)] = &[
    ("out-fetch", "/plain", Some("status 200\nbody \"hello\"\nno trailers\n")),
    ("out-fetch", "-", Some("refused ErrorCode::HttpRequestDenied\n")),
    ("out-no-authority", "/plain", Some("refused ErrorCode::HttpRequestUriInvalid\n")),
    ("out-no-body-taken", "/plain", Some("status 200\nbody \"hello\"\nno trailers\n")),
    ("out-get-twice", "/plain", Some("first Some(Ok(true))\nsecond Some(Err(()))\nready true\n")),
    ("out-future-dropped", "/plain", Some("dropped\n")),
    (
        "out-response-consume-twice",
        "/plain",
        Some("consume true again false\nstream true again false\n5 bytes after the response was dropped\n"),
    ),
    (
        "out-response-immutable",
        "/plain",
        Some("append Err(HeaderError::Immutable) delete Err(HeaderError::Immutable)\n"),
    ),
    ("out-exact-body", "/plain", Some("write Ok(())\nfinish Ok(())\nanswered 200\n")),
    (
        "out-short-body",
        "/plain",
        Some("write Ok(())\nfinish Err(ErrorCode::HttpRequestBodySize(Some(5)))\nanswered with an error\n"),
    ),
    (
        "out-long-body",
        "/plain",
        Some(
            "write Err(\"last-operation-failed\")\nfinish Err(ErrorCode::HttpRequestBodySize(Some(10)))\n\
             answered with an error\n",
        ),
    ),
    ("out-body-dropped", "/plain", Some("write Ok(())\nanswered with an error\n")),
    // Trailers of the request; an h1 origin answers with some only if it was asked by `te: trailers`.
    ("out-trailers", "/plain", Some("finish Ok(())\nstatus 200\nbody \"hello\"\nno trailers\n")),
    (
        "out-response-broken",
        "/broken",
        Some(
            "status 200\n5 bytes then failed\ncode Some(ErrorCode::ConnectionTerminated)\nhas words true\n\
             after that closed\n",
        ),
    ),
    ("out-timeout", "/slow", Some("error ErrorCode::HttpResponseTimeout\n")),
    ("out-request-used-after-sent", "/plain", None),
    ("out-drop-future-before-pollable", "/plain", None),
    ("out-drop-response-body-before-stream", "/plain", None),
];

#[test]
fn rules_of_fetching_are_kept_and_played_back_without_an_origin() {
    let Some(rules) = program("wit-rules") else { return };
    let mut wrong = Vec::new();
    for (rule, path, expected) in RULES {
        local(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let url = match *path {
                "-" => "http://elsewhere.example/".to_owned(),
                path => format!("http://{address}{path}"),
            };
            let origin = tokio::task::spawn_local(serve(listener));
            let tape = Tape::record();
            let live = ask(&rules, rule, &url, &address, tape.door()).await;
            origin.abort();
            let again = ask(&rules, rule, &url, &address, Tape::play(tape.recording()).door()).await;
            for (how, seen) in [("live", live), ("played back", again)] {
                let said = seen.map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
                if said.as_deref() != expected.ok_or(&Failure::GuestTrap) {
                    wrong.push(format!("{rule} {path} {how}: {said:?}"));
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn ask(rules: &Program, rule: &str, url: &str, origin: &str, door: Door) -> Result<Seen, Failure> {
    let config = AppConfig {
        outbound: vec![origin.to_owned()],
        limits: Limits { cpu_ms: 2_000, ..Limits::default() },
        ..AppConfig::default()
    };
    let mut exchange = testing::exchange(config);
    let mut host = testing::host();
    let allow = vec!["127.0.0.0/8".parse().unwrap()];
    Arc::get_mut(&mut host).unwrap().outbound = Outbound::new(Settings { allow, ..Settings::default() });
    exchange.host = host;
    exchange.door = door;
    let request = Request::get(format!("http://test.localhost/{rule}")).header("x-url", url);
    ask_in(rules, exchange, request.body(InboundBody::Empty).unwrap()).await
}

/// Accepts until it is aborted.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::task::spawn_local(connection.map(drop));
    }
}

/// `/plain` greets; `/broken` ends before its end; `/slow` takes longer than anybody waits.
async fn answer(
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>>, std::io::Error> {
    let (head, body) = request.into_parts();
    body.collect().await.map_err(std::io::Error::other)?; // one that breaks off is not answered
    let mut frames = vec![Ok(Frame::data(Bytes::from_static(b"hello")))];
    match head.uri.path() {
        "/broken" => frames.push(Err(std::io::Error::other("breaks off"))),
        "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    // The error comes after a turn, so that what is before it has left.
    let frames = stream::iter(frames).then(async |frame: Result<Frame<Bytes>, std::io::Error>| {
        if frame.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        frame
    });
    Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
}
