//! The wasi lane against `wasmtime-wasi-http`: the same guests, the same requests, the same answers.
//!
//! What a client gets (status, fields, body, trailers, how the body ends), what a guest printed, and whether it trapped.
//! Where the two differ on purpose, a table says so, and a rule in it that does not differ fails the test.

use std::{collections::BTreeMap, sync::Arc};

use artifact::manifest::{AppConfig, Limits};
use http::{HeaderMap, Request};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};

use super::reference;
use crate::{
    failure::Failure,
    front::{BodyError, InboundBody, unread},
    guest::{Run, wasi},
    host::{
        door::{Event, Source},
        tape::{Recording, Tape},
    },
    load::Code,
    testing::{self, ask_run, local},
};

/// Both hosts' program of one guest.
struct Pair {
    ours: wasi::Program,
    theirs: reference::Program,
}

/// All that can be seen of one run.
#[derive(Debug, PartialEq)]
struct Outcome {
    answer: Result<Answer, Failure>,
    said: String,
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    body: String,
    trailers: Vec<(String, Vec<u8>)>,
    ended: Option<BodyError>,
}

fn pair(guest: &str) -> Option<Pair> {
    let Code::Component(component) = testing::code(guest)? else { panic!("{guest} is no component") };
    let engine = testing::engine();
    Some(Pair {
        ours: wasi::Program::link(engine, &component).unwrap(),
        theirs: reference::Program::link(engine, &component).unwrap(),
    })
}

impl Pair {
    /// What both do with a request that `make` makes for each.
    fn ask(&self, make: impl AsyncFn() -> Request<InboundBody>) -> [Outcome; 2] {
        let exchange = || {
            let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
            testing::exchange(AppConfig { limits, ..AppConfig::default() })
        };
        local(async {
            let tape = Tape::record();
            let mut ours = exchange();
            ours.door = tape.door();
            let (running, mut ended) = mpsc::channel(1);
            let run =
                |exchange, request, responder| whole(self.ours.run(exchange, request, responder), running);
            let seen = ask_run(run, ours, make().await).await;
            let _ = ended.recv().await;
            let printed: Vec<u8> = tape.recording().caused.remove(&Source::Log).into_iter().flatten().fold(
                Vec::new(),
                |mut all, event| {
                    let Event::Bytes(bytes) = event else { panic!("{event:?} in the log") };
                    all.extend_from_slice(&bytes);
                    all
                },
            );
            let ours = outcome(seen, &printed);

            let said = Arc::new(Mutex::new(Vec::new()));
            let (running, mut ended) = mpsc::channel(1);
            let run = |exchange, request, responder| {
                whole(self.theirs.run(exchange, request, responder, said.clone()), running)
            };
            let seen = ask_run(run, exchange(), make().await).await;
            let _ = ended.recv().await;
            let theirs = outcome(seen, &said.lock());
            [ours, theirs]
        })
    }

    /// Records a run of ours, plays it back where there is no body to read and no clock, and gives both, with what
    /// passed the door.
    fn replay(&self, raw: &str) -> [(Outcome, Recording); 2] {
        let once = async |request: Request<InboundBody>, tape: Arc<Tape>| {
            let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
            let mut exchange = testing::exchange(AppConfig { limits, ..AppConfig::default() });
            exchange.door = tape.door();
            let (running, mut ended) = mpsc::channel(1);
            let run =
                |exchange, request, responder| whole(self.ours.run(exchange, request, responder), running);
            let seen = ask_run(run, exchange, request).await;
            let _ = ended.recv().await;
            (outcome(seen, b""), tape.recording())
        };
        local(async {
            let live = once(inbound(raw.into(), End::Open).await, Tape::record()).await;
            let without_body = inbound(raw.into(), End::Open).await.map(|_| InboundBody::Empty);
            let again = once(without_body, Tape::play(live.1.clone())).await;
            [live, again]
        })
    }

    /// They do the same, and this is it.
    fn agree(&self, what: &str, make: impl AsyncFn() -> Request<InboundBody>) -> Outcome {
        let [ours, theirs] = self.ask(make);
        assert_eq!(ours, theirs, "{what}: ours is left, the reference's right");
        ours
    }
}

/// A run whose end can be waited for: a guest may go on when its answer is whole.
fn whole(run: impl Future<Output = wasmtime::Result<()>> + Send + 'static, running: mpsc::Sender<()>) -> Run {
    Box::pin(async move {
        let _running = running;
        run.await
    })
}

