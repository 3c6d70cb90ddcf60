//! The log's last records in memory, so that the store has one reader and not one a node.

use std::collections::VecDeque;

use artifact::{
    Digest,
    record::{RawRecord, Rev},
};
use fleet_sync_proto::{Position, publisher};

use crate::log::LogBatch;

/// Records kept: at 1.2 deploys/s of three records, more than half an hour.
const RECORDS_MAX: usize = 10_000;
/// Bytes of text kept.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A dense run of records that ends at the head.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Position before the first record kept.
    base: Position,
    /// Each with the chain value after it.
    records: VecDeque<(RawRecord, Digest)>,
    bytes: usize,
}

impl Tail {
    /// Nothing kept yet; the next record follows `base`.
    pub(crate) fn new(base: Position) -> Tail {
        Tail { base, records: VecDeque::new(), bytes: 0 }
    }

    /// Adds the records that follow, dropping the oldest beyond the limits.
    pub(crate) fn push(&mut self, records: &[RawRecord]) {
        for raw in records {
            let before = self.records.back().map_or(self.base.chain, |(_, chain)| *chain);
            self.bytes += raw.text().len();
            self.records.push_back((raw.clone(), raw.chain(before)));
        }
        while self.records.len() > RECORDS_MAX || self.bytes > BYTES_MAX {
            let Some((raw, _)) = self.records.pop_front() else { break };
            self.bytes -= raw.text().len();
            if let Some(base) = publisher::follow(self.base, std::slice::from_ref(&raw)) {
                self.base = base;
            }
        }
    }

    /// One batch after a rev, or `None` when that lies before (or beyond) what is kept.
    pub(crate) fn read(&self, after: Rev) -> Option<LogBatch> {
        let skip = usize::try_from(after.checked_sub(self.base.rev)?).ok()?;
        if skip > self.records.len() {
            return None;
        }
        let chain = if skip == 0 { self.base.chain } else { self.records[skip - 1].1 };
        let rest = || self.records.range(skip..).map(|(raw, _)| raw);
        let records = rest().take(publisher::batch_len(rest())).cloned().collect();
        Some(LogBatch { after, chain: Some(chain), records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record;

    #[test]
    fn keeps_the_last_records_and_knows_the_chain_before_each() {
        let all: Vec<RawRecord> = (1..=RECORDS_MAX as u64 + 50).map(|rev| record(1, rev)).collect();
        let mut tail = Tail::new(Position::START);
        tail.push(&all[..20]);
        assert_eq!(tail.read(0).unwrap().records, all[..20]);
        assert_eq!(tail.read(20).unwrap().records, []);
        assert_eq!(tail.read(21), None);
        tail.push(&all[20..]);
        assert_eq!(tail.read(49), None, "dropped");
        let chain = all[..60].iter().fold(Digest::ZERO, |chain, raw| raw.chain(chain));
        let batch = tail.read(60).unwrap();
        assert_eq!((batch.chain, &batch.records[0]), (Some(chain), &all[60]));
        assert_eq!(batch.records.len(), artifact::record::BATCH_RECORDS_MAX);
    }
}
