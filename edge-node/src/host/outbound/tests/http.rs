//! What a well-behaved HTTP/1.1 backend and a guest see of each other.

use std::{sync::atomic::Ordering::SeqCst, thread};

use ::http::{HeaderMap, Method, Version};

use super::{
    super::{Peer, limits},
    servers::{Server, Then},
    *,
};
use crate::limits::Limit;

#[test]
fn a_response_comes_back_with_head_body_and_peer() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let seen = get(&mut exchange, "/hello").await.unwrap();
        assert_eq!(
            (seen.head.status.as_u16(), seen.head.version, seen.text()),
            (200, Version::HTTP_11, "hello")
        );
        assert_eq!(seen.head.extensions.get(), Some(&Peer(server.address)));
        assert_eq!(seen.head.headers["content-length"], "5");
        assert_eq!(get(&mut exchange, "/nothing").await.unwrap().text(), "");
        let head = Request::head("/hello").body(RequestBody::Empty).unwrap();
        assert_eq!(ask(&mut exchange, head).await.unwrap().text(), "");
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_body_of_no_bytes_has_its_length_where_servers_want_one() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let stream =
            || RequestBody::Stream(http_body_util::Empty::new().map_err(|n| match n {}).boxed_unsync());
        for (method, announced, body, expected) in [
            (Method::POST, false, RequestBody::Empty, true),
            (Method::PUT, false, RequestBody::Full(Bytes::new()), true),
            (Method::PATCH, false, stream(), true),
            (Method::DELETE, true, RequestBody::Empty, true),
            (Method::DELETE, false, RequestBody::Empty, false),
            (Method::GET, false, RequestBody::Empty, false),
        ] {
            let shown = format!("{method} {announced}");
            let mut request = Request::builder().method(method).uri("/seen");
            if announced {
                request = request.header("content-length", "0");
            }
            let seen = ask(&mut exchange, request.body(body).unwrap()).await.unwrap();
            assert_eq!(seen.text().contains("content-length: 0"), expected, "{shown}: {}", seen.text());
        }
    });
}

#[test]
fn a_backend_sees_the_guests_head_with_our_fields() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let request = Request::post("https://shop.example/seen?x=1")
            .header("x-own", "1")
            .header("transfer-encoding", "gzip")
            .header("cdn-loop", "hidden")
            .body(RequestBody::Full(Bytes::from_static(b"abc")))
            .unwrap();
        let seen = ask(&mut exchange, request).await.unwrap();
        let lines: Vec<&str> =
            seen.text().lines().filter(|line| !line.starts_with("skerry-deadline-ms: ")).collect();
        assert_eq!(
            lines,
            [
                "HTTP/1.1 POST /seen",
                "authority: shop.example",
                "host: shop.example",
                "x-own: 1",
                "cdn-loop: skerry",
                "content-length: 3"
            ]
        );
        assert!(seen.text().contains("skerry-deadline-ms: "), "{}", seen.text());
    });
}

#[test]
fn connections_are_kept_for_their_tenant_alone() {
    testing::local(async {
        let server = Server::plain().await;
        let outbound = dev();
        for tenant in ["one", "two"] {
            for _ in 0..3 {
                let mut exchange = exchange_of(tenant, &outbound, config(backend(server.url())));
                get(&mut exchange, "/hello").await.unwrap();
            }
        }
        assert_eq!((server.accepted(), server.asked()), (2, 6));
        assert_eq!(outbound.connections(), 2);
        let mut exchange = exchange_of("one", &outbound, config(backend(server.url())));
        let mut fetches: Vec<Fetch> = (0..3).map(|_| start(&mut exchange, "/hello")).collect();
        for fetch in &mut fetches {
            whole(head(fetch).await.unwrap()).await.unwrap();
        }
        assert_eq!(server.accepted(), 4, "one of three at once finds a kept connection");
    });
}

fn start(exchange: &mut Exchange, path: &str) -> Fetch {
    let request = Request::get(path).body(RequestBody::Empty).unwrap();
    send(exchange, Target::Backend("origin"), request, Options::default()).unwrap()
}

