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
