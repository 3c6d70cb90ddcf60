//! What each target means: single code-generator flags, and which processors pass.
//!
//! Flags are listed one by one, because Cranelift's presets are not the ISA levels: its `x86-64-v3` lacks `has_avx`,
//! and instruction selection asks for that flag before it uses AVX2 or FMA. A test disassembles what comes out.

use artifact::Target;

/// A code-generator flag and the processor feature (Rust's name) it needs.
struct Flag {
    name: &'static str,
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    feature: &'static str,
}

const fn flag(name: &'static str, feature: &'static str) -> Flag {
    Flag { name, feature }
}

/// x86-64-v2 of the System V psABI, as far as the code generator knows it.
const X86_64_V2: [Flag; 6] = [
    flag("has_cmpxchg16b", "cmpxchg16b"),
    flag("has_popcnt", "popcnt"),
    flag("has_sse3", "sse3"),
    flag("has_ssse3", "ssse3"),
    flag("has_sse41", "sse4.1"),
    flag("has_sse42", "sse4.2"),
];
/// What x86-64-v3 adds.
const X86_64_V3: [Flag; 6] = [
    flag("has_avx", "avx"),
    flag("has_avx2", "avx2"),
    flag("has_bmi1", "bmi1"),
    flag("has_bmi2", "bmi2"),
    flag("has_fma", "fma"),
    flag("has_lzcnt", "lzcnt"),
];
/// What x86-64-v4 adds, as far as the code generator knows it. It has no flags for the
/// level's BW and CD, so that its code uses neither.
const X86_64_V4: [Flag; 3] =
    [flag("has_avx512f", "avx512f"), flag("has_avx512dq", "avx512dq"), flag("has_avx512vl", "avx512vl")];
/// Large System Extensions and what came to servers with them.
const AARCH64_LSE: [Flag; 3] =
    [flag("has_lse", "lse"), flag("has_dotprod", "dotprod"), flag("has_fp16", "fp16")];

fn parts(target: Target) -> [&'static [Flag]; 3] {
    match target {
        Target::X86_64V2 => [&X86_64_V2, &[], &[]],
        Target::X86_64V3 => [&X86_64_V2, &X86_64_V3, &[]],
        Target::X86_64V4 => [&X86_64_V2, &X86_64_V3, &X86_64_V4],
        Target::Aarch64 => [&[], &[], &[]],
        Target::Aarch64Lse => [&AARCH64_LSE, &[], &[]],
    }
}

fn level(target: Target) -> impl Iterator<Item = &'static Flag> {
    parts(target).into_iter().flatten()
}

/// The code-generator flags of a target.
pub fn flags(target: Target) -> &'static [&'static str] {
    use std::sync::OnceLock;
    static FLAGS: OnceLock<[Vec<&'static str>; Target::ALL.len()]> = OnceLock::new();
    let all = FLAGS.get_or_init(|| Target::ALL.map(|target| level(target).map(|flag| flag.name).collect()));
    let at = Target::ALL.iter().position(|other| *other == target).expect("ALL holds every target");
    &all[at]
}

/// The targets this processor runs, best last. Empty below the lowest level: such a machine cannot be a node.
pub fn of_this_machine() -> Vec<Target> {
    Target::ALL.into_iter().filter(|target| arch_matches(*target) && missing(*target).is_empty()).collect()
}

/// The processor features that keep this machine from running a target of its own architecture.
pub fn missing(target: Target) -> Vec<&'static str> {
    level(target).map(|flag| flag.feature).filter(|feature| !detected(feature)).collect()
}

fn arch_matches(target: Target) -> bool {
    match target.arch() {
        artifact::target::Arch::X86_64 => cfg!(target_arch = "x86_64"),
        artifact::target::Arch::Aarch64 => cfg!(target_arch = "aarch64"),
    }
}

#[cfg(target_arch = "x86_64")]
fn detected(feature: &str) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match feature {
        "cmpxchg16b" => has!("cmpxchg16b"),
        "popcnt" => has!("popcnt"),
        "sse3" => has!("sse3"),
        "ssse3" => has!("ssse3"),
        "sse4.1" => has!("sse4.1"),
        "sse4.2" => has!("sse4.2"),
        "avx" => has!("avx"),
        "avx2" => has!("avx2"),
        "bmi1" => has!("bmi1"),
        "bmi2" => has!("bmi2"),
        "fma" => has!("fma"),
        "lzcnt" => has!("lzcnt"),
        "avx512f" => has!("avx512f"),
        "avx512dq" => has!("avx512dq"),
        "avx512vl" => has!("avx512vl"),
        _ => false,
    }
}

#[cfg(target_arch = "aarch64")]
fn detected(feature: &str) -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    match feature {
        "lse" => has!("lse"),
        "dotprod" => has!("dotprod"),
        "fp16" => has!("fp16"),
        _ => false,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_names_avx_beside_avx2_and_fma() {
        let v3 = flags(Target::X86_64V3);
        for flag in ["has_avx", "has_avx2", "has_fma", "has_sse42"] {
            assert!(v3.contains(&flag), "{flag}");
        }
        assert!(!flags(Target::X86_64V2).contains(&"has_avx"));
        assert!(!v3.iter().any(|flag| flag.contains("avx512")));
        assert!(flags(Target::X86_64V4).contains(&"has_avx512vl"));
    }

    #[test]
    fn a_machine_passes_all_levels_below_its_best_and_prefers_that() {
        let targets = of_this_machine();
        let best = *targets.last().expect("tests run on a machine of at least the lowest level");
        let up_to_best = Target::ALL.into_iter().filter(|t| t.arch() == best.arch() && *t <= best);
        assert_eq!(targets, up_to_best.collect::<Vec<_>>());
    }
}