fn outcome(seen: Result<testing::Seen, Failure>, said: &[u8]) -> Outcome {
    let said = String::from_utf8_lossy(said).into_owned();
    let fields = |map: &HeaderMap| {
        let mut fields: Vec<_> =
            map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0)); // values of one name stay in their order
        fields
    };
    let answer = seen.map(|seen| Answer {
        status: seen.head.status.as_u16(),
        fields: fields(&seen.head.headers),
        body: String::from_utf8_lossy(&seen.body).into_owned(),
        trailers: fields(&seen.trailers),
        ended: seen.error,
    });
    Outcome { answer, said }
}

impl Outcome {
    /// The same, or cut short: whose answer broke off has no client any more, and ours is stopped at its next tick.
    fn is_like(&self, theirs: &Outcome) -> bool {
        let broken = self.answer.as_ref().is_ok_and(|answer| answer.ended.is_some());
        let said = self.said == theirs.said || broken && theirs.said.starts_with(&self.said);
        self.answer == theirs.answer && said
    }

    fn text(&self) -> &str {
        self.answer.as_ref().map_or("", |answer| &answer.body)
    }
}

/// A request as hyper takes it from a connection: with chunks, trailers, or less than all of it.
async fn inbound(raw: String, end: End) -> Request<InboundBody> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(raw.as_bytes()).await.unwrap();
    let keep: Option<DuplexStream> = match end {
        End::Open => Some(client),
        End::Gone => None, // dropped: what is missing never comes
    };
    let (send, mut receive) = mpsc::channel(1);
    let service = hyper::service::service_fn(move |request| {
        let send = send.clone();
        async move {
            let _ = send.send(request).await;
            std::future::pending::<Result<http::Response<String>, hyper::Error>>().await
        }
    });
    tokio::task::spawn_local(async move {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service);
        let _ = connection.await;
        drop(keep);
    });
    unread::receive(receive.recv().await.unwrap(), &unread::Discarding::default())
}

