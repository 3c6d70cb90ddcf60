//! What a program is told of backends, and those it makes.

use artifact::manifest::{AppConfig, Backend};

use super::script::{
    Arg::{N, T, To},
    Memory, Out, Script,
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
const CERT_HOST: u32 = 1 << 8;
const SNI: u32 = 1 << 11;

pub fn a_backend_that_the_program_made_can_be_asked_about() {
    let mut guest = Script::new();
    let host = guest.text("b.example");
    let made = settings(&mut guest, &[(0, host.0), (1, 9), (2, 777), (5, 2), (6, 3)]);
    let mask = OVERRIDE_HOST | CONNECT_TIMEOUT | TLS | TLS_MIN | TLS_MAX;
    guest.call(REGISTER, &[T("made"), T("a.example:444"), N(mask), To(made)]);
    guest.answers(Status::Error, REGISTER, &[T("made"), T("c.example"), N(0), To(made)]);
    guest.answers(Status::Error, REGISTER, &[T("origin"), T("c.example"), N(0), To(made)]);
    let told = Told::ask(&mut guest, "made");
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
    assert_eq!(number("get_connect_timeout_ms"), 777);
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
    for option in [10, 12, 13, 14, 18] {
        refused(Status::Unsupported, 1 << option, "a.example", none);
    }
    for target in ["", "http://a.example", "user@a.example", "a b"] {
        refused(Status::Invalid, 0, target, none);
    }
    refused(Status::Invalid, OVERRIDE_HOST, "a.example", Out(u32::MAX - 16));
    let (one, other) = (guest.text("one"), guest.text("other"));
    let tls_1_3_only = settings(&mut guest, &[(5, 3)]);
    let two_names = settings(&mut guest, &[(7, one.0), (8, 3), (13, other.0), (14, 5)]);
    let register = |mask, settings| [T("made"), T("a.example"), N(TLS | mask), To(settings)];
    guest.answers(Status::Unsupported, REGISTER, &register(TLS_MIN, tls_1_3_only));
    guest.answers(Status::Unsupported, REGISTER, &register(CERT_HOST | SNI, two_names));
    guest.call(REGISTER, &register(CERT_HOST, two_names));
    for number in 1..200 {
        guest.call(REGISTER, &[T(&format!("n{number}")), T("a.example"), N(0), To(none)]);
    }
    guest.answers(Status::LimitExceeded, REGISTER, &[T("n200"), T("a.example"), N(0), To(none)]);
    guest.run();
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
