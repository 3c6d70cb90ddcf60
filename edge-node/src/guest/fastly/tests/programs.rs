//! Programs built with the published `fastly` crate, against a backend on loopback: what SDKs make of the answers.

use bytes::Bytes;
use http::Request;

use super::{get, origin::Origin, run_in};
use crate::{
    front::{BodyError, InboundBody},
    guest::Program,
    host::tape::Tape,
    testing::{self, Seen},
};

/// A program and what it talks to.
struct Running {
    name: &'static str,
    program: Program,
    origin: Origin,
}

impl Running {
    /// `None`, said loudly, when the guests were not built.
    fn start(name: &'static str) -> Option<Running> {
        Some(Running { name, program: testing::program(name)?, origin: Origin::start() })
    }

    fn ask(&self, request: Request<InboundBody>) -> Seen {
        let path = request.uri().to_string();
        let seen = run_in(&self.program, self.origin.exchange(), request);
        seen.unwrap_or_else(|why| panic!("{} {path}: {why:?}", self.name))
    }
}

fn text(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.body).unwrap()
}

/// Asks a program for paths; each answer has all of its texts.
fn says(name: &'static str, wanted: &[(&str, &[&str])]) {
    let Some(running) = Running::start(name) else { return };
    for (path, texts) in wanted {
        let seen = running.ask(get(path));
        let said = text(&seen);
        assert_eq!((seen.head.status.as_u16(), seen.error), (200, None), "{name} {path}: {said}");
        for wanted in *texts {
            assert!(said.contains(wanted), "{name} {path}: no {wanted:?} in\n{said}");
        }
    }
}

#[test]
fn a_program_forwards_its_client_and_hears_of_failures() {
    says(
        "fastly-send",
        &[
            ("/forward/some/path", &["GET /some/path with 0 bytes"]),
            ("/new", &["POST /new with 7 bytes"]),
            ("/error?path=/&backend=nobody", &["nobody", "ConnectionRefused"]),
            ("/error?path=/&backend=nowhere", &["nowhere", "DestinationNotFound"]),
            ("/error?path=/gone", &["cause"]),
            ("/version", &["HTTP/1.1", "backend origin", "from backend true", "address true"]),
            ("/methods", &["GET 200", "PURGE 200", "PURGE /methods"]),
        ],
    );
}

#[test]
fn a_program_goes_on_while_its_requests_are_under_way() {
    says(
        "fastly-async",
        &[
            ("/wait", &["GET /a with", "GET /b with"]),
            ("/select", &["GET /a with", "GET /b with", "origin", "other"]),
            ("/poll", &["GET /a with"]),
            ("/streaming", &["POST /streamed with 131078 bytes"]),
            ("/abandon", &["no answer"]),
            ("/dropped", &["dropped"]),
            ("/hand-over", &["GET /a with"]),
            ("/unknown", &["nowhere"]),
        ],
    );
}

#[test]
fn a_program_streams_what_it_makes_and_what_it_fetches() {
    let Some(running) = Running::start("fastly-streaming") else { return };
    let seen = running.ask(get("/chunks"));
    assert_eq!((seen.body.len(), seen.error), (8 * 16_384, None));
    let greeting = "hello from the origin";
    for (path, wanted) in
        [("/through", greeting.to_owned()), ("/append", format!("before\n{greeting}after\n"))]
    {
        let seen = running.ask(get(path));
        assert_eq!((text(&seen), seen.error), (wanted.as_str(), None), "{path}");
    }
    for path in ["/abandon", "/unfinished"] {
        let seen = running.ask(get(path));
        assert_eq!((text(&seen), seen.error), ("half of it\n", Some(BodyError::GuestAborted)), "{path}");
    }
}