#[derive(Clone, Copy)]
enum End {
    Open,
    Gone,
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test.localhost\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chunked(path: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nhost: test.localhost\r\ntransfer-encoding: chunked\r\n");
    // A trailer that belongs to the connection must not get through.
    format!(
        "{head}trailer: x-late\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nx-late: 1\r\nconnection: x\r\n\r\n"
    )
}

#[test]
fn ordinary_guests_answer_alike() {
    for guest in ["hello", "hello-as", "wasi-hello", "wstd-hello", "as-hello", "echo", "echo-copy", "headers"]
    {
        let Some(pair) = pair(guest) else { continue };
        let large = "0123456789abcdef".repeat(20_000);
        for (path, fields, body) in [
            ("/", "", ""),
            ("/a/b?c=d&e=%20", "x-many: one\r\nX-Many: two\r\nx-status: 418\r\naccept: */*\r\n", ""),
            ("/", "content-type: text/plain\r\nconnection: x-hop\r\nkeep-alive: 1\r\n", "short"),
            ("/", "content-type: app/x\r\n", &large),
        ] {
            let seen = pair
                .agree(guest, async || inbound(post(path, fields, body), End::Open).await)
                .answer
                .unwrap();
            assert_eq!(seen.ended, None, "{guest} {path}");
            assert!(!guest.starts_with("echo") || seen.body == body, "{guest} {path}");
        }
        pair.agree(guest, async || inbound(chunked("/"), End::Open).await);
    }
}

#[test]
fn faults_are_alike() {
    for guest in ["trap", "no-response", "stream", "log", "canary", "grow-report"] {
        let Some(pair) = pair(guest) else { continue };
        pair.agree(guest, async || inbound(post("/", "", ""), End::Open).await);
    }
}

#[test]
fn a_client_that_goes_away_in_its_body_is_an_error_to_the_guest() {
    let Some(pair) = pair("echo-copy") else { return };
    let raw = "POST / HTTP/1.1\r\nhost: test.localhost\r\ncontent-length: 100\r\n\r\nhalf";
    let seen = pair.ask(async || inbound(raw.into(), End::Gone).await);
    for seen in seen {
        let ended = seen.answer.map(|answer| answer.ended);
        assert!(matches!(ended, Err(Failure::GuestTrap) | Ok(Some(BodyError::GuestAborted))), "{ended:?}");
    }
}

/// Rules that differ, with the beginning of what ours says in its body, or its failure.
const DIFFER: &[(&str, &str)] = &[
    // The reference's caller sees an error code and decides; here it decides the status.
    ("response-error", "Failure(BackendError)"),
    // There it is a trap with status 0; here a good end, without an answer.
    ("exit-ok", "Failure(NoResponse)"),
    ("exit-after-answer", "answered"),
    // The answer is out and stays, though the guest then tries to give a second one.
    ("response-outparam-twice", "first"),
    // A timer that is due is ready; the reference lets others run first, which here the epoch does.
    ("poll-some-ready", "ready false true true"),
    // Every call of sockets is denied; the reference says "permanent-resolver-failure" of a lookup.
    ("sockets", "tcp ErrorCode { code: 1, name: \"access-denied\""),
    // A guest may ask who and where it is.
    ("cli", "environment [(\"SKERRY_TENANT\", \"default\")"),
];

/// Rules that need an origin: `outbound` has its own tests.
fn needs_origin(rule: &str) -> bool {
    const WITHOUT: [&str; 8] = [
        "out-method",
        "out-path",
        "out-scheme",
        "out-authority",
        "out-defaults",
        "out-options",
        "out-body-twice",
        "out-other-scheme",
    ];
    rule.starts_with("out-") && !WITHOUT.contains(&rule)
}

#[test]
fn every_rule_of_the_interface_is_kept_as_the_reference_keeps_it() {
    let Some(pair) = pair("wit-rules") else { return };
    let list = pair.agree("the list", async || inbound(post("/", "", ""), End::Open).await);
    let mut differing: BTreeMap<&str, &str> = DIFFER.iter().copied().collect();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for line in list.text().lines() {
        let (kind, rule) = line.split_once(' ').unwrap();
        if needs_origin(rule) {
            continue;
        }
        compared += 1;
        let fields = "x-status: 201\r\nx-len: 100\r\n";
        for (how, raw) in [
            ("whole", post(&format!("/{rule}"), fields, "hello world")),
            ("chunked", chunked(&format!("/{rule}"))),
        ] {
            let [ours, theirs] = pair.ask(async || inbound(raw.clone(), End::Open).await);
            match differing.get(rule) {
                None if !ours.is_like(&theirs) => {
                    wrong.push(format!("{rule} ({how}):\n{ours:?}\n{theirs:?}"))
                }
                None => {}
                Some(_) if ours == theirs => wrong.push(format!("{rule} ({how}) does not differ")),
                Some(expected) => {
                    let said = match &ours.answer {
                        Ok(answer) => answer.body.clone(),
                        Err(failure) => format!("Failure({failure:?})"),
                    };
                    if !said.starts_with(expected) {
                        wrong.push(format!("{rule} ({how}): {said}"));
                    }
                }
            }
            if kind == "trap" && ours.answer != Err(Failure::GuestTrap) {
                wrong.push(format!("{rule} ({how}) did not trap: {ours:?}"));
            }
        }
        differing.remove(rule);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(compared > 60 && differing.is_empty(), "{compared} rules, not met: {differing:?}");
}

#[test]
fn every_rule_does_the_same_when_it_is_played_back_without_the_world() {
    let Some(pair) = pair("wit-rules") else { return };
    let list = pair.agree("the list", async || inbound(post("/", "", ""), End::Open).await);
    let mut learned = 0;
    for rule in list.text().lines().filter_map(|line| line.split_once(' ')).map(|(_, rule)| rule) {
        if needs_origin(rule) {
            continue;
        }
        let [live, again] = pair.replay(&chunked(&format!("/{rule}")));
        assert_eq!(live, again, "{rule}");
        learned += live.1.learned.values().map(|facts| facts.len()).sum::<usize>();
    }
    assert!(learned > 100, "{learned} facts");
}

#[test]
fn an_error_code_is_502_for_a_backend_and_500_for_the_guest() {
    let Some(pair) = pair("wit-rules") else { return };
    /// Codes in the order of the interface that are the guest's own fault.
    const GUESTS: [usize; 12] = [15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 37, 38];
    for code in 0..39 {
        let fields = format!("x-code: {code}\r\n");
        let [ours, _] = pair.ask(async || inbound(post("/response-error", &fields, ""), End::Open).await);
        let expected = if GUESTS.contains(&code) { Failure::GuestError } else { Failure::BackendError };
        assert_eq!(ours.answer, Err(expected), "code {code}");
    }
}

#[test]
fn a_call_for_too_many_random_bytes_ends_the_guest() {
    let Some(pair) = pair("wit-rules") else { return };
    for (length, fits) in [(65_536u64, true), (65_537, false), (u64::MAX, false)] {
        let fields = format!("x-len: {length}\r\n");
        let [ours, theirs] = pair.ask(async || inbound(post("/random-len", &fields, ""), End::Open).await);
        if fits {
            assert_eq!(ours.text(), format!("{length} bytes, all the same false\n"));
            assert_eq!(ours, theirs);
        } else {
            assert_eq!(ours.answer, Err(Failure::RandomLimit));
            assert_eq!(theirs.answer, Err(Failure::GuestTrap));
        }
    }
}
