use artifact::{
    keys::SecretKey,
    record::{Body, Epoch, Record},
};

use super::*;
use crate::publisher::follow;

fn record(epoch: Epoch, rev: Rev) -> RawRecord {
    let body = Body::EpochStart { base_rev: rev - 1, compiler_keys: vec![] };
    let record = Record { rev, epoch, time_ms: 0, actor: "t".into(), request: None, critical: false, body };
    RawRecord::encode(&record).unwrap()
}

fn run(epoch: Epoch, revs: std::ops::RangeInclusive<Rev>) -> Vec<RawRecord> {
    revs.map(|rev| record(epoch, rev)).collect()
}

fn at(rev: Rev) -> Position {
    follow(Position::START, &run(1, 1..=rev)).unwrap()
}

fn key() -> SecretKey<Release> {
    SecretKey::from_seed([1; 32])
}

fn sign(position: Position, time_ms: UnixMs) -> Envelope {
    let Position { epoch, rev, chain } = position;
    Checkpoint { epoch, rev, chain, time_ms }.sign(&key())
}

fn batch(start: Position, records: Vec<RawRecord>) -> Input {
    let end = follow(start, &records).unwrap();
    Input::Message(ToNode::Batch { records, checkpoint: sign(end, end.rev) })
}

fn heartbeat(position: Position, time_ms: UnixMs) -> Input {
    Input::Message(ToNode::Heartbeat { checkpoint: sign(position, time_ms) })
}

fn applied(position: Position) -> Input {
    Input::Applied { position, failed: BTreeMap::new() }
}

/// Connected at time 0, at a position.
fn follower(position: Position) -> Follower {
    let hello = Hello {
        protocol: 1,
        node: "fra1-1".parse().unwrap(),
        pop: "fra1".parse().unwrap(),
        position: Position::START,
        targets: vec![],
        serving: None,
        software: String::new(),
    };
    let identity = Identity { hello, trusted: Trusted::new([key().public()]) };
    let mut follower = Follower::new(0, identity, position, None);
    assert_eq!(follower.handle(0, Input::Tick), [Output::Connect]);
    let out = follower.handle(0, Input::Connected);
    assert!(matches!(&out[0], Output::Send(ToOrigin::Hello(hello)) if hello.position == position));
    follower
}

fn applies(outputs: &[Output]) -> Vec<(Rev, usize)> {
    let apply = |output: &Output| {
        if let Output::Apply(batch) = output { Some((batch.end.rev, batch.records.len())) } else { None }
    };
    outputs.iter().filter_map(apply).collect()
}

fn alarms(outputs: &[Output]) -> Vec<&Alarm> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Alarm(alarm) = output { Some(alarm) } else { None })
        .collect()
}

fn asks_from(outputs: &[Output]) -> Option<Rev> {
    outputs.iter().find_map(|output| match output {
        Output::Send(ToOrigin::Hello(hello)) => Some(hello.position.rev),
        _ => None,
    })
}

#[test]
fn a_verified_batch_is_applied_and_acked_when_durable() {
    let mut follower = follower(Position::START);
    let out = follower.handle(1, batch(Position::START, run(1, 1..=3)));
    assert_eq!(applies(&out), [(3, 3)]);
    assert!(
        !out.iter().any(|output| matches!(output, Output::Send(_))),
        "not durable yet, so no ack: {out:?}"
    );
    let out = follower.handle(2, applied(at(3)));
    assert!(matches!(&out[..], [Output::Send(ToOrigin::Ack(ack))] if ack.rev == 3), "{out:?}");
}

#[test]
fn repeats_are_skipped_and_overlaps_applied_once() {
    let mut follower = follower(Position::START);
    follower.handle(1, batch(Position::START, run(1, 1..=3)));
    assert_eq!(applies(&follower.handle(1, batch(Position::START, run(1, 1..=3)))), []);
    assert_eq!(applies(&follower.handle(1, batch(Position::START, run(1, 1..=5)))), [(5, 2)]);
    let old = follower.handle(1, batch(Position::START, run(1, 1..=2)));
    assert_eq!((applies(&old), alarms(&old).len()), (vec![], 0));
}

#[test]
fn a_gap_is_asked_for_again_from_the_durable_position() {
    let mut follower = follower(Position::START);
    follower.handle(1, batch(Position::START, run(1, 1..=3)));
    follower.handle(1, applied(at(3)));
    let out = follower.handle(2, batch(at(4), run(1, 5..=6)));
    assert_eq!((applies(&out), asks_from(&out)), (vec![], Some(3)));
    assert_eq!(applies(&follower.handle(3, batch(at(3), run(1, 4..=6)))), [(6, 3)]);
}

