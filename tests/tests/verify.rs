//! What runs where, by digest: from the file on the disk to what a node has mapped.

use std::fs;

use artifact::{
    Digest,
    keys::{Compiler, SecretKey},
};
use whole_flow::{Fleet, Process, Proto, guest};

#[test]
fn what_a_node_has_mapped_is_what_was_uploaded_compiled_and_signed() {
    let fleet = Fleet::up().start();
    fleet.deploy_as("wasi-hello", "shop");
    let (file, other) =
        (guest("wasi-hello").display().to_string(), guest("wstd-hello").display().to_string());
    let key = fleet.data_of(Process::Compiler).join("compiler.pub").display().to_string();

    let said = fleet.skerry(&["verify", "shop", "--wasm", &file, "--key", &key, "--json"]).ok().json();
    assert_eq!(said["program"]["wasm"], Digest::of(&fs::read(&file).unwrap()).to_string());
    let artifacts = said["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 5, "{said}");
    assert!(artifacts.iter().all(|artifact| artifact["standing"] == "verified"), "{said}");
    let node = &said["nodes"][0];
    assert_eq!((&node["state"], &node["version"]), (&"ok".into(), &1.into()), "{said}");
    let mapped = artifacts.iter().find(|artifact| artifact["code"] == node["code"]).expect("one of them");
    assert_eq!(mapped["target"], node["target"], "{said}");

    fleet
        .skerry(&["verify", "shop", "--wasm", &other])
        .failed_with(3, &format!("{other} is another program: its sha-256 is"));
    fleet.skerry(&["verify", "shop", "--wasm", &other]).failed_with(3, "or it was prepared at its deploy");
    let strange = fleet.scratch().join("strange.pub");
    fs::write(&strange, SecretKey::<Compiler>::from_seed([7; 32]).public().to_text()).unwrap();
    fleet
        .skerry(&["verify", "shop", "--key", &strange.display().to_string()])
        .failed_with(3, "no trusted key signed this");

    // A node that comes back has nothing in memory until it is asked; nor has it another program.
    fleet.kill9(Process::Node);
    fleet.restart(Process::Node);
    fleet.wait_connected();
    let said = fleet.skerry(&["verify", "shop", "--key", &key, "--json"]).ok().json();
    assert_eq!(said["nodes"][0]["state"], "not_loaded", "{said}");
    assert_eq!(fleet.get(Proto::H2, "shop", "/").expect(200).text, "Hello from wasi:http!\n");
    let said = fleet.skerry(&["verify", "shop", "--key", &key, "--json"]).ok().json();
    assert_eq!((&said["nodes"][0]["state"], &said["nodes"][0]["code"]), (&"ok".into(), &mapped["code"]));
}

#[test]
fn a_tenant_sees_its_own_app_and_a_node_that_is_away_is_not_taken_for_a_good_one() {
    let fleet = Fleet::separate().start();
    fleet.deploy_as("wasi-hello", "shop");
    fleet.skerry(&["tenant", "create", "other"]).ok();
    let token = |tenant: &str| {
        let made =
            fleet.skerry(&["token", "create", "--tenant", tenant, "--action", "read", "--json"]).ok().json();
        made["token"].as_str().unwrap().to_owned()
    };
    fleet.skerry_with(&token("default"), &["verify", "shop"]).ok();
    fleet.skerry_with(&token("other"), &["verify", "shop"]).failed_with(3, "no app shop");

    fleet.pause(Process::Node);
    fleet.skerry(&["verify", "shop"]).failed_with(5, "did not say what it serves");
    fleet.kill9(Process::Node);
    fleet.skerry(&["verify", "shop"]).failed_with(5, "is not connected");
}
