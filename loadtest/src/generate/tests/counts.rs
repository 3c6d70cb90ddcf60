//! What is counted is what the server saw.

use std::{
    io::{Read as _, Write as _},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use super::server::{Kind, Server};
use crate::generate::{Outcome, Progress, Roots, Scenario, Target, generate};

/// h1, a short time, and `more`.
pub fn scenario(more: &str) -> Scenario {
    Scenario::parse(&format!("name = 'test'\nprotocol = 'h1'\nduration_seconds = 0.3\n{more}")).unwrap()
}

pub fn run(scenario: &Scenario, target: &Target) -> Outcome {
    generate(scenario, target, &|_| {}, &AtomicBool::new(false)).unwrap()
}

#[test]
fn every_answer_is_counted_once() {
    let server = Server::start(Kind::H1);
    let outcome = run(&scenario("connections = 4\nthreads = 2"), &server.target());
    assert_eq!(outcome.errors, [].into());
    // One goes before the load.
    assert_eq!(outcome.answered + 1, server.seen.requests.load(Relaxed));
    assert_eq!(outcome.statuses, [(200, outcome.answered)].into());
    assert_eq!(outcome.latency_ns.len(), outcome.answered);
    assert_eq!(outcome.per_second.iter().sum::<u64>(), outcome.answered);
    assert_eq!(server.seen.connections.load(Relaxed), 1 + 4);
    assert!(outcome.answered > 4 && outcome.bytes_in > outcome.answered * 5 && !outcome.stopped_early);
}

#[test]
fn statuses_and_large_answers_are_told() {
    let server = Server::start(Kind::H1);
    let mut asked = scenario("connections = 1\n[request]\npath = '/missing'");
    let outcome = run(&asked, &server.target());
    assert_eq!(outcome.statuses, [(404, outcome.answered)].into());
    asked.request.path = "/large".into();
    let outcome = run(&asked, &server.target());
    assert!(outcome.answered > 0 && outcome.bytes_in > outcome.answered * 100_000);
}

#[test]
fn a_stall_is_charged_to_all_that_were_to_start_meanwhile() {
    let server = Server::start(Kind::H1);
    let mut asked = scenario("connections = 1\n[arrivals]\nkind = 'constant'\nper_second = 200");
    asked.duration = Duration::from_secs(1);
    let stall = |progress: Progress| {
        // In the middle, once.
        if progress.elapsed > Duration::from_millis(100) && !server.seen.stalled.swap(true, Relaxed) {
            *server.seen.stall.lock() = Some(Duration::from_millis(400));
        }
    };
    let outcome = generate(&asked, &server.target(), &stall, &AtomicBool::new(false)).unwrap();
    assert_eq!((outcome.answered, outcome.errors_total()), (200, 0));
    let waited = outcome.latency_ns.count_between(100_000_000, u64::MAX);
    // 60 were to start in the first 300 of the 400 ms. Counted from when they did, all but one were fast.
    assert!(waited >= 50, "{waited}");
    assert!(outcome.late_starts >= 50, "{}", outcome.late_starts);
}

#[test]
fn each_protocol_is_counted_alike() {
    for (kind, more) in [
        (Kind::H1Tls, "protocol = 'h1'\ntls = true\nconnections = 2"),
        (Kind::H2, "protocol = 'h2'\nconnections = 2\nstreams = 3"),
        (Kind::H2Tls, "protocol = 'h2'\ntls = true\nconnections = 2\nstreams = 3"),
        (Kind::H3, "protocol = 'h3'\nconnections = 2\nstreams = 3"),
    ] {
        let server = Server::start(kind);
        let text = format!(
            "name = 'test'\nduration_seconds = 0.3\n{more}\n[request]\nmethod = 'POST'\nbody_bytes = 100000"
        );
        let outcome = run(&Scenario::parse(&text).unwrap(), &server.target());
        assert_eq!(outcome.errors, [].into(), "{kind:?}");
        assert!(outcome.answered > 6, "{kind:?}");
        assert_eq!(outcome.answered + 1, server.seen.requests.load(Relaxed), "{kind:?}");
        assert_eq!((outcome.answered + 1) * 100_000, server.seen.body_bytes.load(Relaxed), "{kind:?}");
        assert_eq!(server.seen.connections.load(Relaxed), 1 + 2, "{kind:?}");
    }
}

#[test]
fn a_new_connection_each_is_one_each() {
    for (kind, tls) in [(Kind::H1, false), (Kind::H1Tls, true)] {
        let server = Server::start(kind);
        let text = format!("connections = 2\nnew_connection_each = true\ntls = {tls}");
        let outcome = run(&scenario(&text), &server.target());
        assert_eq!((outcome.errors_total(), outcome.answered > 2), (0, true));
        assert_eq!(server.seen.connections.load(Relaxed), server.seen.requests.load(Relaxed));
    }
}

#[test]
fn many_hosts_and_a_slow_body_arrive() {
    let server = Server::start(Kind::H1);
    let text = "connections = 1\n[hosts]\nkind = 'zipf'\ncount = 3\nexponent = 0.0\n[request]\nmethod = 'POST'\n\
                body_bytes = 30\n[pace]\nkind = 'slow_body'\nbytes_per_second = 100";
    let outcome = run(&scenario(text), &server.target());
    // Three pieces with 100 ms between them.
    assert!(outcome.latency_ns.min() >= 199_000_000 && (1..=2).contains(&outcome.answered));
    assert!(
        server.seen.hosts.lock().keys().all(|host| host.starts_with('h') && host.ends_with(".a.example"))
    );
}

#[test]
fn who_is_refused_does_not_ask_in_a_loop() {
    let server = Server::start(Kind::H1);
    let text = "connections = 1\npause_after_503_ms = 100\n[request]\npath = '/busy'";
    let outcome = run(&scenario(text), &server.target());
    // 300 ms.
    assert_eq!((outcome.statuses, outcome.errors), ([(503, outcome.answered)].into(), [].into()));
    assert!((1..=3).contains(&outcome.answered), "{}", outcome.answered);
}

#[test]
fn each_connection_asks_its_own_host() {
    let server = Server::start(Kind::H1);
    let text = "connections = 3\n[hosts]\nkind = 'each'\nnames = ['a.test', 'b.test', 'c.test:80']\n[arrivals]\n\
                kind = 'constant'\nper_second = 100";
    let outcome = run(&scenario(text), &server.target());
    assert_eq!((outcome.answered, outcome.errors_total()), (30, 0));
    let hosts = server.seen.hosts.lock();
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["a.test", "b.test", "c.test:80"]);
    assert!(hosts.values().all(|count| *count > 5), "{hosts:?}");
}

