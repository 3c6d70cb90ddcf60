//! Whose native code this node believes now: the keys of its enrolment, and what became of them by the changes in the log.
//!
//! Nobody tells the node a key: an origin that is not to be believed can keep changes back, and cannot make any. Derived
//! anew from what is on the disk, so that a restart with nobody to ask trusts what it trusted before.

use std::sync::Arc;

use arc_swap::ArcSwap;
use artifact::{
    keyring::Keyring,
    keys::{Compiler, PublicKey, Trusted},
};
use fleet_sync_proto::FleetView;
use parking_lot::Mutex;

use crate::identity::Identity;

/// See the module.
pub(crate) struct Trust {
    ring: Mutex<Keyring>,
    shared: Arc<ArcSwap<Trusted<Compiler>>>,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust { ring: Mutex::default(), shared: Arc::new(ArcSwap::from_pointee(Trusted::new([]))) }
    }
}

impl Trust {
    /// For those who check code.
    pub(crate) fn shared(&self) -> Arc<ArcSwap<Trusted<Compiler>>> {
        self.shared.clone()
    }

    /// Brings it to what the identity and the log say.
    pub(crate) fn derive(&self, identity: Option<&Identity>, view: &FleetView) {
        let start = identity.map(Identity::keyring).unwrap_or_default();
        let now = view.compiler_keys.as_seen_from(start);
        let mut ring = self.ring.lock();
        if *ring == now {
            return;
        }
        let ids = |keys: &[PublicKey<Compiler>]| -> Vec<String> {
            keys.iter().map(|key| key.id().to_string()).collect()
        };
        tracing::info!(trusted = ?ids(now.trusted()), revoked = ?ids(now.revoked()), "the compiler keys of now");
        self.shared.store(Arc::new(now.trust()));
        *ring = now;
    }
}
