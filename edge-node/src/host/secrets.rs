//! Secrets of a version: opened when its deployment is built, held without a way to print them, given out by name.

use std::{collections::BTreeMap, fmt};

use artifact::{
    AppId,
    names::{SecretName, StoreName},
    seal::{SealError, SecretsKey},
    secrets::{PinnedSecret, SecretAt, SecretValue},
};
use bytes::Bytes;

use super::{
    config::{Has, NoStore},
    door::{Event, Fact, Source},
};
use crate::exchange::Exchange;

/// The opened secrets of one version.
#[derive(Default)]
pub struct Secrets(BTreeMap<SecretAt, SecretValue>);

/// A pinned secret does not open.
#[derive(Debug, thiserror::Error)]
#[error("the secret {at}")]
pub struct Unopened {
    /// Which.
    pub at: SecretAt,
    /// Why.
    #[source]
    pub source: SealError,
}

impl Secrets {
    /// Opens what a version of `app` pins.
    pub fn open(key: &SecretsKey, app: &AppId, pinned: &[PinnedSecret]) -> Result<Secrets, Unopened> {
        let open = |pinned: &PinnedSecret| match pinned.at.open(key, app, &pinned.value) {
            Ok(value) => Ok((pinned.at.clone(), value)),
            Err(source) => Err(Unopened { at: pinned.at.clone(), source }),
        };
        pinned.iter().map(open).collect::<Result<_, _>>().map(Secrets)
    }

    /// A value by its place; for the node's own use, such as the key of a client certificate.
    pub fn get(&self, store: Option<&str>, name: &str) -> Option<&SecretValue> {
        let store: Option<StoreName> = store.map(str::parse).transpose().ok()?;
        let name: SecretName = name.parse().ok()?;
        self.0.get(&SecretAt { store, name })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Has the app a secret store of this name? Every app has the default one, `None`.
pub fn has_store(exchange: &Exchange, store: Option<&str>) -> bool {
    let has = || exchange.deployment.config.secret_store(store).is_some();
    exchange.door.learn(Source::Config, || Has(has())).0
}

/// The value of a secret the app declares for its program; `None` is the default store.
pub fn get(exchange: &Exchange, store: Option<&str>, name: &str) -> Result<Option<Bytes>, NoStore> {
    let deployment = &exchange.deployment;
    let find = || {
        let (store, names) = deployment.config.secret_store(store).ok_or(NoStore)?;
        // Pinned is more than that: keys of client certificates are the node's, not the program's.
        let declared = names.iter().any(|declared| declared == name);
        let value = declared.then(|| deployment.secrets.get(store, name)).flatten();
        Ok(value.map(|value| Bytes::copy_from_slice(value.expose())))
    };
    exchange.door.learn(Source::Config, || Value(find())).0
}

struct Value(Result<Option<Bytes>, NoStore>);

impl Fact for Value {
    fn event(&self) -> Event {
        match &self.0 {
            Ok(value) => Event::Optional(value.clone()),
            Err(NoStore) => Event::Failed("no-store".to_owned()),
        }
    }

    fn recall(event: Event) -> Option<Value> {
        match event {
            Event::Optional(value) => Some(Value(Ok(value))),
            Event::Failed(_) => Some(Value(Err(NoStore))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use artifact::{
        manifest::{AppConfig, Backend},
        seal::NONCE_BYTES,
    };

    use super::*;
    use crate::{exchange::Exchange, host::tape::Tape, testing};

    const KEY: [u8; 32] = [1; 32];

    fn pinned(app: &AppId, store: Option<&str>, name: &str, value: &str) -> PinnedSecret {
        let at = SecretAt { store: store.map(|store| store.parse().unwrap()), name: name.parse().unwrap() };
        let value = SecretValue::new(value.as_bytes().to_vec());
        let value = at.seal(&SecretsKey::from_bytes(KEY), app, [3; NONCE_BYTES], &value);
        PinnedSecret { at, value }
    }

    fn exchange() -> Exchange {
        let backend = Backend { client_key_secret: Some("MTLS".into()), ..Backend::default() };
        let config = AppConfig {
            secrets: vec!["A".into(), "NEVER_SET".into()],
            secret_stores: [("vault".to_owned(), vec!["A".to_owned()])].into(),
            backends: [("b".to_owned(), backend)].into(),
            ..AppConfig::default()
        };
        let mut deployment = testing::deployment("test", 1, config);
        let id = deployment.id.clone();
        let pins = [
            pinned(&id, None, "A", "plain"),
            pinned(&id, Some("vault"), "A", "vaulted"),
            pinned(&id, None, "MTLS", "private key"),
        ];
        deployment.secrets = Secrets::open(&SecretsKey::from_bytes(KEY), &id, &pins).unwrap().into();
        Exchange::begin(Arc::new(deployment), testing::connection(), testing::host())
    }

    #[test]
    fn a_program_reads_what_it_declared_and_no_more() {
        let tape = Tape::record();
        let mut exchange = exchange();
        exchange.door = tape.door();
        let asks = [
            (None, "A"),
            (Some("default"), "A"),
            (Some("vault"), "A"),
            (Some("vault"), "B"),
            (None, "NEVER_SET"),
            (None, "MTLS"),
            (Some("other"), "A"),
        ];
        let seen = asks.map(|(store, name)| get(&exchange, store, name));
        let text = |text: &'static str| Ok(Some(Bytes::from_static(text.as_bytes())));
        let wanted =
            [text("plain"), text("plain"), text("vaulted"), Ok(None), Ok(None), Ok(None), Err(NoStore)];
        assert_eq!(seen, wanted);
        assert_eq!(exchange.deployment.secrets.get(None, "MTLS").unwrap().expose(), b"private key");

        let mut elsewhere = testing::exchange(AppConfig::default());
        elsewhere.door = Tape::play(tape.recording()).door();
        assert_eq!(asks.map(|(store, name)| get(&elsewhere, store, name)), wanted);
    }

    #[test]
    fn a_value_of_another_app_or_key_does_not_open_and_is_named() {
        let (key, id) = (SecretsKey::from_bytes(KEY), exchange().deployment.id.clone());
        let other = AppId { app: "other".parse().unwrap(), ..id.clone() };
        let error = Secrets::open(&key, &id, &[pinned(&other, None, "A", "x")]).unwrap_err();
        assert_eq!(error.to_string(), "the secret A");
        assert!(
            Secrets::open(&SecretsKey::from_bytes([9; 32]), &id, &[pinned(&id, None, "A", "x")]).is_err()
        );
    }

    #[test]
    fn nothing_prints_a_value() {
        let exchange = exchange();
        let shown = format!("{:?}", exchange.deployment.secrets);
        assert!(shown.contains("vault") && !shown.contains("plain") && !shown.contains("private"), "{shown}");
    }
}
