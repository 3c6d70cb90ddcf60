//! TLS: whom a node trusts, what it shows, and HTTP/2.

use std::sync::atomic::Ordering::SeqCst;

use ::http::{HeaderMap, Version};
use artifact::{
    seal::SecretsKey,
    secrets::{PinnedSecret, SecretAt, SecretValue},
};

use super::{
    super::limits,
    servers::{Authority, Server},
    *,
};
use crate::host::secrets::Secrets;

const H2: &[&[u8]] = &[b"h2", b"http/1.1"];
const H1: &[&[u8]] = &[b"http/1.1"];

/// A backend that trusts this authority.
fn trusting(url: String, authority: &Authority) -> Backend {
    Backend { ca_pem: Some(authority.pem()), ..backend(url) }
}

#[test]
fn http_1_and_2_are_chosen_by_the_backend() {
    testing::local(async {
        let authority = Authority::new();
        for (alpn, version) in [(H1, Version::HTTP_11), (H2, Version::HTTP_2), (&[], Version::HTTP_11)] {
            let server = Server::secure(&authority, alpn, None).await;
            let mut exchange = exchange(&dev(), config(trusting(server.https(), &authority)));
            for _ in 0..3 {
                let request = Request::get("https://shop.example/seen").body(RequestBody::Empty).unwrap();
                let seen = ask(&mut exchange, request).await.unwrap();
                assert_eq!(seen.head.version, version);
                assert!(seen.text().contains("authority: shop.example"), "{}", seen.text());
            }
            assert_eq!(server.accepted(), 1, "{version:?}");
        }
    });
}

#[test]
fn http_2_streams_share_a_connection_and_carry_bodies_and_trailers() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H2, None).await;
        let mut exchange = exchange(&dev(), config(trusting(server.https(), &authority)));
        get(&mut exchange, "/hello").await.unwrap();
        let mut echoes = Vec::new();
        for _ in 0..limits::SUBREQUESTS_OPEN_MAX {
            let (write, body) = streamed();
            let request = Request::post("/echo").body(body).unwrap();
            echoes.push((
                write,
                send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap(),
            ));
        }
        for (write, fetch) in &mut echoes {
            write.send(data("ping")).unwrap();
            let mut body = head(fetch).await.unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ping");
            let trailers: HeaderMap =
                [("x-sum".parse().unwrap(), "4".parse().unwrap())].into_iter().collect();
            write.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
            assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers));
        }
        assert_eq!(server.accepted(), 1);
    });
}

#[test]
fn a_stream_given_up_is_reset_and_the_connection_goes_on() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H2, None).await;
        let outbound = dev();
        let mut exchange = exchange(&outbound, config(trusting(server.https(), &authority)));
        get(&mut exchange, "/hello").await.unwrap();
        let request = Request::get("/slow").body(RequestBody::Empty).unwrap();
        let fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
        until("the request arrived", || server.asked() == 2).await;
        drop(fetch);
        until("the backend sees it", || server.counts.cancelled.load(SeqCst) == 1).await;
        get(&mut exchange, "/hello").await.unwrap();
        assert_eq!((server.accepted(), outbound.connections()), (1, 1));
    });
}

#[test]
fn a_reader_that_waits_holds_up_nobody_else_on_its_connection() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H2, None).await;
        let mut exchange = exchange(&dev(), config(trusting(server.https(), &authority)));
        get(&mut exchange, "/hello").await.unwrap();
        let mut held = Vec::new();
        for _ in 1..limits::SUBREQUESTS_OPEN_MAX {
            let request = Request::get("/endless").body(RequestBody::Empty).unwrap();
            let mut fetch =
                send(&mut exchange, Target::Backend("origin"), request, Options::default()).unwrap();
            held.push(head(&mut fetch).await.unwrap());
        }
        for _ in 0..3 {
            assert_eq!(get(&mut exchange, "/hello").await.unwrap().text(), "hello");
        }
        assert_eq!(server.accepted(), 1);
        let window = limits::H2_STREAM_WINDOW_BYTES as usize;
        // Per stream what the window lets through, and what the server itself makes ahead (h2: 400 KiB).
        let most = held.len() * (window + (1 << 20));
        assert!(server.counts.produced.load(SeqCst) <= most);
    });
}

