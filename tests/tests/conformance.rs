//! The conformance table of the SDKs (`sdk/conformance/cases.toml`), asked of a guest of each over real sockets.

#[path = "conformance/backend.rs"]
mod backend;

use std::{collections::BTreeMap, fmt, fs, path::Path, time::SystemTime};

use serde::Deserialize;
use whole_flow::{Fleet, Process, Proto, Response, guest, has_guest, random_bytes, skipped, wait_for};

use self::backend::Backend;

/// Two answers of the clock may be so far apart.
const CLOCK_MS_APART_MAX: u64 = 60_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

/// A row; the table says what its fields mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: String,
    #[serde(default)]
    fields: Vec<(String, String)>,
    send: Option<Send>,
    status: u16,
    #[serde(default)]
    answer: BTreeMap<String, Field>,
    body: Body,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    differs: bool,
    #[serde(default)]
    logged: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Send {
    Text(String),
    Hex { hex: String },
    Random { random: usize },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Value(String),
    Values(Vec<String>),
    Absent(Absent),
}

/// `false`.
#[derive(Deserialize)]
#[serde(try_from = "bool")]
struct Absent;

#[derive(Deserialize)]
#[serde(untagged)]
enum Body {
    Text(String),
    Like { like: Like },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Like {
    Sent,
    Hex,
    Milliseconds,
    Anything,
}

impl TryFrom<bool> for Absent {
    type Error = &'static str;

    fn try_from(there: bool) -> Result<Absent, &'static str> {
        if there { Err("`true` says nothing: name the value") } else { Ok(Absent) }
    }
}

impl Send {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Send::Text(text) => text.clone().into_bytes(),
            Send::Hex { hex } => {
                let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("ASCII"));
                digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
            }
            Send::Random { random } => random_bytes(7, *random),
        }
    }
}

/// Everything that differs, so that one run shows all that is wrong.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, right: bool, what: impl fmt::Display) {
        if !right {
            self.0.push(what.to_string());
        }
    }
}

/// A guest under test.
struct Asked<'a> {
    fleet: &'a Fleet,
    app: &'a str,
    backend: &'a Backend,
}

impl Asked<'_> {
    fn filled(&self, text: &str) -> String {
        let text = text.replace("{backend}", &self.backend.url()).replace("{dead}", &self.backend.dead_url());
        text.replace("{app}", self.app)
    }

    fn ask(&self, case: &Case, proto: Proto) -> Response {
        let (method, path) = case.request.split_once(' ').expect("a method and a path");
        let mut request = self.fleet.request(proto, self.app).path(&self.filled(path));
        request = match method {
            "HEAD" => request.with(&["--head"]), // by `--request` curl would wait for a body
            "GET" => request,
            // Method names live as long as the program: each is made once a case.
            other => request.method(other.to_owned().leak()),
        };
        for (name, value) in &case.fields {
            request = request.header(name, value);
        }
        if let Some(send) = &case.send {
            request = request.body(&send.bytes());
        }
        request.send()
    }

    fn check(&self, case: &Case, proto: Proto, wrong: &mut Wrong) {
        let response = self.ask(case, proto);
        let about = format!("{} by {proto:?}: {} ({}):", self.app, case.name, case.request);
        wrong.unless(response.complete, format_args!("{about} broken off: {response:?}"));
        wrong.unless(
            response.status == case.status,
            format_args!("{about} status {}, not {}", response.status, case.status),
        );
        for (name, wanted) in &case.answer {
            let found = response.header_all(name);
            let right = match wanted {
                Field::Value(value) => found == [value],
                Field::Values(values) => found == *values,
                Field::Absent(Absent) => found.is_empty(),
            };
            wrong.unless(right, format_args!("{about} {name}: {found:?}"));
        }
        self.check_body(case, &about, &response, wrong);
        if case.differs {
            let again = self.ask(case, proto);
            wrong.unless(again.text != response.text, format_args!("{about} twice {:?}", again.text));
        }
        for line in &case.logged {
            let app = format!("app=default/{} ", self.app);
            let is_ours = |logged: &str| logged.contains(&app) && logged.contains(line);
            wait_for(&format!("{about} {line:?} in the log"), 5, || {
                self.fleet.log(Process::Node).lines().any(is_ours).then_some(())
            });
        }
    }

    fn check_body(&self, case: &Case, about: &str, response: &Response, wrong: &mut Wrong) {
        if case.request.starts_with("HEAD ") {
            return; // curl takes none, and shows the head in its place
        }
        let text = &response.text;
        let right = match &case.body {
            Body::Text(wanted) => response.is_body(self.filled(wanted).as_bytes()),
            Body::Like { like: Like::Sent } => {
                let sent = case.send.as_ref().expect("a case that is like what was sent sends something");
                response.is_body(&sent.bytes())
            }
            Body::Like { like: Like::Hex } => {
                text.len() == 33 && text.trim_end().bytes().all(|digit| digit.is_ascii_hexdigit())
            }
            Body::Like { like: Like::Milliseconds } => {
                let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
                text.trim_end().parse::<u64>().is_ok_and(|ms| ms.abs_diff(now) < CLOCK_MS_APART_MAX)
            }
            Body::Like { like: Like::Anything } => true,
        };
        wrong.unless(right, format_args!("{about} a body of {} bytes: {text:?}", response.body_len));
    }
}

fn table() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/conformance/cases.toml");
    let text = fs::read_to_string(&path).expect("the table is in the repository");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Deploys a guest with what its cases need and asks all of them, by HTTP/1.1 and by HTTP/2.
fn ask_all(name: &str, wrong: &mut Wrong) {
    if !has_guest(name) {
        return skipped(&format!("{name}: not built (fixtures/build --all)"));
    }
    let fleet = Fleet::shared();
    let folder = fleet.scratch().join(name);
    let backend = Backend::start();
    let manifest = format!(
        "name = \"{name}\"\ncomponent = \"app.wasm\"\nkv_stores = [\"things\"]\nsecrets = [\"API_KEY\"]\noutbound = {:?}\n\
         [config]\ngreeting = \"hello\"\n[limits]\ncpu_ms = 2000\n",
        backend.hosts()
    );
    fs::create_dir_all(&folder).unwrap();
    fs::copy(guest(name), folder.join("app.wasm")).unwrap();
    fs::write(folder.join("skerry.toml"), manifest).unwrap();
    let folder = folder.display().to_string();
    fleet.skerry_fed(&["secrets", "set", name, "API_KEY", "--json"], b"hunter2").ok();
    fleet.skerry(&["deploy", &folder, "--json", "--timeout", "120s"]).ok();

    let asked = Asked { fleet: &fleet, app: name, backend: &backend };
    let table = table();
    for proto in [Proto::H1, Proto::H2] {
        for case in table.case.iter().filter(|case| !(case.unread && proto == Proto::H2)) {
            asked.check(case, proto, wrong);
        }
    }
}

// One after the other, because both use the store `things` of the same tenant.
#[test]
fn a_guest_of_each_sdk_answers_as_the_table_says() {
    let mut wrong = Wrong::default();
    for name in ["conformance-rust", "conformance-as"] {
        ask_all(name, &mut wrong);
    }
    assert!(wrong.0.is_empty(), "{} things differ from the table:\n{}", wrong.0.len(), wrong.0.join("\n"));
}

#[test]
fn no_two_cases_have_the_same_name() {
    let table = table();
    for (index, case) in table.case.iter().enumerate() {
        assert!(!table.case[..index].iter().any(|other| other.name == case.name), "{}", case.name);
    }
}
