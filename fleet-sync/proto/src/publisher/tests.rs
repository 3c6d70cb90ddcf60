use artifact::record::{Body, Epoch, Record};

use super::*;

fn record(rev: Rev) -> RawRecord {
    let epoch: Epoch = 1;
    let body = Body::EpochStart { base_rev: rev - 1, compiler_keys: vec![] };
    let record = Record { rev, epoch, time_ms: 0, actor: "t".into(), request: None, critical: false, body };
    RawRecord::encode(&record).unwrap()
}

fn log(upto: Rev) -> Vec<RawRecord> {
    (1..=upto).map(record).collect()
}

fn at(rev: Rev) -> Position {
    follow(Position::START, &log(rev)).unwrap()
}

fn hello(position: Position) -> Input {
    Input::Message(ToOrigin::Hello(Hello {
        protocol: 1,
        node: "fra1-1".parse().unwrap(),
        pop: "fra1".parse().unwrap(),
        position,
        targets: vec![],
        serving: None,
        software: String::new(),
    }))
}

fn ack(rev: Rev) -> Input {
    Input::Message(ToOrigin::Ack(Ack { rev, ..Ack::default() }))
}

/// The answer of a log that ends at `head`.
fn records(head: Rev, after: Rev, max: usize) -> Input {
    let chain = (after <= head).then(|| at(after).chain);
    let records = (after + 1..=head).take(max).map(record).collect();
    Input::Records { after, chain, records }
}

fn reads(outputs: &[Output]) -> Vec<Rev> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Read { after } = output { Some(*after) } else { None })
        .collect()
}

#[test]
fn hello_is_answered_by_what_follows_it() {
    let mut publisher = Publisher::new(0, at(5));
    let out = publisher.handle(0, hello(at(2)));
    assert!(matches!(out[0], Output::Identified(_)));
    assert_eq!(reads(&out), [2]);
    let out = publisher.handle(0, records(5, 2, 512));
    let Output::Batch { records, checkpoint } = &out[0] else { panic!("{out:?}") };
    assert_eq!((records.len(), checkpoint.rev, checkpoint.chain), (3, 5, at(5).chain));
}

#[test]
fn a_current_node_gets_a_heartbeat_at_once_and_then_each_half_minute() {
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(5)));
    let out = publisher.handle(0, records(5, 5, 512));
    assert!(matches!(out[..], [Output::Heartbeat(Checkpoint { rev: 5, .. })]), "{out:?}");
    assert_eq!(publisher.handle(HEARTBEAT_MS - 1, Input::Tick), []);
    assert!(matches!(publisher.handle(HEARTBEAT_MS, Input::Tick)[..], [Output::Heartbeat(_)]));
}

#[test]
fn a_node_ahead_of_the_log_or_beside_it_is_told_to_reset() {
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(9)));
    let out = publisher.handle(0, records(5, 9, 512));
    assert!(matches!(out[..], [Output::Reset { reason: ResetReason::Ahead, .. }]), "{out:?}");

    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(Position { chain: Digest::of(b"fork"), ..at(3) }));
    let out = publisher.handle(0, records(5, 3, 512));
    assert!(matches!(out[..], [Output::Reset { reason: ResetReason::Diverged, .. }]), "{out:?}");
    assert_eq!(publisher.handle(0, Input::Head(at(6))), [], "nothing more is sent to it");
}

#[test]
fn a_node_that_does_not_ack_holds_no_more_than_the_window_and_is_cut() {
    let mut publisher = Publisher::new(0, at(20));
    let mut out = publisher.handle(0, hello(at(0)));
    let mut batches = 0;
    while let [after] = reads(&out)[..] {
        out = publisher.handle(1, records(20, after, 1));
        batches += 1;
    }
    assert_eq!(batches, WINDOW_BATCHES);
    assert_eq!(reads(&publisher.handle(2, ack(1))), [4], "an ack makes room for one");
    publisher.handle(2, records(20, 4, 1));
    assert_eq!(publisher.handle(2 + ACK_MS_MAX, Input::Tick), [Output::Cut(Cut::Slow)]);
}

#[test]
fn silence_and_acks_of_what_was_never_sent_cut_the_stream() {
    let mut publisher = Publisher::new(0, at(5));
    assert_eq!(publisher.handle(HELLO_MS_MAX, Input::Tick), [Output::Cut(Cut::NoHello)]);
    assert_eq!(publisher.handle(0, ack(1)), [Output::Cut(Cut::Protocol)]);
    publisher.handle(0, hello(at(2)));
    publisher.handle(0, records(5, 2, 1));
    assert_eq!(publisher.handle(0, ack(4))[..1], [Output::Cut(Cut::Protocol)]);
}

#[test]
fn a_repeated_hello_starts_over_and_a_late_answer_to_the_old_read_is_ignored() {
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(4)));
    assert_eq!(reads(&publisher.handle(0, hello(at(1)))), [1]);
    assert_eq!(publisher.handle(0, records(5, 4, 512)), []);
    let out = publisher.handle(0, records(5, 1, 512));
    assert!(matches!(&out[0], Output::Batch { records, .. } if records.len() == 4));
}

#[test]
fn a_log_that_does_not_lead_to_its_head_is_not_published() {
    let mut publisher = Publisher::new(0, Position { chain: Digest::of(b"other"), ..at(5) });
    publisher.handle(0, hello(at(2)));
    assert_eq!(publisher.handle(0, records(5, 2, 512))[..1], [Output::Cut(Cut::LogBroken)]);
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(2)));
    let gap = Input::Records { after: 2, chain: Some(at(2).chain), records: vec![record(4)] };
    assert_eq!(publisher.handle(0, gap)[..1], [Output::Cut(Cut::LogBroken)]);
}