#[test]
fn certificates_must_be_valid_for_the_name_and_from_who_is_trusted() {
    testing::local(async {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let server = Server::secure(&authority, H1, None).await;
        let other_name = format!("https://other.example:{}", server.address.port());
        let by_address = format!("https://{}", server.address);
        for (backend, expected) in [
            (trusting(server.https(), &authority), None),
            (trusting(server.https(), &stranger), Some(FetchError::TlsCertificate)),
            (trusting(other_name.clone(), &authority), Some(FetchError::TlsCertificate)),
            (trusting(by_address.clone(), &authority), Some(FetchError::TlsCertificate)),
            (Backend { cert_host: Some("backend.example".into()), ..trusting(by_address, &authority) }, None),
            (
                Backend { cert_host: Some("wrong.example".into()), ..trusting(server.https(), &authority) },
                Some(FetchError::TlsCertificate),
            ),
            (
                Backend { ca_pem: Some("no certificate".into()), ..backend(server.https()) },
                Some(FetchError::TlsConfiguration),
            ),
        ] {
            let shown = format!("{backend:?}");
            let mut exchange = exchange(&dev(), config(backend));
            assert_eq!(get(&mut exchange, "/hello").await.err(), expected, "{shown}");
        }
    });
}

#[test]
fn a_trusted_connection_is_not_lent_to_who_would_not_trust_it() {
    testing::local(async {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let server = Server::secure(&authority, H2, None).await;
        let outbound = dev();
        let ask = async |backend| get(&mut exchange(&outbound, config(backend)), "/hello").await;
        ask(trusting(server.https(), &authority)).await.unwrap();
        let refused = ask(trusting(server.https(), &stranger)).await;
        assert_eq!(refused.err(), Some(FetchError::TlsCertificate));
        let other = Backend { cert_host: Some("a.example".into()), ..trusting(server.https(), &authority) };
        assert_eq!(ask(other).await.err(), Some(FetchError::TlsCertificate));
        assert_eq!(server.accepted(), 3);
    });
}

#[test]
fn a_client_certificate_is_shown_where_it_is_demanded() {
    testing::local(async {
        let (authority, clients) = (Authority::new(), Authority::new());
        let server = Server::secure(&authority, H1, Some(&clients)).await;
        let without = trusting(server.https(), &authority);
        let mut bare = exchange(&dev(), config(without.clone()));
        // RFC 8446 §6.2: certificate_required.
        assert_eq!(get(&mut bare, "/hello").await.err(), Some(FetchError::TlsAlert(116)));

        let (certificate, key) = clients.issue("node.example");
        let with =
            Backend { client_cert_pem: Some(certificate), client_key_secret: Some("KEY".into()), ..without };
        let keyless = get(&mut exchange(&dev(), config(with.clone())), "/hello").await;
        assert_eq!(keyless.err(), Some(FetchError::TlsConfiguration), "its key is not to be had");
        let at = SecretAt { store: None, name: "KEY".parse().unwrap() };
        let mut keyed = exchange(&dev(), config(with));
        let (fleet, app) = (SecretsKey::from_bytes([1; 32]), keyed.deployment.id.clone());
        let value =
            at.seal(&fleet, &app, [0; artifact::seal::NONCE_BYTES], &SecretValue::new(key.into_bytes()));
        let secrets = Secrets::open(&fleet, &app, &[PinnedSecret { at, value }]).unwrap();
        let deployment = Arc::get_mut(&mut keyed.deployment).expect("a deployment of its own");
        deployment.secrets = Arc::new(secrets);
        assert_eq!(get(&mut keyed, "/hello").await.unwrap().text(), "hello");
    });
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_apart() {
    testing::local(async {
        let authority = Authority::new();
        let plain = Server::plain().await;
        let mut to_plain = exchange(&dev(), config(trusting(plain.https(), &authority)));
        assert_eq!(get(&mut to_plain, "/").await.err(), Some(FetchError::TlsProtocol));
        let secure = Server::secure(&authority, H1, None).await;
        let mut to_secure = exchange(&dev(), config(backend(secure.url())));
        let refused = get(&mut to_secure, "/").await.err();
        assert!(
            matches!(
                refused,
                Some(
                    FetchError::Protocol | FetchError::ConnectionTerminated | FetchError::ResponseIncomplete
                )
            ),
            "{refused:?}"
        );
    });
}

#[test]
fn the_platforms_roots_do_not_trust_a_tests_authority() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, H1, None).await;
        let outbound = dev();
        let expected = match outbound.0.tls.load_platform_roots() {
            Some(_) => FetchError::TlsCertificate,
            None => FetchError::TlsConfiguration, // a machine without any
        };
        let mut exchange = exchange(&outbound, config(backend(server.https())));
        assert_eq!(get(&mut exchange, "/").await.err(), Some(expected));
    });
}
