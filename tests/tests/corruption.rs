//! Native code that is not exactly what the compiler signed is never run: refused with a code, and what ran before
//! goes on.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use whole_flow::{Fleet, Process, Proto, guest, wait_for};

const GOOD: &str = "Hello from wstd!\n";
const NEW: &str = "Hello from wasi:http!\n";

/// All files below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            path => BTreeSet::from([path]),
        })
        .collect()
}

/// Flips one bit in the last quarter of each file: inside the compressed native code.
fn corrupt<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) {
    for path in paths {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() * 3 / 4;
        bytes[at] ^= 0x10;
        let mut permissions = fs::metadata(path).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false)] // a file of this test, gone with it
        permissions.set_readonly(false);
        fs::set_permissions(path, permissions).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn blobs(fleet: &Fleet, process: Process) -> BTreeSet<PathBuf> {
    files(&fleet.data_of(process).join("blobs"))
}

/// Deploys the second version while the node is dead and hands out the blobs that came with it.
fn second_version_without_the_node(fleet: &Fleet) -> Vec<PathBuf> {
    let before = blobs(fleet, Process::ControlPlane);
    fleet.kill9(Process::Node);
    let file = guest("wasi-hello").display().to_string();
    fleet.skerry(&["deploy", &file, "--app", "shop", "--no-wait"]).ok();
    let wasm = fs::read(guest("wasi-hello")).unwrap();
    let new = blobs(fleet, Process::ControlPlane).difference(&before).cloned().collect::<Vec<_>>();
    // The uploaded program is kept too; it is not what nodes fetch.
    let artifacts: Vec<_> = new.into_iter().filter(|path| fs::read(path).unwrap() != wasm).collect();
    assert!(!artifacts.is_empty(), "the deploy left no artifact in the blob store");
    artifacts
}

#[test]
fn a_flipped_bit_in_the_blob_store_is_refused_with_a_code_and_a_deploy_heals_it() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("wstd-hello", "shop");
    corrupt(&second_version_without_the_node(&fleet));
    fleet.restart(Process::Node);

    let failed = wait_for("the node's refusal in `skerry status`", 60, || {
        let status = fleet.status("shop");
        status["convergence"]["failed"].get(0).cloned()
    });
    assert!(failed["code"].as_str().is_some_and(|code| !code.is_empty() && code != "INTERNAL"), "{failed}");
    assert_eq!(failed["pop"], "fra1", "{failed}");
    for proto in Proto::secure() {
        assert_eq!(fleet.get(proto, "shop", "/").expect(200).text, GOOD, "{proto:?}");
    }

    // The refusal pins that app alone: others go on.
    assert_eq!(fleet.deploy_as("wstd-hello", "other")["outcome"], "live");
    assert_eq!(fleet.get(Proto::H2, "other", "/").expect(200).text, GOOD);

    // The same program deployed again: the control plane finds its copy rotten and compiles anew, so that it serves.
    let file = guest("wasi-hello").display().to_string();
    let said = fleet.skerry(&["deploy", &file, "--app", "third", "--json", "--timeout", "60s"]).ok();
    assert_eq!(said.json()["outcome"], "live", "{said}");
    assert_eq!(fleet.get(Proto::H2, "third", "/").expect(200).text, NEW);
}

#[test]
fn a_flipped_bit_on_the_nodes_disk_is_never_run() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("wstd-hello", "shop");
    let before = blobs(&fleet, Process::Node);
    let file = guest("wasi-hello").display().to_string();
    fleet.skerry(&["deploy", &file, "--app", "shop"]).ok();
    assert_eq!(fleet.get(Proto::H2, "shop", "/").expect(200).text, NEW);
    // The node leaves its unpacked copy after it has answered: both have to rot.
    let new = wait_for("the artifact and its unpacked copy on the node's disk", 10, || {
        let new: Vec<_> = blobs(&fleet, Process::Node).difference(&before).cloned().collect();
        let is_copy = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("unpacked"));
        let copies = new.iter().filter(|path| is_copy(path)).count();
        (copies > 0 && copies < new.len()).then_some(new)
    });

    // Nobody to fetch it from: rotten code is not run, and an older version is not what was deployed.
    fleet.kill9(Process::ControlPlane);
    fleet.kill9(Process::Node);
    corrupt(&new);
    fleet.restart(Process::Node);
    for proto in Proto::secure() {
        let response = fleet.get(proto, "shop", "/").expect(503);
        assert!(response.text.contains("code_unavailable"), "{proto:?}: {response:?}");
    }

    // With the control plane back it fetches a sound copy.
    fleet.restart(Process::ControlPlane);
    fleet.wait_connected();
    wait_for("the node to heal", 60, || {
        let response = fleet.get(Proto::H2, "shop", "/");
        assert!(response.status == 503 || response.text == NEW, "{response:?}");
        (response.status == 200).then_some(())
    });
}
