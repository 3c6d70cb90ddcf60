//! Random modules by number: compiled for several targets, run, and what they answered compared line by line.
//!
//! A module's bytes come from its number alone. Each ends by itself: fuel that wasm-smith writes into it, so that where it
//! ends is the same everywhere. A module has 4 to 20 functions, as far as its chance reaches. Only the end of the stack is not, because frames differ: such a call is not compared.

use std::{collections::BTreeMap, fs, ops::Range, path::Path, thread};

use anyhow::{Context as _, bail, ensure};
use arbitrary::Unstructured;
use artifact::Target;
use spec_runner::{
    plan::{self, Fate, SmithModule},
    smith::{STACK, TIME},
};
use wasm_smith::{Config, Module};

use crate::{compile::Signer, features, runner::Runners};

/// Modules compiled and run at once; their code is removed before the next.
const BATCH: u64 = 100;
/// Bytes of chance in a module: some tens of functions. The largest compile in a tenth of a second.
const CHANCE_BYTES: usize = 8 * 1024;
/// Calls and turns of loops in one instance, of all that is called there: far from the end of the stack for most.
const FUEL: u32 = 2_000;
/// Bytes a module's memory may grow to: two pages, because all of it is digested after each call.
const MEMORY_BYTES_MAX: u64 = 128 << 10;
/// Attempts at a number: a module that needs a feature which is off (a type of reference) is thrown away.
const ATTEMPTS_MAX: u64 = 64;
/// Surprises that are printed.
const SHOWN_MAX: usize = 20;

/// What was compared.
#[derive(Default)]
struct Tally {
    lines: u64,
    traps: u64,
    not_compared: u64,
    differing: Vec<String>,
}

/// Runs all modules of `seeds` on all `targets`; the first's answers are the measure.
pub fn smith(seeds: Range<u64>, targets: &[Target], work: &Path, runners: &Runners) -> anyhow::Result<()> {
    ensure!(targets.len() > 1, "there is nothing to compare with: name two targets or more");
    let mut tally = Tally::default();
    let count = seeds.end - seeds.start;
    for first in seeds.clone().step_by(BATCH as usize) {
        let batch = first..(first + BATCH).min(seeds.end);
        let modules = batch.map(|seed| Ok((seed, module(seed)?))).collect::<anyhow::Result<Vec<_>>>()?;
        let answers = answers(&modules, targets, work, runners)?;
        let (measure, others) = answers.split_first().expect("two targets or more");
        for (target, other) in targets[1..].iter().zip(others) {
            compare(targets[0], measure, *target, other, &mut tally);
        }
    }
    tally.differing.iter().take(SHOWN_MAX).for_each(|line| println!("{line}"));
    let names: Vec<&str> = targets.iter().map(|target| target.name()).collect();
    println!(
        "{count} modules on {}: {} answers compared with {}'s, {} of them traps; {} calls not compared (stack or time)",
        names.join(", "),
        tally.lines,
        targets[0],
        tally.traps,
        tally.not_compared,
    );
    ensure!(tally.differing.is_empty(), "{} answers differ", tally.differing.len());
    let is_much = tally.lines >= count && tally.not_compared <= tally.lines;
    ensure!(is_much, "hardly anything was compared: the runners do not call what they should");
    Ok(())
}

/// Compiles and runs a batch on every target, several at once.
fn answers(
    modules: &[(u64, Vec<u8>)],
    targets: &[Target],
    work: &Path,
    runners: &Runners,
) -> anyhow::Result<Vec<String>> {
    let mut answers = Vec::new();
    for group in targets.chunks(runners.jobs) {
        let group: anyhow::Result<Vec<String>> = thread::scope(|scope| {
            let start = |target: &Target| {
                let target = *target;
                scope.spawn(move || answer(modules, target, &work.join(target.name()), runners))
            };
            let threads: Vec<_> = group.iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic of its own")).collect()
        });
        answers.extend(group?);
    }
    Ok(answers)
}

fn answer(
    modules: &[(u64, Vec<u8>)],
    target: Target,
    folder: &Path,
    runners: &Runners,
) -> anyhow::Result<String> {
    let signer = Signer::new(folder, target)?;
    let mut list = String::new();
    for (seed, wasm) in modules {
        let Fate::Compiled { wasm, .. } = signer.fate(wasm)? else {
            bail!("module {seed} is valid, and the compiler refused it for {target}");
        };
        list.push_str(&serde_json::to_string(&SmithModule { seed: *seed, wasm })?);
        list.push('\n');
    }
    fs::write(folder.join(plan::SMITH_FILE), list)?;
    let answer = runners.smith(target, folder).with_context(|| format!("on {target}"))?;
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(answer)
}

