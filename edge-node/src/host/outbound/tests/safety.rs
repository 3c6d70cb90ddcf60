//! What must not be reached, and what must not be seen twice.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::{super::limits, servers::Server, *};
use crate::host::{door::Source, tape::Tape};

#[test]
fn loopback_is_refused_unless_the_operator_allows_it() {
    testing::local(async {
        let server = Server::plain().await;
        let port = server.address.port();
        let strict = Outbound::with_lookup(Settings::default(), Box::new(Loopback));
        for host in ["127.0.0.1", "localhost", "backend.example", "[::ffff:127.0.0.1]", "10.0.0.1"] {
            let mut exchange = exchange(&strict, config(backend(format!("http://{host}:{port}"))));
            assert_eq!(get(&mut exchange, "/").await.err(), Some(FetchError::AddressRefused), "{host}");
        }
        for host in ["0x7f.1", "2130706433", "127.1"] {
            // Not even a version with such a backend is accepted; one that slipped in reaches nothing.
            let mut exchange = exchange(&strict, config(backend(format!("http://{host}:{port}"))));
            assert_eq!(get(&mut exchange, "/").await.err(), Some(FetchError::UriInvalid), "{host}");
        }
        let mut listed = AppConfig::default();
        listed.outbound.push(format!("*:{port}"));
        let mut listed = exchange(&strict, listed);
        let request = Request::get(server.url()).body(RequestBody::Empty).unwrap();
        let mut fetch = send(&mut listed, Target::Url, request, Options::default()).unwrap();
        assert_eq!(head(&mut fetch).await.err(), Some(FetchError::AddressRefused), "a list is no permission");
        assert_eq!(server.accepted(), 0);
    });
}

#[test]
fn a_url_is_fetched_if_the_app_lists_its_host() {
    testing::local(async {
        let server = Server::plain().await;
        let port = server.address.port();
        let config = AppConfig { outbound: vec![format!("*.example:{port}")], ..AppConfig::default() };
        let mut exchange = exchange(&dev(), config);
        let url =
            |host: &str| Request::get(format!("http://{host}:{port}/seen")).body(RequestBody::Empty).unwrap();
        let mut fetch = send(&mut exchange, Target::Url, url("a.example"), Options::default()).unwrap();
        let seen = whole(head(&mut fetch).await.unwrap()).await.unwrap();
        assert!(seen.text().contains(&format!("authority: a.example:{port}")), "{}", seen.text());
        let refused = send(&mut exchange, Target::Url, url("a.other"), Options::default());
        assert_eq!(refused.err(), Some(FetchError::NotAllowed));
        let made = Arc::new(backend(format!("http://b.example:{port}")).into());
        let request = Request::get("/hello").body(RequestBody::Empty).unwrap();
        let mut fetch = send(&mut exchange, Target::Dynamic(made), request, Options::default()).unwrap();
        assert_eq!(whole(head(&mut fetch).await.unwrap()).await.unwrap().text(), "hello");
    });
}

/// Says 127.0.0.1 the first time and 127.0.0.2 from then on.
struct Rebinding(Arc<AtomicUsize>);

impl Lookup for Rebinding {
    fn lookup(&self, _: HostName) -> Pin<Box<dyn Future<Output = Result<Addresses, FetchError>> + Send>> {
        let last = if self.0.fetch_add(1, SeqCst) == 0 { 1 } else { 2 };
        Box::pin(async move { Ok(Addresses::from([IpAddr::from([127, 0, 0, last])])) })
    }
}

#[test]
fn rebinding_what_was_checked_is_what_is_connected_to() {
    testing::local(async {
        let permitted = Server::plain().await;
        let port = permitted.address.port();
        // The same port at the address that is forbidden.
        let forbidden = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let settings = Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..Settings::default() };
        let outbound = Outbound::with_lookup(settings, Box::new(Rebinding(asked.clone())));
        let mut exchange = exchange(&outbound, config(backend(format!("http://evil.example:{port}"))));
        assert_eq!(get(&mut exchange, "/hello").await.unwrap().text(), "hello");
        assert_eq!((asked.load(SeqCst), permitted.accepted()), (1, 1), "one lookup for check and connection");

        // The next connection is made after the answer is old: the new answer is checked, too.
        tokio::time::pause();
        tokio::time::advance(limits::IDLE_TIMEOUT).await;
        tokio::time::resume();
        until("the kept connection is gone", || outbound.connections() == 0).await;
        assert_eq!(get(&mut exchange, "/hello").await.err(), Some(FetchError::AddressRefused));
        assert_eq!(asked.load(SeqCst), 2);
        let untouched = tokio::time::timeout(Duration::from_millis(20), forbidden.accept()).await;
        assert!(untouched.is_err(), "nobody came");
    });
}

#[test]
fn a_chain_of_self_calls_ends_at_its_depth() {
    testing::local(async {
        let server = Server::plain().await;
        let outbound = dev();
        let mut seen = String::new();
        for depth in 0..=limits::LOOP_DEPTH_MAX {
            // The next node of the chain gets what the one before sent.
            let loops = seen.lines().filter_map(|line| line.strip_prefix("cdn-loop: "));
            let headers =
                loops.map(|value| (::http::HeaderName::from_static("cdn-loop"), value.parse().unwrap()));
            let mut inbound = ::http::HeaderMap::new();
            headers.for_each(|(name, value)| _ = inbound.append(name, value));
            let mut exchange = exchange(&outbound, config(backend(server.url())));
            inherit(&mut exchange, &mut inbound, &"shop.example".parse().unwrap());
            let answer = get(&mut exchange, "/seen").await;
            if depth == limits::LOOP_DEPTH_MAX {
                assert_eq!(answer.err(), Some(FetchError::Loop));
            } else {
                seen = answer.unwrap().text().to_owned();
                assert_eq!(seen.matches("skerry\n").count(), depth + 1, "{seen}");
            }
        }
        assert_eq!(server.asked(), limits::LOOP_DEPTH_MAX);
    });
}

#[test]
fn a_recording_answers_without_network() {
    testing::local(async {
        let server = Server::plain().await;
        let recorded = Tape::record();
        let visit = async |outbound: &Outbound, tape: &Arc<Tape>| {
            let mut exchange = exchange(outbound, config(backend(server.url())));
            exchange.door = tape.door();
            let hello = get(&mut exchange, "/trailers").await.unwrap();
            let request = Request::get("/").body(RequestBody::Empty).unwrap();
            let refused = send(&mut exchange, Target::Backend("none"), request, Options::default()).err();
            let request = Request::get("/").body(RequestBody::Empty).unwrap();
            let mut broken =
                send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
            let broken = head(&mut broken).await.map(|response| response.status());
            (format!("{:?}", hello), refused, broken)
        };
        let first = visit(&dev(), &recorded).await;
        let asked = server.asked();
        assert!(recorded.recording().caused.contains_key(&Source::Fetch(1)));

        let replayed = Tape::play(recorded.recording());
        let nowhere = Outbound::with_lookup(Settings::default(), Box::new(Loopback));
        assert_eq!(visit(&nowhere, &replayed).await, first);
        assert_eq!(server.asked(), asked, "nobody was asked");
        assert_eq!(replayed.recording().caused, recorded.recording().caused);
    });
}
