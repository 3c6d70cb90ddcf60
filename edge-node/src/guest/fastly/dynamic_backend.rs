//! `register_dynamic_backend`: a backend that a program makes for itself, for this execution. Where it may lead is
//! checked when a request is sent there.

use std::{sync::Arc, time::Duration};

use artifact::{
    manifest::{Backend, origin::OriginHost},
    secrets::SecretValue,
};
use http::uri::Authority;
use rustls::{CipherSuite, ProtocolVersion, crypto::aws_lc_rs};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    backend::{TLS_1_2, TLS_1_3, find},
    call,
    handles::Handles,
    http_req::MODULE,
    memory::{GuestMemory, field},
    secret_store::Secret,
    send::read_name,
};
use crate::host::outbound::{
    limits,
    made::{Keeping, Made, Narrowing, TcpKeepalive},
};

/// Backends one execution may make: as many as a service of the platform may have.
pub(super) const DYNAMIC_BACKENDS_MAX: usize = 200;
/// Bytes of one text in a backend's settings: a bundle of a few authorities.
const TEXT_BYTES_MAX: u32 = 64 * 1024;
/// Seconds and probes of TCP's keep-alive where a program turns it on and says no more.
const TCP_KEEPALIVE: [u32; 3] = [300, 10, 3];
/// The most that Linux takes of each.
const TCP_KEEPALIVE_MAX: [u32; 3] = [32_767, 32_767, 127];

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

    /// What is not done here. HTTP/2 is spoken where TLS chooses it and cannot be forced, as gRPC wants. Probes are of
    /// declared backends, and know neither method nor window.
    pub const UNSUPPORTED: u32 = GRPC | HEALTH_CHECK;
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
        | CIPHERS
        | SNI
        | DO_NOT_POOL
        | CLIENT_CERTIFICATE
        | KEEPALIVE
        | POOL_LIMITS
        | PREFER_IPV4
        | UNSUPPORTED;
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
    pub const CIPHERS: u32 = 44;
    pub const SNI: u32 = 52;
    pub const CLIENT_CERTIFICATE: u32 = 60;
    pub const CLIENT_KEY: u32 = 68;
    pub const HTTP_KEEPALIVE_MS: u32 = 72;
    pub const TCP_KEEPALIVE_ENABLE: u32 = 76;
    pub const TCP_KEEPALIVE_INTERVAL: u32 = 80;
    pub const TCP_KEEPALIVE_PROBES: u32 = 84;
    pub const TCP_KEEPALIVE_TIME: u32 = 88;
    pub const MAX_CONNECTIONS: u32 = 92;
    pub const MAX_USE: u32 = 96;
    pub const MAX_LIFETIME_MS: u32 = 100;
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
                let made = Settings { memory, mask, at: settings }.made(target, &mut state.handles)?;
                register(state, name, made)
            })
        },
    )?;
    Ok(())
}

fn register(state: &mut FastlyState, name: &str, made: Made) -> Answer {
    // SDKs read this status as "name in use".
    if find(state, name).is_some() {
        return Err(Status::Error);
    }
    if state.backends.len() >= DYNAMIC_BACKENDS_MAX {
        return Err(Status::LimitExceeded);
    }
    let Backend { override_host, cert_host, ca_pem, client_cert_pem, .. } = &made.backend;
    let texts = [override_host, cert_host, ca_pem, client_cert_pem].into_iter().flatten();
    let key = made.client_key.as_ref().map_or(0, |key| key.expose().len());
    state.hold(texts.map(String::len).sum::<usize>() + key)?;
    state.backends.insert(name.into(), Arc::new(made));
    Ok(())
}

/// Settings as the guest wrote them.
struct Settings<'a> {
    memory: &'a GuestMemory<'a>,
    mask: u32,
    at: u32,
}