#[test]
fn a_slow_reader_takes_its_time_over_each_protocol() {
    for (kind, head, path, bytes_per_second) in [
        (Kind::H1, "protocol = 'h1'", "/large", 400_000),
        (Kind::H1Tls, "protocol = 'h1'\ntls = true", "/large", 400_000),
        (Kind::H2, "protocol = 'h2'", "/large", 400_000),
        (Kind::H3, "protocol = 'h3'", "/large", 400_000),
    ] {
        let server = Server::start(kind);
        let text = format!(
            "name = 'test'\nduration_seconds = 0.3\nconnections = 1\n{head}\n[request]\npath = '{path}'\n[pace]\n\
             kind = 'slow_reader'\nbytes_per_second = {bytes_per_second}"
        );
        let outcome = run(&Scenario::parse(&text).unwrap(), &server.target());
        // 100,000 bytes: a quarter of a second each.
        assert_eq!(outcome.errors, [].into(), "{kind:?}");
        assert!((1..=2).contains(&outcome.answered), "{kind:?}: {}", outcome.answered);
        assert!(outcome.latency_ns.min() >= 249_000_000, "{kind:?}: {}", outcome.latency_ns.min());
    }
}

#[test]
fn what_a_slow_reader_is_taking_at_the_end_is_under_way_and_no_error() {
    let ask = |kind: Kind, protocol: &str| {
        let server = Server::start(kind);
        // 100,000 bytes would take 100 s.
        let text = format!(
            "name = 'test'\nduration_seconds = 0.3\nconnections = 3\nprotocol = '{protocol}'\n[request]\npath = \
             '/large'\n[pace]\nkind = 'slow_reader'\nbytes_per_second = 1000"
        );
        let outcome = run(&Scenario::parse(&text).unwrap(), &server.target());
        assert_eq!((outcome.under_way, outcome.errors), (3, [].into()), "{kind:?}");
    };
    // Each waits out the time that answers have at the end.
    std::thread::scope(|scope| {
        for (kind, protocol) in [(Kind::H1, "h1"), (Kind::H2, "h2"), (Kind::H3, "h3")] {
            scope.spawn(move || ask(kind, protocol));
        }
    });
}

#[test]
fn a_target_that_does_not_begin_to_answer_a_slow_reader_is_an_error() {
    let server = Server::start(Kind::H1);
    let text = "connections = 2\n[request]\npath = '/never-after-1'\n[pace]\nkind = 'slow_reader'\nbytes_per_second = 10";
    let outcome = run(&scenario(text), &server.target());
    assert_eq!((outcome.under_way, outcome.answered), (0, 0));
    assert_eq!(outcome.errors, [("no whole answer by the end".to_owned(), 2)].into());
}

