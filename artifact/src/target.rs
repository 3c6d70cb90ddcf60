//! What native code is made for, and what a guest speaks. All of it is part of an artifact's identity.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;

use crate::Digest;

/// A processor level we compile for. The flags behind each level are listed in `engine::levels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// x86-64 with SSE4.2 and POPCNT: every server processor since about 2009.
    #[serde(rename = "x86_64-v2")]
    X86_64V2,
    /// x86-64 with AVX, AVX2, BMI, FMA and LZCNT: since about 2013 (Intel) and 2015 (AMD).
    #[serde(rename = "x86_64-v3")]
    X86_64V3,
    /// x86-64-v3 with AVX-512 F, BW, CD, DQ and VL: servers since about 2017 (Intel) and 2022 (AMD).
    #[serde(rename = "x86_64-v4")]
    X86_64V4,
    /// Armv8.0 without optional features.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// Armv8.1 atomics, dot product and half-precision: Neoverse N1 and later.
    #[serde(rename = "aarch64-lse")]
    Aarch64Lse,
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// The text named no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such target {0:?}; the targets are {names}", names = Target::names())]
pub struct UnknownTarget(String);

impl Target {
    /// Every target, best level of an architecture last.
    pub const ALL: [Target; 5] =
        [Target::X86_64V2, Target::X86_64V3, Target::X86_64V4, Target::Aarch64, Target::Aarch64Lse];

    /// The name used in configuration, records, metrics and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Target::X86_64V2 => "x86_64-v2",
            Target::X86_64V3 => "x86_64-v3",
            Target::X86_64V4 => "x86_64-v4",
            Target::Aarch64 => "aarch64",
            Target::Aarch64Lse => "aarch64-lse",
        }
    }

    /// The architecture the level belongs to.
    pub fn arch(self) -> Arch {
        match self {
            Target::X86_64V2 | Target::X86_64V3 | Target::X86_64V4 => Arch::X86_64,
            Target::Aarch64 | Target::Aarch64Lse => Arch::Aarch64,
        }
    }

    /// The target triple given to the code generator.
    pub fn triple(self) -> &'static str {
        match self.arch() {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    fn names() -> String {
        Target::ALL.map(Target::name).join(", ")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Target, UnknownTarget> {
        let found = Target::ALL.into_iter().find(|target| target.name() == text);
        found.ok_or_else(|| UnknownTarget(text.chars().take(80).collect()))
    }
}

/// Reads a list of things that each name a target, in their field `target` or as the first of a pair, and leaves out those whose
/// target this reader does not know: a fleet has nodes of several releases, and a level that came later is none an older one
/// could run. Anything else that is wrong with one is an error.
pub fn known_only<'de, D: Deserializer<'de>, T: DeserializeOwned>(list: D) -> Result<Vec<T>, D::Error> {
    let is_unknown = |item: &Value| {
        let named = item.get("target").or_else(|| item.get(0)).and_then(Value::as_str);
        named.is_some_and(|name| name.parse::<Target>().is_err())
    };
    let known = Vec::<Value>::deserialize(list)?.into_iter().filter(|item| !is_unknown(item));
    known.map(|item| T::deserialize(item).map_err(D::Error::custom)).collect()
}

/// A set of engine settings that is baked into native code (epoch checks, fuel, concurrency).
/// `p3` and `replay` are reserved names for later profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Serving requests: epoch checks on, fuel off, no component-model concurrency.
    Serve,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Profile::Serve => f.write_str("serve"),
        }
    }
}

/// Names the engine settings, exact wasmtime version and our code-generation revision behind some native
/// code. Computed by `engine::fingerprint`; equal on compiler and node or the code is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(pub Digest);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which guest interface a program is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// A component of the `wasi:http/proxy` 0.2 world.
    Wasi,
    /// A core module of the Fastly Compute host-call interface.
    Fastly,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Wasi => "wasi",
            Lane::Fastly => "fastly",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_one_name_in_text_and_in_json() {
        for target in Target::ALL {
            assert_eq!(target.name().parse(), Ok(target));
            assert_eq!(serde_json::to_string(&target).unwrap(), format!("\"{target}\""));
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Fleet {
            #[serde(deserialize_with = "known_only")]
            targets: Vec<(Target, u32)>,
        }
        let fleet = r#"{"targets":[["x86_64-v2",1],["riscv64-v9",2],["aarch64",3]]}"#;
        let malformed = r#"{"targets":[["x86_64-v2","one"]]}"#;
        assert!(serde_json::from_str::<Fleet>(malformed).is_err(), "a level that is known");
        let known = Fleet { targets: vec![(Target::X86_64V2, 1), (Target::Aarch64, 3)] };
        assert_eq!(serde_json::from_str::<Fleet>(fleet).unwrap(), known);
        let error = "riscv64".parse::<Target>().unwrap_err().to_string();
        assert!(error.contains("riscv64") && error.contains("x86_64-v3"), "{error}");
    }
}
