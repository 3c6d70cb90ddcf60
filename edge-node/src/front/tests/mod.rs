//! The front over real loopback sockets: every behaviour asked over h1, h2 and h3 where it can be.

mod harness;
mod hostile;

use std::{future::poll_fn, sync::atomic::Ordering::Relaxed, time::Duration};

use bytes::Bytes;
use harness::{ALL, Server, local};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Protocol, limits};

fn get(path: &str) -> Request<Bytes> {
    Request::get(format!("https://a.example{path}")).body(Bytes::new()).unwrap()
}

fn noise(bytes: usize) -> Bytes {
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).unwrap();
    noise.into()
}

#[test]
fn a_mebibyte_is_echoed_unchanged() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let body = noise(1 << 20);
            let request = Request::post("https://a.example/echo").body(body.clone()).unwrap();
            let answer = server.ask(protocol, request).await.unwrap();
            assert_eq!(answer.status(), 200, "{protocol:?}");
            assert!(answer.body() == &body, "{protocol:?}: {} bytes", answer.body().len());
        }
    });
}

#[test]
fn a_handler_sees_what_carried_the_request() {
    local(async {
        let server = Server::start();
        for (protocol, seen) in [
            (Protocol::H1, "http/1.1 Some(\"a.example\") a.example"),
            (Protocol::H2, "h2 Some(\"a.example\") a.example"),
            (Protocol::H3, "h3 Some(\"a.example\") a.example"),
        ] {
            let answer = server.ask(protocol, get("/connection")).await.unwrap();
            assert_eq!(answer.body(), seen);
            let length =
                answer.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
            assert_eq!(length, Some(seen.len().to_string()), "{protocol:?}");
            assert!(answer.headers().contains_key("date"), "{protocol:?}");
        }
    });
}

#[test]
fn limits_are_the_same_on_every_protocol() {
    let with_fields = |count: usize, bytes: usize| {
        let mut request = get("/full");
        for index in 0..count {
            let name = format!("x-{index:04}").parse::<http::HeaderName>().unwrap();
            request.headers_mut().insert(name, "v".repeat(bytes).parse().unwrap());
        }
        request
    };
    let with_url = |bytes: usize| get(&format!("/full?{}", "q".repeat(bytes - 6)));
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let status = async |request| server.ask(protocol, request).await.unwrap().status().as_u16();
            assert_eq!(status(with_url(limits::URL_BYTES_MAX)).await, 200, "{protocol:?}");
            assert_eq!(status(with_url(limits::URL_BYTES_MAX + 1)).await, 414, "{protocol:?}");
            assert_eq!(status(with_url(limits::URL_BYTES_MAX + 4000)).await, 414, "{protocol:?}");
            let with_method = |bytes: usize| {
                let mut request = get("/full");
                *request.method_mut() = "M".repeat(bytes).parse().unwrap();
                request
            };
            assert_eq!(status(with_method(limits::METHOD_BYTES_MAX)).await, 200, "{protocol:?}");
            assert_eq!(status(with_method(limits::METHOD_BYTES_MAX + 1)).await, 501, "{protocol:?}");
            assert_eq!(status(with_fields(limits::HEADER_FIELDS_MAX - 1, 10)).await, 200, "{protocol:?}");
            assert_eq!(status(with_fields(limits::HEADER_FIELDS_MAX, 10)).await, 431, "{protocol:?}");
            assert_eq!(status(with_fields(64, 1018)).await, 200, "{protocol:?}: 64 KiB");
            assert_eq!(status(with_fields(64, 1019)).await, 431, "{protocol:?}: over 64 KiB");
            assert_eq!(status(with_fields(70, 1018)).await, 431, "{protocol:?}: well over");
        }
        // The greatest head that is allowed in every respect at once.
        for protocol in ALL {
            let mut request = with_fields(limits::HEADER_FIELDS_MAX - 1, 600);
            *request.uri_mut() = with_url(limits::URL_BYTES_MAX).uri().clone();
            assert_eq!(server.ask(protocol, request).await.unwrap().status(), 200, "{protocol:?}");
        }
    });
}

