//! One name for everything that must be equal on both sides before native code is loaded.
//!
//! wasmtime's own check does not suffice: it compares only the major version, and neither Spectre flags, NaN
//! canonicalisation nor optimisation level; its hash also needs a compiler, which a node has not.

use artifact::{Digest, Fingerprint, Profile, Target};

use crate::{levels, settings::Settings};

/// The exact wasmtime release, compared with the lock file by a test.
pub const WASMTIME_VERSION: &str = "48.0.8";
/// Our own revision of how code is generated: raise it whenever the same wasm would give other native code.
pub const CODEGEN_REVISION: u32 = 2;

/// The fingerprint of native code for `target` under `profile`, as this build makes or runs it.
pub fn fingerprint(target: Target, profile: Profile) -> Fingerprint {
    Fingerprint(Digest::of(describe(target, profile).as_bytes()))
}

fn describe(target: Target, profile: Profile) -> String {
    format!(
        "wasmtime={WASMTIME_VERSION} codegen={CODEGEN_REVISION} profile={profile} target={target} triple={} flags={} {}",
        target.triple(),
        levels::flags(target).join(","),
        Settings::of(profile).describe(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: a change here means that every artifact of the fleet must be recompiled. Update it together with
    /// `CODEGEN_REVISION` or the setting that changed it, never alone.
    #[test]
    fn fingerprints_change_only_on_purpose() {
        let described: Vec<String> =
            Target::ALL.map(|target| format!("{target} {}", describe(target, Profile::Serve))).into();
        let golden = include_str!("../golden/fingerprints.txt");
        assert_eq!(described.join("\n") + "\n", golden);
        let distinct: std::collections::HashSet<_> =
            Target::ALL.map(|target| fingerprint(target, Profile::Serve)).into();
        assert_eq!(distinct.len(), Target::ALL.len());
    }

    #[test]
    fn the_version_named_is_the_one_locked() {
        let lock = include_str!("../../Cargo.lock");
        let locked = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"");
        assert_eq!(lock.matches("name = \"wasmtime\"\n").count(), 1);
        assert!(lock.contains(&locked));
    }
}
