//! Key-value operations of a node over real loopback mTLS.

mod support;

use std::time::Duration;

use fleet_sync_proto::kv::{Ask, At, ListAsk, Message, PutAsk, Refusal, Said, VALUE_BYTES_MAX};
use fleet_sync_replica::KvAskError;
use support::{Control, Node};

fn at(store: &str, key: &str) -> At {
    serde_json::from_value(serde_json::json!({ "tenant": "default", "store": store, "key": key })).unwrap()
}

fn put(store: &str, key: &str, value: &[u8]) -> Message<Ask> {
    let (at, mode, if_generation) = (at(store, key), Default::default(), None);
    let put = PutAsk { at, mode, if_generation, ttl_ms: None, has_metadata: true };
    Message { head: Ask::Put(put), metadata: b"meta".to_vec(), value: value.to_vec() }
}

fn get(store: &str, key: &str) -> Message<Ask> {
    Message::bare(Ask::Get(at(store, key)))
}

#[tokio::test]
async fn what_one_node_writes_another_reads_and_the_writer_sees_at_once() {
    let control = Control::start().await;
    let (a, b) = (Node::enrol(&control, "fra1").await, Node::enrol(&control, "syd1").await);
    let (a, b) = (a.replica.kv(), b.replica.kv());
    assert_eq!(a.ask(get("s", "k")).await.unwrap().head, Said::Missing { age_ms: 0 });
    let large = vec![7; VALUE_BYTES_MAX];
    for value in [b"one".as_slice(), b"two", &large] {
        assert!(matches!(a.ask(put("s", "k", value)).await.unwrap().head, Said::Stored { .. }));
        assert!(a.ask(get("s", "k")).await.unwrap().value == value, "the writer reads what it wrote");
    }
    let read = b.ask(get("s", "k")).await.unwrap();
    assert!(read.value == large && read.metadata == b"meta");
    let space = at("s", "k").space;
    let list = Ask::List(ListAsk { space, prefix: String::new(), limit: 10, cursor: None });
    let said = b.ask(Message::bare(list)).await.unwrap().head;
    assert_eq!(said, Said::Page { keys: vec!["k".into()], next: None });
    let gone = Ask::Delete { at: at("s", "k"), if_generation: Some(99) };
    let refused = a.ask(Message::bare(gone)).await.unwrap().head;
    assert_eq!(refused, Said::Refused { refusal: Refusal::Precondition });
}

#[tokio::test]
async fn without_the_control_plane_remembered_reads_go_on_with_their_age_and_all_else_fails_by_name() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let kv = node.replica.kv();
    kv.ask(put("s", "k", b"v")).await.unwrap();
    kv.ask(get("s", "k")).await.unwrap();
    control.stop().await;

    let mut age = 0;
    for _ in 0..100 {
        let read = kv.ask(get("s", "k")).await.unwrap();
        let Said::Found { age_ms, .. } = read.head else { panic!("{read:?}") };
        assert_eq!(read.value, b"v");
        age = age_ms;
        if age >= 1_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(age >= 1_000, "after its fresh second it is answered from memory, and says so");
    for ask in [get("s", "never-read"), put("s", "other", b"w"), put("s", "k", b"w")] {
        let error = kv.ask(ask).await.unwrap_err();
        assert!(matches!(&error, KvAskError::Away(_)), "{error}");
        assert!(error.to_string().starts_with("the control plane, which keeps"), "{error}");
    }

    control.restart().await;
    for _ in 0..100 {
        if let Ok(read) = kv.ask(get("s", "k")).await {
            assert_eq!(read.value, b"v", "the write that failed by name was not done");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the node did not come back within 5 s");
}

#[tokio::test]
async fn more_operations_than_there_are_places_all_get_their_answer() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let kv = node.replica.kv();
    let asks = (0..100).map(|n| {
        let kv = kv.clone();
        tokio::spawn(async move { kv.ask(put("s", &format!("k{n}"), b"v")).await })
    });
    for asked in asks.collect::<Vec<_>>() {
        assert!(matches!(asked.await.unwrap().unwrap().head, Said::Stored { .. }));
    }
}

#[tokio::test]
async fn a_revoked_node_gets_nothing() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let kv = node.replica.kv();
    kv.ask(put("s", "k", b"v")).await.unwrap();
    control.origin.revoke_node("test", &node.replica.node().unwrap().0).await.unwrap();
    let error = kv.ask(get("s", "other")).await.unwrap_err();
    assert!(error.to_string().contains("may not connect"), "{error}");
}
