//! An answer that has come, and its room in what the host holds for its execution.

use fleet_sync_replica::kv::wire::{Message, Said};

use super::KvError;
use crate::host::held::{Arrivals, Room};

/// See the module.
pub struct Arrived {
    pub(super) said: Message<Said>,
    /// One without a value has none.
    pub(super) room: Option<Room>,
}

impl Arrived {
    /// Counts an answer when it has come. One that there is no room for is thrown away.
    pub fn count(said: Result<Message<Said>, KvError>, arrivals: &Arrivals) -> Result<Arrived, KvError> {
        let said = said?;
        let room = match bytes(&said) {
            0 => None,
            bytes => Some(arrivals.room(bytes).ok_or(KvError::NoRoom)?),
        };
        Ok(Arrived { said, room })
    }
}

/// What an answer holds beside its own size, which an operation has whatever is answered.
fn bytes(said: &Message<Said>) -> usize {
    let Message { head, metadata, value } = said;
    let keys: usize = match head {
        Said::Page { keys, .. } => keys.iter().map(|key| key.len() + size_of::<String>()).sum(),
        _ => 0,
    };
    keys + metadata.len() + value.len()
}