fn compare(measure_target: Target, measure: &str, target: Target, other: &str, tally: &mut Tally) {
    let (measure, other) = (by_call(measure), by_call(other));
    for call in measure.keys().chain(other.keys().filter(|call| !measure.contains_key(*call))) {
        let missing = "nothing";
        let (expected, found) =
            (*measure.get(call).unwrap_or(&missing), *other.get(call).unwrap_or(&missing));
        if [expected, found].iter().any(|end| end.ends_with(STACK) || end.ends_with(TIME)) {
            tally.not_compared += 1;
            continue;
        }
        tally.lines += 1;
        tally.traps += u64::from(expected.contains("trap "));
        if expected != found {
            let line = format!("module {call}: {measure_target} {expected}; {target} {found}");
            tally.differing.push(line);
        }
    }
}

/// `SEED "EXPORT" ROUND` to what came of it. Export names are escaped, so that `: ` after the round is the first.
fn by_call(answer: &str) -> BTreeMap<&str, &str> {
    answer.lines().map(|line| line.rsplit_once(": ").unwrap_or((line, ""))).collect()
}

/// The module of a number: the first of its attempts that needs nothing which is off.
fn module(seed: u64) -> anyhow::Result<Vec<u8>> {
    for attempt in 0..ATTEMPTS_MAX {
        let chance = chance(seed.wrapping_mul(ATTEMPTS_MAX).wrapping_add(attempt));
        let mut module =
            Module::new(config(seed), &mut Unstructured::new(&chance)).context("making a module")?;
        module.ensure_termination(FUEL).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let wasm = module.to_bytes();
        if features::missing(&wasm).is_empty() {
            return Ok(wasm);
        }
    }
    bail!("number {seed}: {ATTEMPTS_MAX} attempts all need a feature that is off");
}

/// Every second module has no instruction that traps, so that what comes after it is reached.
fn config(seed: u64) -> Config {
    Config {
        disallow_traps: seed % 2 == 1,
        max_imports: 0,
        min_types: 4,
        max_types: 20,
        min_funcs: 4,
        max_funcs: 20,
        export_everything: true,
        max_memory32_bytes: MEMORY_BYTES_MAX,
        memory_max_size_required: true,
        max_table_elements: 1_000,
        table_max_size_required: true,
        max_instructions: 200,
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        // With it most modules have a type of reference that the engine has not. Tables of functions are there without.
        reference_types_enabled: false,
        saturating_float_to_int_enabled: true,
        sign_extension_ops_enabled: true,
        simd_enabled: true,
        relaxed_simd_enabled: true,
        tail_call_enabled: true,
        extended_const_enabled: true,
        wide_arithmetic_enabled: true,
        // Off, as in the engine.
        gc_enabled: false,
        exceptions_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        // The engine's own is to be seen.
        canonicalize_nans: false,
        ..Config::default()
    }
}

/// SplitMix64: the same bytes from the same number on every machine.
fn chance(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    (0..CHANCE_BYTES / 8).flat_map(|_| next().to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifact::Digest;

    /// Golden: the modules of a number are the same tomorrow. A new wasm-smith may change them on purpose.
    #[test]
    fn a_number_always_gives_the_same_module() {
        let all: Vec<Vec<u8>> = (0..20).map(|seed| module(seed).unwrap()).collect();
        assert_eq!(all, (0..20).map(|seed| module(seed).unwrap()).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<Digest> = all.iter().map(|wasm| Digest::of(wasm)).collect();
        assert_eq!(distinct.len(), 20);
        assert_eq!(
            Digest::of(&all.concat()).to_string(),
            "60bd964427bff9e21d93f076e3661027bd843265d4d01f47cac1abc3cebb8221"
        );
    }

    #[test]
    fn answers_differ_by_bits_and_by_kind_of_trap_and_not_by_where_the_stack_ends() {
        let measure = "1 \"f\" 0: f32:0x7fc00000 | aa\n1 \"f\" 1: trap stack\n1 \"g\" 0: trap X | aa";
        let mut tally = Tally::default();
        compare(Target::X86_64V2, measure, Target::Aarch64, measure, &mut tally);
        assert_eq!((tally.lines, tally.traps, tally.not_compared, tally.differing.len()), (2, 1, 1, 0));
        let other =
            measure.replace("7fc", "ffc").replace("trap stack", "i32:1 | bb").replace("trap X", "trap Y");
        compare(Target::X86_64V2, measure, Target::Aarch64, &other, &mut tally);
        assert_eq!((tally.not_compared, tally.differing.len()), (2, 2));
        compare(Target::X86_64V2, measure, Target::Aarch64, "", &mut tally);
        assert_eq!(tally.differing.len(), 4, "an answer is missing");
    }
}
