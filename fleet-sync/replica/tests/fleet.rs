//! Origin and replica over real loopback mTLS, with real logs, disks and certificates.

mod support;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use artifact::{
    nack::NackCode,
    record::{ArtifactSet, Body},
};
use fleet_sync_replica::{BlobShelf, EnrolError, FetchError};
use support::{Control, Node, artifact_for, eventually, id, other_fingerprint};

#[tokio::test]
async fn a_node_enrols_follows_and_acks() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    assert_eq!(node.replica.node().unwrap().0.as_str(), "fra1-1");
    assert_eq!(node.replica.secrets_key().unwrap().to_text(), control.secrets_key.to_text());
    let running = node.run();
    let rev = control.deploy("hello", b"native code 1").await;
    let convergence = control.origin.wait_convergence(rev, Duration::from_secs(10)).await;
    assert_eq!((convergence.nodes, convergence.active), (1, 1), "{convergence:?}");
    assert_eq!(running.activator.serving("hello"), Some(1));
    assert_eq!(node.pinned("hello"), Some(1));
    let status = &control.origin.nodes()[0];
    assert_eq!((status.connected, status.serving.as_deref()), (true, Some("127.0.0.1:1")));
    eventually("a report arrives", || control.origin.nodes()[0].report.is_some()).await;
    running.stop().await;
    eventually("the stream is gone", || !control.origin.nodes()[0].connected).await;
}

#[tokio::test]
async fn a_rollback_moves_no_bytes_and_names_the_old_version() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    control.deploy("hello", b"one").await;
    let rev = control.deploy("hello", b"two").await;
    control.converged(rev).await;
    assert_eq!(running.activator.serving("hello"), Some(2));
    let back = control.publish(vec![Body::Release { id: id("hello"), version: 1 }]).await;
    control.converged(back).await;
    assert_eq!(running.activator.serving("hello"), Some(1));
    let gone = control.publish(vec![Body::AppDeleted { id: id("hello") }]).await;
    control.converged(gone).await;
    assert_eq!(running.activator.serving("hello"), None);
    assert!(node.replica.pinned().is_empty());
}

#[tokio::test]
async fn a_connected_node_says_what_it_serves_and_one_that_is_away_is_not_waited_for() {
    let control = Control::start().await;
    let (one, two) = (Node::enrol(&control, "fra1").await, Node::enrol(&control, "syd1").await);
    let (first, second) = (one.run(), two.run());
    let rev = control.deploy("hello", b"one").await;
    control.converged(rev).await;
    let wait = Duration::from_secs(10);
    let begun = std::time::Instant::now();
    let said = control.origin.inspect(&id("hello"), wait).await.unwrap();
    let versions: Vec<_> = said.values().map(|serving| serving.as_ref().map(|s| s.version)).collect();
    assert_eq!(versions, [Some(1), Some(1)]);
    let said = control.origin.inspect(&id("nothing"), wait).await.unwrap();
    assert!(said.len() == 2 && said.values().all(Option::is_none), "{said:?}");

    second.stop().await;
    eventually("one is away", || control.origin.nodes().iter().any(|node| !node.connected)).await;
    assert_eq!(control.origin.inspect(&id("hello"), wait).await.unwrap().len(), 1);
    assert!(begun.elapsed() < wait / 2, "who answered, and who is not there, is not waited for");
    first.stop().await;
}

#[tokio::test]
async fn both_sides_resume_from_the_cursor_after_a_restart() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let first = control.deploy("hello", b"one").await;
    control.converged(first).await;

    // The node is away while two releases happen.
    running.stop().await;
    control.deploy("hello", b"two").await;
    let third = control.deploy("world", b"three").await;
    let node = node.reopen();
    assert_eq!(node.replica.view().rev, first, "what was acked is on the node's disk");
    let running = node.run();
    control.converged(third).await;
    assert_eq!(running.activator.serving("hello"), Some(2));

    // The control plane is away, comes back on the same log and port, and publishes.
    control.restart().await;
    let fourth = control.deploy("hello", b"four").await;
    control.converged(fourth).await;
    assert_eq!(running.activator.serving("hello"), Some(3));
    assert!(control.origin.view().epoch >= 2, "a new term");
}