#[test]
fn an_aborted_response_is_seen_as_aborted() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let error = server.ask(protocol, get("/abort")).await.unwrap_err();
            assert!(error.starts_with("reading the body"), "{protocol:?}: {error}");
        }
    });
}

#[test]
fn a_response_of_another_length_than_announced_is_seen_as_aborted() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let whole = server.ask(protocol, get("/five/ab,cde")).await.unwrap();
            assert_eq!(whole.headers()["content-length"], "5", "{protocol:?}");
            assert_eq!(whole.body(), "abcde", "{protocol:?}");
            for pieces in ["ab", "ab,cdef", "abcdef", "abcde,f"] {
                let answer = server.ask(protocol, get(&format!("/five/{pieces}"))).await;
                // On h1 the announced length is where it ends.
                let ends = protocol == Protocol::H1 && pieces == "abcde,f";
                assert_eq!(answer.is_ok(), ends, "{protocol:?} {pieces}: {answer:?}");
            }
        }
    });
}

#[test]
fn a_panic_is_a_500_and_the_connection_lives() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            assert_eq!(client.send(get("/panic")).await.unwrap().status(), 500, "{protocol:?}");
            assert_eq!(client.send(get("/full")).await.unwrap().status(), 200, "{protocol:?}");
        }
    });
}

#[test]
fn head_has_the_length_and_no_body() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let mut request = get("/full");
            *request.method_mut() = Method::HEAD;
            let answer = server.ask(protocol, request).await.unwrap();
            assert_eq!(answer.headers()["content-length"], "4", "{protocol:?}");
            assert!(answer.body().is_empty(), "{protocol:?}");
        }
    });
}

#[test]
fn trailers_pass_both_ways() {
    local(async {
        let server = Server::start();
        for protocol in [Protocol::H2, Protocol::H3] {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            let trailers = client.echo_trailers().await.unwrap();
            assert_eq!(trailers["x-sum"], "1", "{protocol:?}");
        }
    });
}

#[test]
fn h3_is_announced_over_tls_and_nowhere_else() {
    local(async {
        let server = Server::start();
        let announced = format!("h3=\":{}\"; ma=86400", server.address.port());
        for (protocol, alt_svc) in [
            (Protocol::H1, Some(announced.as_str())),
            (Protocol::H2, Some(announced.as_str())),
            (Protocol::H3, None),
        ] {
            let answer = server.ask(protocol, get("/full")).await.unwrap();
            let seen = answer.headers().get("alt-svc").map(|value| value.to_str().unwrap());
            assert_eq!(seen, alt_svc, "{protocol:?}");
        }
        let plain =
            server.raw_plain("GET /full HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").await;
        assert!(plain.starts_with("HTTP/1.1 200") && !plain.contains("alt-svc"), "{plain}");
    });
}

#[test]
fn a_name_without_certificate_gets_no_handshake() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let error = server.connect(protocol, "unknown.example").await.err().unwrap();
            assert!(!error.contains("a.example"), "{protocol:?}: {error}");
            assert!(server.connect(protocol, "b.example").await.is_ok(), "{protocol:?}");
        }
        assert!(server.handshake_without_name().await.is_err());
    });
}

#[test]
fn another_host_on_the_same_connection_is_misdirected() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            let request = Request::get("https://b.example/connection").body(Bytes::new()).unwrap();
            assert_eq!(client.send(request).await.unwrap().status(), 421, "{protocol:?}");
        }
    });
}

#[test]
fn a_slow_reader_holds_back_the_producer() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            server.produced.store(0, Relaxed);
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            let unread = client.begin(get("/endless")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let produced = server.produced.load(Relaxed);
            // What two kernels' socket buffers, TLS and our own windows can hold; without back-pressure it
            // would be hundreds of megabytes.
            assert!(produced > 0 && produced < 24 << 20, "{protocol:?}: {produced} bytes");
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(server.produced.load(Relaxed) - produced < 1 << 20, "{protocol:?}: it stopped");
            drop(unread);
        }
    });
}

