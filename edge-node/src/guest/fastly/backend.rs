//! `fastly_backend`: what is known of a backend, declared or made by the guest.

use std::{sync::Arc, time::Duration};

use artifact::manifest::Backend;
use http::Uri;
use rustls::ProtocolVersion;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    call,
    memory::GuestMemory,
    send::read_name,
};
use crate::{
    exchange::Exchange,
    host::{
        door::{Event, Fact, Source},
        outbound::{
            self, limits,
            made::{Made, TcpKeepalive},
            origins::Health,
        },
    },
};

const MODULE: &str = "fastly_backend";
/// How it numbers TLS versions.
pub(super) const TLS_1_2: u32 = 2;
/// See [`TLS_1_2`].
pub(super) const TLS_1_3: u32 = 3;

type Guest<'a> = Caller<'a, FastlyState>;
type Number = fn(&Made) -> Result<u32, Status>;
type Text = fn(&Backend) -> Result<String, Status>;

/// Numbers of a backend.
const NUMBERS: [(&str, Number); 12] = [
    ("is_ssl", |made| Ok(u32::from(is_tls(&made.backend)?))),
    ("get_connect_timeout_ms", |made| Ok(ms_or(made.backend.connect_timeout_ms, limits::CONNECT_TIMEOUT))),
    ("get_first_byte_timeout_ms", |made| {
        Ok(ms_or(made.backend.first_byte_timeout_ms, limits::FIRST_BYTE_TIMEOUT))
    }),
    ("get_between_bytes_timeout_ms", |made| {
        Ok(ms_or(made.backend.between_bytes_timeout_ms, limits::BETWEEN_BYTES_TIMEOUT))
    }),
    ("get_http_keepalive_time", |made| Ok(made.keeping.idle_max.as_millis() as u32)),
    ("get_tcp_keepalive_enable", |made| Ok(u32::from(made.keeping.tcp_keepalive.is_some()))),
    ("get_tcp_keepalive_interval", |made| Ok(of_tcp(made, |tcp| tcp.interval.as_secs() as u32))),
    ("get_tcp_keepalive_probes", |made| Ok(of_tcp(made, |tcp| tcp.probes))),
    ("get_tcp_keepalive_time", |made| Ok(of_tcp(made, |tcp| tcp.after.as_secs() as u32))),
    ("get_ssl_min_version", |made| tls_version(made, ProtocolVersion::TLSv1_3, TLS_1_3, TLS_1_2)),
    ("get_ssl_max_version", |made| tls_version(made, ProtocolVersion::TLSv1_2, TLS_1_2, TLS_1_3)),
    ("get_port", |made| port(&made.backend).map(u32::from)),
];

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    for (function, number) in NUMBERS {
        linker.func_wrap(MODULE, function, move |guest: Guest<'_>, name: u32, length: u32, out: u32| {
            call(guest, |memory, state| {
                let number = number(&*known(memory, state, name, length)?)?;
                match u16::try_from(number) {
                    Ok(port) if function == "get_port" => memory.write_u16(out, port),
                    _ => memory.write_u32(out, number),
                }
            })
        })?;
    }
    linker.func_wrap(MODULE, "exists", |guest: Guest<'_>, name: u32, length: u32, out: u32| {
        call(guest, |memory, state| {
            let exists = find(state, read_name(memory, name, length)?).is_some();
            memory.write_u32(out, u32::from(exists))
        })
    })?;
    linker.func_wrap(MODULE, "is_healthy", |guest: Guest<'_>, name: u32, length: u32, out: u32| {
        call(guest, |memory, state| {
            known(memory, state, name, length)?;
            memory.write_u32(out, health(state, read_name(memory, name, length)?))
        })
    })?;
    linker.func_wrap(MODULE, "is_dynamic", |guest: Guest<'_>, name: u32, length: u32, out: u32| {
        call(guest, |memory, state| {
            known(memory, state, name, length)?;
            let made = state.backends.contains_key(read_name(memory, name, length)?);
            memory.write_u32(out, u32::from(made))
        })
    })?;
    let texts: [(&str, Text); 2] = [
        ("get_host", |backend| Ok(url(backend)?.host().ok_or(Status::Error)?.to_owned())),
        ("get_override_host", |backend| backend.override_host.clone().ok_or(Status::None)),
    ];
    for (function, text) in texts {
        linker.func_wrap(
            MODULE,
            function,
            move |guest: Guest<'_>, name: u32, length: u32, buffer: u32, length_max: u32, written: u32| {
                call(guest, |memory, state| {
                    let text = text(&known(memory, state, name, length)?.backend);
                    give_text(memory, text, buffer, length_max, written)
                })
            },
        )?;
    }
    Ok(())
}