#[tokio::test]
async fn a_node_restarted_with_the_control_plane_dead_has_everything() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy("hello", b"one").await;
    control.converged(rev).await;
    running.stop().await;
    control.stop().await;

    let node = node.reopen();
    assert_eq!(node.replica.view().rev, rev);
    assert_eq!(node.pinned("hello"), Some(1));
    assert!(node.replica.secrets_key().is_some());
    let artifact = artifact_for(&node.replica.view(), "hello");
    assert_eq!(node.replica.blobs().get(&artifact).await.unwrap(), b"one");
    let running = node.run();
    eventually("everything is activated", || running.activator.serving("hello") == Some(1)).await;
    running.stop().await;
}

#[tokio::test]
async fn second_use_of_a_join_token_is_refused() {
    let control = Control::start().await;
    let token = control.token("fra1").await;
    let first = Node::open(&control, Some(token.clone()));
    first.replica.enrol().await.unwrap();
    let second = Node::open(&control, Some(token));
    let refused = second.replica.enrol().await.unwrap_err();
    assert!(matches!(refused, EnrolError::Refused { status: 403, .. }), "{refused:?}");
    assert!(!refused.is_worth_retrying());
    assert_eq!(control.origin.nodes().len(), 1);
}

#[tokio::test]
async fn expired_forged_and_missing_join_tokens_are_refused() {
    let control = Control::start().await;
    let token =
        control.origin.create_join_token(&"fra1".parse().unwrap(), Duration::from_secs(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let late = Node::open(&control, Some(token.token.to_text()));
    assert!(matches!(late.replica.enrol().await, Err(EnrolError::Refused { status: 403, .. })));
    let forged = fleet_sync_proto::enrol::JoinToken::new([1; 32], token.token.ca());
    let forger = Node::open(&control, Some(forged.to_text()));
    assert!(matches!(forger.replica.enrol().await, Err(EnrolError::Refused { status: 403, .. })));
    let none = Node::open(&control, None);
    assert!(matches!(none.replica.enrol().await, Err(EnrolError::NoToken)));
    assert!(control.origin.nodes().is_empty());
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_may_be_repeated_by_the_same_key() {
    let control = Control::start().await;
    let token = control.token("fra1").await;
    let node = Node::open(&control, Some(token));
    let pending = node.directory.path().join("enrolling.key");
    node.replica.enrol().await.unwrap();
    // As if the answer had never arrived: no identity, the key still pending.
    let identity = node.directory.path().join("identity.json");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&identity).unwrap()).unwrap();
    std::fs::write(pending, kept["key_pem"].as_str().unwrap()).unwrap();
    std::fs::remove_file(identity).unwrap();
    let node = node.reopen();
    node.replica.enrol().await.unwrap();
    assert_eq!(node.replica.node().unwrap().0.as_str(), "fra1-1");
}

#[tokio::test]
async fn an_origin_of_another_fleet_is_refused() {
    let (ours, theirs) = (Control::start().await, Control::start().await);
    // Before enrolment: the token pins the CA.
    let lured = Node::open(&theirs, Some(ours.token("fra1").await));
    assert!(matches!(lured.replica.enrol().await, Err(EnrolError::Dial(_))));
    // After it: the identity does.
    let node = Node::enrol(&ours, "fra1").await.redirected(&theirs);
    let running = node.run();
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!node.replica.status().connected);
    assert!(theirs.origin.nodes().is_empty());
    running.stop().await;
}

#[tokio::test]
async fn a_revoked_node_is_cut_and_stays_out() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy("hello", b"one").await;
    control.converged(rev).await;
    control.origin.revoke_node("test", &node.replica.node().unwrap().0).await.unwrap();
    eventually("the stream is cut", || !control.origin.nodes()[0].connected).await;
    let later = control.deploy("hello", b"two").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!control.origin.nodes()[0].connected);
    assert!(node.replica.view().rev < later);
    assert_eq!(control.origin.convergence(later).nodes, 0, "a revoked node does not count");
    assert_eq!(running.activator.serving("hello"), Some(1), "it keeps serving what it had");
    let artifact = artifact_for(&control.origin.view(), "hello");
    assert!(node.replica.blobs().get(&artifact).await.is_err(), "and gets no more bytes");
}

