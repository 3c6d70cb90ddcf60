//! `fastly_http_downstream`: what is known of the client, and the older form of the same in `fastly_http_req`, whose
//! functions take no handle because there is one client.
//!
//! SDKs read all of it when they take the client's request, and panic on UNSUPPORTED: so what this host does not know
//! has a fixed answer each. Known: addresses, TLS name, version and cipher, the request's id, its header names.
//! Not known, answered NONE: fingerprints, client certificates, bots, VPNs, regions.

use std::net::IpAddr;

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    call, http_req,
    memory::{GuestMemory, ListOut},
    table,
};
use crate::host::{client, environment};

pub(super) const MODULE: &str = "fastly_http_downstream";

type Guest<'a> = Caller<'a, FastlyState>;

type Text = fn(&FastlyState) -> Option<Bytes>;
type Address = fn(&FastlyState) -> IpAddr;

/// Texts that this host knows, or may know.
const TEXTS: [(&str, Text); 13] = [
    ("downstream_client_request_id", |state| {
        let identity = environment::identity(&state.exchange);
        Some(Bytes::copy_from_slice(identity.names().request.as_bytes()))
    }),
    ("downstream_tls_client_servername", |state| client::of_tls(&state.exchange, client::tls_server_name)),
    ("downstream_tls_protocol", |state| client::of_tls(&state.exchange, client::tls_version)),
    ("downstream_tls_cipher_openssl_name", |state| client::of_tls(&state.exchange, client::tls_cipher)),
    ("downstream_client_h2_fingerprint", unknown),
    ("downstream_client_oh_fingerprint", unknown),
    ("downstream_tls_client_hello", unknown),
    ("downstream_tls_ja4", unknown),
    ("downstream_compliance_region", unknown),
    ("downstream_tls_raw_client_certificate", unknown),
    ("downstream_bot_name", unknown),
    ("downstream_bot_category", unknown),
    ("downstream_resvpnproxy_vpn_service_name", unknown),
];

/// Numbers: those SDKs insist on are 0, the others NONE.
const NUMBERS: [(&str, Option<u32>); 17] = [
    ("fastly_key_is_valid", Some(0)),
    ("downstream_bot_analyzed", Some(0)),
    ("downstream_bot_detected", Some(0)),
    ("downstream_client_ddos_detected", None),
    ("downstream_tls_client_cert_verify_result", None),
    ("downstream_bot_category_kind", None),
    ("downstream_bot_verified", None),
    ("downstream_resvpnproxy_is_anonymous", None),
    ("downstream_resvpnproxy_is_anonymous_vpn", None),
    ("downstream_resvpnproxy_is_hosting_provider", None),
    ("downstream_resvpnproxy_is_proxy_over_vpn", None),
    ("downstream_resvpnproxy_is_public_proxy", None),
    ("downstream_resvpnproxy_is_relay_proxy", None),
    ("downstream_resvpnproxy_is_residential_proxy", None),
    ("downstream_resvpnproxy_is_smart_dns_proxy", None),
    ("downstream_resvpnproxy_is_tor_exit_node", None),
    ("downstream_resvpnproxy_is_vpn_datacenter", None),
];

/// Addresses, as 4 or 16 octets.
const ADDRESSES: [(&str, Address); 2] = [
    ("downstream_client_ip_addr", |state| client::peer(&state.exchange)),
    ("downstream_server_ip_addr", |state| client::local(&state.exchange)),
];

fn unknown(_: &FastlyState) -> Option<Bytes> {
    None
}

