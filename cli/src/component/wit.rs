//! The interfaces as text, carried in this program: those the compiler service admits, so that what is made here is not
//! refused there.

use wit_parser::UnresolvedPackageGroup;

use super::module::stable_release;

/// The release the texts are of. Every release of 0.2 has these types.
const RELEASE: &str = "0.2.12";

macro_rules! carried {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../aot-compiler/wit/deps/", $name)))),*]
    };
}

/// The packages: a file each.
const PACKAGES: &[(&str, &str)] = carried![
    "cli.wit",
    "clocks.wit",
    "config-2024-09-27.wit",
    "config-draft.wit",
    "config-rc1.wit",
    "edge.wit",
    "filesystem.wit",
    "http.wit",
    "io.wit",
    "keyvalue-draft.wit",
    "keyvalue-draft2.wit",
    "logging-draft.wit",
    "logging.wit",
    "random.wit",
    "sockets.wit",
];

/// Which of their interfaces a program may import.
const OFFERED: &str = include_str!("../../../aot-compiler/wit/offered.wit");

/// Each package's file and text, at this release.
pub fn packages(release: &str) -> impl Iterator<Item = (&'static str, String)> {
    PACKAGES.iter().map(move |(name, text)| (*name, at(text, release)))
}

fn at(text: &str, release: &str) -> String {
    text.replace(&format!("@{RELEASE}"), &format!("@{release}"))
}

/// Is there an interface of this name?
pub fn offers(interface: &str, release: &str) -> bool {
    // A draft has its own version; what stands with the release must have this one.
    stable_release(interface).is_none_or(|said| said == release)
        && at(OFFERED, release).lines().any(|line| {
            line.trim().strip_prefix("import ").and_then(|line| line.strip_suffix(';')) == Some(interface)
        })
}

/// The world of a program that imports these and answers HTTP.
pub fn app<'a>(interfaces: impl Iterator<Item = &'a String>, release: &str) -> String {
    let imports: String = interfaces.map(|name| format!("  import {name};\n")).collect();
    format!(
        "package skerry:app;\n\nworld app {{\n{imports}  export wasi:http/incoming-handler@{release};\n}}\n"
    )
}

/// Reads a package.
pub fn parse(name: &str, text: &str) -> Result<UnresolvedPackageGroup, String> {
    UnresolvedPackageGroup::parse(name, text).map_err(|(sources, error)| error.render(&sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_that_are_admitted_are_carried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../aot-compiler/wit/deps");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, PACKAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