#[tokio::test]
async fn a_blob_damaged_at_the_origin_is_a_digest_mismatch_and_fetched_when_mended() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let first = control.deploy("hello", b"one").await;
    control.converged(first).await;
    let rev = control.deploy_damaged("hello", b"second version").await;
    let convergence = control.origin.wait_convergence(rev, Duration::from_secs(10)).await;
    assert_eq!(convergence.failed.len(), 1, "{convergence:?}");
    assert_eq!(convergence.failed[0].code, NackCode::DigestMismatch);
    assert_eq!(running.activator.serving("hello"), Some(1), "the last good version serves");
    assert_eq!(node.pinned("hello"), Some(1));

    control.origin.blobs().put(b"second version".as_slice().into()).await.unwrap();
    eventually("the retry brings it up", || running.activator.serving("hello") == Some(2)).await;
    eventually("and says so", || control.origin.convergence(rev).active == 1).await;
}

#[tokio::test]
async fn a_blob_damaged_on_the_nodes_disk_is_fetched_again() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy("hello", b"precious bytes").await;
    control.converged(rev).await;
    let artifact = artifact_for(&node.replica.view(), "hello");
    let path = node.replica.blobs().path(artifact.blob);
    std::fs::write(&path, b"preCious bytes").unwrap();
    assert_eq!(node.replica.blobs().get(&artifact).await.unwrap(), b"precious bytes");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious bytes");
    running.stop().await;
}

#[tokio::test]
async fn a_half_fetched_blob_is_resumed_however_many_ask_for_it() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    control.deploy("hello", &bytes).await;
    let artifact = artifact_for(&control.origin.view(), "hello");
    let partial = node.directory.path().join("blobs/partial").join(artifact.blob.to_string());
    // Half of it lies there.
    std::fs::write(&partial, &bytes[..1_500_000]).unwrap();
    let shelf = node.replica.blobs();
    let gets = (0..8).map(|_| shelf.get(&artifact));
    for got in futures_util::future::join_all(gets).await {
        assert_eq!(got.unwrap(), bytes);
    }
    // A wrong half shows that the rest alone was fetched; the digest notices, and it is thrown away.
    std::fs::remove_file(shelf.path(artifact.blob)).unwrap();
    std::fs::write(&partial, vec![9; 1_500_000]).unwrap();
    assert_eq!(shelf.get(&artifact).await.unwrap_err().nack().code, NackCode::DigestMismatch);
    assert_eq!(shelf.get(&artifact).await.unwrap(), bytes);
}

#[tokio::test]
async fn an_app_without_an_artifact_for_this_node_is_compat_until_one_is_added() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy_for(other_fingerprint(), "hello", b"other engine").await;
    let convergence = control.origin.wait_convergence(rev, Duration::from_secs(10)).await;
    assert_eq!(
        convergence.failed.first().map(|failed| failed.code),
        Some(NackCode::Compat),
        "{convergence:?}"
    );
    let artifacts = vec![control.blob(b"recompiled").await];
    control.publish(vec![Body::ArtifactSet(ArtifactSet { id: id("hello"), version: 1, artifacts })]).await;
    eventually("it comes up", || running.activator.serving("hello") == Some(1)).await;
    eventually("and the release is no longer failed", || control.origin.convergence(rev).active == 1).await;
}

