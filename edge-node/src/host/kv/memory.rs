//! Key-value stores for tests, in memory: generations, modes and order as the real ones, no lives and no quotas.

use std::collections::BTreeMap;

use fleet_sync_replica::kv::wire::{Ask, At, ListAsk, Message, Mode, PutAsk, Refusal, Said};
use parking_lot::Mutex;

use super::{Answer, Arrived, KvStore};
use crate::host::held::Arrivals;

/// See the module.
#[derive(Default)]
pub struct MemoryKv(Mutex<Held>);

#[derive(Default)]
struct Held {
    entries: BTreeMap<At, (u64, Vec<u8>, Vec<u8>)>,
    last: u64,
    /// See [`MemoryKv::with_expired`].
    expired: Option<&'static str>,
}

/// Entries that one page of a store with expired ones looks at.
const LOOKS_MAX: usize = 2;

impl MemoryKv {
    /// One where entries whose keys begin so have expired: lists skip them, and end pages early, even empty, that look at
    /// many.
    pub fn with_expired(prefix: &'static str) -> MemoryKv {
        MemoryKv(Mutex::new(Held { expired: Some(prefix), ..Held::default() }))
    }

    /// Every entry, for a test that looks from outside: store, key, value.
    pub fn entries(&self) -> Vec<(String, String, Vec<u8>)> {
        let held = self.0.lock();
        let shown = held
            .entries
            .iter()
            .map(|(at, (_, _, value))| (at.space.store.to_string(), at.key.to_string(), value.clone()));
        shown.collect()
    }
}

impl KvStore for MemoryKv {
    fn ask(&self, ask: Message<Ask>, arrivals: Arrivals) -> Answer {
        let said = self.0.lock().answer(ask);
        let said = said.unwrap_or_else(|refusal| Message::bare(Said::Refused { refusal }));
        Box::pin(std::future::ready(Arrived::count(Ok(said), &arrivals)))
    }
}

impl Held {
    fn answer(&mut self, ask: Message<Ask>) -> Result<Message<Said>, Refusal> {
        let Message { head, metadata, value } = ask;
        match head {
            Ask::Get(at) => Ok(match self.entries.get(&at) {
                None => Message::bare(Said::Missing { age_ms: 0 }),
                Some((generation, metadata, value)) => {
                    let head = Said::Found { generation: *generation, ttl_ms: None, age_ms: 0 };
                    Message { head, metadata: metadata.clone(), value: value.clone() }
                }
            }),
            Ask::Put(PutAsk { at, mode, if_generation, .. }) => {
                let there = self.entries.get(&at);
                let fits = if_generation.is_none_or(|wanted| there.is_some_and(|there| there.0 == wanted));
                if !fits || (mode == Mode::Add && there.is_some()) {
                    return Err(Refusal::Precondition);
                }
                let before = there.map(|there| there.2.clone()).unwrap_or_default();
                let value = match mode {
                    Mode::Overwrite | Mode::Add => value,
                    Mode::Append => [before, value].concat(),
                    Mode::Prepend => [value, before].concat(),
                };
                self.last += 1;
                self.entries.insert(at, (self.last, metadata, value));
                Ok(Message::bare(Said::Stored { generation: self.last }))
            }
            Ask::Delete { at, if_generation } => {
                let there = self.entries.get(&at).map(|there| there.0);
                if if_generation.is_some_and(|wanted| there != Some(wanted)) {
                    return Err(Refusal::Precondition);
                }
                self.entries.remove(&at);
                Ok(Message::bare(Said::Deleted { existed: there.is_some() }))
            }
            Ask::List(ListAsk { space, prefix, limit, cursor }) => {
                let in_store = self.entries.keys().filter(|at| at.space == space).map(|at| at.key.as_str());
                let wanted = |key: &&str| {
                    key.starts_with(&prefix) && cursor.as_ref().is_none_or(|last| *key > last.as_str())
                };
                let has_expired = |key: &str| self.expired.is_some_and(|prefix| key.starts_with(prefix));
                let looks_max = if self.expired.is_some() { LOOKS_MAX } else { usize::MAX };
                let (mut keys, mut looked) = (Vec::new(), Vec::new());
                for key in in_store.filter(wanted) {
                    if keys.len() == limit as usize || looked.len() == looks_max {
                        let next = looked.last().map(|last: &&str| (*last).to_owned());
                        return Ok(Message::bare(Said::Page { keys, next }));
                    }
                    looked.push(key);
                    keys.extend((!has_expired(key)).then(|| key.to_owned()));
                }
                Ok(Message::bare(Said::Page { keys, next: None }))
            }
        }
    }
}
