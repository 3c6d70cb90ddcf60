//! A fleet of different machines: each node runs the best code that it can, and all answer alike.

use std::{
    fs,
    path::{Path, PathBuf},
    slice::from_ref,
};

use serde_json::Value;
use whole_flow::{AnotherNode, Fleet, Process, Raw, aot_compiler, skipped, wait_for};

#[test]
fn nodes_of_two_levels_run_code_of_their_own_and_answer_alike() {
    let fleet = Fleet::separate().start();
    fleet.wait_connected();
    let levels = targets(&fleet, 0);
    if levels.len() < 2 {
        return skipped("nodes of two levels: this machine has one");
    }
    let (lowest, best) = (levels.first().unwrap(), levels.last().unwrap());
    let other = AnotherNode::join(&fleet, "ams1", &format!("level_max = \"{lowest}\""));
    let of_pop = |pop: &str| nodes(&fleet).iter().position(|node| node["pop"] == pop);
    let said = wait_for("the other node to say what it runs", 30, || {
        Some(targets(&fleet, of_pop("ams1")?)).filter(|targets| !targets.is_empty())
    });
    assert_eq!(said, from_ref(lowest));

    fleet.deploy("wasi-hello");
    for node in [fleet.http(), other.http()] {
        let request = "GET / HTTP/1.1\r\nHost: wasi-hello.localhost\r\nConnection: close\r\n\r\n";
        let answer = Raw::plain(node).exchange(request);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hello from wasi:http!"), "{answer}");
    }
    assert_eq!(levels_on_disk(&fleet.data_of(Process::Node)), from_ref(best));
    assert_eq!(levels_on_disk(other.data()), from_ref(lowest));
}

fn nodes(fleet: &Fleet) -> Vec<Value> {
    fleet.skerry(&["node", "list", "--json"]).ok().json().as_array().expect("a list").clone()
}

/// What a node said it runs, best last.
fn targets(fleet: &Fleet, node: usize) -> Vec<String> {
    let targets = nodes(fleet)[node]["targets"].as_array().expect("a list").clone();
    targets.iter().map(|target| target.as_str().expect("a name").to_owned()).collect()
}

/// The levels of the signed code that a node has fetched.
fn levels_on_disk(data: &Path) -> Vec<String> {
    fn files(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => files(&path, into),
                path => into.push(path),
            }
        }
    }
    let mut found = Vec::new();
    files(&data.join("blobs/sha256"), &mut found);
    let level = |file: &PathBuf| {
        let said = aot_compiler(&["inspect", &file.display().to_string()]).ok().out;
        let line = said.lines().find_map(|line| line.strip_prefix("target ")).expect("it names its target");
        line.trim().split(',').next().expect("a word").to_owned()
    };
    found.iter().map(level).collect()
}
