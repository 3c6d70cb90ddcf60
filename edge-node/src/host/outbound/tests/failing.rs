//! Backends that break, stall or lie, and what a guest is told.

use super::{
    super::limits,
    servers::{Server, Then, nobody},
    *,
};

async fn error_of(backend: Backend, options: Options) -> FetchError {
    let mut exchange = exchange(&dev(), config(backend));
    let request = Request::get("/slow").body(RequestBody::Empty).unwrap();
    match send(&mut exchange, Target::Backend("origin"), request, options) {
        Ok(mut fetch) => head(&mut fetch).await.expect_err("no response"),
        Err(error) => error,
    }
}

#[test]
fn each_way_to_fail_has_its_name() {
    testing::local(async {
        let fields = "x: y\r\n".repeat(limits::HEADER_FIELDS_MAX + 1);
        let long = "y".repeat(limits::HEADER_BYTES_MAX + 1);
        for (says, expected) in [
            (String::new(), FetchError::ConnectionTerminated),
            ("HTTP/1.1 200 OK\r\nx: ".into(), FetchError::ResponseIncomplete),
            ("HTTP/1.1 abc OK\r\n\r\n".into(), FetchError::StatusInvalid),
            ("nonsense\r\n\r\n".into(), FetchError::Protocol),
            (
                "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(),
                FetchError::UpgradeFailed,
            ),
            (format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), FetchError::ResponseHeadersTooLarge),
            (format!("HTTP/1.1 200 OK\r\nx: {long}\r\n\r\n"), FetchError::ResponseHeadersTooLarge),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".into(),
                FetchError::Protocol,
            ),
        ] {
            let shown = format!("{says:.60}");
            let server = Server::raw(says, Then::Close).await;
            assert_eq!(error_of(backend(server.url()), Options::default()).await, expected, "{shown:?}");
        }
        assert_eq!(error_of(backend(nobody()), Options::default()).await, FetchError::ConnectionRefused);
    });
}

#[test]
fn a_body_that_breaks_off_is_no_end() {
    testing::local(async {
        for (says, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", BodyError::BackendGone),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", BodyError::BackendGone),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n",
                BodyError::BackendProtocol("framing"),
            ),
        ] {
            let server = Server::raw(says, Then::Close).await;
            let outbound = dev();
            let mut exchange = exchange(&outbound, config(backend(server.url())));
            let request = Request::get("/").body(RequestBody::Empty).unwrap();
            let mut fetch =
                send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
            let response = head(&mut fetch).await.unwrap();
            assert_eq!(whole(response).await.unwrap_err(), expected, "{says}");
            until("nothing is left", || outbound.connections() == 0 && exchange.fetches.open() == 0).await;
        }
    });
}

const SOON: Option<Duration> = Some(Duration::from_millis(50));

#[test]
fn every_wait_has_its_own_timeout() {
    testing::local(async {
        let slow = Server::plain().await;
        let options = Options { first_byte: SOON, ..Options::default() };
        assert_eq!(error_of(backend(slow.url()), options).await, FetchError::ResponseTimeout);
        let declared = Backend { first_byte_timeout_ms: Some(50), ..backend(slow.url()) };
        assert_eq!(error_of(declared, Options::default()).await, FetchError::ResponseTimeout);
        until("the backend is told", || slow.counts.cancelled.load(std::sync::atomic::Ordering::SeqCst) == 2)
            .await;

        let mute = Server::mute().await;
        let https = format!("https://{}", mute.address);
        let options = Options { connect: SOON, ..Options::default() };
        let authority = super::servers::Authority::new();
        let secure = Backend { ca_pem: Some(authority.pem()), ..backend(https) };
        assert_eq!(error_of(secure.clone(), options).await, FetchError::ConnectionTimeout);
        let declared = Backend { connect_timeout_ms: Some(50), ..secure };
        assert_eq!(error_of(declared, Options::default()).await, FetchError::ConnectionTimeout);
    });
}

struct Never;

impl Lookup for Never {
    fn lookup(&self, _: HostName) -> Pin<Box<dyn Future<Output = Result<Addresses, FetchError>> + Send>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_lookup_is_part_of_connecting() {
    testing::local(async {
        let outbound = Outbound::with_lookup(dev_settings(), Box::new(Never));
        let declared = Backend { connect_timeout_ms: Some(50), ..backend("http://a.example") };
        let mut exchange = exchange(&outbound, config(declared));
        assert_eq!(get(&mut exchange, "/").await.err(), Some(FetchError::DnsTimeout));
    });
}

#[test]
fn a_body_that_stalls_breaks_off() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let request = Request::get("/stall").body(RequestBody::Empty).unwrap();
        let options = Options { between_bytes: SOON, ..Options::default() };
        let mut fetch = send(&mut exchange, Target::Backend("origin"), request, options).unwrap();
        let mut body = head(&mut fetch).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
        assert_eq!(body.frame().await.unwrap().unwrap_err(), BodyError::BackendTimeout);
        until("it is closed", || server.counts.closed.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    });
}

