//! What processor features the code of each level uses, read off its instructions.

use std::collections::BTreeSet;

use aot_compiler::compile_in_process;
use artifact::{Profile, Target};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions};
use object::{Object as _, ObjectSection as _, SectionKind};

/// Operations that each level does better than the one below.
const WAT: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_start"))
    (func (export "add") (param v128 v128) (result v128) (f32x4.add (local.get 0) (local.get 1)))
    (func (export "fma") (param v128 v128 v128) (result v128)
        (f64x2.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))
    (func (export "zeros") (param i64) (result i64) (i64.clz (local.get 0)))
    (func (export "multiply") (param v128 v128) (result v128) (i64x2.mul (local.get 0) (local.get 1)))
    (func (export "dot") (param v128 v128) (result v128)
        (i16x8.relaxed_dot_i8x16_i7x16_s (local.get 0) (local.get 1)))
    (func (export "dot4") (param v128 v128 v128) (result v128)
        (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get 0) (local.get 1) (local.get 2))))"#;

/// The bytes of all functions.
fn code(target: Target) -> Vec<u8> {
    let wasm = wat::parse_str(WAT).unwrap();
    let native = compile_in_process(&wasm, target, Profile::Serve).unwrap().native;
    let file = object::File::parse(native.as_slice()).unwrap();
    let text = file.sections().find(|section| section.kind() == SectionKind::Text).unwrap();
    text.data().unwrap().to_vec()
}

fn x86_features(target: Target) -> BTreeSet<String> {
    let code = code(target);
    let instructions = Decoder::new(64, &code, DecoderOptions::NONE);
    let features = instructions.into_iter().flat_map(|instruction| instruction.cpuid_features());
    features.map(|feature: &CpuidFeature| format!("{feature:?}")).collect()
}

fn has(features: &BTreeSet<String>, name: &str) -> bool {
    features.iter().any(|feature| feature.starts_with(name))
}

#[test]
fn each_level_uses_what_it_adds_and_nothing_above() {
    let [v2, v3, v4] = [Target::X86_64V2, Target::X86_64V3, Target::X86_64V4].map(x86_features);
    for above in ["AVX", "FMA", "BMI", "LZCNT"] {
        assert!(!has(&v2, above), "{above} in v2: {v2:?}");
    }
    for own in ["AVX", "FMA", "LZCNT"] {
        assert!(has(&v3, own), "no {own} in v3: {v3:?}");
    }
    assert!(!has(&v3, "AVX512"), "{v3:?}");
    assert!(has(&v4, "AVX512"), "{v4:?}");
    // A node is not asked for these.
    assert!(!has(&v4, "AVX512BW") && !has(&v4, "AVX512CD"), "{v4:?}");
}

/// `sdot`, of Armv8.2's dot product (Arm ARM C7.2): there by its encoding, whatever its registers.
fn dot_products(target: Target) -> usize {
    let words = code(target)
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect::<Vec<_>>();
    words.into_iter().filter(|word| word & 0xffe0_fc00 == 0x4e80_9400).count()
}

#[test]
fn lse_uses_the_dot_product_and_the_base_does_not() {
    assert_eq!(dot_products(Target::Aarch64), 0);
    assert!(dot_products(Target::Aarch64Lse) > 0);
}
