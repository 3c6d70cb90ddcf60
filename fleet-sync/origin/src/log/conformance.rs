//! What every [`LogStore`] must do. Each adapter's tests call [`run`] with a maker of fresh, empty logs; `reopen` gives
//! a second handle on the same log, as after a restart.

use std::{future::Future, sync::Arc, time::Duration};

use artifact::record::{Body, Epoch, RawRecord, Record, Rev};

use super::{AppendError, LogError, LogStore};

const TTL: Duration = Duration::from_secs(60);

/// A log under test: a handle, and how to open another one on the same data.
pub struct Subject<L> {
    /// A fresh, empty log.
    pub log: L,
    /// Opens the same log again.
    pub reopen: Box<dyn Fn() -> L + Send + Sync>,
}

/// Runs every case, each on a fresh log. Panics at the first that fails, naming it.
pub async fn run<L, F>(fresh: impl Fn() -> F)
where
    L: LogStore,
    F: Future<Output = Subject<L>>,
{
    starts_empty(fresh().await).await;
    appends_are_dense_and_survive_reopening(fresh().await).await;
    a_wrong_expectation_is_a_conflict_and_writes_nothing(fresh().await).await;
    records_that_do_not_follow_are_refused_whole(fresh().await).await;
    a_new_leader_fences_the_old_one(fresh().await).await;
    a_lease_keeps_others_out_but_not_a_restart(fresh().await).await;
    reads_are_dense_bounded_and_know_the_chain(fresh().await).await;
    eight_writers_leave_no_gap(fresh().await).await;
    wait_ends_on_append_and_on_time(fresh().await).await;
}

/// A small valid record.
pub fn record(epoch: Epoch, rev: Rev) -> RawRecord {
    let body = Body::EpochStart { base_rev: rev - 1, compiler_keys: vec![] };
    let record =
        Record { rev, epoch, time_ms: 0, actor: "conformance".into(), request: None, critical: false, body };
    RawRecord::encode(&record).expect("a small record of plain text")
}

async fn starts_empty<L: LogStore>(subject: Subject<L>) {
    let head = subject.log.head().await.expect("head of an empty log");
    assert_eq!((head.rev, head.epoch), (0, 0));
    let batch = subject.log.read(0, 10).await.expect("read of an empty log");
    assert_eq!((batch.records.len(), batch.chain), (0, Some(head.chain)));
}

async fn appends_are_dense_and_survive_reopening<L: LogStore>(Subject { log, reopen }: Subject<L>) {
    let epoch = log.lead("a", TTL).await.expect("lead");
    let end = log.append(epoch, 0, &[record(epoch, 1), record(epoch, 2)]).await.expect("append");
    assert_eq!(end.rev, 2);
    assert_eq!(end.chain, record(epoch, 2).chain(record(epoch, 1).chain(artifact::Digest::ZERO)));
    drop(log);
    let again = reopen();
    assert_eq!(again.head().await.expect("head"), end);
    assert_eq!(again.read(0, 10).await.expect("read").records, [record(epoch, 1), record(epoch, 2)]);
}

async fn a_wrong_expectation_is_a_conflict_and_writes_nothing<L: LogStore>(Subject { log, .. }: Subject<L>) {
    let epoch = log.lead("a", TTL).await.expect("lead");
    log.append(epoch, 0, &[record(epoch, 1)]).await.expect("append");
    for expect in [0, 2] {
        let refused = log.append(epoch, expect, &[record(epoch, expect + 1)]).await;
        assert!(matches!(refused, Err(AppendError::Conflict { head: 1, .. })), "{refused:?}");
    }
    assert_eq!(log.head().await.expect("head").rev, 1);
}

