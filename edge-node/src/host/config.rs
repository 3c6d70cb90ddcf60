//! Plain configuration of a version, in stores. It arrived with the generation and cannot change under a request.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// The app has no store of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the app has no such store: declare it in skerry.toml")]
pub struct NoStore;

/// Has the app a config store of this name? Every app has the default one, `None`.
pub fn has_store(exchange: &Exchange, store: Option<&str>) -> bool {
    let has = || exchange.deployment.config.config_store(store).is_some();
    exchange.door.learn(Source::Config, || Has(has())).0
}

/// The value of `key` in a store; `None` is the default one.
pub fn get(exchange: &Exchange, store: Option<&str>, key: &str) -> Result<Option<String>, NoStore> {
    let find = || {
        Value(match exchange.deployment.config.config_store(store) {
            Some(entries) => Ok(entries.get(key).cloned()),
            None => Err(NoStore),
        })
    };
    exchange.door.learn(Source::Config, find).0
}

/// Every key and value of a store, by key; `None` is the default one.
pub fn entries(exchange: &Exchange, store: Option<&str>) -> Result<BTreeMap<String, String>, NoStore> {
    let config = &exchange.deployment.config;
    exchange.door.learn(Source::Config, || Entries(config.config_store(store).cloned().ok_or(NoStore))).0
}

/// Whether a store is there.
pub(super) struct Has(pub(super) bool);

impl Fact for Has {
    fn event(&self) -> Event {
        Event::Number(u64::from(self.0))
    }

    fn recall(event: Event) -> Option<Has> {
        match event {
            Event::Number(number) => Some(Has(number != 0)),
            _ => None,
        }
    }
}

const NO_STORE: &str = "no-store";

struct Value(Result<Option<String>, NoStore>);

impl Fact for Value {
    fn event(&self) -> Event {
        match &self.0 {
            Ok(value) => {
                Event::Optional(value.as_ref().map(|value| Bytes::copy_from_slice(value.as_bytes())))
            }
            Err(NoStore) => Event::Failed(NO_STORE.to_owned()),
        }
    }

    fn recall(event: Event) -> Option<Value> {
        match event {
            Event::Optional(None) => Some(Value(Ok(None))),
            Event::Optional(Some(bytes)) => Some(Value(Ok(Some(String::from_utf8(bytes.into()).ok()?)))),
            Event::Failed(_) => Some(Value(Err(NoStore))),
            _ => None,
        }
    }
}

struct Entries(Result<BTreeMap<String, String>, NoStore>);

impl Fact for Entries {
    fn event(&self) -> Event {
        match &self.0 {
            Ok(entries) => Event::Bytes(serde_json::to_vec(entries).unwrap_or_default().into()),
            Err(NoStore) => Event::Failed(NO_STORE.to_owned()),
        }
    }

    fn recall(event: Event) -> Option<Entries> {
        match event {
            Event::Bytes(text) => Some(Entries(Ok(serde_json::from_slice(&text).ok()?))),
            Event::Failed(_) => Some(Entries(Err(NoStore))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;

    use super::*;
    use crate::{
        host::{door::Door, tape::Tape},
        testing,
    };

    type Seen = (Vec<Result<Option<String>, NoStore>>, Result<BTreeMap<String, String>, NoStore>, Vec<bool>);

    fn visit(config: AppConfig, door: Door) -> Seen {
        let mut exchange = testing::exchange(config);
        exchange.door = door;
        let asked =
            [(None, "k"), (Some("default"), "k"), (Some("one"), "k"), (Some("one"), "x"), (Some("two"), "k")];
        let values = asked.map(|(store, key)| get(&exchange, store, key)).into();
        let has = [None, Some("one"), Some("two")].map(|store| has_store(&exchange, store)).into();
        (values, entries(&exchange, Some("one")), has)
    }

    #[test]
    fn values_come_from_their_store_and_pass_the_door() {
        let one: BTreeMap<String, String> = [("k".to_owned(), "in one".to_owned())].into();
        let config = AppConfig {
            config: [("k".to_owned(), "in default".to_owned())].into(),
            config_stores: [("one".to_owned(), one.clone())].into(),
            ..AppConfig::default()
        };
        let tape = Tape::record();
        let seen = visit(config, tape.door());
        let (default, of_one) = (Ok(Some("in default".into())), Ok(Some("in one".into())));
        assert_eq!(seen.0, [default.clone(), default, of_one, Ok(None), Err(NoStore)]);
        assert_eq!((&seen.1, &seen.2), (&Ok(one), &vec![true, true, false]));
        // A replay has the recording, not the configuration.
        assert_eq!(visit(AppConfig::default(), Tape::play(tape.recording()).door()), seen);
    }
}
