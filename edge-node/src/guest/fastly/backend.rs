//! `fastly_backend`: what is known of a backend, declared or made by the guest.

use std::sync::Arc;

use artifact::manifest::Backend;
use http::Uri;
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
        outbound::{limits, made::Made},
    },
};

const MODULE: &str = "fastly_backend";
/// How the interface numbers what a backend's health may be: this host lets nobody choose by it, but fails over
/// between the origins of a backend by itself.
const HEALTH_UNKNOWN: u32 = 0;
/// How it numbers TLS versions.
pub(super) const TLS_1_2: u32 = 2;
/// See [`TLS_1_2`].
pub(super) const TLS_1_3: u32 = 3;

type Guest<'a> = Caller<'a, FastlyState>;
type Number = fn(&Backend) -> Result<u32, Status>;
type Text = fn(&Backend) -> Result<String, Status>;

/// Numbers of a backend.
const NUMBERS: [(&str, Number); 13] = [
    ("is_healthy", |_| Ok(HEALTH_UNKNOWN)),
    ("is_ssl", |backend| Ok(u32::from(is_tls(backend)?))),
    ("get_connect_timeout_ms", |backend| {
        Ok(backend.connect_timeout_ms.unwrap_or(limits::CONNECT_TIMEOUT.as_millis() as u32))
    }),
    ("get_first_byte_timeout_ms", |backend| {
        Ok(backend.first_byte_timeout_ms.unwrap_or(limits::FIRST_BYTE_TIMEOUT.as_millis() as u32))
    }),
    ("get_between_bytes_timeout_ms", |backend| {
        Ok(backend.between_bytes_timeout_ms.unwrap_or(limits::BETWEEN_BYTES_TIMEOUT.as_millis() as u32))
    }),
    ("get_http_keepalive_time", |_| Ok(limits::IDLE_TIMEOUT.as_millis() as u32)),
    // Idle connections are watched by HTTP and dropped early, not kept alive by TCP.
    ("get_tcp_keepalive_enable", |_| Ok(0)),
    ("get_tcp_keepalive_interval", |_| Ok(0)),
    ("get_tcp_keepalive_probes", |_| Ok(0)),
    ("get_tcp_keepalive_time", |_| Ok(0)),
    ("get_ssl_min_version", |backend| if is_tls(backend)? { Ok(TLS_1_2) } else { Err(Status::None) }),
    ("get_ssl_max_version", |backend| if is_tls(backend)? { Ok(TLS_1_3) } else { Err(Status::None) }),
    ("get_port", |backend| port(backend).map(u32::from)),
];

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    for (function, number) in NUMBERS {
        linker.func_wrap(MODULE, function, move |guest: Guest<'_>, name: u32, length: u32, out: u32| {
            call(guest, |memory, state| {
                let number = number(&known(memory, state, name, length)?.backend)?;
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
