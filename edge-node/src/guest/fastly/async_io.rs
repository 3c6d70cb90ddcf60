//! `fastly_async_io`: waiting for the first of several bodies and pending calls. The event loop of JavaScript programs.

use std::{task::Context, time::Duration};

use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status, code},
    call, enter,
    handles::Handles,
    memory::GuestMemory,
};
use crate::host::{
    clock::{self, Timer},
    wait,
};

const MODULE: &str = "fastly_async_io";
/// Handles of one select: as many as there can be.
const SELECTED_MAX: u32 = super::handles::HANDLES_MAX as u32;
/// The index that says that time is over.
const TIMED_OUT: u32 = u32::MAX;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "select",
        |guest: Guest<'_>, (handles, count, timeout_ms, index): (u32, u32, u32, u32)| {
            Box::new(async move { code(select(guest, handles, count, timeout_ms, index).await) })
        },
    )?;
    linker.func_wrap(MODULE, "is_ready", |guest: Guest<'_>, handle: u32, ready: u32| {
        call(guest, |memory, state| {
            state.handles.async_item(handle)?;
            let door = state.exchange.door.clone();
            let found = wait::ready_now(&door, |cx| state.handles.ready_of(&[handle], cx));
            memory.write_u32(ready, u32::from(!found.is_empty()))
        })
    })?;
    Ok(())
}

/// Handles as a guest lists them; each must be of something that can be waited for.
pub(super) fn read_handles(
    memory: &GuestMemory<'_>,
    handles: &mut Handles,
    pointer: u32,
    count: u32,
) -> Result<Vec<u32>, Status> {
    if count == 0 || count > SELECTED_MAX {
        return Err(Status::Invalid);
    }
    let bytes = memory.bytes(pointer, count * 4)?; // at most 40,000
    let listed = bytes.chunks_exact(4).map(|handle| {
        let handle = u32::from_le_bytes(handle.try_into().map_err(|_| Status::Invalid)?);
        handles.async_item(handle).map(|_| handle)
    });
    listed.collect()
}

/// Waits for the first of `listed`; its index. `None`: the time was over before.
pub(super) async fn first_ready(
    guest: &mut Guest<'_>,
    listed: &[u32],
    timeout: Option<Duration>,
) -> Option<u32> {
    let state = guest.data_mut();
    let door = state.exchange.door.clone();
    let mut timer = timeout.map(|after| {
        let now = clock::monotonic_ns(&state.exchange);
        Timer::at(&state.exchange, now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    });
    let due = |timer: &mut Option<Timer>, cx: &mut Context<'_>| match timer {
        Some(timer) => timer.poll_due(cx).is_ready(),
        None => false,
    };
    let found = wait::select(&door, |cx| {
        let found = guest.data_mut().handles.ready_of(listed, cx);
        if found.is_empty() && due(&mut timer, cx) { vec![TIMED_OUT] } else { found }
    })
    .await;
    found.first().copied().filter(|index| *index != TIMED_OUT)
}

async fn select(mut guest: Guest<'_>, handles: u32, count: u32, timeout_ms: u32, index: u32) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(index, TIMED_OUT)?;
    let listed = match count {
        0 if timeout_ms > 0 => Vec::new(), // a program that sleeps
        _ => read_handles(&memory, &mut state.handles, handles, count)?,
    };
    let timeout = (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms.into()));
    let found = first_ready(&mut guest, &listed, timeout).await;
    enter(&mut guest)?.0.write_u32(index, found.unwrap_or(TIMED_OUT))
}
