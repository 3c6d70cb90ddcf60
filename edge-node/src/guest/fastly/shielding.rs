//! `fastly_shielding`: a fleet of this host has no shields, so no name is one.

use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, call};

const MODULE: &str = "fastly_shielding";
/// The options of a shield's backend that are known: cache key, two timeouts.
const OPTIONS: u32 = 0b1110;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "shield_info",
        |guest: Guest<'_>, name: u32, length: u32, _block: u32, _block_length_max: u32, written: u32| {
            call(guest, |memory, _| {
                memory.text(name, length)?;
                memory.write_u32(written, 0)?;
                Err(Status::None)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "backend_for_shield",
        |guest: Guest<'_>,
         name: u32,
         length: u32,
         mask: u32,
         _options: u32,
         _backend: u32,
         _backend_length_max: u32,
         written: u32| {
            call(guest, |memory, _| {
                memory.text(name, length)?;
                if mask & !OPTIONS != 0 {
                    return Err(Status::Invalid);
                }
                memory.write_u32(written, 0)?;
                Err(Status::None)
            })
        },
    )?;
    Ok(())
}