#[test]
fn idle_connections_end_after_their_time() {
    testing::local(async {
        let server = Server::plain().await;
        let outbound = dev();
        get(&mut exchange(&outbound, config(backend(server.url()))), "/hello").await.unwrap();
        assert_eq!(outbound.connections(), 1);
        tokio::time::pause();
        tokio::time::advance(limits::IDLE_TIMEOUT).await;
        tokio::time::resume();
        until("the connection is closed", || outbound.connections() == 0).await;
        until("the server sees it", || server.counts.closed.load(SeqCst) == 1).await;
    });
}

#[test]
fn bodies_stream_both_ways_at_once() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let (write, body) = streamed();
        let request =
            Request::post("/echo").header("trailer", "x-sum").header("te", "trailers").body(body).unwrap();
        let mut fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
        write.send(data("first")).unwrap();
        let mut body = head(&mut fetch).await.unwrap().into_body();
        for piece in ["second", "third"] {
            let back = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(["first", "second"].contains(&std::str::from_utf8(&back).unwrap()));
            write.send(data(piece)).unwrap(); // only after the one before came back
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "3".parse().unwrap());
        write.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        let rest = body.collect().await.unwrap();
        assert_eq!(rest.trailers(), Some(&trailers));
        assert_eq!(rest.to_bytes(), "third");
        // The connection has served its purpose and is good for another request.
        get(&mut exchange, "/hello").await.unwrap();
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn trailers_come_back() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let request = Request::get("/trailers").header("te", "trailers").body(RequestBody::Empty).unwrap();
        let seen = ask(&mut exchange, request).await.unwrap();
        assert_eq!((seen.text(), seen.trailers["x-sum"].to_str().unwrap()), ("1", "1"));
    });
}

#[test]
fn an_announced_length_is_sent_and_must_come_true() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        for (pieces, expected) in
            [(&["ab", "c"][..], Ok("abc")), (&["ab"][..], Err(())), (&["ab", "cd"][..], Err(()))]
        {
            let (write, body) = streamed();
            pieces.iter().for_each(|piece| write.send(data(piece)).unwrap());
            drop(write);
            let request = Request::post("/echo").header("content-length", "3").body(body).unwrap();
            let target = Target::Backend("origin");
            let mut fetch = send(&mut exchange, target, request, Options::default()).unwrap();
            let outcome = match head(&mut fetch).await {
                Ok(response) => whole(response).await.map(|seen| seen.text().to_owned()).map_err(drop),
                Err(error) => {
                    assert_eq!(error, FetchError::RequestBody);
                    Err(())
                }
            };
            assert_eq!(outcome, expected.map(str::to_owned), "{pieces:?}");
        }
        let seen = Request::post("/seen").header("content-length", "2").body({
            let (write, body) = streamed();
            write.send(data("ok")).unwrap();
            body
        });
        let seen = ask(&mut exchange, seen.unwrap()).await.unwrap();
        assert!(
            seen.text().contains("content-length: 2") && !seen.text().contains("chunked"),
            "{}",
            seen.text()
        );
        let bad = Request::post("/echo").header("content-length", "x").body(RequestBody::Empty).unwrap();
        assert_eq!(ask(&mut exchange, bad).await.unwrap_err(), FetchError::RequestBody);
    });
}

#[test]
fn a_reader_that_waits_holds_its_backend_back() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let mut fetch = start(&mut exchange, "/endless");
        let response = head(&mut fetch).await.unwrap();
        // What sockets and buffers of both sides hold; without back-pressure it would grow for ever.
        let (mut before, mut steady) = (0, 0);
        for _ in 0..LOOKS_MAX {
            let produced = server.counts.produced.load(SeqCst);
            steady = if produced == before { steady + 1 } else { 0 };
            before = produced;
            if steady == 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(steady == 20 && before < 32 << 20, "{before} bytes and still more");
        drop(response);
        until("the connection is closed", || server.counts.closed.load(SeqCst) == 1).await;
    });
}

