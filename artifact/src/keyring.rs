//! Which compiler keys are trusted now: some that were told of, and what [changes](KeyChange) made of them since, taken one
//! after the other. Pure: who has the same roots and takes the same changes trusts the same keys.
//!
//! 1. Only a key that is trusted at that moment is heard. So a revoked one endorses nothing after.
//! 2. A revoked key never comes back, whoever endorses it: replaying its endorsement is in vain.
//! 3. Serials grow: a change that was made before one that was taken is stale. So an endorsement that was put aside, or
//!    that an attacker kept, cannot be brought up later.
//! 4. No key revokes itself, so whoever revoked is still trusted: no change leaves a keyring without a key.

use crate::{
    key_change::{KeyChange, Verb},
    keys::{Compiler, KeyId, PublicKey, Trusted},
    nack::NackCode,
};

/// Keys trusted at once: two during a rotation, and room for some compilers with a key each.
pub const KEYS_TRUSTED_MAX: usize = 16;

/// Changes that a keyring takes: a rotation is two of them, so one each month for 40 years. 0.5 MB of a log.
pub const KEY_CHANGES_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    trusted: Vec<PublicKey<Compiler>>,
    revoked: Vec<PublicKey<Compiler>>,
    /// Of the last change taken.
    serial: u64,
    /// Changes taken.
    taken: usize,
}

/// A change was not taken, or a key not told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Rule 1.
    #[error("compiler key {0}, which signed it, is not trusted here")]
    Stranger(KeyId),
    /// Rule 1.
    #[error("compiler key {0}, which signed it, was revoked")]
    RevokedSigner(KeyId),
    /// Rule 2.
    #[error("compiler key {0} was revoked, which is for ever: make another")]
    Revoked(KeyId),
    /// Rule 3.
    #[error("its serial is {found}, one of {taken} was taken already: make and sign it anew")]
    Stale {
        /// Of the change.
        found: u64,
        /// Of the last one taken.
        taken: u64,
    },
    /// Over [`KEYS_TRUSTED_MAX`].
    #[error("{KEYS_TRUSTED_MAX} compiler keys are trusted already: revoke one first")]
    Full,
    /// Over [`KEY_CHANGES_MAX`].
    #[error(
        "{KEY_CHANGES_MAX} changes of compiler keys were taken, the most there may be: nodes must enrol anew"
    )]
    TooManyChanges,
}

impl KeyRefusal {
    /// What a reader of the log says of a record with such a change.
    pub fn nack_code(&self) -> NackCode {
        match self {
            KeyRefusal::Stranger(_) | KeyRefusal::RevokedSigner(_) | KeyRefusal::Revoked(_) => {
                NackCode::UnknownKey
            }
            KeyRefusal::Stale { .. } | KeyRefusal::Full | KeyRefusal::TooManyChanges => NackCode::Internal,
        }
    }
}

impl Keyring {
    /// Trusts these keys to begin with.
    pub fn of(roots: impl IntoIterator<Item = PublicKey<Compiler>>) -> Keyring {
        Keyring { trusted: roots.into_iter().collect(), ..Keyring::default() }
    }

    /// Trusts one more, by no key's word but our own configuration. `false`: it was trusted already.
    pub fn tell(&mut self, root: PublicKey<Compiler>) -> Result<bool, KeyRefusal> {
        self.check_place(&root)?;
        let is_new = !self.trusts(&root);
        if is_new {
            self.trusted.push(root);
        }
        Ok(is_new)
    }

    /// Takes a change, or leaves everything as it was. What is so already may be said again: others may not know it yet.
    pub fn take(&mut self, change: &KeyChange) -> Result<(), KeyRefusal> {
        let (signer, key) = (change.signer(), change.key());
        if self.revoked.contains(&signer) {
            return Err(KeyRefusal::RevokedSigner(signer.id()));
        }
        if !self.trusts(&signer) {
            return Err(KeyRefusal::Stranger(signer.id()));
        }
        if change.serial() <= self.serial {
            return Err(KeyRefusal::Stale { found: change.serial(), taken: self.serial });
        }
        if self.taken >= KEY_CHANGES_MAX {
            return Err(KeyRefusal::TooManyChanges);
        }
        match change.verb() {
            Verb::Endorses => drop(self.tell(key)?),
            Verb::Revokes => self.revoke(key),
        }
        self.serial = change.serial();
        self.taken += 1;
        Ok(())
    }

