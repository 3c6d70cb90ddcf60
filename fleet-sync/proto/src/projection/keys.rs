//! Which compiler keys the log knows, and what they said of each other.
//!
//! What is checked here is what records alone can tell: that a change is one, that its signer was told of by the log or
//! endorsed in it, and the keyring's rules. **It gives no node a key**: whoever writes the log also writes which keys it
//! was told of. A node takes the changes with the keys of its own enrolment, [`CompilerKeys::as_seen_from`].

use std::sync::Arc;

use artifact::{
    dsse::Envelope,
    key_change::KeyChange,
    keyring::{KeyRefusal, Keyring},
    keys::{Compiler, PublicKey},
    nack::{Nack, NackCode},
};

/// See the module. Cloning shares.
#[derive(Debug, Clone, Default)]
pub struct CompilerKeys {
    ring: Keyring,
    changes: Arc<Vec<KeyChange>>,
}

impl CompilerKeys {
    /// Told keys, changed as the log says: what the control plane believes, and what a node is given when it enrols.
    pub fn ring(&self) -> &Keyring {
        &self.ring
    }

    /// All changes that were taken, oldest first.
    pub fn changes(&self) -> &[KeyChange] {
        &self.changes
    }

    /// The keyring of somebody who began with this one by himself. What is older, and what none of his keys signed, is passed
    /// over: a node that enrolled late was given what came of the oldest changes, and none tells it what is not its own.
    pub fn as_seen_from(&self, start: Keyring) -> Keyring {
        let mut ring = start;
        for change in self.changes.iter() {
            let _not_for_us = ring.take(change);
        }
        ring
    }

    /// Would this be taken as the next change?
    pub fn check(&self, change: &KeyChange) -> Result<(), KeyRefusal> {
        self.ring.clone().take(change)
    }

    /// Those of the keys that the log does not know and would take.
    pub fn unknown(&self, keys: &[PublicKey<Compiler>]) -> Vec<PublicKey<Compiler>> {
        let mut ring = self.ring.clone();
        keys.iter().filter(|key| ring.tell(**key) == Ok(true)).copied().collect()
    }

    /// What is revoked, or beyond the room there is, stays out.
    pub(super) fn tell(&mut self, keys: Vec<PublicKey<Compiler>>) {
        for key in keys {
            let _stays_out = self.ring.tell(key);
        }
    }

    pub(super) fn take(&mut self, change: Envelope) -> Result<(), Nack> {
        let refused = |code, detail| Nack { code, detail };
        let change = KeyChange::open(change)
            .map_err(|error| refused(NackCode::BadSig, format!("a change of compiler keys: {error}")))?;
        self.ring
            .take(&change)
            .map_err(|refusal| refused(refusal.nack_code(), format!("{change}: {refusal}")))?;
        Arc::make_mut(&mut self.changes).push(change);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use artifact::{key_change::Verb, keys::SecretKey, record::Body};

    use super::{
        super::{FleetView, tests::put},
        *,
    };

    fn key(seed: u8) -> SecretKey<Compiler> {
        SecretKey::from_seed([seed; 32])
    }

    fn public(seed: u8) -> PublicKey<Compiler> {
        key(seed).public()
    }

    fn change(by: u8, verb: Verb, of: u8, serial: u64) -> Body {
        let change = KeyChange::sign(&key(by), verb, public(of), serial).unwrap();
        Body::KeyChange { change: change.envelope().clone() }
    }

    fn told(keys: &[u8]) -> Body {
        Body::EpochStart { base_rev: 0, compiler_keys: keys.iter().map(|seed| public(*seed)).collect() }
    }

    fn rotated() -> FleetView {
        let mut view = FleetView::new();
        for body in [told(&[1]), change(1, Verb::Endorses, 2, 1), change(2, Verb::Revokes, 1, 2)] {
            put(&mut view, body).unwrap();
        }
        view
    }

    #[test]
    fn the_log_tells_keys_and_takes_what_they_say_of_each_other() {
        let view = rotated();
        let keys = &view.compiler_keys;
        assert_eq!((keys.ring().trusted(), keys.ring().revoked()), (&[public(2)][..], &[public(1)][..]));
        assert_eq!(keys.changes().len(), 2);
        assert_eq!(keys.as_seen_from(Keyring::of([public(1)])).trusted(), [public(2)]);
        assert_eq!(keys.unknown(&[public(1), public(2), public(3), public(3)]), [public(3)]);
    }

    #[test]
    fn what_no_told_key_signed_what_is_replayed_and_what_is_no_change_is_refused_and_the_cursor_moves_on() {
        let mut view = rotated();
        let broken = {
            let Body::KeyChange { change } = change(2, Verb::Endorses, 3, 9) else { unreachable!() };
            let text = change.to_json().replace("\"sig\":\"", "\"sig\":\"AA");
            Envelope::from_json(text.as_bytes()).unwrap()
        };
        for (body, code) in [
            (change(9, Verb::Endorses, 8, 9), NackCode::UnknownKey),
            (change(1, Verb::Endorses, 8, 9), NackCode::UnknownKey),
            (change(2, Verb::Endorses, 1, 9), NackCode::UnknownKey),
            (change(1, Verb::Endorses, 2, 1), NackCode::UnknownKey),
            (change(2, Verb::Revokes, 1, 2), NackCode::Internal),
            (Body::KeyChange { change: broken }, NackCode::BadSig),
        ] {
            let rev = view.rev;
            let refused = put(&mut view, body.clone()).unwrap_err();
            assert!(refused.moved_on() && view.rev == rev + 1, "{body:?}");
            assert_eq!(refused.nack().code, code, "{refused}");
            assert_eq!(view.compiler_keys.ring(), rotated().compiler_keys.ring());
            assert_eq!(view.compiler_keys.changes().len(), 2);
        }
        put(&mut view, change(2, Verb::Endorses, 3, 3)).unwrap();
    }

    /// The wall between the two keys of a fleet: whoever has the log and its release key, and no compiler key.
    #[test]
    fn whoever_writes_the_log_tells_himself_keys_and_no_node() {
        let mut view = rotated();
        put(&mut view, told(&[9])).unwrap();
        put(&mut view, change(9, Verb::Endorses, 8, 10)).unwrap();
        put(&mut view, change(9, Verb::Revokes, 2, 11)).unwrap();
        assert_eq!(view.compiler_keys.ring().trusted(), [public(9), public(8)]);
        for roots in [[public(1)], [public(2)]] {
            assert_eq!(view.compiler_keys.as_seen_from(Keyring::of(roots)).trusted(), [public(2)]);
        }
    }

    #[test]
    fn a_revoked_key_that_the_configuration_still_names_stays_out() {
        let mut view = rotated();
        put(&mut view, told(&[1])).unwrap();
        assert_eq!(view.compiler_keys.ring().trusted(), [public(2)]);
    }
}
