//! `wasi:clocks`: the monotonic clock starts at zero with the request.

use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower, Resource},
};

use super::{At, Cx, poll::Pollable};
use crate::host::clock::{self, Timer};

/// A wall clock's time.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    #[component(name = "seconds")]
    seconds: u64,
    #[component(name = "nanoseconds")]
    nanoseconds: u32,
}

/// Links what a guest imports of `monotonic-clock`.
pub(super) fn define_monotonic(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "now" => at.func_wrap(name, |cx: Cx<'_>, (): ()| Ok((clock::monotonic_ns(&cx.data().exchange),))),
        "resolution" => at.func_wrap(name, |_: Cx<'_>, (): ()| Ok((clock::RESOLUTION_NS,))),
        "subscribe-instant" => at.func_wrap(name, |mut cx: Cx<'_>, (when,): (u64,)| timer(&mut cx, when)),
        "subscribe-duration" => at.func_wrap(name, |mut cx: Cx<'_>, (duration,): (u64,)| {
            let now = clock::monotonic_ns(&cx.data().exchange);
            timer(&mut cx, now.saturating_add(duration))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn timer(cx: &mut Cx<'_>, when: u64) -> Result<(Resource<Pollable>,)> {
    let state = cx.data_mut();
    let timer = Timer::at(&state.exchange, when);
    Ok((state.push(Pollable::Timer(timer))?,))
}

/// Links what a guest imports of `wall-clock`.
pub(super) fn define_wall(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "now" => at.func_wrap(name, |cx: Cx<'_>, (): ()| {
            let now = clock::wall(&cx.data().exchange);
            Ok((Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() },))
        }),
        "resolution" => at.func_wrap(name, |_: Cx<'_>, (): ()| {
            Ok((Datetime {
                seconds: clock::RESOLUTION_NS / 1_000_000_000,
                nanoseconds: (clock::RESOLUTION_NS % 1_000_000_000) as u32,
            },))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}
