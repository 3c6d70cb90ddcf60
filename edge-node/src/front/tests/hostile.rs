//! Requests that nobody sends in good faith, as raw bytes. Named after the attack.

use std::time::Duration;

use http::Request;

use super::{
    super::{Protocol, limits},
    get,
    harness::{Server, local},
};

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn host_confusion_on_h1() {
    local(async {
        let server = Server::start();
        for head in [
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.0\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n",
            "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n",
            "GET / HTTP/1.1\r\nHost: user@a.example\r\n",
            "GET / HTTP/1.1\r\nHost: a.example/x\r\n",
            "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "GET / HTTP/1.1\r\nHost: a.example:0\r\n",
            "GET https://b.example/ HTTP/1.1\r\nHost: a.example\r\n",
            "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n",
            "GET * HTTP/1.1\r\nHost: a.example\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n",
        ] {
            let answer = server.raw(&format!("{head}Connection: close\r\n\r\n")).await;
            assert_eq!(status(&answer), 400, "{head:?}: {answer}");
        }
        let other = server.raw("GET / HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\r\n").await;
        assert_eq!(status(&other), 421);
        let good = server
            .raw("GET https://a.example/ HTTP/1.1\r\nHost: A.Example.\r\nConnection: close\r\n\r\n")
            .await;
        assert_eq!(status(&good), 200);
    });
}

#[test]
fn framing_confusion_on_h1() {
    local(async {
        let server = Server::start();
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: x\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "X : y\r\n",
            "X: y\r\n folded\r\n",
        ] {
            let answer =
                server.raw(&format!("POST /read HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n1")).await;
            assert_eq!(status(&answer), 400, "{fields:?}: {answer}");
        }
        // A refused framing ends the connection: what follows is nobody's second request.
        let smuggled = "POST /read HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\
                        0\r\n\r\nGET /full HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let answer = server.raw(smuggled).await;
        assert!(answer.contains("connection: close") && !answer.contains("HTTP/1.1 200"), "{answer}");
        let plain = "POST /read HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\
                     Connection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        assert!(server.raw(plain).await.contains("read 1"));
        let old = "POST /read HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(status(&server.raw(old).await), 400);
        let bad_chunk = "POST /read HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        let answer = server.raw(bad_chunk).await;
        assert!(status(&answer) == 418 && answer.contains("ClientProtocol"), "{answer}");
    });
}

#[test]
fn host_confusion_on_h2() {
    local(async {
        let server = Server::start();
        let mut request = get("/");
        request.headers_mut().insert("host", "b.example".parse().unwrap());
        assert_eq!(server.ask(Protocol::H2, request).await.unwrap().status(), 400);
        let address = Request::get("https://127.0.0.1/").body(Default::default()).unwrap();
        assert_eq!(server.ask(Protocol::H2, address).await.unwrap().status(), 400);
    });
}

/// HEADERS with `:method GET`, `:scheme https`, `:path /echo` and the given fields.
fn h3_head(fields: &[&[u8]]) -> Vec<u8> {
    let mut section = vec![0, 0, 0xc0 | 20, 0xc0 | 23];
    section.extend_from_slice(b"\x51\x05/read");
    fields.iter().for_each(|field| section.extend_from_slice(field));
    let mut frame = vec![1, section.len() as u8];
    frame.extend_from_slice(&section);
    frame
}

const AUTHORITY_A: &[u8] = b"\x50\x09a.example";
const AUTHORITY_B: &[u8] = b"\x50\x09b.example";

/// Opens a request stream, writes the pieces with a pause between them, ends it, and reads to the end.
async fn h3_raw(connection: &quinn::Connection, pieces: &[&[u8]]) -> Result<Vec<u8>, quinn::ReadToEndError> {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    for piece in pieces {
        let _ = send.write_all(piece).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let _ = send.finish();
    receive.read_to_end(1 << 20).await
}

fn is_reset(answer: Result<Vec<u8>, quinn::ReadToEndError>) -> bool {
    matches!(answer, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(_))))
}

#[test]
fn two_authorities_on_h3_are_a_stream_error() {
    local(async {
        let server = Server::start();
        let connection = server.quic("a.example").await.unwrap();
        let one = h3_raw(&connection, &[&h3_head(&[AUTHORITY_A])]).await.unwrap();
        assert!(String::from_utf8_lossy(&one).contains("read 0"), "{one:?}");
        assert!(is_reset(h3_raw(&connection, &[&h3_head(&[AUTHORITY_A, AUTHORITY_A])]).await));
        assert!(is_reset(h3_raw(&connection, &[&h3_head(&[AUTHORITY_B, AUTHORITY_A])]).await));
        let again = h3_raw(&connection, &[&h3_head(&[AUTHORITY_A])]).await.unwrap();
        assert!(!again.is_empty(), "the connection lives");
    });
}

#[test]
fn no_authority_on_h3_is_a_stream_error() {
    local(async {
        let server = Server::start();
        let connection = server.quic("a.example").await.unwrap();
        let answer = h3_raw(&connection, &[&h3_head(&[])]).await;
        assert!(!matches!(&answer, Ok(bytes) if bytes.len() > 2), "{answer:?}");
    });
}

#[test]
fn a_body_cut_inside_a_frame_is_not_a_whole_body() {
    local(async {
        let server = Server::start();
        let connection = server.quic("a.example").await.unwrap();
        let head = h3_head(&[AUTHORITY_A]);
        let whole = h3_raw(&connection, &[&head, b"\x00\x0512345"]).await.unwrap();
        assert!(String::from_utf8_lossy(&whole).contains("read 5"));
        let cut = h3_raw(&connection, &[&head, b"\x00\x0a12345", b""]).await.unwrap();
        assert!(
            String::from_utf8_lossy(&cut).contains("ClientProtocol"),
            "{:?}",
            String::from_utf8_lossy(&cut)
        );
    });
}

#[test]
fn a_body_that_contradicts_its_content_length_on_h3_is_refused() {
    local(async {
        let server = Server::start();
        let connection = server.quic("a.example").await.unwrap();
        // Static entry 4 is `content-length`.
        let head = h3_head(&[AUTHORITY_A, b"\x54\x014"]);
        for (body, verdict) in
            [(&b"\x00\x041234"[..], "read 4"), (b"\x00\x03123", "shorter"), (b"\x00\x0512345", "longer")]
        {
            let answer = h3_raw(&connection, &[&head, body]).await.unwrap();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains(verdict), "{verdict}: {text}");
        }
    });
}

#[test]
fn an_endless_head_on_h3_is_refused_when_announced() {
    local(async {
        let server = Server::start();
        let connection = server.quic("a.example").await.unwrap();
        for kind in [1u8, 0x21] {
            let length = (limits::H3_FRAME_BYTES_MAX as u32 + 1) | 0x8000_0000;
            let mut announced = vec![kind];
            announced.extend_from_slice(&length.to_be_bytes());
            let answer = h3_raw(&connection, &[&announced, &[0; 1000]]).await;
            assert!(!matches!(&answer, Ok(bytes) if !bytes.is_empty()), "{answer:?}");
        }
        assert!(h3_raw(&connection, &[&h3_head(&[AUTHORITY_A])]).await.is_ok(), "the connection lives");
    });
}
