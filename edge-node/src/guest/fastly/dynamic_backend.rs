//! `register_dynamic_backend`: a backend that a program makes for itself, for this execution. Where it may lead is
//! checked when a request is sent there.

use std::sync::Arc;

use artifact::manifest::Backend;
use http::uri::Authority;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    backend::{TLS_1_2, TLS_1_3, find},
    call,
    http_req::MODULE,
    memory::{GuestMemory, field},
    send::read_name,
};

/// Backends one execution may make: as many as a service of the platform may have.
pub(super) const DYNAMIC_BACKENDS_MAX: usize = 200;
/// Bytes of one text in a backend's settings: a bundle of a few authorities.
const TEXT_BYTES_MAX: u32 = 64 * 1024;

/// The bits that say which settings count.
mod option {
    pub const OVERRIDE_HOST: u32 = 1 << 1;
    pub const CONNECT_TIMEOUT: u32 = 1 << 2;
    pub const FIRST_BYTE_TIMEOUT: u32 = 1 << 3;
    pub const BETWEEN_BYTES_TIMEOUT: u32 = 1 << 4;
    pub const TLS: u32 = 1 << 5;
    pub const TLS_MIN: u32 = 1 << 6;
    pub const TLS_MAX: u32 = 1 << 7;
    pub const CERT_HOST: u32 = 1 << 8;
    pub const AUTHORITIES: u32 = 1 << 9;
    pub const CIPHERS: u32 = 1 << 10;
    pub const SNI: u32 = 1 << 11;
    pub const DO_NOT_POOL: u32 = 1 << 12;
    pub const CLIENT_CERTIFICATE: u32 = 1 << 13;
    pub const GRPC: u32 = 1 << 14;
    pub const KEEPALIVE: u32 = 1 << 15;
    pub const POOL_LIMITS: u32 = 1 << 16;
    pub const PREFER_IPV4: u32 = 1 << 17;
    pub const HEALTH_CHECK: u32 = 1 << 18;

    /// What changes how a request is sent, and is not done here.
    pub const UNSUPPORTED: u32 = CIPHERS | DO_NOT_POOL | CLIENT_CERTIFICATE | GRPC | HEALTH_CHECK;
    /// How connections are kept: hints that change no request. This host keeps them its own way.
    pub const HINTS: u32 = KEEPALIVE | POOL_LIMITS | PREFER_IPV4;
    /// All that are known.
    pub const KNOWN: u32 = OVERRIDE_HOST
        | CONNECT_TIMEOUT
        | FIRST_BYTE_TIMEOUT
        | BETWEEN_BYTES_TIMEOUT
        | TLS
        | TLS_MIN
        | TLS_MAX
        | CERT_HOST
        | AUTHORITIES
        | SNI
        | UNSUPPORTED
        | HINTS;
}

/// Where the settings stand in their struct, all of 4 bytes.
mod at {
    pub const OVERRIDE_HOST: u32 = 0;
    pub const CONNECT_TIMEOUT: u32 = 8;
    pub const FIRST_BYTE_TIMEOUT: u32 = 12;
    pub const BETWEEN_BYTES_TIMEOUT: u32 = 16;
    pub const TLS_MIN: u32 = 20;
    pub const TLS_MAX: u32 = 24;
    pub const CERT_HOST: u32 = 28;
    pub const AUTHORITIES: u32 = 36;
    pub const SNI: u32 = 52;
}

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "register_dynamic_backend",
        |guest: Caller<'_, FastlyState>,
         name: u32,
         name_length: u32,
         target: u32,
         target_length: u32,
         mask: u32,
         settings: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let target = read_name(memory, target, target_length)?;
                let backend = Settings { memory, mask, at: settings }.backend(target)?;
                register(state, name, backend)
            })
        },
    )?;
    Ok(())
}

fn register(state: &mut FastlyState, name: &str, backend: Backend) -> Answer {
    // SDKs read this status as "name in use".
    if find(state, name).is_some() {
        return Err(Status::Error);
    }
    if state.backends.len() >= DYNAMIC_BACKENDS_MAX {
        return Err(Status::LimitExceeded);
    }
    let texts = [&backend.override_host, &backend.cert_host, &backend.ca_pem];
    state.hold(texts.into_iter().flatten().map(String::len).sum())?;
    state.backends.insert(name.into(), Arc::new(backend.into()));
    Ok(())
}

/// Settings as the guest wrote them.
struct Settings<'a> {
    memory: &'a GuestMemory<'a>,
    mask: u32,
    at: u32,
}

impl Settings<'_> {
    fn backend(&self, target: &str) -> Result<Backend, Status> {
        if self.mask & !option::KNOWN != 0 {
            return Err(Status::Invalid);
        }
        if self.mask & option::UNSUPPORTED != 0 || !self.tls_versions_fit()? {
            return Err(Status::Unsupported);
        }
        let authority: Authority = target.parse().map_err(|_| Status::Invalid)?;
        if target.contains('@') {
            return Err(Status::Invalid);
        }
        let scheme = if self.has(option::TLS) { "https" } else { "http" };
        Ok(Backend {
            url: format!("{scheme}://{authority}"),
            override_host: self.text(option::OVERRIDE_HOST, at::OVERRIDE_HOST)?,
            cert_host: self.cert_host()?,
            ca_pem: self.text(option::AUTHORITIES, at::AUTHORITIES)?,
            connect_timeout_ms: self.number(option::CONNECT_TIMEOUT, at::CONNECT_TIMEOUT)?,
            first_byte_timeout_ms: self.number(option::FIRST_BYTE_TIMEOUT, at::FIRST_BYTE_TIMEOUT)?,
            between_bytes_timeout_ms: self
                .number(option::BETWEEN_BYTES_TIMEOUT, at::BETWEEN_BYTES_TIMEOUT)?,
            ..Backend::default()
        })
    }

    fn has(&self, option: u32) -> bool {
        self.mask & option != 0
    }

    fn number(&self, option: u32, at: u32) -> Result<Option<u32>, Status> {
        self.has(option).then(|| self.memory.read_u32(field(self.at, at)?)).transpose()
    }

    /// A text's address, then its length.
    fn text(&self, option: u32, at: u32) -> Result<Option<String>, Status> {
        let Some(pointer) = self.number(option, at)? else { return Ok(None) };
        let length = self.memory.read_u32(field(self.at, at + 4)?)?;
        if length > TEXT_BYTES_MAX {
            return Err(Status::LimitExceeded);
        }
        Ok(Some(self.memory.text(pointer, length)?.to_owned()))
    }

    /// This host speaks TLS 1.2 and 1.3, whichever the backend prefers: a program that wants less of it is refused.
    fn tls_versions_fit(&self) -> Result<bool, Status> {
        let min = self.number(option::TLS_MIN, at::TLS_MIN)?.unwrap_or(TLS_1_2);
        let max = self.number(option::TLS_MAX, at::TLS_MAX)?.unwrap_or(TLS_1_3);
        Ok(min <= TLS_1_2 && max == TLS_1_3)
    }

    /// The name in the certificate and the one that is asked for are one here.
    fn cert_host(&self) -> Result<Option<String>, Status> {
        let certificate = self.text(option::CERT_HOST, at::CERT_HOST)?;
        let sni = self.text(option::SNI, at::SNI)?;
        match (certificate, sni) {
            (Some(certificate), Some(sni)) if certificate != sni => Err(Status::Unsupported),
            (certificate, sni) => Ok(certificate.or(sni)),
        }
    }
}
