//! Programs by the thousand that nobody wrote: valid ones, valid ones that were changed and stay valid, and ones with bytes changed.
//! Whatever they are, intake answers, and what is valid stays valid when it is prepared.
//!
//! `SKERRY_RANDOM=100000 cargo test --workspace --test random -- --nocapture` for as many; 1,500 in CI.

mod support;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use aot_compiler::{intake::admit, prepare::prepare};
use arbitrary::Unstructured;
use artifact::{Profile, Target, compile::RefusalCode};
use support::Bytes;
use wasm_mutate::WasmMutate;
use wasmparser::Validator;

/// Far above what one takes on a slow machine: a program that holds intake for so long is a bomb.
const WEDGED: Duration = Duration::from_secs(20);
/// Each so many is also compiled.
const COMPILED_EACH: u64 = 25;

/// A module, or at every fourth number a component.
fn program(number: u64) -> Option<Vec<u8>> {
    if number % 4 != 3 {
        return support::random_module(number, 1);
    }
    let bytes = Bytes(number).some(4096);
    let config = wasm_smith::Config::default();
    Some(wasm_smith::Component::new(config, &mut Unstructured::new(&bytes)).ok()?.to_bytes())
}

/// The same with another meaning and still valid, if there is a way.
fn mutated(wasm: &[u8], number: u64) -> Option<Vec<u8>> {
    let mut mutate = WasmMutate::default();
    mutate.seed(number).fuel(200);
    let mut made = mutate.run(wasm).ok()?;
    made.next()?.ok()
}

/// The same with some bytes changed.
fn broken(wasm: &[u8], number: u64) -> Vec<u8> {
    let (mut wasm, mut random) = (wasm.to_vec(), Bytes(!number));
    for _ in 0..1 + random.next() % 8 {
        let at = random.next() as usize % wasm.len();
        wasm[at] = random.next() as u8;
    }
    wasm
}

#[derive(Default)]
struct Seen {
    valid: usize,
    mutated: usize,
    broken: usize,
    prepared: usize,
    compiled: usize,
}

#[test]
fn no_program_panics_or_wedges_the_intake_and_what_is_valid_stays_so() {
    let many = std::env::var("SKERRY_RANDOM").ok().and_then(|text| text.parse().ok()).unwrap_or(1_500);
    let mut seen = Seen::default();
    for number in 0..many {
        let Some(wasm) = program(number) else { continue };
        seen.valid += 1;
        look(&wasm, number, &mut seen);
        if let Some(wasm) = mutated(&wasm, number) {
            seen.mutated += 1;
            look(&wasm, number, &mut seen);
        }
        seen.broken += 1;
        look(&broken(&wasm, number), number, &mut seen);
    }
    let Seen { valid, mutated, broken, prepared, compiled } = seen;
    eprintln!(
        "{valid} programs, {mutated} mutated, {broken} broken; {prepared} were valid here and prepared, {compiled} compiled"
    );
    assert!(prepared > many as usize / 4 && compiled > 0, "hardly any is valid here: the test shows nothing");
}

fn look(wasm: &[u8], number: u64, seen: &mut Seen) {
    let began = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| {
        if let Err(refusal) = admit(wasm) {
            assert_ne!(refusal.code, RefusalCode::Internal, "{}", refusal.message);
            assert!(refusal.message.len() < 1_000);
        }
        is_valid(wasm).then(|| prepare(wasm).unwrap())
    }));
    let prepared = done.unwrap_or_else(|_| panic!("program {number} panicked"));
    assert!(began.elapsed() < WEDGED, "program {number} took {:?}", began.elapsed());
    let Some(prepared) = prepared else { return };
    seen.prepared += 1;
    assert!(is_valid(&prepared), "program {number} is not valid any more");
    if number.is_multiple_of(COMPILED_EACH) && wasm[6] == 0 {
        let engine = engine::compiler::engine(Target::X86_64V3, Profile::Serve).unwrap();
        let compile =
            |wasm: &[u8]| engine.precompile_module(wasm).map(|_| ()).map_err(|error| format!("{error:#}"));
        // What the code generator refuses (too many of something) it refuses of both.
        assert_eq!(compile(wasm).is_ok(), compile(&prepared).is_ok(), "program {number}");
        seen.compiled += 1;
    }
}

fn is_valid(wasm: &[u8]) -> bool {
    Validator::new_with_features(engine::wasm_features()).validate_all(wasm).is_ok()
}