#[test]
fn a_gap_that_stays_ends_in_dialling_anew() {
    let mut follower = follower(Position::START);
    for _ in 0..ASKED_AGAIN_MAX {
        assert_eq!(asks_from(&follower.handle(1, batch(at(4), run(1, 5..=6)))), Some(0));
    }
    assert!(follower.handle(1, batch(at(4), run(1, 5..=6))).contains(&Output::Disconnect));
}

#[test]
fn a_changed_record_breaks_the_chain_and_is_not_applied() {
    let mut follower = follower(Position::START);
    let mut records = run(1, 1..=3);
    let checkpoint = sign(at(3), 1);
    records[1] = RawRecord::from_text(records[1].text().replace("\"t\"", "\"T\"")).unwrap();
    let out = follower.handle(1, Input::Message(ToNode::Batch { records, checkpoint }));
    assert_eq!((applies(&out), asks_from(&out)), (vec![], Some(0)));
}

#[test]
fn a_checkpoint_of_another_key_is_refused_and_the_node_comes_back_slowly() {
    let mut follower = follower(Position::START);
    let thief = SecretKey::<Release>::from_seed([9; 32]);
    let Position { epoch, rev, chain } = at(2);
    let checkpoint = Checkpoint { epoch, rev, chain, time_ms: 1 }.sign(&thief);
    let out = follower.handle(1, Input::Message(ToNode::Batch { records: run(1, 1..=2), checkpoint }));
    assert_eq!(applies(&out), []);
    assert!(matches!(alarms(&out)[..], [Alarm::BadCheckpoint(_)]));
    assert!(out.contains(&Output::Disconnect));
    follower.handle(1, Input::Disconnected { random: 30_000 });
    assert_eq!(follower.handle(29_000, Input::Tick), []);
    assert_eq!(follower.handle(30_001, Input::Tick), [Output::Connect]);
}

#[test]
fn a_replayed_lower_heartbeat_is_refused() {
    let mut follower = follower(at(3));
    follower.handle(1, heartbeat(at(7), 7));
    let out = follower.handle(2, heartbeat(at(5), 8));
    assert!(matches!(alarms(&out)[..], [Alarm::Regression { .. }]), "{out:?}");
}

#[test]
fn the_records_of_a_stale_leader_are_refused_even_when_they_follow() {
    // Epoch 2 has started after rev 3; the follower knows from a heartbeat. The old leader goes on writing.
    let mut follower = follower(at(3));
    let new_head = follow(at(3), &[record(2, 4)]).unwrap();
    follower.handle(1, heartbeat(new_head, 7));
    let out = follower.handle(2, batch(at(3), run(1, 4..=5)));
    assert_eq!(applies(&out), []);
    assert!(matches!(alarms(&out)[..], [Alarm::Regression { .. }]), "{out:?}");
    // The same rev with another chain is no better.
    let mut follower = self::follower(at(3));
    follower.handle(1, heartbeat(new_head, 7));
    assert_eq!(applies(&follower.handle(2, batch(at(3), run(1, 4..=4)))), []);
}

#[test]
fn catching_up_below_the_highest_seen_is_no_regression() {
    let mut follower = follower(Position::START);
    follower.handle(1, heartbeat(at(6), 9));
    assert_eq!(applies(&follower.handle(2, batch(Position::START, run(1, 1..=3)))), [(3, 3)]);
    assert_eq!(applies(&follower.handle(2, batch(at(3), run(1, 4..=6)))), [(6, 3)]);
}

#[test]
fn stale_after_15_minutes_without_anything_fresh_and_a_replay_is_not_fresh() {
    let mut follower = follower(at(3));
    follower.handle(0, heartbeat(at(3), 100));
    follower.handle(STALE_MS - 1, heartbeat(at(3), 100));
    assert!(!follower.is_stale());
    let out = follower.handle(STALE_MS, Input::Tick);
    assert!(matches!(alarms(&out)[..], [Alarm::Stale]), "{out:?}");
    let out = follower.handle(STALE_MS + 1, heartbeat(at(3), 101));
    assert!(matches!(alarms(&out)[..], [Alarm::Fresh]), "{out:?}");
    assert!(!follower.is_stale());
}

#[test]
fn a_heartbeat_ahead_without_records_makes_the_node_ask_again() {
    let mut follower = follower(at(3));
    assert_eq!(asks_from(&follower.handle(1, heartbeat(at(5), 1))), None, "they may be on their way");
    assert_eq!(asks_from(&follower.handle(2, heartbeat(at(5), 2))), Some(3));
}