#[test]
fn a_target_has_to_hold_what_a_slow_reader_does_not_take() {
    let listener = small_listener();
    let target = Target {
        address: listener.local_addr().unwrap(),
        authority: "a.example".into(),
        roots: Roots::Platform,
    };
    let sent = std::thread::spawn(move || {
        // The first question is asked at full speed.
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).unwrap();
            if let Some(sent) = taken(&mut stream) {
                return sent;
            }
        }
        panic!("nobody was slow");
    });
    let text = "connections = 1\n[pace]\nkind = 'slow_reader'\nbytes_per_second = 1000";
    let stop = AtomicBool::new(false);
    let _ = generate(&scenario(text), &target, &|_| stop.store(sent.is_finished(), Relaxed), &stop);
    let sent = sent.join().unwrap();
    // Its own buffer and the client's, twice what was asked for each. The client's would else be 128 KiB.
    assert!(sent < 100 << 10, "{sent} bytes were taken");
}

/// One that holds little itself.
fn small_listener() -> std::net::TcpListener {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(16 << 10).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        socket.listen(8).unwrap().into_std().unwrap()
    });
    listener.set_nonblocking(false).unwrap();
    listener
}

/// Sends an answer of 1 MiB, and says how much was taken when the client stopped taking more; nothing if it took all.
fn taken(stream: &mut std::net::TcpStream) -> Option<usize> {
    const BODY_BYTES: usize = 1 << 20;
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n").unwrap();
    let (piece, mut sent) = ([b'x'; 4 << 10], 0);
    while sent < BODY_BYTES {
        match stream.write(&piece) {
            Ok(bytes) => sent += bytes,
            Err(_) => return Some(sent),
        }
    }
    None
}

#[test]
fn what_does_not_answer_is_one_clear_error() {
    let ask = |more: &str, target: &Target| {
        let error = generate(&scenario(more), target, &|_| {}, &AtomicBool::new(false)).unwrap_err();
        format!("{error:#}")
    };
    let server = Server::start(Kind::H1Tls);
    let mut target = server.target();
    let plain = ask("connections = 1", &target);
    assert!(
        plain.ends_with(
            "does not answer as the scenario asks: answer: the target speaks TLS, and was asked without"
        ),
        "{plain}"
    );
    let open = Server::start(Kind::H1);
    let closed = ask("connections = 1\ntls = true", &open.target());
    assert!(closed.ends_with("TLS handshake: the target does not speak TLS on this port"), "{closed}");
    target.roots = Roots::Platform;
    let stranger = ask("connections = 1\ntls = true", &target);
    assert!(stranger.contains("TLS handshake: invalid peer certificate"), "{stranger}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = ask("connections = 1", &Target { address: nobody, ..target });
    assert!(gone.contains("connecting: Connection refused"), "{gone}");
}

#[test]
fn a_run_that_is_stopped_gives_what_there_was() {
    let server = Server::start(Kind::H1);
    let mut asked = scenario("connections = 1");
    asked.duration = Duration::from_secs(600);
    let stop = AtomicBool::new(false);
    let outcome = generate(&asked, &server.target(), &|_| stop.store(true, Relaxed), &stop).unwrap();
    assert!(outcome.stopped_early && outcome.answered > 0 && outcome.errors_total() == 0);
    assert!(outcome.elapsed < asked.duration);
}

#[test]
fn a_broken_answer_is_an_error_of_its_kind() {
    let server = Server::start(Kind::H1);
    let mut asked = scenario("connections = 1");
    // The first question is answered.
    asked.request.path = "/break-after-1".into();
    let outcome = run(&asked, &server.target());
    assert_eq!(outcome.answered, 0);
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["answer: the target closed the connection"]);
}

#[test]
fn a_client_that_sleeps_between_looks_knows_how_often_it_looked_for_an_answer() {
    let server = Server::start(Kind::H1);
    let looks = |connections: u32, path: &str| {
        let text = format!("connections = {connections}\nlook_every_us = 5000\n[request]\npath = '{path}'");
        let asked = scenario(&text);
        run(&asked, &server.target()).looks_for_an_answer(&asked).unwrap()
    };
    // Two, as long as the server answers within 5 ms; one where the client does not get to all of them in a look.
    for connections in [1, 16, 200] {
        let at_once = looks(connections, "/");
        assert!(at_once < 5.0, "{connections}: {at_once}");
    }
    // 100 ms.
    let later = looks(16, "/slow");
    assert!(later > 6.0, "{later}");
    let woken = scenario("connections = 1");
    assert_eq!(run(&woken, &server.target()).looks_for_an_answer(&woken), None);
}
