//! Against a socket that speaks just enough HTTP: what matters is what happens when it stops.

use std::{cell::Cell, io::Write as _, net::TcpListener};

use super::*;
use crate::credentials::Credentials;

/// Answers each connection with the next of `answers`, a status and lines, and closes it.
fn serve(answers: Vec<(u16, String)>) -> (Api, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(lines.next().unwrap().unwrap());
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
        asked
    });
    let credentials = Credentials {
        api,
        token: "skt_x".into(),
        tenant: None,
        ca: None,
        cure: "start it".into(),
        fleet: None,
    };
    (Api::new(credentials).unwrap(), server)
}

fn said(seq: u64, time_ms: u64, text: &str) -> String {
    format!(
        "{{\"kind\":\"stdout\",\"time_ms\":{time_ms},\"node\":\"fra1-1\",\"pop\":\"fra1\",\"version\":1,\
         \"request\":\"0a\",\"run\":7,\"seq\":{seq},\"text\":\"{text}\"}}\n"
    )
}

const AGAIN: &str = "{\"kind\":\"again\",\"time_ms\":1}\n";
const GONE: &str = r#"{"error":{"code":"no_such_app","message":"gone"}}"#;

/// Listens until `lines` lines have come; gives what was said, notices in brackets.
fn heard(api: &Api, follow: bool, lines: usize) -> (Vec<String>, Result<()>) {
    let (mut all, count) = (Vec::new(), Cell::new(0));
    let wanted = Wanted { follow, past: Some(Duration::from_secs(60)) };
    let app = "shop".parse().unwrap();
    let ended = listen(api, &app, wanted, &|| count.get() >= lines, &mut |heard| {
        match heard {
            Heard::Notice(notice) => all.push(format!("[{notice}]")),
            Heard::Line(Line { said: Said::Stdout { text }, .. }) => {
                count.set(count.get() + 1);
                all.push(text.clone());
            }
            Heard::Line(Line { said: Said::Listening { .. }, .. }) => {}
            Heard::Line(other) => all.push(format!("{:?}", other.said)),
        }
        Ok(())
    });
    (all, ended)
}

#[test]
fn a_lost_connection_is_said_and_what_was_seen_is_not_shown_again() {
    let (api, server) = serve(vec![
        (200, format!("{{\"kind\":\"listening\",\"nodes\":1}}\n\n{}{AGAIN}", said(0, 1, "a"))),
        (200, format!("{}{}{{\"kind\":\"std", said(0, 1, "a"), said(1, 2, "b"))),
        (500, String::new()),
        (200, format!("{}{}", said(1, 2, "b"), said(2, 3, "c"))),
    ]);
    let (all, ended) = heard(&api, true, 3);
    ended.unwrap();
    let lost = "[the connection to the control plane was lost; listening again]";
    assert_eq!(all, ["a", "b", lost, "c"], "an end that was announced is nothing to speak of");
    let asked = server.join().unwrap();
    assert!(asked[0].contains("/v1/apps/shop/logs?follow=true&past_ms=60000 "), "{asked:?}");
    let past: Vec<u64> = asked
        .iter()
        .map(|line| line.split(['=', ' ']).filter_map(|part| part.parse().ok()).next().unwrap())
        .collect();
    assert!(past.is_sorted() && past[3] > 60_000, "what was past at first is so still: {past:?}");
}

#[test]
fn what_nobody_told_between_two_streams_is_said_where_it_is_missing() {
    let from = |seq: u64| {
        format!(
            "{{\"kind\":\"from\",\"time_ms\":1,\"node\":\"fra1-1\",\"pop\":\"fra1\",\"run\":7,\"seq\":{seq},\"since\":{seq}}}\n"
        )
    };
    let (api, _server) = serve(vec![
        (200, from(5) + &said(5, 1, "a") + AGAIN),
        (200, from(5) + &said(5, 1, "a") + AGAIN),
        (200, from(9) + &said(9, 2, "b")),
    ]);
    let (all, ended) = heard(&api, true, 2);
    ended.unwrap();
    let all: Vec<_> = all.iter().filter(|line| !line.starts_with("From")).cloned().collect();
    assert_eq!(all, ["a", "Dropped { lines: 3, by: \"away\" }", "b"]);
}

#[test]
fn a_control_plane_that_ends_a_stream_and_is_away_then_is_said_once() {
    let (api, server) = serve(vec![
        (200, said(0, 1, "a") + AGAIN),
        (500, String::new()),
        (500, String::new()),
        (200, said(1, 2, "b")),
    ]);
    let (all, ended) = heard(&api, true, 2);
    ended.unwrap();
    assert_eq!(all, ["a", "[the connection to the control plane was lost; listening again]", "b"]);
    server.join().unwrap();
}

#[test]
fn who_had_a_place_waits_for_one() {
    let full = r#"{"error":{"code":"too_many_listeners","message":"full"}}"#;
    let (api, _server) =
        serve(vec![(200, said(0, 1, "a") + AGAIN), (429, full.into()), (200, said(1, 2, "b"))]);
    let (all, ended) = heard(&api, true, 2);
    ended.unwrap();
    assert_eq!((&all[0], &all[2]), (&"a".into(), &"b".into()), "{all:?}");
    let (api, _server) = serve(vec![(429, full.into())]);
    assert_eq!(heard(&api, true, 9).1.unwrap_err().exit().code(), 3);
}

#[test]
fn an_app_that_is_gone_ends_listening_with_the_refusal() {
    let (api, _server) = serve(vec![(200, said(0, 1, "a") + AGAIN), (404, GONE.into())]);
    let (all, ended) = heard(&api, true, 9);
    assert_eq!(
        (all, ended.unwrap_err().report()),
        (vec!["a".into()], "error: listening to shop: gone".into())
    );
    let (api, _server) = serve(vec![(404, GONE.into())]);
    assert_eq!(heard(&api, true, 9).1.unwrap_err().exit().code(), 3);
}

#[test]
fn what_is_remembered_is_put_in_order_and_who_did_not_answer_is_named() {
    let end = r#"{"kind":"end","time_ms":9,"unheard":[{"node":"ams1-1","pop":"ams1"}]}"#;
    let (api, _server) =
        serve(vec![(200, format!("{}{}{}{end}\n", said(0, 5, "c"), said(1, 4, "b"), said(2, 3, "a")))]);
    let (all, ended) = heard(&api, false, usize::MAX);
    ended.unwrap();
    let missing = "[node ams1-1 in ams1 did not answer in time: what it remembers is missing]";
    assert_eq!(all, ["a", "b", "c", missing]);

    let (api, _server) = serve(vec![(200, "{\"kind\":\"end\",\"unheard\":[]}\n".into())]);
    let (all, _) = heard(&api, false, usize::MAX);
    assert!(all.len() == 1 && all[0].contains("skerry logs shop -f"), "{all:?}");

    let (api, _server) = serve(vec![(200, said(0, 1, "a"))]);
    let error = heard(&api, false, usize::MAX).1.unwrap_err();
    assert!(error.report().contains("broke off"), "{}", error.report());
}

#[test]
fn a_line_without_an_end_or_with_no_meaning_ends_the_stream() {
    for body in [vec![b'x'; 300_000], b"no json\n".to_vec(), b"\xff\n".to_vec()] {
        let (tell, lines) = mpsc::sync_channel(1);
        read(&body[..], &tell);
        drop(tell);
        assert_eq!(lines.recv().ok(), None);
    }
}