#[test]
fn a_backend_that_does_not_read_holds_its_guest_back() {
    testing::local(async {
        let server = Server::mute().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let pulled = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = pulled.clone();
        let frames = futures_util::stream::repeat_with(move || {
            count.fetch_add(1 << 16, SeqCst);
            Ok(Frame::data(Bytes::from_static(&[0; 1 << 16])))
        });
        let body = RequestBody::Stream(StreamBody::new(frames).boxed_unsync());
        let request = Request::post("/").body(body).unwrap();
        let _fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
        let (mut before, mut steady) = (0, 0);
        for _ in 0..LOOKS_MAX {
            let now = pulled.load(SeqCst);
            steady = if now > 0 && now == before { steady + 1 } else { 0 };
            before = now;
            if steady == 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(steady == 20 && before < 32 << 20, "{before} bytes and still more");
    });
}

#[test]
fn interim_responses_are_passed_over() {
    testing::local(async {
        let says = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
                    HTTP/1.1 204 No Content\r\nx-own: 1\r\n\r\n";
        let server = Server::raw(says, Then::Hold).await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let seen = get(&mut exchange, "/").await.unwrap();
        assert_eq!((seen.head.status.as_u16(), seen.head.headers.len()), (204, 1));
    });
}

#[test]
fn thirty_two_requests_in_all_and_six_at_once() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let mut open: Vec<Fetch> =
            (0..limits::SUBREQUESTS_OPEN_MAX).map(|_| start(&mut exchange, "/hello")).collect();
        let request = || Request::get("/").body(RequestBody::Empty).unwrap();
        let send = |exchange: &mut Exchange| {
            send(exchange, Target::Backend("origin"), request(), Options::default())
        };
        assert_eq!(send(&mut exchange).err(), Some(FetchError::TooManyOpen));
        assert!(exchange.bill.limits_met().has(Limit::SubrequestsOpen));
        let response = head(&mut open[0]).await.unwrap();
        assert_eq!(exchange.fetches.open(), limits::SUBREQUESTS_OPEN_MAX, "its body is still to be read");
        whole(response).await.unwrap();
        assert_eq!(exchange.fetches.open(), limits::SUBREQUESTS_OPEN_MAX - 1);
        open.clear();
        until("those given up are gone", || exchange.fetches.open() == 0).await;
        for _ in limits::SUBREQUESTS_OPEN_MAX + 1..limits::SUBREQUESTS_MAX {
            get(&mut exchange, "/hello").await.unwrap();
        }
        assert_eq!(send(&mut exchange).err(), Some(FetchError::TooMany));
        assert!(exchange.bill.limits_met().has(Limit::Subrequests));
    });
}

#[test]
fn a_fetch_given_up_ends_its_connection() {
    testing::local(async {
        let server = Server::plain().await;
        let outbound = dev();
        let mut exchange = exchange(&outbound, config(backend(server.url())));
        let fetch = start(&mut exchange, "/slow");
        until("the request arrived", || server.asked() == 1).await;
        drop(fetch);
        until("the backend sees it", || server.counts.cancelled.load(SeqCst) == 1).await;
        let mut fetch = start(&mut exchange, "/stall");
        let response = head(&mut fetch).await.unwrap();
        drop(response);
        until("both are closed", || server.counts.closed.load(SeqCst) == 2).await;
        until("nothing is left", || outbound.connections() == 0 && exchange.fetches.open() == 0).await;
    });
}

#[test]
fn a_fetch_may_be_read_on_another_thread() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let (write, body) = streamed();
        let request = Request::builder().method(Method::PUT).uri("/echo").body(body).unwrap();
        let mut fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
        let (done, read) = tokio::sync::oneshot::channel();
        let other = thread::spawn(move || {
            let seen = testing::local(async {
                write.send(data("far")).unwrap();
                drop(write);
                whole(head(&mut fetch).await.unwrap()).await.unwrap()
            });
            done.send(seen.text().to_owned()).unwrap();
        });
        assert_eq!(read.await.unwrap(), "far");
        other.join().unwrap();
    });
}

#[test]
fn a_head_that_is_too_long_is_refused_and_noted() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let long = "x".repeat(limits::HEADER_BYTES_MAX + 1);
        let request = Request::get("/").header("x", &long).body(RequestBody::Empty).unwrap();
        assert_eq!(ask(&mut exchange, request).await.err(), Some(FetchError::RequestHeadersTooLarge));
        assert!(
            exchange.bill.limits_met().has(Limit::Headers) && !exchange.bill.limits_met().has(Limit::Url)
        );
        let path = format!("/{}", &long[..limits::URL_BYTES_MAX]);
        assert_eq!(get(&mut exchange, &path).await.err(), Some(FetchError::UriInvalid));
        assert!(exchange.bill.limits_met().has(Limit::Url));
        assert_eq!(server.accepted(), 0);
    });
}
