//! The epoch ticks while code runs, as on a node, so that the checks compiled into it are taken.

use std::{thread, time::Duration};

use wasmtime::{Engine, Store, Trap, UpdateDeadline};

/// A node's tick.
const TICK: Duration = Duration::from_millis(1);
/// Ticks after which a call is ended: a minute here, and some under an emulator. No test takes a second.
pub const TICKS_MAX: u64 = 60_000;

/// What a store keeps: the ticks that the call under way has taken.
#[derive(Default)]
pub struct Ticks(pub u64);

/// Ticks for as long as the process lives.
pub fn start(engine: &Engine) {
    let engine = engine.weak();
    thread::spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    });
}

/// A store whose calls look up at every tick and end after [`TICKS_MAX`].
pub fn store(engine: &Engine) -> Store<Ticks> {
    let mut store = Store::new(engine, Ticks::default());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        let ticks = &mut store.data_mut().0;
        *ticks += 1;
        if *ticks > TICKS_MAX { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Continue(1)) }
    });
    store
}
