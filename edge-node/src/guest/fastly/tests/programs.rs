//! Programs built with the published `fastly` crate, against a backend on loopback: what SDKs make of the answers.

use http::Request;

use super::{get, origin::Origin, run_in};
use crate::{
    front::{BodyError, InboundBody},
    testing::{self, Seen},
};

/// Asks a program for a path. `None`, said loudly, when the guests were not built.
fn ask(origin: &Origin, program: &str, path: &str) -> Option<Seen> {
    ask_with(origin, program, get(path))
}

fn ask_with(origin: &Origin, program: &str, request: Request<InboundBody>) -> Option<Seen> {
    let path = request.uri().to_string();
    let program_ = testing::program(program)?;
    Some(
        run_in(&program_, origin.exchange(), request)
            .unwrap_or_else(|why| panic!("{program} {path}: {why:?}")),
    )
}

fn text(seen: &Seen) -> &str {
    std::str::from_utf8(&seen.body).unwrap()
}

/// Asks a program for paths; each answer has all of its texts.
fn says(program: &str, wanted: &[(&str, &[&str])]) {
    let origin = Origin::start();
    for (path, texts) in wanted {
        let Some(seen) = ask(&origin, program, path) else { return };
        let said = text(&seen);
        assert_eq!(seen.head.status, 200, "{program} {path}: {said}");
        for wanted in *texts {
            assert!(said.contains(wanted), "{program} {path}: no {wanted:?} in\n{said}");
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
    let origin = Origin::start();
    let Some(seen) = ask(&origin, "fastly-streaming", "/chunks") else { return };
    assert_eq!((seen.body.len(), seen.error), (8 * 16_384, None));
    let greeting = "hello from the origin";
    for (path, wanted) in
        [("/through", greeting.to_owned()), ("/append", format!("before\n{greeting}after\n"))]
    {
        let seen = ask(&origin, "fastly-streaming", path).unwrap();
        assert_eq!((text(&seen), seen.error), (wanted.as_str(), None), "{path}");
    }
    for path in ["/abandon", "/unfinished"] {
        let seen = ask(&origin, "fastly-streaming", path).unwrap();
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
    let origin = Origin::start();
    let target = origin.address.to_string();
    let ask = |path: &str, target: &str| {
        let mut request = get(path);
        request.headers_mut().insert("x-target", target.parse().unwrap());
        ask_with(&origin, "fastly-backends", request).map(|seen| text(&seen).to_owned())
    };
    let Some(said) = ask("/dynamic", &target) else { return };
    assert!(said.contains("GET /item with 0 bytes"), "{said}");
    let said = ask("/twice", &target).unwrap();
    assert_eq!(said, "first Ok(())\nsecond Err(NameInUse)\nas declared Err(NameInUse)\n");
    let said = ask("/refused", "127.0.0.1:9").unwrap();
    assert!(said.contains("DestinationNotFound"), "{said}");
    let said = ask("/settings", &target).unwrap();
    assert!(said.contains("connect 1.5s") && said.contains("dynamic true"), "{said}");
    let said = ask("/declared?name=origin", &target).unwrap();
    assert!(said.contains("host 127.0.0.1") && said.contains("ssl false"), "{said}");
    let said = ask("/healthy", &target).unwrap();
    assert!(said.contains("origin 0 Unknown\nmade 0 Unknown\nnowhere 2"), "{said}");
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
    let origin = Origin::start();
    let Some(seen) = ask(&origin, "fastly-older", "/env") else { return };
    assert_eq!((seen.head.status.as_u16(), text(&seen)), (202, "by env\n"));
}

#[test]
fn misuse_is_answered_by_a_status() {
    says(
        "fastly-misuse",
        &[
            ("/handles", &["invalid request close 3", "never given wait 3", "body as pending request 3"]),
            ("/pointers", &[]),
            ("/masks", &[]),
            ("/select", &[]),
        ],
    );
}