#[tokio::test]
async fn an_app_that_does_not_load_stays_pinned_and_a_later_good_release_clears_it() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let first = control.deploy("hello", b"one").await;
    control.converged(first).await;
    running.activator.refuse(&id("hello"), NackCode::LoadFail);
    let bad = control.deploy("hello", b"two").await;
    let other = control.deploy("other", b"three").await;
    let convergence = control.origin.wait_convergence(bad, Duration::from_secs(10)).await;
    assert_eq!(convergence.failed.first().map(|failed| failed.code), Some(NackCode::LoadFail));
    control.converged(other).await; // the cursor moved on, the neighbour is up
    assert_eq!(running.activator.serving("other"), Some(1));
    assert_eq!(node.pinned("hello"), Some(1));

    running.stop().await;
    let node = node.reopen();
    assert_eq!(node.pinned("hello"), Some(1), "pinned across a restart");
    let running = node.run();
    let good = control.deploy("hello", b"four").await;
    control.converged(good).await;
    assert_eq!(node.pinned("hello"), Some(3));
    assert_eq!(control.origin.nodes()[0].failed.len(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_release_key_other_than_the_pinned_one_is_refused() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy("hello", b"one").await;
    control.converged(rev).await;
    control.restart_with_another_release_key().await;
    let forged = control.deploy("hello", b"stolen").await;
    eventually("the node alarms", || node.replica.status().alarm.is_some()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(node.replica.view().rev < forged);
    assert_eq!(running.activator.serving("hello"), Some(1));
}

#[tokio::test]
async fn a_log_restored_from_an_old_copy_resets_nobody() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let first = control.deploy("hello", b"one").await;
    control.converged(first).await;
    let copy = control.copy_log().await;
    let second = control.deploy("hello", b"two").await;
    control.converged(second).await;
    control.restore_log(copy).await;
    eventually("the node alarms", || node.replica.status().alarm.is_some()).await;
    assert_eq!(node.replica.view().rev, second, "no regression");
    assert_eq!(running.activator.serving("hello"), Some(2));
    let later = control.deploy("other", b"three").await;
    let convergence = control.origin.convergence(later);
    assert_eq!((convergence.nodes, convergence.active), (1, 0), "{convergence:?}");
    assert_eq!(convergence.failed[0].code, NackCode::ChainBreak, "{convergence:?}");
}

#[tokio::test]
async fn an_expired_certificate_renews_itself_and_then_follows() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let rev = control.deploy("hello", b"one").await;
    node.put_certificate(&control, "fra1-1", Duration::from_secs(3600));
    let node = node.reopen();
    let artifact = artifact_for(&control.origin.view(), "hello");
    let refused = node.replica.blobs().get(&artifact).await;
    let is_403 =
        matches!(&refused, Err(FetchError::Interrupted { why, .. }) if why.contains("403 Forbidden"));
    assert!(is_403, "it may not fetch, and trying again is worth it: {refused:?}");
    let running = node.run();
    control.converged(rev).await;
    running.stop().await;
}

#[tokio::test]
async fn a_certificate_that_expired_too_long_ago_or_names_no_node_is_refused() {
    let control = Control::start().await;
    for (name, ago) in
        [("fra1-1", Duration::from_secs(31 * 24 * 3600)), ("fra1-9", Duration::from_secs(3600))]
    {
        let node = Node::enrol(&control, "fra1").await;
        node.put_certificate(&control, name, ago);
        let node = node.reopen();
        let running = node.run();
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(!node.replica.status().connected, "{name} expired {ago:?} ago");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_repeated_request_key_publishes_once() {
    let control = Control::start().await;
    let body = || vec![Body::EpochStart { base_rev: 0, compiler_keys: vec![] }];
    let key = Some("default/abc".to_owned());
    let first = control.origin.publish::<(), _>("t", key.clone(), |_| Ok(body())).await.unwrap();
    let again = control.origin.publish::<(), _>("t", key, |_| panic!("decided twice")).await.unwrap();
    assert_eq!((again.rev, again.repeated, first.repeated), (first.rev, true, false));
}

#[tokio::test]
async fn static_files_are_all_on_disk_before_they_are_served_and_a_restart_asks_nobody() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let large = vec![7; 200_000];
    let files: [(&str, &[u8]); 4] =
        [("a.txt", b"one"), ("b.txt", b"one"), ("empty", b""), ("c/large", &large)];
    let (rev, at) = control.deploy_files("site", &files, true).await;
    control.converged(rev).await;
    assert_eq!(running.activator.serving("site"), Some(1));
    running.stop().await;
    control.stop().await;

    let node = node.reopen();
    assert!(node.replica.blobs().has_assets(&at));
    let running = node.run();
    eventually("it is activated from disk", || running.activator.serving("site") == Some(1)).await;
    running.stop().await;
}

#[tokio::test]
async fn a_static_file_that_is_missing_at_the_origin_holds_its_version_back_and_no_other() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let (rev, _) = control.deploy_files("site", &[("a", b"one")], true).await;
    control.converged(rev).await;
    let (rev, at) = control.deploy_files("site", &[("a", b"one"), ("b", b"two")], false).await;
    control.deploy("hello", b"code").await;
    let convergence = control.origin.wait_convergence(rev, Duration::from_secs(10)).await;
    assert_eq!(convergence.failed[0].code, NackCode::FetchTimeout, "{convergence:?}");
    assert_eq!(running.activator.serving("site"), Some(1), "the last good version serves");
    assert!(!node.replica.blobs().has_assets(&at));
    eventually("the neighbour is served", || running.activator.serving("hello") == Some(1)).await;
    control.origin.blobs().put(b"two".as_slice().into()).await.unwrap();
    eventually("the retry brings it up", || running.activator.serving("site") == Some(2)).await;
}