async fn records_that_do_not_follow_are_refused_whole<L: LogStore>(Subject { log, .. }: Subject<L>) {
    let epoch = log.lead("a", TTL).await.expect("lead");
    for bad in [[record(epoch, 1), record(epoch, 3)], [record(epoch, 1), record(epoch + 1, 2)]] {
        let refused = log.append(epoch, 0, &bad).await;
        assert!(matches!(refused, Err(AppendError::Invalid { .. })), "{refused:?}");
        assert_eq!(log.head().await.expect("head").rev, 0, "the first record of a refused append was kept");
    }
}

async fn a_new_leader_fences_the_old_one<L: LogStore>(Subject { log, reopen }: Subject<L>) {
    let old = log.lead("a", TTL).await.expect("lead");
    log.append(old, 0, &[record(old, 1)]).await.expect("append");
    let other = reopen();
    let new = other.lead("a", TTL).await.expect("lead again");
    assert!(new > old);
    let refused = log.append(old, 1, &[record(old, 2)]).await;
    assert!(matches!(refused, Err(AppendError::Fenced { .. })), "{refused:?}");
    assert!(matches!(log.renew(old, TTL).await, Err(AppendError::Fenced { .. })));
    other.append(new, 1, &[record(new, 2)]).await.expect("append of the new leader");
}

async fn a_lease_keeps_others_out_but_not_a_restart<L: LogStore>(Subject { log, .. }: Subject<L>) {
    let first = log.lead("a", TTL).await.expect("lead");
    assert!(matches!(log.lead("b", TTL).await, Err(LogError::Led { .. })));
    let second = log.lead("a", Duration::ZERO).await.expect("a restart of the same");
    assert!(second > first);
    assert!(log.lead("b", TTL).await.expect("an expired lease is free") > second);
}

async fn reads_are_dense_bounded_and_know_the_chain<L: LogStore>(Subject { log, .. }: Subject<L>) {
    let epoch = log.lead("a", TTL).await.expect("lead");
    let records: Vec<RawRecord> = (1..=20).map(|rev| record(epoch, rev)).collect();
    log.append(epoch, 0, &records).await.expect("append");
    let mut chain = artifact::Digest::ZERO;
    for after in 0..=20 {
        let batch = log.read(after, 5).await.expect("read");
        let upto = (after as usize + 5).min(20);
        assert_eq!(batch.records, records[after as usize..upto], "after {after}");
        assert_eq!(batch.chain, Some(chain), "after {after}");
        if let Some(next) = batch.records.first() {
            chain = next.chain(chain);
        }
    }
    let beyond = log.read(21, 5).await.expect("read beyond the head");
    assert_eq!((beyond.chain, beyond.records.len()), (None, 0));
}

async fn eight_writers_leave_no_gap<L: LogStore>(Subject { log, .. }: Subject<L>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 10;
    let epoch = log.lead("a", TTL).await.expect("lead");
    let log = Arc::new(log);
    let writer = |log: Arc<L>| async move {
        for _ in 0..EACH {
            loop {
                let head = log.head().await.expect("head").rev;
                match log.append(epoch, head, &[record(epoch, head + 1)]).await {
                    Ok(_) => break,
                    Err(AppendError::Conflict { .. }) => {}
                    Err(error) => panic!("append: {error:?}"),
                }
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(writer(log.clone()))).collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let all = log.read(0, 500).await.expect("read").records;
    assert_eq!(all.len() as u64, WRITERS * EACH);
    assert!(all.iter().zip(1..).all(|(raw, rev)| *raw == record(epoch, rev)), "not dense");
}

async fn wait_ends_on_append_and_on_time<L: LogStore>(Subject { log, .. }: Subject<L>) {
    let epoch = log.lead("a", TTL).await.expect("lead");
    log.wait(0, Duration::from_millis(10)).await.expect("wait that times out");
    let log = Arc::new(log);
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait(0, Duration::from_secs(30)).await }
    });
    log.append(epoch, 0, &[record(epoch, 1)]).await.expect("append");
    let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    ended.expect("wait ends soon after an append").expect("the waiting task").expect("wait");
}