#[test]
fn the_first_byte_is_awaited_from_the_requests_end() {
    testing::local(async {
        let server = Server::raw("", Then::Hold).await;
        let mut exchange = hurried(&dev(), config(backend(server.url())), 300);
        let (write, body) = streamed();
        let request = Request::post("/").body(body).unwrap();
        let options = Options { first_byte: Some(Duration::from_millis(1)), ..Options::default() };
        let mut fetch = send(&mut exchange, Target::Backend("origin"), request, options).unwrap();
        // While the guest writes, only the exchange's own time runs.
        assert_eq!(head(&mut fetch).await.err(), Some(FetchError::Deadline));
        drop(write);
    });
}

#[test]
fn no_timeout_reaches_beyond_the_exchanges_own_time() {
    testing::local(async {
        let slow = Server::plain().await;
        let mut hurry = hurried(&dev(), config(backend(slow.url())), 50);
        assert_eq!(get(&mut hurry, "/slow").await.err(), Some(FetchError::Deadline));
        // By now there is no time for another one.
        assert_eq!(get(&mut hurry, "/hello").await.err(), Some(FetchError::Deadline));
        assert_eq!(slow.asked(), 1);

        let mut hurry = hurried(&dev(), config(backend(slow.url())), 200);
        let request = Request::get("/stall").body(RequestBody::Empty).unwrap();
        let mut fetch = send(&mut hurry, Target::Backend("origin"), request, Options::default()).unwrap();
        let response = head(&mut fetch).await.unwrap();
        assert_eq!(whole(response).await.unwrap_err(), BodyError::BackendTimeout);
    });
}

#[test]
fn a_guest_that_breaks_its_request_off_is_told_so() {
    testing::local(async {
        let server = Server::plain().await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        let (write, body) = streamed();
        let request = Request::post("/slow").body(body).unwrap();
        let mut fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
        write.send(data("some")).unwrap();
        write.send(Err(BodyError::GuestAborted)).unwrap();
        assert_eq!(head(&mut fetch).await.err(), Some(FetchError::RequestBody));
        until("the backend sees it", || server.counts.closed.load(std::sync::atomic::Ordering::SeqCst) == 1)
            .await;
    });
}

#[test]
fn a_kept_connection_that_died_is_replaced_where_that_is_safe() {
    testing::local(async {
        let says = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for then in [Then::Close, Then::CloseAtNext] {
            let server = Server::raw(says, then).await;
            let mut exchange = exchange(&dev(), config(backend(server.url())));
            for number in 1..=3 {
                assert_eq!(get(&mut exchange, "/").await.unwrap().text(), "ok");
                assert_eq!(server.accepted(), number);
            }
            let full = Request::put("/").body(RequestBody::Full(Bytes::from_static(b"again"))).unwrap();
            assert_eq!(ask(&mut exchange, full).await.unwrap().text(), "ok");
        }
        // A POST may have had its effect: it is not sent twice.
        let server = Server::raw(says, Then::CloseAtNext).await;
        let mut exchange = exchange(&dev(), config(backend(server.url())));
        get(&mut exchange, "/").await.unwrap();
        let post = Request::post("/").body(RequestBody::Full(Bytes::from_static(b"once"))).unwrap();
        assert_eq!(ask(&mut exchange, post).await.err(), Some(FetchError::ConnectionTerminated));
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn failures_are_counted_by_their_code() {
    testing::local(async {
        let server = Server::plain().await;
        let mut deployment = testing::deployment("test", 1, config(backend(server.url())));
        let metrics = crate::account::metrics::Metrics::new().unwrap();
        deployment.metrics = metrics.version(&deployment.id, 1);
        let mut exchange = exchange_for(deployment, &dev());
        get(&mut exchange, "/hello").await.unwrap();
        let request = Request::get("/").body(RequestBody::Empty).unwrap();
        let refused = send(&mut exchange, Target::Backend("other"), request, Options::default());
        assert_eq!(refused.err(), Some(FetchError::NoBackend));
        let text = String::from_utf8(metrics.render()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("skerry_fetch")).collect();
        let labels = r#"tenant="default",version="1""#;
        let failed = format!(r#"skerry_fetch_failures_total{{app="test",code="no_backend",{labels}}} 1"#);
        let all = format!(r#"skerry_fetches_total{{app="test",{labels}}} 2"#);
        assert_eq!(lines, [failed, all]);
    });
}
