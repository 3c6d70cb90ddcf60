//! What a program is told of backends, and those it makes.

use artifact::manifest::{AppConfig, Backend};

use super::{
    origin::Origin,
    script::{
        Arg::{At, N, T, To},
        Memory, Out, Script,
    },
};
use crate::{
    guest::fastly::abi::Status,
    host::{door::Door, tape::Tape},
    testing,
};

const REGISTER: &str = "fastly_http_req.register_dynamic_backend";

/// Everything the interface tells of a backend.
struct Told {
    numbers: Vec<(&'static str, Out)>,
    host: (Out, Out),
}

const NUMBERS: [&str; 13] = [
    "exists",
    "is_dynamic",
    "is_ssl",
    "is_healthy",
    "get_port",
    "get_connect_timeout_ms",
    "get_first_byte_timeout_ms",
    "get_between_bytes_timeout_ms",
    "get_http_keepalive_time",
    "get_tcp_keepalive_enable",
    "get_tcp_keepalive_interval",
    "get_tcp_keepalive_probes",
    "get_tcp_keepalive_time",
];

impl Told {
    fn ask(guest: &mut Script, name: &str) -> Told {
        let numbers = NUMBERS
            .map(|function| (function, guest.gives(&format!("fastly_backend.{function}"), vec![T(name)])));
        let host = (guest.out(64), guest.out(4));
        guest.call("fastly_backend.get_host", &[T(name), To(host.0), N(64), To(host.1)]);
        Told { numbers: numbers.into(), host }
    }

