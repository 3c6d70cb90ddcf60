//! Thousands of programs that differ, without compiling thousands: a few hellos are compiled, and each app gets a copy
//! with a mark of its own in the text it answers with, in the program and in its native code alike. Each is signed for
//! itself, so a node has as many artifacts to fetch, verify, map and tell apart as there are apps; and an answer shows
//! whose code gave it.

use std::path::Path;

use anyhow::Context as _;
use aot_compiler::{CompiledArtifact, Made};
use artifact::{Digest, Lane, Profile};

use crate::{
    deploy::patch::{MARK_BYTES, mark, place},
    micro::guest::{Guest, best_target, compiler_key},
};

/// The hellos, and a text that each answers with and holds once. The first is the smallest.
const HELLOS: [(&str, &str); 3] = [
    ("wasi-hello", "Hello from wasi:http!"),
    ("fastly-hello", "Hello from the fastly crate!"),
    ("wstd-hello", "Hello from wstd!"),
];
/// Of this many programs in a row one is made from each of the others, so that 10,000 fit an ordinary disk.
const ROUND: usize = 10;

/// A hello, compiled once.
struct Base {
    wasm: Vec<u8>,
    wasm_at: usize,
    compiled: CompiledArtifact,
    native_at: usize,
}

/// The hellos that apps are made from, in turns.
pub struct Bases(Vec<Base>);

/// One program, signed as the compiler service signs.
pub struct Signed {
    pub wasm: Digest,
    pub wasm_bytes: u64,
    pub lane: Lane,
    pub native_bytes: u64,
    pub container: Vec<u8>,
}

impl Bases {
    /// Compiles the hellos that lie in `folder`.
    pub fn compile(folder: &Path) -> anyhow::Result<Bases> {
        let compile = |(name, text): (&str, &str)| {
            let base = Base::compile(Guest::wasm(folder, name)?, text);
            base.with_context(|| format!("making {name} ready to be marked"))
        };
        HELLOS.into_iter().map(compile).collect::<anyhow::Result<_>>().map(Bases)
    }

    /// The program of an app.
    pub fn program(&self, number: u32) -> anyhow::Result<Signed> {
        self.0[self.base_of(number)].marked(&mark(number))
    }

    /// Which hello an app's program is made from.
    pub fn base_of(&self, number: u32) -> usize {
        let place = number as usize % ROUND;
        if place < self.0.len() { place } else { 0 }
    }

    /// The hellos' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        HELLOS.iter().map(|(name, _)| *name)
    }
}

impl Base {
    fn compile(wasm: Vec<u8>, text: &str) -> anyhow::Result<Base> {
        let compiled = aot_compiler::compile_in_process(&wasm, best_target()?, Profile::Serve)
            .map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
        let (wasm_at, native_at) = (place(&wasm, text)?, place(&compiled.native, text)?);
        Ok(Base { wasm, wasm_at, compiled, native_at })
    }

    fn marked(&self, mark: &str) -> anyhow::Result<Signed> {
        let (mut wasm, mut native) = (self.wasm.clone(), self.compiled.native.clone());
        wasm[self.wasm_at..][..MARK_BYTES].copy_from_slice(mark.as_bytes());
        native[self.native_at..][..MARK_BYTES].copy_from_slice(mark.as_bytes());
        let (native_bytes, wasm_bytes) = (native.len() as u64, wasm.len() as u64);
        let compiled = CompiledArtifact { admitted: self.compiled.admitted.clone(), native };
        let made = Made { wasm: Digest::of(&wasm), target: best_target()?, profile: Profile::Serve };
        let container =
            aot_compiler::sign(&compiled, made, &compiler_key()).context("packing an artifact")?;
        Ok(Signed { wasm: made.wasm, wasm_bytes, lane: compiled.admitted.lane, native_bytes, container })
    }
}