impl Settings<'_> {
    fn made(&self, target: &str, handles: &mut Handles) -> Result<Made, Status> {
        if self.mask & !option::KNOWN != 0 {
            return Err(Status::Invalid);
        }
        if self.mask & option::UNSUPPORTED != 0 {
            return Err(Status::Unsupported);
        }
        let (cert_host, certificate_of) = self.names()?;
        let narrowing = Narrowing { version: self.version()?, suites: self.suites()?, certificate_of };
        let client_key = match self.number(option::CLIENT_CERTIFICATE, at::CLIENT_KEY)? {
            Some(handle) => Some(SecretValue::new(handles.get::<Box<Secret>>(handle)?.expose().to_vec())),
            None => None,
        };
        let backend = Backend { cert_host, ..self.backend(target)? };
        Ok(Made { backend, client_key, narrowing, keeping: self.keeping()? })
    }

    fn backend(&self, target: &str) -> Result<Backend, Status> {
        let authority: Authority = target.parse().map_err(|_| Status::Invalid)?;
        if target.contains('@') {
            return Err(Status::Invalid);
        }
        let scheme = if self.has(option::TLS) { "https" } else { "http" };
        Ok(Backend {
            url: format!("{scheme}://{authority}"),
            override_host: self.text(option::OVERRIDE_HOST, at::OVERRIDE_HOST)?,
            ca_pem: self.text(option::AUTHORITIES, at::AUTHORITIES)?,
            client_cert_pem: self.text(option::CLIENT_CERTIFICATE, at::CLIENT_CERTIFICATE)?,
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

    /// The same, where 0 is none.
    fn number_above_0(&self, option: u32, at: u32) -> Result<Option<u32>, Status> {
        Ok(self.number(option, at)?.filter(|number| *number != 0))
    }

    /// This host speaks TLS 1.2 and 1.3; the one that is left when a program wants less.
    fn version(&self) -> Result<Option<ProtocolVersion>, Status> {
        let min = self.number(option::TLS_MIN, at::TLS_MIN)?.unwrap_or(0);
        let max = self.number(option::TLS_MAX, at::TLS_MAX)?.unwrap_or(TLS_1_3);
        if min > max || max > TLS_1_3 {
            return Err(Status::Invalid);
        }
        match (min, max) {
            (TLS_1_3, _) => Ok(Some(ProtocolVersion::TLSv1_3)),
            (_, TLS_1_3) => Ok(None),
            (_, TLS_1_2) => Ok(Some(ProtocolVersion::TLSv1_2)),
            _ => Err(Status::Unsupported),
        }
    }

    /// Of TLS 1.2, the suites of a list that this host has, by OpenSSL's names. Other words of OpenSSL's lists, which
    /// mean classes of suites, or remove some, are not known.
    fn suites(&self) -> Result<Option<Vec<CipherSuite>>, Status> {
        let Some(list) = self.text(option::CIPHERS, at::CIPHERS)? else { return Ok(None) };
        let names: Vec<&str> = list.split([':', ',', ' ']).filter(|name| !name.is_empty()).collect();
        let is_name = |name: &&str| {
            let mut characters = name.chars();
            name.contains('-')
                && !name.starts_with('-')
                && characters.all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let had = aws_lc_rs::ALL_CIPHER_SUITES.iter().map(|suite| suite.suite());
        let suites: Vec<_> = had
            .filter(|suite| {
                crate::host::client::openssl_name(*suite).is_some_and(|name| names.contains(&name))
            })
            .collect();
        if suites.is_empty() || !names.iter().all(is_name) {
            return Err(Status::Unsupported);
        }
        Ok(Some(suites))
    }

    /// The name that is asked for, and that of the certificate where it is another.
    fn names(&self) -> Result<(Option<String>, Option<OriginHost>), Status> {
        let certificate = self.text(option::CERT_HOST, at::CERT_HOST)?;
        let sni = self.text(option::SNI, at::SNI)?;
        match (certificate, sni) {
            (Some(certificate), Some(sni)) if certificate != sni => {
                let host = OriginHost::parse(&certificate).map_err(|_| Status::Invalid)?;
                Ok((Some(sni), Some(host)))
            }
            (certificate, sni) => Ok((certificate.or(sni), None)),
        }
    }

    /// How connections are kept: what is asked for, within what this host does by itself.
    fn keeping(&self) -> Result<Keeping, Status> {
        let milliseconds = |ms: u32| Duration::from_millis(ms.into());
        let idle = self.number_above_0(option::KEEPALIVE, at::HTTP_KEEPALIVE_MS)?.map(milliseconds);
        let connections = self.number_above_0(option::POOL_LIMITS, at::MAX_CONNECTIONS)?;
        let connections = connections.map_or(limits::IDLE_PER_ORIGIN_MAX, |most| most as usize);
        Ok(Keeping {
            is_pooled: !self.has(option::DO_NOT_POOL),
            idle_max: idle.unwrap_or(limits::IDLE_TIMEOUT).min(limits::IDLE_TIMEOUT),
            idle_connections_max: connections.min(limits::IDLE_PER_ORIGIN_MAX),
            reuses_max: self.number_above_0(option::POOL_LIMITS, at::MAX_USE)?,
            age_max: self.number_above_0(option::POOL_LIMITS, at::MAX_LIFETIME_MS)?.map(milliseconds),
            prefers_ipv4: self.has(option::PREFER_IPV4),
            tcp_keepalive: self.tcp_keepalive()?,
        })
    }

    fn tcp_keepalive(&self) -> Result<Option<TcpKeepalive>, Status> {
        if self.number_above_0(option::KEEPALIVE, at::TCP_KEEPALIVE_ENABLE)?.is_none() {
            return Ok(None);
        }
        let mut said = TCP_KEEPALIVE;
        let fields = [at::TCP_KEEPALIVE_TIME, at::TCP_KEEPALIVE_INTERVAL, at::TCP_KEEPALIVE_PROBES];
        for ((number, at), most) in said.iter_mut().zip(fields).zip(TCP_KEEPALIVE_MAX) {
            *number = self.number_above_0(option::KEEPALIVE, at)?.unwrap_or(*number);
            if *number > most {
                return Err(Status::Invalid);
            }
        }
        let [after, interval, probes] = said;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Ok(Some(TcpKeepalive { after: seconds(after), interval: seconds(interval), probes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::fastly::tests;

    /// Where texts are, behind the struct of settings.
    const TEXTS: u32 = 256;

    /// What becomes of fields by their index, with a text at [`TEXTS`].
    fn made(mask: u32, fields: &[(u32, u32)], text: &str) -> Result<Made, Status> {
        let mut bytes = vec![0; 512];
        let mut memory = GuestMemory::new(&mut bytes);
        for (index, value) in fields {
            memory.write_u32(index * 4, *value).unwrap();
        }
        memory.bytes_mut(TEXTS, text.len() as u32).unwrap().copy_from_slice(text.as_bytes());
        let settings = Settings { memory: &memory, mask: mask | option::TLS, at: 0 };
        settings.made("a.example", &mut tests::state().handles)
    }

    #[test]
    fn versions_of_tls_are_those_that_are_left() {
        let version = |min, max| {
            let made = made(option::TLS_MIN | option::TLS_MAX, &[(5, min), (6, max)], "");
            made.map(|made| made.narrowing.version)
        };
        assert_eq!((version(0, 3), version(2, 3)), (Ok(None), Ok(None)));
        assert_eq!(version(3, 3), Ok(Some(ProtocolVersion::TLSv1_3)));
        assert_eq!(version(0, 2), Ok(Some(ProtocolVersion::TLSv1_2)));
        assert_eq!((version(0, 1), version(1, 1)), (Err(Status::Unsupported), Err(Status::Unsupported)));
        assert_eq!((version(3, 2), version(0, 4)), (Err(Status::Invalid), Err(Status::Invalid)));
        assert_eq!(made(option::TLS_MAX, &[(6, 2)], "").unwrap().narrowing.version, version(2, 2).unwrap());
    }

    #[test]
    fn suites_are_read_by_name_and_nothing_is_guessed() {
        let suites = |list: &str| {
            let fields = [(11, TEXTS), (12, list.len() as u32)];
            made(option::CIPHERS, &fields, list).map(|made| made.narrowing.suites.unwrap())
        };
        let ecdsa = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
        assert_eq!(suites("ECDHE-ECDSA-AES128-GCM-SHA256"), Ok(vec![ecdsa]));
        assert_eq!(suites("AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256"), Ok(vec![ecdsa]), "one it has not");
        for other in
            ["", "HIGH", "AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256:!aNULL", "TLS_AES_128_GCM_SHA256"]
        {
            assert_eq!(suites(other), Err(Status::Unsupported), "{other:?}");
        }
    }

    #[test]
    fn a_certificate_may_have_another_name_than_is_asked_for() {
        let names = |mask| {
            let Made { backend, narrowing, .. } =
                made(mask, &[(7, TEXTS), (8, 3), (13, TEXTS + 4), (14, 3)], "one:two").unwrap();
            let name = narrowing.certificate_of.map(|name| name.to_string());
            (backend.cert_host, name)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(names(option::CERT_HOST), (text("one"), None));
        assert_eq!(names(option::SNI), (text("two"), None));
        assert_eq!(names(option::CERT_HOST | option::SNI), (text("two"), text("one")));
        let bad = made(option::CERT_HOST | option::SNI, &[(7, TEXTS), (8, 3), (13, TEXTS), (14, 1)], "a/b");
        assert_eq!(bad.err(), Some(Status::Invalid));
    }

    #[test]
    fn connections_are_kept_within_what_this_host_does() {
        let keeping = |mask, fields: &[(u32, u32)]| made(mask, fields, "").map(|made| made.keeping);
        assert_eq!(keeping(0, &[]), Ok(Keeping::default()));
        assert_eq!(
            keeping(option::KEEPALIVE | option::POOL_LIMITS, &[]),
            Ok(Keeping::default()),
            "0 is none"
        );
        let large = [(18, u32::MAX), (23, u32::MAX)];
        assert_eq!(keeping(option::KEEPALIVE | option::POOL_LIMITS, &large), Ok(Keeping::default()));
        let asked = [(18, 2_000), (19, 1), (21, 5), (23, 7), (24, 8), (25, 9)];
        let seconds = Duration::from_secs;
        let expected = Keeping {
            is_pooled: false,
            idle_max: seconds(2),
            idle_connections_max: 7,
            reuses_max: Some(8),
            age_max: Some(Duration::from_millis(9)),
            prefers_ipv4: true,
            tcp_keepalive: Some(TcpKeepalive { after: seconds(300), interval: seconds(10), probes: 5 }),
        };
        let all = option::KEEPALIVE | option::POOL_LIMITS | option::DO_NOT_POOL | option::PREFER_IPV4;
        assert_eq!(keeping(all, &asked), Ok(expected));
        for (field, more) in [(20, 32_768), (21, 128), (22, 32_768)] {
            assert_eq!(keeping(option::KEEPALIVE, &[(19, 1), (field, more)]), Err(Status::Invalid));
            assert_eq!(keeping(option::KEEPALIVE, &[(field, more)]), Ok(Keeping::default()), "not turned on");
        }
    }
}