#[test]
fn a_program_reads_its_stores() {
    says(
        "fastly-stores",
        &[
            ("/config?key=greeting", &[r#"Ok(Some("hello"))"#]),
            ("/config?key=other", &["Ok(None)"]),
            ("/config?key=x&store=nowhere", &["not open"]),
            ("/dictionary?key=greeting", &[r#"Ok(Some("hello"))"#]),
            ("/secret?key=token", &["secret of the vault"]),
            ("/secret?key=x&store=nowhere", &["not open", "could not be found"]),
        ],
    );
}

#[test]
fn a_program_keeps_what_it_wrote() {
    says(
        "fastly-kv",
        &[
            (
                "/script",
                &[
                    "add Ok(())",
                    "add again Err(ItemPreconditionFailed)",
                    r#"lookup "one" metadata Some("m") has generation true"#,
                    r#"lookup "<one>""#,
                    "match Ok(())\nstale match Err(ItemPreconditionFailed)",
                    r#"list ["script/list/0", "script/list/1"]"#,
                    r#"list ["script/list/4"]"#,
                    "delete Ok(())",
                    "delete again Ok(())\nlookup ItemNotFound",
                    r#"key "" Err(ItemBadRequest)"#,
                ],
            ),
            ("/async", &["ItemNotFound", r#""1" metadata None"#]),
            ("/old", &["lookup 0", "absent 10", "insert_async 0", "gone 10", "unknown 2", "invalid 3"]),
            ("/unknown", &["StoreNotFound"]),
        ],
    );
}

#[test]
fn a_program_makes_its_own_backends() {
    let Some(running) = Running::start("fastly-backends") else { return };
    let target = running.origin.address.to_string();
    let ask = |path: &str, target: &str| {
        let mut request = get(path);
        request.headers_mut().insert("x-target", target.parse().unwrap());
        text(&running.ask(request)).to_owned()
    };
    let said = ask("/dynamic", &target);
    assert!(said.contains("GET /item with 0 bytes"), "{said}");
    let said = ask("/twice", &target);
    assert_eq!(said, "first Ok(())\nsecond Err(NameInUse)\nas declared Err(NameInUse)\n");
    let said = ask("/refused", "127.0.0.1:9");
    assert!(said.contains("DestinationNotFound"), "{said}");
    let said = ask("/settings", &target);
    assert!(said.contains("connect 1.5s") && said.contains("dynamic true"), "{said}");
    let said = ask("/declared?name=origin", &target);
    assert!(said.contains("host 127.0.0.1") && said.contains("ssl false"), "{said}");
    let said = ask("/healthy", &target);
    assert!(said.contains("origin 0 Unknown\nmade 0 Unknown\nnowhere 2"), "{said}");
}

#[test]
fn a_program_says_how_its_backends_are_spoken_to() {
    let Some(running) = Running::start("fastly-kept") else { return };
    let ask = |path: &str| {
        let mut request = get(path);
        request.headers_mut().insert("x-target", running.origin.address.to_string().parse().unwrap());
        text(&running.ask(request)).to_owned()
    };
    let said = ask("/kept");
    assert!(said.starts_with("http 7s tcp 1s\n"), "{said}");
    assert_eq!(said.matches("GET /item with 0 bytes").count(), 2, "{said}");
    assert_eq!(running.origin.connections(), 2, "none was kept");
    let said = ask("/tls");
    assert!(said.contains("TlsConfigurationError"), "its certificate is none: {said}");
    assert_eq!(ask("/old"), "not made: Disallowed\n");
}

#[test]
fn programs_of_older_sdks_run() {
    says(
        "fastly-older",
        &[(
            "/calls",
            &["send 0 status 0 200", "wait 0 ", "poll 0 1 ", "select 0 of two true", "waited for twice 3"],
        )],
    );
    let Some(running) = Running::start("fastly-older") else { return };
    let seen = running.ask(get("/env"));
    assert_eq!((seen.head.status.as_u16(), text(&seen)), (202, "by env\n"));
}

#[test]
fn misuse_is_answered_by_a_status() {
    says(
        "fastly-misuse",
        &[
            ("/handles", &["invalid request close 3", "never given wait 3", "body as pending request 3"]),
            (
                "/pointers",
                &["new 2\nread 2\nwrite 2\nwrite long 2\nappend 2\n", "log 2\nselect 2\nover the end 2\n"],
            ),
            ("/masks", &["open 0\nkv insert 2\nkv list 2\ndynamic backend 2\n"]),
            (
                "/select",
                &["nothing 2\nnothing for 10 ms 0 4294967295\ntwo bodies 0 0\none invalid 3\nis_ready 0 1\n"],
            ),
        ],
    );
}

#[test]
fn a_program_puts_bodies_together() {
    says(
        "fastly-body",
        &[
            ("/put-together", &["front\nmiddle\nback\nother\nlast\n"]),
            ("/append", &["before\nafter\n"]),
            (
                "/length",
                &["request Some(0)\nmade Some(5)\nempty Some(0)\njoined Some(8)\nafter a read true\n"],
            ),
            (
                "/raw",
                &[
                    "write Ok(10)\nread Ok([48, 49, 50, 51])\nread nothing Ok([])\n",
                    "read Ok([52, 53, 54, 55, 56, 57])\nread at the end Ok([])\nappend itself 3\n",
                    "close again 3\nread closed Err(3)\nwrite closed Err(3)\n",
                ],
            ),
        ],
    );
    let Some(running) = Running::start("fastly-body") else { return };
    let ask = |path| {
        let mut request = get(path);
        *request.body_mut() = InboundBody::Full(Bytes::from_static(b"one\ntwo\n"));
        text(&running.ask(request)).to_owned()
    };
    assert_eq!(ask("/append"), "before\none\ntwo\nafter\n");
    assert_eq!(ask("/prefix"), "prefix \"one\\n\"\nagain \"one\\n\"\nwhole \"one\\ntwo\\n\"\n");
    assert_eq!(ask("/trailers"), "before the end Err(\"refused\")\nread Ok(8)\nafter the end []\n");
    assert_eq!(ask("/lines"), "Ok(\"one\")\nOk(\"two\")\n");
}

#[test]
fn a_program_goes_through_fields() {
    says(
        "fastly-fields",
        &[
            (
                "/names?buffer=16",
                &["cursor 0 status 0 written 15 next 2 ", "cursor 2 status 0 written 4 next -1 "],
            ),
            ("/values?buffer=16", &["cursor 0 status 0 written 12 next -1 "]),
            (
                "/too-small",
                &["cursor 0 status 4 written 7 next -2 ", "value 4 needs 3\n", "uri 4 needs 26\n"],
            ),
            (
                "/change",
                &["set without an end 2\nremove 0\n", "remove again 2\nvalue of none 2 written 99\n"],
            ),
            (
                "/invalid",
                &[
                    "name \"\" 7\n",
                    "name \":path\" 7\n",
                    "handle 3\nhandle of nothing 3\n",
                    "method \"M-SEARCH\" 0\n",
                    "uri \"not a url\" 7\n",
                ],
            ),
            ("/response", &["set 99 12\nset 100 0\n", "set 999 0\nset 1000 12\n", "close 0\nclosed 3\n"]),
            ("/downstream", &["cursor 0 status 0 written 0 next -1"]),
        ],
    );
}

#[test]
fn a_program_answers_as_it_may() {
    says(
        "fastly-response",
        &[
            ("/set-cookie", &["cookies\n"]),
            ("/twice", &["first\n"]),
            ("/after", &["answered\n"]),
            ("/panic-after", &["answered\n"]),
            ("/exit-after", &["answered\n"]),
            ("/early", &["early\n"]),
        ],
    );
    let Some(running) = Running::start("fastly-response") else { return };
    let seen = running.ask(get("/set-cookie"));
    assert_eq!(
        seen.head.headers.get_all("set-cookie").iter().collect::<Vec<_>>(),
        ["a=1; Path=/", "b=2; Path=/"]
    );
    let seen = running.ask(get("/status?code=404"));
    assert_eq!((seen.head.status.as_u16(), text(&seen)), (404, "body\n"));
    let seen = running.ask(get("/redirect"));
    assert_eq!(
        (seen.head.status.as_u16(), &seen.head.headers["location"]),
        (303, &"https://elsewhere.example/".parse().unwrap())
    );
    assert!(running.ask(get("/big")).body.iter().eq([b'.'; 1 << 20].iter()));
    for path in ["/framing", "/length"] {
        let seen = running.ask(get(path));
        assert_eq!(
            (text(&seen), &seen.head.headers["content-length"]),
            ("12345\n", &"6".parse().unwrap()),
            "{path}"
        );
    }
}

#[test]
fn a_program_logs_looks_up_and_knows_its_client_and_itself() {
    says(
        "fastly-log",
        &[
            ("/", &["logged\n"]),
            ("/much", &["logged\n"]),
            (
                "/names",
                &[
                    "\"access\" Ok(\"taken\")\n\"\" Err(MalformedEndpointName)\n",
                    "\"xxxxxxxxxxxxxxxx\" Err(NameTooLarge)\n",
                ],
            ),
        ],
    );
    says("fastly-lookups", &[("/geo?ip=192.0.2.1", &["None\n"]), ("/device?ua=x", &["None\n"])]);
    says(
        "fastly-client",
        &[(
            "/",
            &[
                "client Some(127.0.0.1)\nserver Some(127.0.0.1)\nversion HTTP/1.1\nheader count Some(1)\n",
                "has request id true\n",
                "tls protocol Ok(None)\ntls cipher Ok(None)\ntls server name None\ntls hello false\n",
                "key false\n",
            ],
        )],
    );
    says(
        "fastly-runtime",
        &[(
            "/",
            &[
                "vcpu read true\n",
                "time went on true\nthis decade true\nheap true\nproducts true\nservice test\nversion 1\n",
                "staging false\n",
            ],
        )],
    );
}

#[test]
fn a_javascript_program_runs_on_its_event_loop() {
    let stream = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|letter| letter.repeat(16_384)).concat();
    says(
        "fastly-js",
        &[
            ("/hello", &["Hello from js-compute"]),
            ("/proxy", &["GET /proxy with 0 bytes"]),
            ("/both", &["200 GET /a with 0 bytes", "200 POST /b with 19 bytes"]),
            (
                "/stores",
                &[
                    "config hello",
                    "config absent null",
                    "secret secret of the vault",
                    "kv kept",
                    "deleted true",
                ],
            ),
            ("/stream", &[&stream]),
            ("/log", &["true 127.0.0.1"]),
        ],
    );
}

/// What passes the door is all a program learns: told the same again where there is no network, no store and no clock
/// of then, it answers the same.
#[test]
fn a_replay_without_a_world_answers_the_same() {
    let Some(running) = Running::start("fastly-seam") else { return };
    let request = || {
        let request = Request::post("/").header("host", "test.localhost");
        request.body(InboundBody::Full(Bytes::from(vec![b'x'; 10_000]))).unwrap()
    };
    let tape = Tape::record();
    let mut live = running.origin.exchange();
    live.door = tape.door();
    let seen = run_in(&running.program, live, request()).unwrap();
    assert!(
        text(&seen).contains("GET /a with 0 bytes") && text(&seen).contains("kv seam"),
        "{}",
        text(&seen)
    );

    let Running { program, origin, .. } = running;
    drop(origin);
    let again = Tape::play(tape.recording());
    let mut replay = testing::exchange(super::config());
    replay.door = again.door();
    let replayed = run_in(&program, replay, request()).unwrap();
    assert_eq!(text(&replayed), text(&seen));
    assert_eq!(again.recording(), tape.recording());
}
