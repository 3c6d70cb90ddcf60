//! `skerry:edge`: what a Skerry node knows and WASI 0.2 has no interface for.

use super::drafts::skerry::edge;
use crate::client::Tls;

/// The app has no such secret store.
pub(crate) struct NoStore;

pub(crate) fn client_address() -> String {
    edge::client::address()
}

pub(crate) fn client_tls() -> Option<Tls> {
    let edge::client::TlsInfo { version, cipher, server_name } = edge::client::tls()?;
    Some(Tls { version, cipher, server_name })
}

pub(crate) fn place(address: &str) -> Option<String> {
    edge::geo::lookup(address)
}

pub(crate) fn device(user_agent: &str) -> Option<String> {
    edge::device::lookup(user_agent)
}

pub(crate) fn secret(store: Option<&str>, name: &str) -> Result<Option<Vec<u8>>, NoStore> {
    edge::secrets::get(store, name).map_err(|edge::secrets::Error::NoSuchStore| NoStore)
}
