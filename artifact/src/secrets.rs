//! Secrets of an app: where one is, its sealed form in a version, and the opened value that never shows itself.
//!
//! The purpose a value is sealed for names tenant, app, store and name, so a sealed value that is moved to another place,
//! by whoever can write a log or a disk, does not open there.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    AppId,
    names::{SecretName, StoreName},
    seal::{NONCE_BYTES, SealError, Sealed, SecretsKey},
};

/// Bytes of one secret's value: a certificate chain with its key fits many times.
pub const SECRET_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all values that one version pins. Sealed and in base64 they are 107 KiB, so that they and 128 KiB of
/// configuration are one record of 256 KiB.
pub const SECRETS_BYTES_MAX: usize = 80 * 1024;

/// Where a secret is, within an app.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretAt {
    /// Its store; absent: the app's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,
    /// Its name there.
    pub name: SecretName,
}

/// One sealed secret, as a version pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedSecret {
    /// Where it is.
    #[serde(flatten)]
    pub at: SecretAt,
    /// Its value, sealed to the fleet's secrets key.
    pub value: Sealed,
}

/// An opened secret. Not printed by `Debug`, and overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretAt {
    /// Seals a value of `app` for this place. `nonce` must be random and never used again with this key.
    pub fn seal(
        &self,
        key: &SecretsKey,
        app: &AppId,
        nonce: [u8; NONCE_BYTES],
        value: &SecretValue,
    ) -> Sealed {
        key.seal(&self.purpose(app), nonce, value.expose())
    }

    /// Opens what was sealed for this place of `app`.
    pub fn open(&self, key: &SecretsKey, app: &AppId, sealed: &Sealed) -> Result<SecretValue, SealError> {
        key.open(&self.purpose(app), sealed).map(SecretValue::new)
    }

    /// JSON, because no name can then run into the next.
    fn purpose(&self, app: &AppId) -> String {
        let SecretAt { store, name } = self;
        format!("secret:{}", serde_json::json!([app.tenant, app.app, store, name]))
    }
}

impl fmt::Display for SecretAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Some(store) => write!(f, "{} (store {store})", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

impl SecretValue {
    /// Takes a value over.
    pub fn new(value: Vec<u8>) -> SecretValue {
        SecretValue(Zeroizing::new(value))
    }

    /// The bytes, for whoever may have them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(store: Option<&str>, name: &str) -> SecretAt {
        SecretAt { store: store.map(|store| store.parse().unwrap()), name: name.parse().unwrap() }
    }

    fn app(tenant: &str, app: &str) -> AppId {
        AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() }
    }

    #[test]
    fn a_sealed_value_opens_only_where_it_was_sealed_for() {
        let key = SecretsKey::from_bytes([1; 32]);
        let home = at(None, "KEY");
        let sealed = home.seal(&key, &app("a", "shop"), [2; NONCE_BYTES], &SecretValue::new(b"v".to_vec()));
        assert_eq!(home.open(&key, &app("a", "shop"), &sealed).unwrap().expose(), b"v");
        for (elsewhere, app) in [
            (home.clone(), app("b", "shop")),
            (home.clone(), app("a", "blog")),
            (at(Some("KEY"), "KEY"), app("a", "shop")),
            (at(None, "KEY2"), app("a", "shop")),
        ] {
            assert!(elsewhere.open(&key, &app, &sealed).is_err(), "{elsewhere} of {app}");
        }
    }

    #[test]
    fn an_opened_value_does_not_show_itself() {
        let value = SecretValue::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?}"), "SecretValue(..)");
    }

    #[test]
    fn the_most_secrets_and_the_most_configuration_fit_a_record_together() {
        let sealed = (crate::seal::NONCE_BYTES + SECRETS_BYTES_MAX + 16).div_ceil(3) * 4;
        let room = crate::record::RECORD_BYTES_MAX - 16 * 1024; // names, host names, the envelope
        assert!(sealed + crate::manifest::bounds::CONFIG_BYTES_MAX <= room);
    }
}