/// Was it there before requests had handles of their own?
fn is_older(name: &str) -> bool {
    table::row(http_req::MODULE, name).is_some()
}

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    for (name, value) in TEXTS {
        linker.func_wrap(
            MODULE,
            name,
            move |guest: Guest<'_>, request: u32, buffer: u32, length_max: u32, written: u32| {
                of_request(guest, request, |memory, state| {
                    memory.give_optional(value(state).as_deref(), buffer, length_max, written)
                })
            },
        )?;
        if is_older(name) {
            linker.func_wrap(
                http_req::MODULE,
                name,
                move |guest: Guest<'_>, buffer: u32, length_max: u32, written: u32| {
                    call(guest, |memory, state| {
                        memory.give_optional(value(state).as_deref(), buffer, length_max, written)
                    })
                },
            )?;
        }
    }
    for (name, value) in NUMBERS {
        linker.func_wrap(MODULE, name, move |guest: Guest<'_>, request: u32, out: u32| {
            of_request(guest, request, |memory, _| memory.write_u32(out, value.ok_or(Status::None)?))
        })?;
        if is_older(name) {
            linker.func_wrap(http_req::MODULE, name, move |guest: Guest<'_>, out: u32| {
                call(guest, |memory, _| memory.write_u32(out, value.ok_or(Status::None)?))
            })?;
        }
    }
    for (name, address) in ADDRESSES {
        linker.func_wrap(
            MODULE,
            name,
            move |guest: Guest<'_>, request: u32, octets: u32, written: u32| {
                of_request(guest, request, |memory, state| {
                    give_address(memory, address(state), octets, written)
                })
            },
        )?;
        linker.func_wrap(http_req::MODULE, name, move |guest: Guest<'_>, octets: u32, written: u32| {
            call(guest, |memory, state| give_address(memory, address(state), octets, written))
        })?;
    }
    // 16 octets, no length: not one of the texts.
    linker.func_wrap(
        MODULE,
        "downstream_tls_ja3_md5",
        |guest: Guest<'_>, request: u32, _hash: u32, _written: u32| {
            of_request(guest, request, |_, _| Err(Status::None))
        },
    )?;
    linker.func_wrap(
        http_req::MODULE,
        "downstream_tls_ja3_md5",
        |guest: Guest<'_>, _hash: u32, _written: u32| call(guest, |_, _| Err(Status::None)),
    )?;
    add_original_headers(linker)
}

/// The client's header names. Lower case, whatever the client wrote: h2 and h3 know no other, and hyper does not keep
/// the case of h1.
fn add_original_headers(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "downstream_original_header_names",
        |guest: Guest<'_>,
         request: u32,
         buffer: u32,
         length_max: u32,
         cursor: u32,
         next: u32,
         written: u32| {
            let list = ListOut { buffer, length_max, cursor, next, written };
            of_request(guest, request, |memory, state| give_names(memory, state, list))
        },
    )?;
    linker.func_wrap(
        http_req::MODULE,
        "original_header_names_get",
        |guest: Guest<'_>, buffer: u32, length_max: u32, cursor: u32, next: u32, written: u32| {
            let list = ListOut { buffer, length_max, cursor, next, written };
            call(guest, |memory, state| give_names(memory, state, list))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "downstream_original_header_count",
        |guest: Guest<'_>, request: u32, count: u32| {
            of_request(guest, request, |memory, state| {
                memory.write_usize(count, state.downstream.header_names.len())
            })
        },
    )?;
    linker.func_wrap(http_req::MODULE, "original_header_count", |guest: Guest<'_>, count: u32| {
        call(guest, |memory, state| memory.write_usize(count, state.downstream.header_names.len()))
    })?;
    Ok(())
}

/// For functions that take a request: any live one will do, there is one client.
fn of_request(
    guest: Guest<'_>,
    request: u32,
    answer: impl FnOnce(&mut GuestMemory<'_>, &mut FastlyState) -> Answer,
) -> i32 {
    call(guest, |memory, state| {
        state.handles.request(request)?;
        answer(memory, state)
    })
}

fn give_names(memory: &mut GuestMemory<'_>, state: &FastlyState, list: ListOut) -> Answer {
    memory.give_list(state.downstream.header_names.iter().map(|name| name.as_str().as_bytes()), list)
}

/// An address as 4 or 16 octets.
pub(super) fn give_address(
    memory: &mut GuestMemory<'_>,
    address: IpAddr,
    octets: u32,
    written: u32,
) -> Answer {
    match address {
        IpAddr::V4(address) => memory.give(&address.octets(), octets, 4, written),
        IpAddr::V6(address) => memory.give(&address.octets(), octets, 16, written),
    }
}
