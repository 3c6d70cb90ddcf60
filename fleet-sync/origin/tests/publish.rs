//! Publishing: atomic, durable, fenced, once per request key.

use std::{convert::Infallible, path::Path, sync::Arc, time::Duration};

use artifact::{
    key_change::{KeyChange, Verb},
    keys::{Compiler, SecretKey},
    record::{Body, Rev},
    seal::SecretsKey,
};
use fleet_sync_origin::{AppendError, BlobError, Origin, OriginConfig, OriginError, PublishError};
use fleet_sync_proto::FleetView;

async fn open(directory: &Path) -> Arc<Origin> {
    Origin::open(config(directory)).await.unwrap()
}

fn config(directory: &Path) -> OriginConfig {
    OriginConfig {
        data_dir: directory.to_owned(),
        release_key: SecretKey::from_seed([1; 32]),
        compiler_keys: vec![],
        secrets_key: SecretsKey::from_bytes([2; 32]),
        sync_names: vec!["localhost".into()],
        kv_quotas: fleet_sync_origin::KvQuotas::default(),
        who: "control-plane".into(),
    }
}

fn mark(view: &FleetView) -> Result<Vec<Body>, Infallible> {
    Ok(vec![Body::EpochStart { base_rev: view.rev, compiler_keys: vec![] }])
}

#[tokio::test]
async fn what_was_published_is_there_after_reopening_under_a_higher_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    let published = origin.publish("ana", Some("t/k".into()), mark).await.unwrap();
    let before = origin.head();
    drop(origin);
    let again = open(directory.path()).await;
    assert!(again.head().epoch > before.epoch);
    assert_eq!(again.head().rev, before.rev + 1, "its own term's first record");
    assert_eq!(again.record(published.rev).await.unwrap().unwrap().actor, "ana");
    let repeated = again.publish("ana", Some("t/k".into()), mark).await.unwrap();
    assert_eq!((repeated.rev, repeated.repeated), (published.rev, true));
    assert_eq!(again.record(99).await.unwrap(), None);
}

#[tokio::test]
async fn a_process_that_was_taken_over_writes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let old = open(directory.path()).await;
    let new = open(directory.path()).await;
    let refused = old.publish("t", None, mark).await.unwrap_err();
    assert!(matches!(refused, PublishError::Append(AppendError::Fenced { .. })), "{refused:?}");
    new.publish("t", None, mark).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), old.fenced())
        .await
        .expect("it learns that it is out of office");
    assert!(tokio::time::timeout(Duration::from_millis(50), new.fenced()).await.is_err());
}

#[tokio::test]
async fn a_log_that_does_not_lead_to_its_head_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    origin.publish("t", None, mark).await.unwrap();
    drop(origin);
    for damage in [
        "UPDATE records SET text = replace(text, '\"actor\":\"t\"', '\"actor\":\"x\"')",
        "DELETE FROM records WHERE rev = (SELECT max(rev) FROM records)",
    ] {
        let log = rusqlite::Connection::open(directory.path().join("log.sqlite")).unwrap();
        assert!(log.execute(damage, []).unwrap() > 0);
        drop(log);
        let refused = Origin::open(config(directory.path())).await.unwrap_err();
        assert!(matches!(refused, OriginError::Broken { .. }), "{refused:?}");
        assert!(refused.to_string().contains("restore log.sqlite"), "{refused}");
    }
}

