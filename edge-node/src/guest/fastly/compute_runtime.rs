//! `fastly_compute_runtime`: what the execution has used, and products this host has none of.

use wasmtime::{Caller, Linker};

use super::{FastlyState, call};
use crate::host::clock;

const MODULE: &str = "fastly_compute_runtime";
const MIB: usize = 1 << 20;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "get_vcpu_ms", |guest: Guest<'_>, ms: u32| {
        call(guest, |memory, state| memory.write_u64(ms, clock::cpu_ms(&state.exchange)))
    })?;
    linker.func_wrap(MODULE, "get_heap_mib", |guest: Guest<'_>, mib: u32| {
        call(guest, |memory, state| {
            let bytes = memory.size().saturating_add(state.exchange.held.bytes());
            memory.write_usize(mib, bytes.div_ceil(MIB))
        })
    })?;
    for product in ["has_domain_inspector", "has_image_optimizer", "has_origin_inspector"] {
        linker.func_wrap(MODULE, product, |guest: Guest<'_>, enabled: u32| {
            call(guest, |memory, _| memory.write_u32(enabled, 0))
        })?;
    }
    Ok(())
}
