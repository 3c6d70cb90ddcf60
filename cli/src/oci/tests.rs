//! Against sockets that answer what a registry should not: real ones are asked by `tests/tests/oci.rs`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::json;

use super::{layout::Descriptor, *};
use crate::exit::Exit;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// A status line's code, headers and a body.
type Answer = (u16, String, Vec<u8>);

/// A host that answers by the request line, and remembers what it was asked.
struct Host {
    authority: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn start(answer: impl Fn(&str, &str) -> Answer + Send + 'static) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let heard = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let _ = reader.read_exact(&mut vec![0; length]);
                heard.lock().unwrap().push(head.clone());
                let line = head.lines().next().unwrap_or_default();
                let (status, headers, body) = answer(line, &head.to_ascii_lowercase());
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(&body);
            }
        });
        Host { authority, asked }
    }

    fn image(&self) -> Reference {
        reference(&format!("oci://{}/acme/shop:1", self.authority)).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn manifest(layer: &Descriptor) -> Vec<u8> {
    json!({ "schemaVersion": 2, "config": layer, "layers": [layer] }).to_string().into_bytes()
}

fn program() -> Descriptor {
    Descriptor::of(layout::LAYER, WASM)
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    (200, String::new(), body.into())
}

fn led_to(place: String) -> Answer {
    (307, format!("location: {place}\r\n"), vec![])
}

fn pulled(host: &Host, logins: &Logins) -> Result<Pulled> {
    pull_as(&host.image(), logins, Plain::OnLoopback, &Progress::start("x"))
}

/// What was said, and how the process would end.
fn refused(host: &Host) -> (String, Exit) {
    let error = pulled(host, &Logins::only(None)).unwrap_err();
    (error.report(), error.exit())
}

/// A registry of this manifest and this blob.
fn registry(manifest: Vec<u8>, blob: Vec<u8>) -> Host {
    Host::start(
        move |line, _| if line.contains("/manifests/") { ok(manifest.clone()) } else { ok(blob.clone()) },
    )
}

#[test]
fn a_program_is_pulled_and_named_by_the_digest_of_its_manifest() {
    let host = registry(manifest(&program()), WASM.to_vec());
    let pulled = pulled(&host, &Logins::only(None)).unwrap();
    assert_eq!(pulled.wasm, WASM);
    assert_eq!(pulled.image, host.image().at(Digest::of(&manifest(&program()))));
    assert!(host.asked()[0].starts_with("GET /v2/acme/shop/manifests/1 HTTP/1.1"), "{:?}", host.asked());
}

#[test]
fn other_bytes_than_their_names_say_are_not_used() {
    let changed = registry(manifest(&program()), b"\0asm\x01\0\0\x01".to_vec());
    assert!(refused(&changed).0.contains("the registry sent other bytes"), "{}", refused(&changed).0);
    let longer = registry(manifest(&program()), vec![0; 100_000]);
    assert!(refused(&longer).0.contains("longer than the 8 bytes"), "{}", refused(&longer).0);
    let shorter = registry(manifest(&program()), WASM[..7].to_vec());
    assert!(refused(&shorter).0.contains("other bytes"), "{}", refused(&shorter).0);

    let host = registry(manifest(&program()), WASM.to_vec());
    let wanted = host.image().at(Digest::of(b"another manifest"));
    let error = pull_as(&wanted, &Logins::only(None), Plain::OnLoopback, &Progress::start("x")).unwrap_err();
    assert!(error.to_string().contains("other bytes") && error.exit() == Exit::Rejected, "{error}");
}

#[test]
fn what_would_be_too_large_is_refused_before_it_is_taken() {
    let mut huge = program();
    huge.size = WASM_BYTES_MAX + 1;
    let host = registry(manifest(&huge), WASM.to_vec());
    assert!(refused(&host).0.contains("one may have at most"), "{}", refused(&host).0);
    assert!(host.asked().iter().all(|asked| !asked.contains("/blobs/")), "it was not even asked for");
    let (said, exit) = refused(&registry(vec![b' '; 5 << 20], vec![]));
    assert!(said.contains("manifest has more than 4194304 bytes") && exit == Exit::Rejected, "{said}");
}

#[test]
fn a_layer_that_only_calls_itself_wasm_and_a_list_of_lists_are_refused() {
    let text = b"hello";
    let host = registry(manifest(&Descriptor::of(layout::LAYER, text)), text.to_vec());
    assert!(refused(&host).0.contains("begins with \"hell\""), "{}", refused(&host).0);
    let list =
        |of: &[u8]| json!({ "manifests": [Descriptor::of(layout::INDEX, of)] }).to_string().into_bytes();
    let (inner, outer) = (list(b"x"), list(&list(b"x")));
    let host = Host::start(move |line, _| match line.contains("/manifests/1 ") {
        true => ok(outer.clone()),
        false => ok(inner.clone()),
    });
    assert!(refused(&host).0.contains("a list of lists"), "{}", refused(&host).0);
}

#[test]
fn a_redirect_to_another_host_is_followed_by_nobodys_name() {
    let storage = Host::start(|_, _| ok(WASM));
    let at = format!("http://{}/bucket/blob?signed=1", storage.authority);
    let host = Host::start(move |line, head| {
        match (head.contains("authorization: basic"), line.contains("/blobs/")) {
            (false, _) => (401, "www-authenticate: Basic realm=\"x\"\r\n".into(), vec![]),
            (true, true) => led_to(at.clone()),
            (true, false) => ok(manifest(&program())),
        }
    });
    assert_eq!(pulled(&host, &Logins::only(Some(("me", "word")))).unwrap().wasm, WASM);
    assert_eq!(storage.asked().len(), 1);
    assert!(!storage.asked()[0].to_ascii_lowercase().contains("authorization"), "{:?}", storage.asked());
}

#[test]
fn a_redirect_that_asks_for_a_login_gets_none_and_one_without_end_ends() {
    let thief = Host::start(|_, _| (401, "www-authenticate: Basic realm=\"x\"\r\n".into(), vec![]));
    let at = format!("http://{}/", thief.authority);
    let host = Host::start(move |line, head| {
        match (head.contains("authorization: basic"), line.contains("/blobs/")) {
            (false, _) => (401, "www-authenticate: Basic realm=\"x\"\r\n".into(), vec![]),
            (true, true) => led_to(at.clone()),
            (true, false) => ok(manifest(&program())),
        }
    });
    assert!(pulled(&host, &Logins::only(Some(("me", "word")))).is_err());
    assert!(thief.asked().iter().all(|asked| !asked.to_ascii_lowercase().contains("authorization")));

    let round = Host::start(|line, _| match line.contains("/blobs/") {
        true => led_to("/v2/acme/shop/blobs/again".into()),
        false => ok(manifest(&program())),
    });
    let (said, _) = refused(&round);
    assert!(said.contains("307"), "{said}");
    assert!(round.asked().len() < 10);
    for place in ["http://10.0.0.1/x", "file:///etc/passwd", "//other/x", "https://me@127.0.0.1/x"] {
        let host = Host::start(move |line, _| match line.contains("/blobs/") {
            true => led_to(place.into()),
            false => ok(manifest(&program())),
        });
        let (said, exit) = refused(&host);
        assert!(said.contains("which is not asked") && exit == Exit::Failed, "{place}: {said}");
    }
}

#[test]
fn a_token_is_had_where_the_registry_says_and_shown_to_it_alone() {
    let tokens = Host::start(|_, head| match head.contains("authorization: basic bwu6d29yza==") {
        true => ok(r#"{"access_token":"t0ken"}"#),
        false => (401, String::new(), vec![]),
    });
    let realm = format!("http://{}/token", tokens.authority);
    let host = Host::start(move |line, head| {
        match (head.contains("authorization: bearer t0ken"), line.contains("/blobs/")) {
            (false, _) => {
                (401, format!("www-authenticate: Bearer realm=\"{realm}\",service=\"a b\"\r\n"), vec![])
            }
            (true, true) => ok(WASM),
            (true, false) => ok(manifest(&program())),
        }
    });
    assert_eq!(pulled(&host, &Logins::only(Some(("me", "word")))).unwrap().wasm, WASM);
    assert!(
        tokens.asked()[0].starts_with("GET /token?scope=repository%3Aacme%2Fshop%3Apull&service=a%20b HTTP"),
        "{:?}",
        tokens.asked()
    );
    let (said, exit) = refused(&host);
    assert!(said.contains("docker login") && exit == Exit::Rejected, "{said}");
    let far =
        Host::start(|_, _| (401, "www-authenticate: Bearer realm=\"http://10.0.0.1/t\"\r\n".into(), vec![]));
    assert!(refused(&far).0.contains("not to be trusted"), "{}", refused(&far).0);
}

#[test]
fn refusals_and_silence_are_told_apart_and_nothing_of_them_moves_a_cursor() {
    let errors = json!({ "errors": [{ "code": "DENIED", "message": "no \u{1b}[2J" }] }).to_string();
    let says = |status: u16, body: &str| {
        let body = body.to_owned();
        refused(&Host::start(move |_, _| (status, String::new(), body.clone().into_bytes())))
    };
    let (said, exit) = says(403, &errors);
    assert!(said.contains("does not allow it: DENIED no \\u{1b}[2J;") && exit == Exit::Rejected, "{said:?}");
    assert_eq!(says(404, "").1, Exit::Rejected);
    assert!(says(404, "").0.contains("is the tag right?"));
    assert_eq!(
        (says(500, "").1, says(429, "").1, says(418, "").1),
        (Exit::Failed, Exit::Failed, Exit::Rejected)
    );
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = reference(&format!("oci://{gone}/shop:1")).unwrap();
    let error = pull_as(&nobody, &Logins::only(None), Plain::OnLoopback, &Progress::start("x")).unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable, "{error}");
    assert!(error.report().contains(&format!("cannot reach http://{gone}")), "{}", error.report());
}

#[test]
fn a_push_goes_to_a_tag_and_its_upload_to_nobody_who_is_not_asked() {
    let pushed = |reference: &Reference| {
        push_as(reference, WASM, "x".into(), &Logins::only(None), Plain::OnLoopback, &Progress::start("x"))
    };
    let host = Host::start(|line, _| match line.split(' ').next() {
        Some("HEAD") => (404, String::new(), vec![]),
        Some("POST") => (202, "location: http://10.0.0.1/upload\r\n".into(), vec![]),
        _ => (201, String::new(), vec![]),
    });
    let error = pushed(&host.image().at(Digest::ZERO)).unwrap_err();
    assert!(error.exit() == Exit::Usage && host.asked().is_empty(), "{error}");
    let error = pushed(&host.image()).unwrap_err();
    assert!(error.to_string().contains("which is not asked"), "{error}");
}
