//! `skerry:edge`: what a node knows and WASI 0.2 has no interface for: the client, where it is, what device it has, and the
//! version's secrets.

use bytes::Bytes;
use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower},
};

use super::{At, Cx};
use crate::host::{client, config::NoStore, device, geo, secrets};

/// `tls-info` of the interface `client`.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(record)]
struct TlsInfo {
    version: String,
    cipher: Option<String>,
    #[component(name = "server-name")]
    server_name: Option<String>,
}

/// `error` of the interface `secrets`.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
}

/// Links what a guest imports of `client`.
pub(super) fn define_client(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "address" => {
            at.func_wrap(name, |cx: Cx<'_>, (): ()| Ok((client::peer(&cx.data().exchange).to_string(),)))
        }
        "tls" => at.func_wrap(name, |cx: Cx<'_>, (): ()| Ok((tls(&cx),))),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn tls(cx: &Cx<'_>) -> Option<TlsInfo> {
    let exchange = &cx.data().exchange;
    let known = |text: Option<Bytes>| text.as_deref().and_then(text_of);
    let version = known(client::of_tls(exchange, client::tls_version))?;
    let cipher = known(client::of_tls(exchange, client::tls_cipher));
    let server_name = known(client::of_tls(exchange, client::tls_server_name));
    Some(TlsInfo { version, cipher, server_name })
}

/// Links what a guest imports of `geo`.
pub(super) fn define_geo(at: &mut At<'_>, name: &str) -> Result<bool> {
    if name != "lookup" {
        return Ok(false);
    }
    at.func_wrap(name, |cx: Cx<'_>, (address,): (String,)| {
        let place = address.parse().ok().and_then(|address| geo::lookup(&cx.data().exchange, address));
        Ok((place.as_deref().and_then(text_of),))
    })?;
    Ok(true)
}

/// Links what a guest imports of `device`.
pub(super) fn define_device(at: &mut At<'_>, name: &str) -> Result<bool> {
    if name != "lookup" {
        return Ok(false);
    }
    at.func_wrap(name, |cx: Cx<'_>, (user_agent,): (String,)| {
        Ok((device::lookup(&cx.data().exchange, &user_agent).as_deref().and_then(text_of),))
    })?;
    Ok(true)
}

/// Links what a guest imports of `secrets`.
pub(super) fn define_secrets(at: &mut At<'_>, name: &str) -> Result<bool> {
    if name != "get" {
        return Ok(false);
    }
    at.func_wrap(name, |cx: Cx<'_>, (store, secret): (Option<String>, String)| {
        let found = secrets::get(&cx.data().exchange, store.as_deref(), &secret);
        let found =
            found.map(|value| value.map(|bytes| bytes.to_vec())).map_err(|NoStore| Error::NoSuchStore);
        Ok((found,))
    })?;
    Ok(true)
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
