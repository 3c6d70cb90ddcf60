//! What only a guest's own backend can want.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use artifact::{manifest::origin::OriginHost, secrets::SecretValue};
use rustls::{CipherSuite, ProtocolVersion};

use super::{
    super::made::{Keeping, Made, Narrowing, TcpKeepalive},
    servers::{Authority, Server},
    *,
};

const H2: &[&[u8]] = &[b"h2", b"http/1.1"];
const H1: &[&[u8]] = &[b"http/1.1"];

/// Of an app that may reach anything on this server.
fn exchange_to(server: &Server, outbound: &Outbound) -> Exchange {
    let outbound_list = vec![format!("*.example:{}", server.address.port()), server.address.to_string()];
    exchange(outbound, AppConfig { outbound: outbound_list, ..AppConfig::default() })
}

async fn ask(exchange: &mut Exchange, made: &Arc<Made>) -> Result<Seen, FetchError> {
    let request = Request::get("/hello").body(RequestBody::Empty).unwrap();
    let mut fetch = send(exchange, Target::Dynamic(made.clone()), request, Options::default())?;
    Ok(whole(head(&mut fetch).await?).await.unwrap())
}

fn trusting(url: String, authority: &Authority) -> Backend {
    Backend { ca_pem: Some(authority.pem()), ..backend(url) }
}

#[test]
fn its_client_certificate_is_shown_with_the_key_it_brought() {
    testing::local(async {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = Server::secure(&authority, H1, Some(&clients)).await;
        let (certificate, key) = clients.issue("guest.example");
        let backend = Backend { client_cert_pem: Some(certificate), ..trusting(server.https(), &authority) };
        let outbound = dev();
        let mut exchange = exchange_to(&server, &outbound);
        let keyless = Arc::new(Made::from(backend.clone()));
        assert_eq!(ask(&mut exchange, &keyless).await.err(), Some(FetchError::TlsConfiguration));
        let client_key = Some(SecretValue::new(key.into_bytes()));
        let keyed = Arc::new(Made { backend, client_key, ..Made::default() });
        assert_eq!(ask(&mut exchange, &keyed).await.unwrap().text(), "hello");
        // Nor does one without a certificate get the connection of one with.
        let bare = Arc::new(Made::from(trusting(server.https(), &authority)));
        assert_eq!(ask(&mut exchange, &bare).await.err(), Some(FetchError::TlsAlert(116)));
    });
}

#[test]
fn tls_is_narrowed_as_it_asks() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H1, None).await;
        let outbound = dev();
        let suites = |suite| Narrowing {
            version: Some(ProtocolVersion::TLSv1_2),
            suites: Some(vec![suite]),
            ..Narrowing::default()
        };
        let version = |version| Narrowing { version: Some(version), ..Narrowing::default() };
        for (narrowing, expected) in [
            (version(ProtocolVersion::TLSv1_2), None),
            (version(ProtocolVersion::TLSv1_3), None),
            (version(ProtocolVersion::TLSv1_1), Some(FetchError::TlsConfiguration)),
            (suites(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), None),
            // RFC 8446 §6.2: handshake_failure, for the server's key is none of RSA.
            (suites(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), Some(FetchError::TlsAlert(40))),
            (suites(CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA), Some(FetchError::TlsConfiguration)),
        ] {
            let shown = format!("{narrowing:?}");
            let backend = trusting(server.https(), &authority);
            let made = Arc::new(Made { backend, narrowing, ..Made::default() });
            assert_eq!(ask(&mut exchange_to(&server, &outbound), &made).await.err(), expected, "{shown}");
        }
        assert_eq!(server.accepted(), 4, "no definition had the connection of another");
    });
}

#[test]
fn its_certificate_may_be_of_another_name_than_is_asked_for() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H1, None).await;
        let outbound = dev();
        for (name, expected) in
            [("backend.example", None), ("other.example", Some(FetchError::TlsCertificate))]
        {
            let url = format!("https://front.example:{}", server.address.port());
            let certificate_of = Some(OriginHost::parse(name).unwrap());
            let made = Made {
                backend: trusting(url, &authority),
                narrowing: Narrowing { certificate_of, ..Narrowing::default() },
                ..Made::default()
            };
            let asked = ask(&mut exchange_to(&server, &outbound), &Arc::new(made)).await;
            assert_eq!(asked.err(), expected, "{name}");
        }
        assert_eq!(server.counts.asked_names.lock().as_slice(), ["front.example"]);
    });
}

#[test]
fn its_connections_are_kept_as_it_asks() {
    testing::local(async {
        let authority = Authority::new();
        for alpn in [H1, H2] {
            let server = Server::secure(&authority, alpn, None).await;
            let outbound = dev();
            let usual = Keeping::default();
            for (keeping, connections) in [
                (usual, 1),
                (Keeping { is_pooled: false, ..usual }, 3),
                (Keeping { reuses_max: Some(1), ..usual }, 2),
                (Keeping { age_max: Some(Duration::ZERO), ..usual }, 3),
                (Keeping { prefers_ipv4: true, ..usual }, 1),
            ] {
                let made = Arc::new(Made {
                    backend: trusting(server.https(), &authority),
                    keeping,
                    ..Made::default()
                });
                let before = server.accepted();
                let mut exchange = exchange_to(&server, &outbound);
                for _ in 0..3 {
                    ask(&mut exchange, &made).await.unwrap();
                }
                assert_eq!(server.accepted() - before, connections, "{keeping:?}");
            }
            // Three that are not kept, one that was used enough, two that were too old.
            until("what is not kept is closed", || server.counts.closed.load(SeqCst) == 6).await;
        }
    });
}

#[test]
fn an_idle_connection_ends_when_it_asks() {
    testing::local(async {
        let server = Server::plain().await;
        let outbound = dev();
        let keepalive =
            TcpKeepalive { after: Duration::from_secs(300), interval: Duration::from_secs(10), probes: 3 };
        let keeping = Keeping {
            idle_max: Duration::from_millis(50),
            tcp_keepalive: Some(keepalive),
            ..Keeping::default()
        };
        let made = Arc::new(Made { backend: backend(server.url()), keeping, ..Made::default() });
        ask(&mut exchange_to(&server, &outbound), &made).await.unwrap();
        assert_eq!(outbound.connections(), 1);
        until("it is closed", || outbound.connections() == 0).await;
    });
}
