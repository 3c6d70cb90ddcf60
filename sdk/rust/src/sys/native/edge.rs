//! Client, places, devices and secrets of a test's world.

use super::world;
use crate::client::Tls;

/// The app has no such secret store.
pub(crate) struct NoStore;

pub(crate) fn client_address() -> String {
    world(|world| world.client.to_string())
}

/// A test's requests come over plain HTTP.
pub(crate) fn client_tls() -> Option<Tls> {
    None
}

pub(crate) fn place(address: &str) -> Option<String> {
    world(|world| world.places.get(&address.parse().ok()?).cloned())
}

pub(crate) fn device(user_agent: &str) -> Option<String> {
    world(|world| world.devices.get(user_agent).cloned())
}

pub(crate) fn secret(store: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, NoStore> {
    world(|world| {
        let of_store = world.secrets.get(&store.map(str::to_owned));
        match of_store {
            Some(secrets) => Ok(secrets.get(name).cloned()),
            None if store.is_none() => Ok(None),
            None => Err(NoStore),
        }
    })
}
