//! `fastly_geo` and `fastly_device_detection`: what is known of an address or of a `User-Agent`, as JSON.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, call};
use crate::{
    front::limits::HEADER_BYTES_MAX,
    host::{device, geo},
};

const GEO: &str = "fastly_geo";
const DEVICE: &str = "fastly_device_detection";

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        GEO,
        "lookup",
        |guest: Guest<'_>, octets: u32, length: u32, buffer: u32, length_max: u32, written: u32| {
            call(guest, |memory, state| {
                let address = address(memory.bytes(octets, length)?)?;
                let place = geo::lookup(&state.exchange, address);
                memory.give_optional(place.as_deref(), buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(
        DEVICE,
        "lookup",
        |guest: Guest<'_>, agent: u32, length: u32, buffer: u32, length_max: u32, written: u32| {
            call(guest, |memory, state| {
                if length as usize > HEADER_BYTES_MAX {
                    return Err(Status::Invalid);
                }
                let agent = memory.text(agent, length)?;
                let device = device::lookup(&state.exchange, agent);
                memory.give_optional(device.as_deref(), buffer, length_max, written)
            })
        },
    )?;
    Ok(())
}

/// 4 or 16 octets.
fn address(octets: &[u8]) -> Result<IpAddr, Status> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into()).map_err(|_| Status::Invalid)
}