#[tokio::test]
async fn a_static_file_that_rotted_on_the_nodes_disk_is_mended() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let (rev, _) = control.deploy_files("site", &[("a", b"precious bytes")], true).await;
    control.converged(rev).await;
    let (shelf, digest) = (node.replica.blobs(), artifact::Digest::of(b"precious bytes"));
    std::fs::write(shelf.path(digest), b"preCious bytes").unwrap();
    shelf.mend(digest, 14).await.unwrap();
    assert_eq!(shelf.read_part(digest, 0..14).unwrap(), b"precious bytes");
    std::fs::remove_file(shelf.path(digest)).unwrap();
    assert!(shelf.read_part(digest, 0..14).is_err());
    shelf.mend(digest, 14).await.unwrap();
    assert_eq!(shelf.read_part(digest, 9..14).unwrap(), b"bytes");
    running.stop().await;
}

/// A blob whose fetch gets no further on this node than to its first byte, until this is dropped.
struct Stuck {
    partial: PathBuf,
    bytes: Vec<u8>,
}

impl Stuck {
    fn new(shelf: &BlobShelf, bytes: &[u8]) -> Stuck {
        let digest = artifact::Digest::of(bytes);
        let partial = shelf.path(digest).ancestors().nth(3).unwrap().join("partial").join(digest.to_string());
        assert!(std::process::Command::new("mkfifo").arg(&partial).status().unwrap().success());
        Stuck { partial, bytes: bytes.to_vec() }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let (pipe, whole) = (self.partial.with_extension("pipe"), self.partial.with_extension("whole"));
        std::fs::hard_link(&self.partial, &pipe).unwrap();
        std::fs::write(&whole, &self.bytes).unwrap();
        std::fs::rename(whole, &self.partial).unwrap();
        // Who waits to write finds a reader; what is then given its name is the whole one.
        std::mem::forget(std::fs::File::options().read(true).write(true).open(pipe).unwrap());
    }
}

#[tokio::test]
async fn a_site_whose_files_come_slowly_holds_back_no_other_app_and_has_not_failed() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let rev = control.deploy("rolled", b"one").await;
    control.converged(rev).await;
    let rev = control.deploy("rolled", b"two").await;
    control.converged(rev).await;

    // As many as are fetched at once.
    let files: [(&str, &[u8]); 4] = [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")];
    let shelf = node.replica.blobs();
    let stuck = files.map(|(_, bytes)| Stuck::new(&shelf, bytes));
    let (slow, _) = control.deploy_files("site", &files, true).await;
    let began = Instant::now();
    control.deploy("hello", b"code").await;
    let back = control.publish(vec![Body::Release { id: id("rolled"), version: 1 }]).await;
    eventually("the neighbours come up", || {
        running.activator.serving("hello") == Some(1) && running.activator.serving("rolled") == Some(1)
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let waited = control.origin.wait_convergence(slow, Duration::from_millis(500)).await;
    assert_eq!((waited.active, waited.failed.len()), (0, 0), "it is neither there nor refused: {waited:?}");
    drop(stuck);
    eventually("the site comes up", || running.activator.serving("site") == Some(1)).await;
    control.converged(back).await;
}

#[tokio::test]
async fn a_site_that_is_late_for_too_long_is_said_to_have_failed_and_comes_up_after_all() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    let stuck = Stuck::new(&node.replica.blobs(), b"file");
    let (rev, _) = control.deploy_files("site", &[("a", b"file")], true).await;
    let waited = control.origin.wait_convergence(rev, Duration::from_secs(20)).await;
    assert_eq!(waited.failed[0].code, NackCode::FetchTimeout, "{waited:?}");
    drop(stuck);
    eventually("it is served", || running.activator.serving("site") == Some(1)).await;
    eventually("and nothing has failed", || node.replica.status().failed == 0).await;
}