#[test]
fn a_drain_finishes_what_was_begun_and_takes_nothing_new() {
    local(async {
        let mut server = Server::start();
        for protocol in ALL {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            server.in_background(async move {
                let answer = client.send(get("/slow")).await.unwrap();
                assert_eq!(
                    (answer.status(), answer.body().as_ref()),
                    (StatusCode::OK, &b"slow"[..]),
                    "{protocol:?}"
                );
            });
        }
        let mut idle = server.connect(Protocol::H2, "a.example").await.unwrap();
        assert_eq!(idle.send(get("/full")).await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(50)).await;

        let began = std::time::Instant::now();
        server.drain.start(Duration::from_secs(20));
        server.background_done().await;
        server.stopped().await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "done long before the deadline: {:?}",
            began.elapsed()
        );
        for protocol in ALL {
            assert!(server.connect(protocol, "a.example").await.is_err(), "{protocol:?}");
        }
    });
}

#[test]
fn a_drain_ends_at_its_deadline() {
    local(async {
        let mut server = Server::start();
        for protocol in ALL {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            server.in_background(async move {
                assert!(client.send(get("/never")).await.is_err(), "{protocol:?}");
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.drain.start(Duration::from_millis(300));
        server.stopped().await;
        server.background_done().await;
    });
}

/// Reads a streamed body piece by piece while it is being made.
#[test]
fn a_body_streams_before_its_end() {
    local(async {
        let server = Server::start();
        for protocol in ALL {
            let mut client = server.connect(protocol, "a.example").await.unwrap();
            let mut response = client.begin(get("/endless")).await.unwrap();
            let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(!first.is_empty(), "{protocol:?}");
        }
    });
}

/// Answered at once, while the client still has everything to send.
#[test]
fn a_body_that_nobody_reads_does_not_end_its_stream_before_it_was_sent() {
    local(async {
        let server = Server::start();
        let stream = server.handshake("a.example", b"h2").await.unwrap();
        let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::post("https://a.example/").body(()).unwrap();
        let (answer, mut sent) = requests.send_request(request, false).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        assert_eq!(body.data().await.unwrap().unwrap(), "full");
        sent.send_data(Bytes::from_static(b"late"), false).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        sent.send_data(Bytes::from_static(b"later"), true).unwrap();
        let reset = tokio::time::timeout(Duration::from_millis(300), poll_fn(|cx| sent.poll_reset(cx))).await;
        assert!(!matches!(reset, Ok(Ok(_))), "reset: {reset:?}");
    });
}

#[test]
fn a_body_that_nobody_reads_leaves_an_h1_connection_as_it_was() {
    local(async {
        let server = Server::start();
        let mut stream = server.handshake("a.example", b"http/1.1").await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"full"), "{}", String::from_utf8_lossy(&answer[..read]));
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        stream.write_all(b"GET /read HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].ends_with(b"read 0"), "{}", String::from_utf8_lossy(&answer[..read]));
    });
}

/// Whoever expects `100 Continue` and gets an answer sends no body: what comes next would be taken for one.
#[test]
fn a_body_that_waits_for_a_word_is_not_asked_for_after_the_answer() {
    local(async {
        let server = Server::start();
        let mut stream = server.handshake("a.example", b"http/1.1").await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: a.example\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("full"), "{text}");
        let _ = stream.write_all(b"GET /read HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
        let more = stream.read(&mut answer).await.unwrap_or(0);
        assert_eq!(more, 0, "{}", String::from_utf8_lossy(&answer[..more]));
    });
}

/// Nobody may send for ever what nobody reads.
#[test]
fn what_nobody_reads_is_bounded() {
    local(async {
        let server = Server::start();
        let mut stream = server.handshake("a.example", b"http/1.1").await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1000000000\r\n\r\n")
            .await
            .unwrap();
        let piece = [b'x'; 64 * 1024];
        let sent = async {
            for sent in 0..1_000_000_000 / piece.len() {
                if stream.write_all(&piece).await.is_err() {
                    return sent * piece.len();
                }
            }
            1_000_000_000
        };
        // The socket buffers of both sides hold some.
        assert!(sent.await < 64 << 20);
    });
}
