//! Against a socket that speaks just enough HTTP, because what matters here is what happens on a bad day.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use super::{call::is_loopback, *};
use crate::{credentials::Credentials, exit::Exit};

/// A status and a body; `None` hangs up.
type Answer = Option<(u16, &'static str)>;

/// Answers each connection with the next of `answers`; `None` hangs up. Gives back the requests' heads.
fn serve(answers: Vec<Answer>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line == "\r\n" || line.is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            heads.push(head.to_ascii_lowercase());
            if let Some((status, body)) = answer {
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\n{}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    if body.contains("come_back") { "retry-after: 1\r\n" } else { "" },
                    body.len()
                )
                .unwrap();
            }
        }
        heads
    });
    (url, server)
}

fn api(url: &str) -> Api {
    let credentials = Credentials {
        api: url.to_owned(),
        token: "skt_test".into(),
        tenant: Some("acme".parse().unwrap()),
        ca: None,
        cure: "start it".into(),
        fleet: None,
    };
    Api::new(credentials).unwrap()
}

const DEPLOYED: &str = r#"{"app":"hello","tenant":"acme","version":1,"rev":3,"lane":"wasi","hosts":[],"urls":[],
    "targets":[],"compile_ms":1,"publish_ms":1,"a_field_of_tomorrow":true}"#;

fn deploy(api: &Api) -> Result<Deployed> {
    let config = artifact::manifest::AppConfig::default();
    let body = NewVersion {
        wasm: Some(Digest::of(b"x")),
        assets: None,
        prepare: &Default::default(),
        config: &config,
    };
    api.deploy(&"hello".parse().unwrap(), &body, "key-1", Instant::now() + Duration::from_millis(2_500))
}

#[test]
fn a_deploy_is_retried_with_the_same_key_after_a_lost_connection_and_after_busy() {
    let busy = r#"{"error":{"code":"busy","message":"later"}}"#;
    let (url, server) = serve(vec![None, Some((503, busy)), Some((201, DEPLOYED))]);
    assert_eq!(deploy(&api(&url)).unwrap().rev, 3);
    let heads = server.join().unwrap();
    assert_eq!(heads.len(), 3);
    for head in heads {
        assert!(head.contains("idempotency-key: key-1"), "{head}");
        assert!(head.contains("authorization: bearer skt_test"), "{head}");
        assert!(head.contains("skerry-tenant: acme"), "{head}");
    }
}

#[test]
fn a_deploy_comes_back_when_it_is_told_to_until_its_time_is_over() {
    let busy = r#"{"error":{"code":"come_back","message":"all jobs are taken"}}"#;
    let (url, server) = serve(vec![Some((503, busy)), Some((201, DEPLOYED))]);
    let start = Instant::now();
    assert_eq!(deploy(&api(&url)).unwrap().rev, 3);
    assert!(start.elapsed() >= Duration::from_secs(1), "came back too soon");
    assert_eq!(server.join().unwrap().len(), 2);

    // After its time it makes the last of its short retries, and says why it gave up.
    let (url, server) = serve(vec![Some((503, busy)); 8]);
    let error = deploy(&api(&url)).unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    assert!(error.report().contains("all jobs are taken"), "{}", error.report());
    drop(server);
}

#[test]
fn where_a_program_waits_is_asked_and_may_be_nowhere() {
    let wasm = Digest::of(b"x");
    let answers = vec![
        Some((200, r#"{"waiting":2,"position":3}"#)),
        Some((200, r#"{"waiting":0}"#)),
        Some((404, r#"{"error":{"code":"no_such_route","message":"of an earlier release"}}"#)),
    ];
    let (url, server) = serve(answers);
    let api = api(&url);
    assert_eq!(api.place_in_queue(&wasm).unwrap(), Some(3));
    assert_eq!(api.place_in_queue(&wasm).unwrap(), None);
    api.place_in_queue(&wasm).unwrap_err();
    let heads = server.join().unwrap();
    assert!(heads[0].starts_with(&format!("get /v1/wasm/{wasm}/queue ")), "{}", heads[0]);
}

#[test]
fn what_is_not_idempotent_is_not_repeated_after_a_lost_connection() {
    let (url, server) = serve(vec![None]);
    let body = NewToken { tenant: None, operator: false, actions: vec!["read"], app: None, ttl_s: None };
    let error = api(&url).create_token(&body).unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
    assert_eq!(server.join().unwrap().len(), 1);
}

#[test]
fn nobody_there_is_unreachable_with_the_cure() {
    let url = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let error = api(&url).apps().unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
    let report = error.report();
    assert!(
        report.contains(&url) && report.contains("listing apps") && report.contains("start it"),
        "{report}"
    );
}

#[test]
fn refusals_carry_code_reason_and_mistakes() {
    let text = r#"{"error":{"code":"bad_config","message":"2 mistakes",
        "mistakes":[{"key":"limits.cpu_ms","message":"0 is out of range"}]}}"#;
    let (url, _server) = serve(vec![Some((422, text))]);
    let error = deploy(&api(&url)).unwrap_err();
    assert_eq!(error.exit(), Exit::Rejected);
    assert_eq!(error.report(), "error: deploying hello: 2 mistakes\n  limits.cpu_ms: 0 is out of range");
    assert_eq!(error.to_json()["error"]["code"], "bad_config");
}

#[test]
fn an_app_that_is_not_there_is_told_with_the_one_that_was_meant() {
    let refused = r#"{"error":{"code":"no_such_app","message":"this tenant has no app helo"}}"#;
    let apps = r#"[{"app":"shop","active_version":1},{"app":"hello","active_version":1}]"#;
    let (url, server) = serve(vec![Some((404, refused)), Some((200, apps))]);
    let error = api(&url).config(&"helo".parse().unwrap()).unwrap_err();
    assert!(
        error.report().ends_with("this tenant has no app helo; did you mean hello?"),
        "{}",
        error.report()
    );
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn refused_tokens_are_rejections_and_faults_are_failures() {
    let (url, _server) = serve(vec![Some((401, "")), Some((500, "")), Some((200, "no json"))]);
    let api = api(&url);
    assert_eq!(api.apps().unwrap_err().exit(), Exit::Rejected);
    assert_eq!(api.apps().unwrap_err().exit(), Exit::Failed);
    assert_eq!(api.apps().unwrap_err().exit(), Exit::Failed);
}

#[test]
fn a_token_id_cannot_leave_its_path() {
    let error = api("http://127.0.0.1:1").revoke_token("../tenants").unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
}

#[test]
fn loopback_is_recognised() {
    assert!(
        is_loopback("http://127.0.0.1:7400")
            && is_loopback("http://localhost/")
            && is_loopback("https://[::1]:1")
    );
    assert!(!is_loopback("https://api.example/127."));
}