    /// The keys trusted now, in the order they came.
    pub fn trusted(&self) -> &[PublicKey<Compiler>] {
        &self.trusted
    }

    /// The keys that were revoked.
    pub fn revoked(&self) -> &[PublicKey<Compiler>] {
        &self.revoked
    }

    /// Is it trusted now?
    pub fn trusts(&self, key: &PublicKey<Compiler>) -> bool {
        self.trusted.contains(key)
    }

    /// What artifacts are checked with.
    pub fn trust(&self) -> Trusted<Compiler> {
        Trusted::new(self.trusted.iter().copied())
    }

    fn check_place(&self, key: &PublicKey<Compiler>) -> Result<(), KeyRefusal> {
        if self.revoked.contains(key) {
            return Err(KeyRefusal::Revoked(key.id()));
        }
        if !self.trusts(key) && self.trusted.len() >= KEYS_TRUSTED_MAX {
            return Err(KeyRefusal::Full);
        }
        Ok(())
    }

    /// Also one that was never trusted here: an endorsement of it may be under way.
    fn revoke(&mut self, key: PublicKey<Compiler>) {
        self.trusted.retain(|trusted| *trusted != key);
        if !self.revoked.contains(&key) {
            self.revoked.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn key(seed: u8) -> SecretKey<Compiler> {
        SecretKey::from_seed([seed; 32])
    }

    fn public(seed: u8) -> PublicKey<Compiler> {
        key(seed).public()
    }

    fn id(seed: u8) -> KeyId {
        public(seed).id()
    }

    fn change(by: u8, verb: Verb, of: u8, serial: u64) -> KeyChange {
        KeyChange::sign(&key(by), verb, public(of), serial).unwrap()
    }

    fn endorses(by: u8, of: u8, serial: u64) -> KeyChange {
        change(by, Verb::Endorses, of, serial)
    }

    fn revokes(by: u8, of: u8, serial: u64) -> KeyChange {
        change(by, Verb::Revokes, of, serial)
    }

    /// What a reader with these roots trusts after all of these, whatever it refuses.
    fn trusted(roots: &[u8], changes: &[KeyChange]) -> Vec<PublicKey<Compiler>> {
        let mut ring = Keyring::of(roots.iter().map(|seed| public(*seed)));
        for change in changes {
            let _ = ring.take(change);
        }
        ring.trusted().to_vec()
    }

    #[test]
    fn a_trusted_key_endorses_another_which_then_revokes_it() {
        let mut ring = Keyring::of([public(1)]);
        ring.take(&endorses(1, 2, 1)).unwrap();
        assert_eq!(ring.trusted(), [public(1), public(2)]);
        ring.take(&revokes(2, 1, 2)).unwrap();
        assert_eq!((ring.trusted(), ring.revoked()), (&[public(2)][..], &[public(1)][..]));
        assert!(ring.trust().contains(&public(2)) && !ring.trust().contains(&public(1)));
    }

    #[test]
    fn a_strangers_and_a_revoked_keys_word_counts_nothing() {
        let mut ring = Keyring::of([public(1)]);
        let before = ring.clone();
        assert_eq!(ring.take(&endorses(9, 8, 1)), Err(KeyRefusal::Stranger(id(9))));
        assert_eq!(ring.take(&revokes(9, 1, 1)), Err(KeyRefusal::Stranger(id(9))));
        assert_eq!(ring, before);
        ring.take(&endorses(1, 2, 1)).unwrap();
        ring.take(&revokes(2, 1, 2)).unwrap();
        assert_eq!(ring.take(&endorses(1, 9, 3)), Err(KeyRefusal::RevokedSigner(id(1))));
        assert_eq!(ring.take(&revokes(1, 2, 3)), Err(KeyRefusal::RevokedSigner(id(1))));
        assert_eq!(ring.trusted(), [public(2)]);
    }

    #[test]
    fn replaying_an_endorsement_brings_no_revoked_key_back_nor_does_a_new_one() {
        let mut ring = Keyring::of([public(1)]);
        let old = endorses(1, 2, 5);
        ring.take(&old).unwrap();
        ring.take(&revokes(1, 2, 6)).unwrap();
        assert_eq!(ring.take(&old), Err(KeyRefusal::Stale { found: 5, taken: 6 }));
        assert_eq!(ring.take(&endorses(1, 2, 7)), Err(KeyRefusal::Revoked(id(2))));
        assert_eq!(ring.tell(public(2)), Err(KeyRefusal::Revoked(id(2))), "nor does the configuration");
        assert_eq!(ring.trusted(), [public(1)]);
    }

    #[test]
    fn an_endorsement_that_was_put_aside_is_stale_once_a_later_change_was_taken() {
        let mut ring = Keyring::of([public(1)]);
        let kept_by_an_attacker = endorses(1, 9, 5);
        ring.take(&endorses(1, 2, 6)).unwrap();
        assert_eq!(ring.take(&kept_by_an_attacker), Err(KeyRefusal::Stale { found: 5, taken: 6 }));
        assert_eq!(ring.take(&endorses(1, 3, 6)), Err(KeyRefusal::Stale { found: 6, taken: 6 }), "or equal");
    }

    #[test]
    fn a_key_can_be_revoked_before_its_endorsement_comes() {
        let mut ring = Keyring::of([public(1)]);
        ring.take(&revokes(1, 2, 1)).unwrap();
        assert_eq!(ring.take(&endorses(1, 2, 2)), Err(KeyRefusal::Revoked(id(2))));
    }

    #[test]
    fn no_order_of_revocations_leaves_no_key() {
        let mut all = [(1, 2), (2, 1), (2, 3), (3, 1), (1, 3), (3, 2)];
        for _ in 0..all.len() {
            all.rotate_left(1);
            let mut ring = Keyring::of([public(1), public(2), public(3)]);
            for (serial, (by, of)) in all.into_iter().enumerate() {
                let _ = ring.take(&revokes(by, of, serial as u64 + 1));
            }
            assert_eq!(ring.trusted().len(), 1, "{all:?}");
        }
    }

    #[test]
    fn whoever_comes_late_to_a_chain_of_rotations_trusts_what_the_others_do() {
        let chain = [endorses(1, 2, 1), revokes(2, 1, 2), endorses(2, 3, 3), revokes(3, 2, 4)];
        // Enrolled before, and away for all of it; then with the keys of each moment, who reads the log from its start.
        for roots in [&[1][..], &[1, 2], &[2], &[2, 3], &[3]] {
            assert_eq!(trusted(roots, &chain), [public(3)], "{roots:?}");
        }
        // A node of before sees no more than the first half: it stands where the fleet stood then.
        assert_eq!(trusted(&[1], &chain[..3]), [public(2), public(3)]);
        assert_eq!(trusted(&[9], &chain), [public(9)], "a node of another fleet believes none of it");
    }

    #[test]
    fn there_is_room_for_so_many_keys_and_a_revocation_makes_room() {
        let mut ring = Keyring::of([public(1)]);
        let count = KEYS_TRUSTED_MAX as u8;
        for of in 2..=count {
            ring.take(&endorses(1, of, u64::from(of))).unwrap();
        }
        assert_eq!(ring.take(&endorses(1, 100, 100)), Err(KeyRefusal::Full));
        assert_eq!(ring.tell(public(100)), Err(KeyRefusal::Full));
        ring.take(&endorses(1, 2, 100)).unwrap(); // says nothing new, and needs no room
        ring.take(&revokes(1, 2, 101)).unwrap();
        ring.take(&endorses(1, 100, 102)).unwrap();
        assert_eq!(ring.trusted().len(), KEYS_TRUSTED_MAX);
    }

    #[test]
    fn so_many_changes_are_taken() {
        let mut ring = Keyring::of([public(1)]);
        for serial in 1..=KEY_CHANGES_MAX as u64 {
            ring.take(&endorses(1, 2, serial)).unwrap();
        }
        assert_eq!(ring.take(&endorses(1, 2, u64::MAX)), Err(KeyRefusal::TooManyChanges));
    }
}
