//! Signs checkpoints. A head that a thousand streams ask for within a second is signed once.

use artifact::{
    checkpoint::Checkpoint,
    dsse::Envelope,
    keys::{Release, SecretKey},
    record::UnixMs,
};
use parking_lot::Mutex;

/// For how long a signed checkpoint of the same position is handed out again, ms.
const REUSE_MS: u64 = 1_000;

/// Holds the release key.
#[derive(Debug)]
pub(crate) struct Signer {
    key: SecretKey<Release>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// The checkpoint as asked for, and what was made of it.
    signed: Option<(Checkpoint, Envelope)>,
    /// Highest time ever signed here: nodes count a checkpoint as fresh only when its time grows, so a clock that
    /// is set back must not make every node stale.
    time_ms: UnixMs,
}

impl Signer {
    /// `time_ms` is the time of the newest record: signed times never lie before it.
    pub(crate) fn new(key: SecretKey<Release>, time_ms: UnixMs) -> Signer {
        Signer { key, last: Mutex::new(Last { signed: None, time_ms }) }
    }

    pub(crate) fn key(&self) -> &SecretKey<Release> {
        &self.key
    }

    /// The checkpoint signed, with a time that never goes back.
    pub(crate) fn sign(&self, checkpoint: Checkpoint) -> Envelope {
        let mut last = self.last.lock();
        if let Some((signed, envelope)) = &last.signed {
            let same = (signed.epoch, signed.rev, signed.chain)
                == (checkpoint.epoch, checkpoint.rev, checkpoint.chain);
            if same && checkpoint.time_ms.abs_diff(signed.time_ms) < REUSE_MS {
                return envelope.clone();
            }
        }
        last.time_ms = checkpoint.time_ms.max(last.time_ms + 1);
        let envelope = Checkpoint { time_ms: last.time_ms, ..checkpoint }.sign(&self.key);
        last.signed = Some((checkpoint, envelope.clone()));
        envelope
    }
}

#[cfg(test)]
mod tests {
    use artifact::{Digest, keys::Trusted};

    use super::*;

    #[test]
    fn one_signature_a_second_and_no_time_going_back() {
        let key = SecretKey::from_seed([1; 32]);
        let trusted = Trusted::new([key.public()]);
        let signer = Signer::new(key, 0);
        let at = |time_ms| Checkpoint { epoch: 1, rev: 5, chain: Digest::ZERO, time_ms };
        let first = signer.sign(at(10_000));
        assert_eq!(signer.sign(at(10_900)), first);
        let time = |envelope: &Envelope| Checkpoint::open(envelope, &trusted).unwrap().time_ms;
        let later = signer.sign(at(11_500));
        assert_eq!((time(&first), time(&later)), (10_000, 11_500));
        let next = signer.sign(Checkpoint { rev: 6, ..at(3_000) });
        assert_eq!(time(&next), 11_501, "the clock was set back, the signed time was not");
        assert_eq!(time(&signer.sign(Checkpoint { rev: 6, ..at(5_000) })), 11_502, "and it goes on growing");
    }
}
