//! Which compiler keys are trusted now: some that were told of, and what [changes](KeyChange) made of them since, taken one
//! after the other. Pure: who has the same roots and takes the same changes trusts the same keys.
//!
//! 1. Only a key that is trusted at that moment is heard. So a revoked one endorses nothing after.
//! 2. A revoked key never comes back, whoever endorses it: replaying its endorsement is in vain.
//! 3. Serials grow: a change that was made before one that was taken is stale. So an endorsement that was put aside, or
//!    that an attacker kept, cannot be brought up later.
//! 4. No key revokes itself, so whoever revoked is still trusted: no change leaves a keyring without a key.

use serde::{Deserialize, Serialize};

use crate::{
    key_change::{KeyChange, Verb},
    keys::{Compiler, KeyId, PublicKey, Trusted},
    nack::NackCode,
};

/// Keys trusted at once: two during a rotation, and room for some compilers with a key each.
pub const KEYS_TRUSTED_MAX: usize = 16;

/// Changes that a keyring takes: a rotation is two of them, so one each month for 40 years. 0.5 MB of a log.
pub const KEY_CHANGES_MAX: usize = 1_024;

/// Revoked keys that a [`KeyringPast`] tells, the newest: so that it has its place in an enrolment's answer. It gives nobody a
/// key to leave one out, as its endorsement is stale or was refused by the log.
pub const REVOKED_TOLD_MAX: usize = 256;

/// What a keyring went through before somebody begins with the keys it trusts. Without it he would take changes that were made
/// before his keys were what they are: those of a key that is trusted still, and none of those that made up for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyringPast {
    /// Of the last change taken. What was made before is stale.
    #[serde(default)]
    pub serial: u64,
    /// Keys that never come back, oldest first; at most [`REVOKED_TOLD_MAX`].
    #[serde(default)]
    pub revoked: Vec<PublicKey<Compiler>>,
}

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

    /// Trusts these keys to begin with, after all this was. What is in both is revoked.
    pub fn after(past: KeyringPast, roots: impl IntoIterator<Item = PublicKey<Compiler>>) -> Keyring {
        let KeyringPast { serial, revoked } = past;
        let trusted = roots.into_iter().filter(|root| !revoked.contains(root)).collect();
        Keyring { trusted, revoked, serial, taken: 0 }
    }

    /// For whoever is to begin with the keys trusted now.
    pub fn past(&self) -> KeyringPast {
        let too_many = self.revoked.len().saturating_sub(REVOKED_TOLD_MAX);
        KeyringPast { serial: self.serial, revoked: self.revoked[too_many..].to_vec() }
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

    /// Numbers that look like chance, the same for a seed: splitmix64.
    fn chance(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A log's ring that was told of key 0 and was offered changes between six keys: the ring after each that it took, and those.
    fn history(seed: u64) -> (Vec<Keyring>, Vec<KeyChange>) {
        let (mut state, mut changes) = (seed, vec![]);
        let mut rings = vec![Keyring::of([public(0)])];
        for serial in 1..=20 {
            let by = (chance(&mut state) % 6) as u8;
            let of = (by + 1 + (chance(&mut state) % 5) as u8) % 6;
            let verb = if chance(&mut state).is_multiple_of(3) { Verb::Revokes } else { Verb::Endorses };
            let (offered, mut ring) = (change(by, verb, of, serial), rings.last().unwrap().clone());
            if ring.take(&offered).is_ok() {
                rings.push(ring);
                changes.push(offered);
            }
        }
        (rings, changes)
    }

    #[test]
    fn whoever_begins_at_any_point_of_any_history_trusts_what_the_log_does() {
        let mut revocations = 0;
        for seed in 0..100 {
            let (rings, changes) = history(seed);
            let log = rings.last().unwrap();
            revocations += log.revoked().len();
            for (point, ring) in rings.iter().enumerate() {
                let mut late = Keyring::after(ring.past(), ring.trusted().iter().copied());
                let refused = changes.iter().filter(|change| late.take(change).is_err()).count();
                assert_eq!(refused, point, "what was before is stale and the rest is taken: seed {seed}");
                assert_eq!(late.trusted(), log.trusted(), "seed {seed}, enrolled after {point}");
                assert_eq!(late.revoked(), log.revoked(), "seed {seed}, enrolled after {point}");
            }
        }
        assert!(revocations > 100, "{revocations}: histories in which something happens");
    }

    #[test]
    fn who_begins_late_takes_no_endorsement_whose_revocation_came_from_a_key_that_is_gone() {
        let history = [endorses(1, 2, 1), endorses(2, 9, 2), revokes(1, 9, 3), revokes(2, 1, 4)];
        assert_eq!(trusted(&[1], &history), [public(2)]);
        assert_eq!(trusted(&[2], &history), [public(2), public(9)], "so without a past");
        let past = KeyringPast { serial: 4, revoked: vec![public(9), public(1)] };
        let mut ring = Keyring::after(past.clone(), [public(2), public(1)]);
        assert_eq!((ring.trusted(), ring.past()), (&[public(2)][..], past), "revoked wins");
        for change in &history {
            ring.take(change).unwrap_err();
        }
        assert_eq!(ring.take(&endorses(2, 9, 5)), Err(KeyRefusal::Revoked(id(9))));
        assert_eq!(ring.trusted(), [public(2)]);
    }

    #[test]
    fn a_past_tells_the_newest_revoked_keys() {
        let mut ring = Keyring::of([public(0)]);
        for nr in 0..=REVOKED_TOLD_MAX as u64 {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&nr.to_le_bytes());
            let of = SecretKey::from_seed(seed).public();
            ring.take(&KeyChange::sign(&key(0), Verb::Revokes, of, nr + 1).unwrap()).unwrap();
        }
        assert_eq!(ring.past().revoked, ring.revoked()[1..]);
        assert!(
            serde_json::to_vec(&ring.past()).unwrap().len() < 32 * 1024,
            "half of what an answer may have"
        );
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