fn acked(outputs: &[Output]) -> Vec<Rev> {
    let rev = |output: &Output| if let Output::Acked(ack) = output { Some(ack.rev) } else { None };
    outputs.iter().filter_map(rev).collect()
}

#[test]
fn an_ack_counts_once_the_node_is_known_to_be_on_the_log() {
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(4)));
    assert!(acked(&publisher.handle(0, ack(4))).is_empty(), "not compared yet");
    assert_eq!(acked(&publisher.handle(0, records(5, 4, 512))), [4]);
    assert_eq!(acked(&publisher.handle(0, ack(5))), [5]);
}

#[test]
fn an_ack_of_a_node_ahead_of_the_log_or_beside_it_never_counts() {
    let fork = Position { chain: Digest::of(b"fork"), ..at(3) };
    for position in [Position { rev: 9, ..at(5) }, fork] {
        let mut publisher = Publisher::new(0, at(5));
        publisher.handle(0, hello(position));
        assert!(acked(&publisher.handle(0, ack(position.rev))).is_empty());
        let out = publisher.handle(0, records(5, position.rev, 512));
        assert!(matches!(out[..], [Output::Reset { .. }]), "{out:?}");
        assert_eq!(publisher.handle(0, ack(position.rev)), []);
    }
}

fn followed(app: &str) -> Follow {
    let id = artifact::AppId { tenant: "t".parse().unwrap(), app: app.parse().unwrap() };
    Follow { apps: vec![crate::logs::Followed { id, asked: 1 }] }
}

#[test]
fn who_is_followed_is_said_after_hello_at_each_change_and_again_while_anybody_listens() {
    let mut publisher = Publisher::new(0, at(5));
    assert_eq!(publisher.handle(0, Input::Follow(followed("a"))), [], "nobody knows who that is");
    let out = publisher.handle(0, hello(at(5)));
    assert!(out.contains(&Output::Follow(followed("a"))), "{out:?}");
    publisher.handle(0, records(5, 5, 512));
    // A crowd that comes and goes is one message.
    for app in ["b", "c", "b"] {
        assert_eq!(publisher.handle(1, Input::Follow(followed(app))), []);
    }
    assert_eq!(publisher.handle(2, Input::Tick), [Output::Follow(followed("b"))]);
    assert_eq!(publisher.handle(3, Input::Tick), []);
    assert_eq!(publisher.handle(500, Input::Follow(followed("c"))), [Output::Follow(followed("c"))]);
    assert_eq!(publisher.handle(1_000, Input::Follow(followed("b"))), [Output::Follow(followed("b"))]);
    assert_eq!(publisher.handle(999 + FOLLOW_RENEWAL_MS, Input::Tick), []);
    let again = publisher.handle(1_000 + FOLLOW_RENEWAL_MS, Input::Tick);
    assert_eq!(again, [Output::Follow(followed("b"))]);
    const { assert!(FOLLOW_RENEWAL_MS * 2 < crate::logs::FOLLOW_MS) }; // one may be lost
    let none = publisher.handle(2_000 + FOLLOW_RENEWAL_MS, Input::Follow(Follow::default()));
    assert_eq!(none, [Output::Follow(Follow::default())]);
    // Neither counts as a heartbeat, and silence is not repeated.
    let out = publisher.handle(HEARTBEAT_MS, Input::Tick);
    assert!(matches!(out[..], [Output::Heartbeat(_)]), "{out:?}");
}

#[test]
fn lines_are_handed_on_within_their_bounds_and_only_of_a_node_that_said_who_it_is() {
    let line = crate::logs::tests::line(&"x".repeat(100_000));
    let id = crate::logs::tests::id("shop");
    let app = crate::logs::AppLogs {
        id,
        asked: 1,
        run: 1,
        first: 0,
        lines: vec![line; 99],
        gaps: vec![],
        caught_up: false,
    };
    let told = || Input::Message(ToOrigin::Logs(Logs { number: 1, apps: vec![app.clone()] }));
    let mut publisher = Publisher::new(0, at(5));
    assert_eq!(publisher.handle(0, told()), [Output::Cut(Cut::Protocol)]);
    publisher.handle(0, hello(at(5)));
    let out = publisher.handle(0, told());
    let [Output::Told(logs)] = &out[..] else { panic!("{out:?}") };
    assert!(logs.apps[0].lines.len() < 6, "{}", logs.apps[0].lines.len());
}

#[test]
fn a_node_that_tells_lines_before_the_last_were_taken_is_cut() {
    let told = || Input::Message(ToOrigin::Logs(Logs::default()));
    let is_told = |out: Vec<Output>| matches!(out[..], [Output::Told(_)]);
    let mut publisher = Publisher::new(0, at(5));
    publisher.handle(0, hello(at(5)));
    for now_ms in 1..5 {
        assert!(is_told(publisher.handle(now_ms, told())));
        assert_eq!(publisher.handle(now_ms, Input::LogsTaken), []);
    }
    assert!(is_told(publisher.handle(5, told())));
    // It waits for so long by its own clock, which is not ours.
    assert!(is_told(publisher.handle(5 + TAKEN_MS_MAX - 1_000, told())));
    assert_eq!(publisher.handle(TAKEN_MS_MAX, told()), [Output::Cut(Cut::Protocol)]);
}
