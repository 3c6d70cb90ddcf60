//! Values of scripts: into arguments, and compared with results bit by bit.

use json_from_wast::{Const, CoreConst, FloatConst, FuncRef, V128};
use wasmtime::Val;

/// An argument, if a host without garbage-collected references has such a value.
pub fn argument(value: &Const<'_>) -> Result<Val, String> {
    let Const::Core(value) = value else { return Err("values of components".into()) };
    Ok(match value {
        CoreConst::I32 { value } => Val::I32(value.0),
        CoreConst::I64 { value } => Val::I64(value.0),
        CoreConst::F32 { value } => Val::F32(value.to_bits()),
        CoreConst::F64 { value } => Val::F64(value.to_bits()),
        CoreConst::V128(value) => Val::V128(value.to_u128().into()),
        CoreConst::FuncRef { value: None | Some(FuncRef::Null) } => Val::FuncRef(None),
        other => return Err(format!("the argument {other:?}")),
    })
}

/// Is every result what the script expects?
pub fn all_match(actual: &[Val], expected: &[Const<'_>]) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} results instead of {}", actual.len(), expected.len()));
    }
    for (at, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let Const::Core(expected) = expected else { return Err("a component's value is expected".into()) };
        if !matches(actual, expected) {
            return Err(format!("result {at} is {}, expected {expected:?}", shown(actual)));
        }
    }
    Ok(())
}

/// With its bits where it is a float.
pub fn shown(value: &Val) -> String {
    match value {
        Val::I32(value) => format!("i32:{value}"),
        Val::I64(value) => format!("i64:{value}"),
        Val::F32(bits) => format!("f32:{bits:#010x}"),
        Val::F64(bits) => format!("f64:{bits:#018x}"),
        Val::V128(value) => format!("v128:{:#034x}", value.as_u128()),
        Val::FuncRef(value) => format!("funcref:{}", if value.is_some() { "some" } else { "null" }),
        other => format!("{other:?}"),
    }
}

fn matches(actual: &Val, expected: &CoreConst) -> bool {
    match (actual, expected) {
        (_, CoreConst::Either { values }) => values.iter().any(|value| matches(actual, value)),
        (Val::I32(actual), CoreConst::I32 { value }) => *actual == value.0,
        (Val::I64(actual), CoreConst::I64 { value }) => *actual == value.0,
        (Val::F32(bits), CoreConst::F32 { value }) => f32_matches(*bits, value),
        (Val::F64(bits), CoreConst::F64 { value }) => f64_matches(*bits, value),
        (Val::V128(actual), CoreConst::V128(value)) => v128_matches(actual.as_u128().to_le_bytes(), value),
        (Val::FuncRef(None), CoreConst::RefNull | CoreConst::NullFuncRef) => true,
        (Val::FuncRef(actual), CoreConst::FuncRef { value }) => match value {
            // `(ref.func)`: any but null.
            None => actual.is_some(),
            Some(FuncRef::Null) => actual.is_none(),
            // The index of a function is not for hosts to know.
            Some(FuncRef::Index(_)) => actual.is_some(),
        },
        _ => false,
    }
}

/// Canonical: quiet bit and no other of the payload, any sign. Arithmetic: quiet bit, any other.
fn f32_matches(bits: u32, expected: &FloatConst<f32>) -> bool {
    const QUIET: u32 = 0x7fc0_0000;
    match expected {
        FloatConst::CanonicalNan => bits & 0x7fff_ffff == QUIET,
        FloatConst::ArithmeticNan => bits & QUIET == QUIET,
        FloatConst::Value(value) => bits == value.to_bits(),
    }
}

fn f64_matches(bits: u64, expected: &FloatConst<f64>) -> bool {
    const QUIET: u64 = 0x7ff8_0000_0000_0000;
    match expected {
        FloatConst::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == QUIET,
        FloatConst::ArithmeticNan => bits & QUIET == QUIET,
        FloatConst::Value(value) => bits == value.to_bits(),
    }
}

fn v128_matches(actual: [u8; 16], expected: &V128) -> bool {
    match expected {
        V128::F32 { value } => {
            let lanes = actual.as_chunks::<4>().0.iter().map(|lane| u32::from_le_bytes(*lane));
            lanes.zip(value).all(|(bits, expected)| f32_matches(bits, expected))
        }
        V128::F64 { value } => {
            let lanes = actual.as_chunks::<8>().0.iter().map(|lane| u64::from_le_bytes(*lane));
            lanes.zip(value).all(|(bits, expected)| f64_matches(bits, expected))
        }
        integers => u128::from_le_bytes(actual) == integers.to_u128(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_matches_by_its_pattern_and_a_number_by_its_bits() {
        let canonical =
            [(0x7fc0_0000, true), (0xffc0_0000, true), (0x7fc0_0001, false), (0x7f80_0000, false)];
        for (bits, fits) in canonical {
            assert_eq!(f32_matches(bits, &FloatConst::CanonicalNan), fits, "{bits:#x}");
        }
        assert!(f32_matches(0x7fc0_0001, &FloatConst::ArithmeticNan));
        assert!(!f32_matches(0x7fa0_0000, &FloatConst::ArithmeticNan));
        assert!(!f32_matches(0x8000_0000, &FloatConst::Value(0.0)), "minus zero is not zero");
        assert!(f64_matches(0xfff8_0000_0000_0000, &FloatConst::CanonicalNan));
        assert!(!f64_matches(0x7ff8_0000_0000_0001, &FloatConst::CanonicalNan));
    }

    #[test]
    fn lanes_are_compared_one_by_one() {
        let expected = V128::F64 { value: [FloatConst::CanonicalNan, FloatConst::Value(1.5)] };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&0x7ff8_0000_0000_0000_u64.to_le_bytes());
        bytes[8..].copy_from_slice(&1.5_f64.to_le_bytes());
        assert!(v128_matches(bytes, &expected));
        bytes[8] = 1;
        assert!(!v128_matches(bytes, &expected));
    }
}
