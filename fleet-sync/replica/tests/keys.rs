//! Compiler keys on a node: those of its enrolment, and what became of them by the log.

mod support;

use artifact::{
    key_change::{KeyChange, Verb},
    keys::{Compiler, PublicKey, SecretKey},
    record::Body,
};
use support::{Control, Node};

fn key(seed: u8) -> SecretKey<Compiler> {
    SecretKey::from_seed([seed; 32])
}

fn public(seed: u8) -> PublicKey<Compiler> {
    key(seed).public()
}

/// The origin's own compiler key is number 3.
fn change(by: u8, verb: Verb, of: u8, serial: u64) -> Vec<Body> {
    let change = KeyChange::sign(&key(by), verb, public(of), serial).unwrap();
    vec![Body::KeyChange { change: change.envelope().clone() }]
}

/// Which of the keys 3 to 9 a node trusts.
fn trusted(node: &Node) -> Vec<u8> {
    let trusted = node.replica.compiler_keys().load_full();
    (3..=9).filter(|seed| trusted.contains(&public(*seed))).collect()
}

#[tokio::test]
async fn a_node_learns_keys_while_it_runs_and_knows_them_after_a_restart_with_nobody_to_ask() {
    let mut control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    assert_eq!(trusted(&node), [3]);
    let held_since_its_start = node.replica.compiler_keys();

    let rev = control.publish(change(3, Verb::Endorses, 4, 1)).await;
    control.converged(rev).await;
    assert_eq!(trusted(&node), [3, 4]);
    assert!(held_since_its_start.load().contains(&public(4)), "whoever loads code sees it");
    let rev = control.publish(change(4, Verb::Revokes, 3, 2)).await;
    control.converged(rev).await;
    assert_eq!(trusted(&node), [4]);

    running.stop().await;
    control.stop().await;
    assert_eq!(trusted(&node.reopen()), [4]);
}

#[tokio::test]
async fn a_node_that_was_away_for_two_rotations_and_one_that_enrols_after_them_trust_the_same() {
    let control = Control::start().await;
    let away = Node::enrol(&control, "fra1").await;
    for body in [
        change(3, Verb::Endorses, 4, 1),
        change(4, Verb::Revokes, 3, 2),
        change(4, Verb::Endorses, 5, 3),
        change(5, Verb::Revokes, 4, 4),
    ] {
        control.publish(body).await;
    }
    let late = Node::enrol(&control, "ams1").await;
    assert_eq!(trusted(&late), [5], "before it has read any of the log");
    let (one, other) = (away.run(), late.run());
    control.converged(control.origin.head().rev).await;
    assert_eq!((trusted(&away), trusted(&late)), (vec![5], vec![5]));
    one.stop().await;
    other.stop().await;
}

/// Key 6 leaked and 3, who revoked it, was let go of later: nobody is left whom a late node would believe that revocation.
#[tokio::test]
async fn a_node_that_enrols_late_trusts_no_key_that_was_revoked_before() {
    let control = Control::start().await;
    for body in [
        change(3, Verb::Endorses, 4, 1),
        change(4, Verb::Endorses, 6, 2),
        change(3, Verb::Revokes, 6, 3),
        change(4, Verb::Revokes, 3, 4),
    ] {
        control.publish(body).await;
    }
    let late = Node::enrol(&control, "fra1").await;
    let running = late.run();
    let rev = control.publish(change(4, Verb::Endorses, 5, 5)).await;
    control.converged(rev).await;
    assert_eq!(trusted(&late), [4, 5]);
    running.stop().await;
    assert_eq!(trusted(&late.reopen()), [4, 5], "its identity says so, and nobody else is asked");
}

/// What a control plane can do that was taken over: it has the log and its key, and tells itself any compiler key.
#[tokio::test]
async fn an_origin_without_a_compiler_key_gives_no_node_one_and_takes_none_away() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let running = node.run();
    control.publish(vec![Body::EpochStart { base_rev: 0, compiler_keys: vec![public(9)] }]).await;
    control.publish(change(9, Verb::Endorses, 8, 1)).await;
    let rev = control.publish(change(9, Verb::Revokes, 3, 2)).await;
    control.converged(rev).await;
    assert_eq!(control.origin.view().compiler_keys.ring().trusted(), [public(9), public(8)]);
    assert_eq!(trusted(&node), [3]);
    running.stop().await;
}
