//! Many apps of one fleet. A node loads and maps each app's program for itself, also where all are the same one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
};

use anyhow::Context as _;

use crate::{deploy::fleet::Fleet, progress::Bar, stop};

/// Deploys at once: one sends and waits while another is compiled.
const AT_ONCE: usize = 2;
/// Between two words of how far it is.
const SAID: u32 = 50;

/// Are they programs of their own?
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Programs {
    /// Each is another, compiled for itself.
    Own,
    /// All are one program, compiled once.
    Shared,
}

/// The name of the app that a generator with many hosts asks as its `number`th.
pub fn name(number: u32) -> String {
    format!("h{number}")
}

/// Deploys the apps of these numbers; the node serves them all afterwards.
pub fn deploy(
    fleet: &Fleet,
    guest: &Path,
    numbers: std::ops::Range<u32>,
    programs: Programs,
    bar: &Bar,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let wasm = fs::read(guest).with_context(|| format!("reading {}", guest.display()))?;
    let Some(last) = numbers.clone().next_back() else { return Ok(()) };
    let (next, all) = (AtomicU32::new(numbers.start), numbers.len());
    let some = |worker: usize| {
        let file = fleet.folder().join(format!("app-{worker}.wasm"));
        loop {
            let number = next.fetch_add(1, Relaxed);
            // The last one is waited for, below.
            if number >= last || stop::told(stop) {
                return anyhow::Ok(());
            }
            if number % SAID == 0 {
                bar.load(format!("deploying app {number} of {all}"));
            }
            put(&file, &wasm, number, programs)?;
            fleet.deploy_soon(&file, &name(number))?;
        }
    };
    thread::scope(|scope| {
        let some = &some;
        let workers: Vec<_> = (0..AT_ONCE).map(|worker| scope.spawn(move || some(worker))).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a thread that deploys panicked"))?
        })
    })?;
    anyhow::ensure!(!stop::told(stop), "told to stop");
    // A node applies releases in their order: when it has this one, it has them all.
    let file = fleet.folder().join("app-last.wasm");
    put(&file, &wasm, last, programs)?;
    fleet.deploy(&file, &name(last)).map(drop)
}

fn put(file: &PathBuf, wasm: &[u8], number: u32, programs: Programs) -> anyhow::Result<()> {
    let own = match programs {
        Programs::Own => another(wasm, number),
        Programs::Shared => wasm.to_vec(),
    };
    fs::write(file, own).context("writing a program to deploy")
}

/// The same program to whoever runs it, another one to whoever compiles it: a custom section at its end has the
/// number. Modules and components frame it alike: an id of 0, the length, a name with its length, any bytes.
fn another(wasm: &[u8], number: u32) -> Vec<u8> {
    let content = [b"\x03app", number.to_le_bytes().as_slice()].concat();
    [wasm, &[0, content.len() as u8], &content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_whole_and_another() {
        let engine = wasmtime::Engine::default();
        let module = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
        let component = wat::parse_str("(component)").unwrap();
        let (one, two) = (another(&module, 1), another(&module, 2));
        assert!(one != two && one.starts_with(&module));
        wasmtime::Module::validate(&engine, &one).unwrap();
        wasmtime::component::Component::new(&engine, another(&component, 1_000)).unwrap();
    }
}