fn ms_or(said: Option<u32>, default: Duration) -> u32 {
    said.unwrap_or(default.as_millis() as u32)
}

fn of_tcp(made: &Made, number: fn(TcpKeepalive) -> u32) -> u32 {
    made.keeping.tcp_keepalive.map_or(0, number)
}

/// The number for a backend that speaks this version alone, or for any other that speaks TLS.
fn tls_version(made: &Made, only: ProtocolVersion, alone: u32, other: u32) -> Result<u32, Status> {
    match (is_tls(&made.backend)?, made.narrowing.version == Some(only)) {
        (false, _) => Err(Status::None),
        (true, true) => Ok(alone),
        (true, false) => Ok(other),
    }
}

/// As the interface numbers it. What the program made has one origin and no probe, so nobody keeps its health.
fn health(state: &FastlyState, name: &str) -> u32 {
    let known = !state.backends.contains_key(name);
    match known.then(|| outbound::health(&state.exchange, name)).flatten() {
        None | Some(Health::Unknown) => 0,
        Some(Health::Well) => 1,
        Some(Health::Down) => 2,
    }
}

fn give_text(
    memory: &mut GuestMemory<'_>,
    text: Result<String, Status>,
    buffer: u32,
    length_max: u32,
    written: u32,
) -> Answer {
    match text {
        Err(Status::None) => memory.give_optional(None, buffer, length_max, written),
        text => memory.give(text?.as_bytes(), buffer, length_max, written),
    }
}

/// The backend of this name.
pub(super) fn find(state: &FastlyState, name: &str) -> Option<Arc<Made>> {
    if let Some(made) = state.backends.get(name) {
        return Some(made.clone());
    }
    let Exchange { deployment, door, .. } = &state.exchange;
    let declared = || Declared(deployment.config.backends.get(name).cloned());
    door.learn(Source::Config, declared).0.map(|backend| Arc::new(backend.into()))
}

/// What the version says of a backend.
struct Declared(Option<Backend>);

impl Fact for Declared {
    fn event(&self) -> Event {
        let text = |backend| serde_json::to_vec(backend).unwrap_or_default().into();
        Event::Optional(self.0.as_ref().map(text))
    }

    fn recall(event: Event) -> Option<Declared> {
        match event {
            Event::Optional(None) => Some(Declared(None)),
            Event::Optional(Some(text)) => Some(Declared(Some(serde_json::from_slice(&text).ok()?))),
            _ => None,
        }
    }
}

fn known(memory: &GuestMemory<'_>, state: &FastlyState, name: u32, length: u32) -> Result<Arc<Made>, Status> {
    find(state, read_name(memory, name, length)?).ok_or(Status::Invalid)
}

fn url(backend: &Backend) -> Result<Uri, Status> {
    backend.url.parse().map_err(|_| Status::Error)
}

fn is_tls(backend: &Backend) -> Result<bool, Status> {
    Ok(url(backend)?.scheme_str() == Some("https"))
}

fn port(backend: &Backend) -> Result<u16, Status> {
    let url = url(backend)?;
    let default = if is_tls(backend)? { 443 } else { 80 };
    Ok(url.port_u16().unwrap_or(default))
}
