use fleet_sync_proto::kv::{At, Space};
use futures_util::FutureExt as _;
use tokio::net::TcpListener;

use super::*;

fn at(key: &str) -> At {
    let space = Space { tenant: "a".parse().unwrap(), store: "s".parse().unwrap() };
    At { space, key: key.parse().unwrap() }
}

/// As one that its origin certified, though nobody will ever look at it here.
fn identity() -> Identity {
    let certified = rcgen::generate_simple_self_signed(vec!["node".to_owned()]).unwrap();
    Identity {
        node: "fra1-0000".parse().unwrap(),
        pop: "fra1".parse().unwrap(),
        release_keys: vec![],
        compiler_keys: vec![],
        compiler_keys_past: artifact::keyring::KeyringPast::default(),
        secrets_key: String::new(),
        ca_pem: certified.cert.pem(),
        certificate_pem: certified.cert.pem(),
        key_pem: certified.signing_key.serialize_pem(),
    }
}

#[tokio::test]
async fn an_origin_that_says_nothing_is_away_and_remembered_reads_do_not_wait_for_it() {
    // Takes connections, as the kernel does, and never answers TLS.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = mute.local_addr().unwrap().to_string();
    let client = KvClient::new(control, Arc::new(RwLock::new(Some(identity()))));
    let long_ago = Instant::now().checked_sub(memory::FRESH * 2).unwrap();
    let found = Message { head: Said::Missing { age_ms: 0 }, metadata: vec![], value: vec![] };
    client.inner.memory.lock().remember(&at("k"), &found, 0, long_ago);

    let get = |key: &str| client.ask(Message::bare(Ask::Get(at(key))));
    let error = get("never-read").await.unwrap_err();
    assert!(matches!(&error, KvAskError::Away(_)), "not sent, so nothing was done: {error:?}");
    assert!(client.inner.is_away());
    assert!(client.inner.dial().has_changed().is_ok(), "the dial goes on");

    // While it does, an answer from memory needs no await that could wait.
    let said = get("k").now_or_never().expect("it does not wait");
    assert!(matches!(said.unwrap().head, Said::Missing { age_ms: 2_000.. }));
}

#[test]
fn large_values_have_more_time() {
    assert_eq!(time_of(0), Duration::ZERO);
    assert_eq!(time_of(8 << 20), Duration::from_secs(8));
}

#[tokio::test]
async fn a_node_that_sends_slowly_keeps_nobody_else_from_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    let config = fleet_sync_origin::OriginConfig {
        data_dir: folder.path().join("origin"),
        release_key: artifact::keys::SecretKey::from_seed([1; 32]),
        compiler_keys: vec![],
        secrets_key: artifact::seal::SecretsKey::from_bytes([1; 32]),
        sync_names: vec!["127.0.0.1".into()],
        kv_quotas: fleet_sync_origin::KvQuotas::default(),
        who: "test".into(),
    };
    let origin = fleet_sync_origin::Origin::open(config).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = listener.local_addr().unwrap().to_string();
    tokio::spawn(origin.clone().serve(listener, std::future::pending()));
    let (pop, life) = ("fra1".parse().unwrap(), Duration::from_secs(60));
    let token = origin.create_join_token(&pop, life).await.unwrap();
    let replica = crate::Replica::open(crate::ReplicaConfig {
        control,
        data_dir: folder.path().join("node"),
        join_token: Some(token.token.to_text()),
        targets: vec![],
        serving: None,
        software: "test".into(),
    });
    let replica = replica.unwrap();
    replica.enrol().await.unwrap();

    // As many as the origin does at once, on one connection: announced, begun, and never sent.
    let slow = replica.kv().inner.line.get().await.unwrap();
    let mut begun = tokio::task::JoinSet::new();
    for _ in 0..OPERATIONS_MAX {
        let never =
            futures_util::stream::pending::<Result<hyper::body::Frame<Bytes>, std::convert::Infallible>>();
        let body = http_body_util::StreamBody::new(never).boxed_unsync();
        let request = Request::post(KV_PATH).header("content-length", "10").body(body).unwrap();
        let mut sender = slow.sender.clone();
        begun.spawn(async move { sender.send_request(request).await.map(drop) });
    }
    // Others use another connection.
    let other = replica.kv();
    other.inner.line.forget();
    for n in 0..20 {
        let said = other.ask(Message::bare(Ask::Get(at(&format!("k{n}"))))).await;
        assert_eq!(said.map(|said| said.head), Ok(Said::Missing { age_ms: 0 }));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.try_join_next().is_none(), "they were under way all the time");
}