    fn number(&self, memory: &Memory, function: &str) -> u32 {
        memory.u32(self.numbers.iter().find(|(name, _)| *name == function).unwrap().1)
    }
}

fn with_backend(backend: Backend) -> AppConfig {
    AppConfig { backends: [("origin".to_owned(), backend)].into(), ..super::config() }
}

pub fn a_declared_backend_can_be_asked_about() {
    let mut guest = Script::new();
    let told = Told::ask(&mut guest, "origin");
    let (over, length) = (guest.out(32), guest.out(4));
    guest.call("fastly_backend.get_override_host", &[T("origin"), To(over), N(32), To(length)]);
    let min = guest.gives("fastly_backend.get_ssl_min_version", vec![T("origin")]);
    let max = guest.gives("fastly_backend.get_ssl_max_version", vec![T("origin")]);
    let out = guest.out(8);
    guest.call("fastly_backend.exists", &[T("other"), To(out)]);
    for function in ["is_ssl", "get_port", "is_dynamic", "is_healthy"] {
        guest.answers(Status::Invalid, &format!("fastly_backend.{function}"), &[T("other"), To(out)]);
    }
    guest.answers(Status::Invalid, "fastly_backend.exists", &[T(""), To(out)]);
    let backend = Backend {
        url: "https://a.example:8443".into(),
        override_host: Some("b.example".into()),
        first_byte_timeout_ms: Some(1_234),
        ..Backend::default()
    };
    let memory = guest.run_in(testing::exchange(with_backend(backend)), super::get("/"));
    let number = |function| told.number(&memory, function);
    assert_eq!(["exists", "is_dynamic", "is_ssl", "is_healthy"].map(number), [1, 0, 1, 0]);
    assert_eq!(number("get_port"), 8443);
    assert_eq!(["get_connect_timeout_ms", "get_first_byte_timeout_ms"].map(number), [3_000, 1_234]);
    assert_eq!(memory.text(told.host.0, told.host.1), "a.example");
    assert_eq!(memory.text(over, length), "b.example");
    assert_eq!((memory.u32(min), memory.u32(max)), (2, 3));
    assert_eq!(memory.u32(out), 0);
}

/// The struct of settings, with these fields by their index.
fn settings(guest: &mut Script, fields: &[(usize, u32)]) -> Out {
    let mut all = [0; 27];
    for (index, value) in fields {
        all[*index] = *value;
    }
    guest.fields(&all)
}

const OVERRIDE_HOST: u32 = 1 << 1;
const CONNECT_TIMEOUT: u32 = 1 << 2;
const TLS: u32 = 1 << 5;
const TLS_MIN: u32 = 1 << 6;
const TLS_MAX: u32 = 1 << 7;
const CLIENT_CERTIFICATE: u32 = 1 << 13;
const KEEPALIVE: u32 = 1 << 15;

pub fn a_backend_that_the_program_made_can_be_asked_about() {
    let mut guest = Script::new();
    let host = guest.text("b.example");
    let kept = [(18, 20_000), (19, 1), (20, 5), (21, 6), (22, 7)];
    let fields = [&[(0, host.0), (1, 9), (2, 777), (5, 2), (6, 2)][..], &kept].concat();
    let made = settings(&mut guest, &fields);
    let mask = OVERRIDE_HOST | CONNECT_TIMEOUT | TLS | TLS_MIN | TLS_MAX | KEEPALIVE;
    guest.call(REGISTER, &[T("made"), T("a.example:444"), N(mask), To(made)]);
    guest.answers(Status::Error, REGISTER, &[T("made"), T("c.example"), N(0), To(made)]);
    guest.answers(Status::Error, REGISTER, &[T("origin"), T("c.example"), N(0), To(made)]);
    let told = Told::ask(&mut guest, "made");
    let versions = ["min", "max"]
        .map(|which| guest.gives(&format!("fastly_backend.get_ssl_{which}_version"), vec![T("made")]));
    let (over, length) = (guest.out(32), guest.out(4));
    guest.call("fastly_backend.get_override_host", &[T("made"), To(over), N(32), To(length)]);
    guest.call(REGISTER, &[T("plain"), T("c.example"), N(0), To(made)]);
    let plain = Told::ask(&mut guest, "plain");
    let none = guest.out(4);
    let version = "fastly_backend.get_ssl_min_version";
    guest.answers(Status::None, version, &[T("plain"), To(none)]);
    let absent = [T("plain"), To(over), N(32), To(none)];
    guest.answers(Status::None, "fastly_backend.get_override_host", &absent);
    let backend = Backend { url: "http://x.example".into(), ..Backend::default() };
    let memory = guest.run_in(testing::exchange(with_backend(backend)), super::get("/"));
    let number = |function| told.number(&memory, function);
    assert_eq!(["exists", "is_dynamic", "is_ssl", "get_port"].map(number), [1, 1, 1, 444]);
    assert_eq!(
        ["is_healthy", "get_connect_timeout_ms", "get_http_keepalive_time"].map(number),
        [0, 777, 20_000]
    );
    let tcp = ["enable", "interval", "probes", "time"].map(|of| format!("get_tcp_keepalive_{of}"));
    assert_eq!(tcp.each_ref().map(|function| number(function)), [1, 5, 6, 7]);
    assert_eq!(tcp.map(|function| plain.number(&memory, &function)), [0; 4]);
    assert_eq!(versions.map(|version| memory.u32(version)), [2, 2]);
    assert_eq!(memory.text(over, length), "b.example");
    assert_eq!(["is_ssl", "get_port"].map(|function| plain.number(&memory, function)), [0, 80]);
}

pub fn settings_that_cannot_be_kept_are_refused() {
    let mut guest = Script::new();
    let none = settings(&mut guest, &[]);
    let mut refused = |status, mask, target: &str, settings| {
        guest.answers(status, REGISTER, &[T("made"), T(target), N(mask), To(settings)]);
    };
    refused(Status::Invalid, 1, "a.example", none);
    refused(Status::Invalid, 1 << 19, "a.example", none);
    for option in [14, 18] {
        refused(Status::Unsupported, 1 << option, "a.example", none);
    }
    for target in ["", "http://a.example", "user@a.example", "a b"] {
        refused(Status::Invalid, 0, target, none);
    }
    refused(Status::Invalid, OVERRIDE_HOST, "a.example", Out(u32::MAX - 16));
    let certificate = guest.text("PEM");
    let tls_1_1 = settings(&mut guest, &[(6, 1)]);
    let no_secret = settings(&mut guest, &[(15, certificate.0), (16, 3), (17, 77)]);
    let register = |mask, settings| [T("made"), T("a.example"), N(TLS | mask), To(settings)];
    guest.answers(Status::Unsupported, REGISTER, &register(TLS_MAX, tls_1_1));
    guest.answers(Status::BadHandle, REGISTER, &register(CLIENT_CERTIFICATE, no_secret));
    for number in 0..200 {
        guest.call(REGISTER, &[T(&format!("n{number}")), T("a.example"), N(0), To(none)]);
    }
    guest.answers(Status::LimitExceeded, REGISTER, &[T("n200"), T("a.example"), N(0), To(none)]);
    guest.run();
}

pub fn the_health_of_a_backend_is_what_its_requests_found() {
    let origin = Origin::start();
    let nobody = || Origin::start().address; // gone at once
    let two = |first, second| Backend {
        url: format!("http://{first}"),
        failover: vec![format!("http://{second}")],
        ..Backend::default()
    };
    let run = |door: Door| {
        let config = AppConfig {
            backends: [
                ("well".to_owned(), two(nobody(), origin.address)),
                ("down".to_owned(), two(nobody(), nobody())),
            ]
            .into(),
            ..super::config()
        };
        let mut guest = Script::new();
        let is_healthy = |guest: &mut Script, name| guest.gives("fastly_backend.is_healthy", vec![T(name)]);
        let before = is_healthy(&mut guest, "well");
        for (name, status) in [("well", Status::Ok), ("down", Status::Error)].repeat(3) {
            let request = guest.gives("fastly_http_req.new", vec![]);
            let body = guest.gives("fastly_http_body.new", vec![]);
            guest.call("fastly_http_req.uri_set", &[At(request), T("http://app.example/hello")]);
            let (head, content) = (guest.out(4), guest.out(4));
            let arguments = [At(request), At(body), T(name), To(head), To(content)];
            guest.answers(status, "fastly_http_req.send", &arguments);
        }
        let after = ["well", "down"].map(|name| is_healthy(&mut guest, name));
        let mut exchange = origin.exchange_of(config);
        exchange.door = door;
        let memory = guest.run_in(exchange, super::get("/"));
        [before, after[0], after[1]].map(|out| memory.u32(out))
    };
    let tape = Tape::record();
    assert_eq!(run(tape.door()), [0, 1, 2]);
    assert_eq!(run(Tape::play(tape.recording()).door()), [0, 1, 2]);
}

/// A replay has the recording, not the configuration.
#[test]
fn what_is_told_of_a_declared_backend_passes_the_door() {
    let run = |config: AppConfig, door: Door| {
        let mut guest = Script::new();
        let exists = guest.gives("fastly_backend.exists", vec![T("origin")]);
        let (host, length) = (guest.out(64), guest.out(4));
        guest.call("fastly_backend.get_host", &[T("origin"), To(host), N(64), To(length)]);
        let mut exchange = testing::exchange(config);
        exchange.door = door;
        let memory = guest.run_in(exchange, super::get("/"));
        (memory.u32(exists), memory.text(host, length).to_owned())
    };
    let tape = Tape::record();
    let backend = Backend { url: "https://a.example:8443".into(), ..Backend::default() };
    let told = run(with_backend(backend), tape.door());
    assert_eq!(told, (1, "a.example".to_owned()));
    assert_eq!(run(super::config(), Tape::play(tape.recording()).door()), told);
}