#[tokio::test]
async fn refused_empty_and_inapplicable_publishes_leave_the_log_alone() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    let before = origin.head().rev;
    let refused = origin.publish("t", None, |_| Err::<Vec<Body>, _>("no")).await;
    assert!(matches!(refused, Err(PublishError::Refused("no"))));
    let empty = origin.publish::<Infallible, _>("t", None, |_| Ok(vec![])).await;
    assert!(matches!(empty, Err(PublishError::Shape(_))));
    let id = artifact::AppId { tenant: "t".parse().unwrap(), app: "a".parse().unwrap() };
    let wrong = |_: &FleetView| Ok::<_, Infallible>(vec![Body::Release { id, version: 7 }]);
    assert!(matches!(origin.publish("t", None, wrong).await, Err(PublishError::Inapplicable(_))));
    assert_eq!(origin.head().rev, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_publishers_see_each_others_records() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    let start = origin.head().rev;
    let publish = |origin: Arc<Origin>| async move {
        let mut seen = 0;
        let decide = |view: &FleetView| {
            seen = view.rev;
            mark(view)
        };
        let published = origin.publish("t", None, decide).await.unwrap();
        assert_eq!(published.revs, [seen + 1], "decided on exactly the state before it");
        published.rev
    };
    let tasks: Vec<_> = (0..20).map(|_| tokio::spawn(publish(origin.clone()))).collect();
    let mut revs: Vec<Rev> = Vec::new();
    for task in tasks {
        revs.push(task.await.unwrap());
    }
    revs.sort_unstable();
    assert_eq!(revs, (start + 1..=start + 20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_given_up_half_way_leaves_memory_and_disk_agreeing() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    for _ in 0..20 {
        let given_up = origin.publish("t", None, mark);
        // One poll reaches the append, which goes on without its caller.
        tokio::select! {
            biased;
            done = given_up => drop(done),
            () = tokio::task::yield_now() => {}
        }
    }
    let mut published = origin.publish("t", None, mark).await;
    while let Err(PublishError::Append(AppendError::Conflict { .. })) = published {
        published = origin.publish("t", None, mark).await;
    }
    let rev = published.unwrap().rev;
    assert_eq!(origin.view().rev, rev);
    assert!(rev > 2, "some of the given-up ones reached the log");
    drop(origin);
    assert!(open(directory.path()).await.head().rev > rev);
}

#[tokio::test]
async fn a_damaged_blob_is_named_and_mended_by_putting_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let origin = open(directory.path()).await;
    let blobs = origin.blobs();
    let digest = blobs.put("content".into()).await.unwrap();
    let hex = digest.to_string();
    let path = directory.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(&path, "c0ntent").unwrap();
    assert!(matches!(blobs.get(digest).await, Err(BlobError::Corrupt(_))));
    blobs.put("content".into()).await.unwrap();
    assert_eq!(blobs.get(digest).await.unwrap(), "content");
}

#[tokio::test]
async fn told_compiler_keys_are_noted_once_and_a_change_by_none_of_them_does_not_reach_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let key = |seed: u8| SecretKey::<Compiler>::from_seed([seed; 32]);
    let told =
        |seed: u8| OriginConfig { compiler_keys: vec![key(seed).public()], ..config(directory.path()) };
    let noted = async |origin: &Origin| match origin.record(origin.head().rev).await.unwrap().unwrap().body {
        Body::EpochStart { compiler_keys, .. } => compiler_keys,
        other => panic!("{other:?}"),
    };
    let origin = Origin::open(told(3)).await.unwrap();
    assert_eq!(noted(&origin).await, [key(3).public()]);
    drop(origin);
    let origin = Origin::open(told(3)).await.unwrap();
    assert_eq!(noted(&origin).await, [], "the log knows it");

    let publish = async |by: u8, verb: Verb, of: u8, serial: u64| {
        let change = KeyChange::sign(&key(by), verb, key(of).public(), serial).unwrap();
        let body = Body::KeyChange { change: change.envelope().clone() };
        origin.publish("ana", None, |_| Ok::<_, Infallible>(vec![body])).await
    };
    let before = origin.head().rev;
    assert!(matches!(publish(9, Verb::Endorses, 4, 1).await, Err(PublishError::Inapplicable(_))));
    assert_eq!(origin.head().rev, before);
    let rev = publish(3, Verb::Endorses, 4, 1).await.unwrap().rev;
    assert!(!origin.record(rev).await.unwrap().unwrap().critical, "readers of earlier releases go on");
    publish(4, Verb::Revokes, 3, 2).await.unwrap();
    drop(origin);

    // The compiler has its new key, and its file is the one that the configuration names; or that was forgotten.
    for seed in [4, 3] {
        let origin = Origin::open(told(seed)).await.unwrap();
        assert_eq!(noted(&origin).await, []);
        assert_eq!(origin.view().compiler_keys.ring().trusted(), [key(4).public()]);
    }
}