#[test]
fn reset_applies_nothing_alarms_and_comes_back_slowly() {
    let mut follower = follower(at(3));
    let reset = ToNode::Reset { reason: ResetReason::Ahead, checkpoint: sign(at(2), 1) };
    let out = follower.handle(1, Input::Message(reset));
    assert!(matches!(alarms(&out)[..], [Alarm::Reset { reason: ResetReason::Ahead }]), "{out:?}");
    assert!(out.contains(&Output::Disconnect));
    assert_eq!(follower.applied(), at(3));
    follower.handle(1, Input::Disconnected { random: 30_000 });
    assert_eq!(follower.handle(29_999, Input::Tick), []);
}

#[test]
fn a_silent_stream_and_a_hanging_dial_are_given_up() {
    let mut follower = follower(at(3));
    assert_eq!(follower.handle(SILENCE_MS_MAX, Input::Tick), [Output::Disconnect]);
    assert_eq!(follower.handle(SILENCE_MS_MAX, Input::Disconnected { random: 0 }), []);
    let now = SILENCE_MS_MAX;
    assert_eq!(follower.handle(now, Input::Tick), [Output::Connect]);
    assert_eq!(follower.handle(now + CONNECT_MS_MAX, Input::Tick), [Output::Disconnect]);
}

#[test]
fn a_flood_of_batches_is_not_queued_without_end() {
    let mut follower = follower(Position::START);
    for rev in 1..=PENDING_BATCHES_MAX as Rev {
        assert_eq!(applies(&follower.handle(1, batch(at(rev - 1), run(1, rev..=rev)))).len(), 1);
    }
    let rev = PENDING_BATCHES_MAX as Rev + 1;
    let out = follower.handle(1, batch(at(rev - 1), run(1, rev..=rev)));
    assert_eq!((applies(&out), out.contains(&Output::Disconnect)), (vec![], true));
}

#[test]
fn failures_travel_with_every_ack_until_they_are_gone() {
    let mut follower = follower(at(3));
    let nack = Nack { code: artifact::nack::NackCode::LoadFail, detail: "x".into() };
    let failed = BTreeMap::from([(2, nack)]);
    let out = follower.handle(1, Input::Applied { position: at(3), failed: failed.clone() });
    assert!(matches!(&out[..], [Output::Send(ToOrigin::Ack(ack))] if ack.failed == failed));
    let out = follower.handle(2, heartbeat(at(3), 5));
    assert!(
        out.iter().any(|output| matches!(output, Output::Send(ToOrigin::Ack(ack)) if ack.failed == failed))
    );
    let out = follower.handle(3, applied(at(3)));
    assert!(matches!(&out[..], [Output::Send(ToOrigin::Ack(ack))] if ack.failed.is_empty()));
}

#[test]
fn one_message_of_lines_is_on_its_way_and_the_next_waits_until_it_was_taken() {
    let told = |out: Vec<Output>| match &out[..] {
        [Output::Send(ToOrigin::Logs(logs))] => logs.number,
        _ => panic!("{out:?}"),
    };
    let taken = |number| Input::Message(ToNode::LogsTaken { number });
    let mut follower = follower(at(3));
    let first = told(follower.handle(1, Input::Logs(vec![])));
    assert!(!follower.may_tell());
    assert_eq!(follower.handle(2, Input::Logs(vec![])), []);
    assert_eq!(follower.handle(2, taken(first + 1)), [], "never sent");
    assert_eq!(follower.handle(3, taken(first)), [Output::LogsTaken]);
    assert_eq!(follower.handle(3, taken(first)), [], "said twice");
    let lost = told(follower.handle(4, Input::Logs(vec![])));
    follower.handle(4 + TAKEN_MS_MAX, Input::Tick);
    let second = told(follower.handle(5 + TAKEN_MS_MAX, Input::Logs(vec![])));
    assert_eq!(follower.handle(6 + TAKEN_MS_MAX, taken(lost)), [], "it was told again");

    // A stream that ends with a message under way: it may be told again, and the old answer means nothing.
    follower.handle(5, Input::Disconnected { random: 0 });
    assert_eq!(follower.handle(5, Input::Logs(vec![])), []);
    follower.handle(99_999, Input::Tick);
    follower.handle(99_999, Input::Connected);
    let third = told(follower.handle(99_999, Input::Logs(vec![])));
    assert_eq!(follower.handle(99_999, taken(second)), []);
    assert_eq!(follower.handle(99_999, taken(third)), [Output::LogsTaken]);
}

#[test]
fn who_is_followed_is_handed_on_within_its_bound() {
    let one = crate::logs::Followed { id: crate::logs::tests::id("shop"), asked: 1 };
    let follow = Follow { apps: vec![one; crate::logs::FOLLOWED_MAX + 1] };
    let out = follower(at(3)).handle(1, Input::Message(ToNode::Follow(follow)));
    let [Output::Follow(follow)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(follow.apps.len(), crate::logs::FOLLOWED_MAX);
}
