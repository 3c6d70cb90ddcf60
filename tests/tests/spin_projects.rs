//! Projects made for Spin as they are: their folder comes up and is deployed with one command each, and answers with what its
//! `spin.toml` says.

use std::{fs, path::Path};

use whole_flow::{Fleet, Proto, guest};

/// A folder around a guest that shows its configuration.
fn project(folder: &Path, name: &str, program: &str) {
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "{name}"
        version = "0.1.0"
        [variables]
        place = {{ default = "Spin" }}
        [[trigger.http]]
        route = "/..."
        component = "{name}"
        [component.{name}]
        source = "target/{program}.wasm"
        key_value_stores = ["default"]
        [component.{name}.variables]
        greeting = "hello from {{{{ place }}}}"
        "#
    );
    fs::create_dir_all(folder.join("target")).unwrap();
    fs::copy(guest(program), folder.join(format!("target/{program}.wasm"))).unwrap();
    fs::write(folder.join("spin.toml"), manifest).unwrap();
}

#[test]
fn a_project_is_deployed_as_it_is_and_as_what_init_makes_of_it() {
    let fleet = Fleet::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    project(folder.path(), "moved", "wasi-hello");
    for version in 1..=2 {
        let said = fleet.skerry(&["deploy", &path, "--json", "--timeout", "120s"]).ok().json();
        assert_eq!((said["app"].as_str(), said["version"].as_u64()), (Some("moved"), Some(version)));
        assert_eq!(fleet.get(Proto::H2, "moved", "/any/path").expect(200).text, "Hello from wasi:http!\n");
        let config = fleet.skerry(&["config", "list", "moved", "--json"]).ok().out;
        assert!(config.contains("hello from Spin"), "{config}");
        if version == 1 {
            fleet.skerry(&["init", "--from", &format!("{path}/spin.toml")]).ok();
            assert!(folder.path().join("skerry.toml").is_file());
        }
    }
}

#[test]
fn up_serves_a_project_with_one_command() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path(), "spun", "wasi-hello");
    let fleet = Fleet::up().with_project(folder.path()).start();
    assert_eq!(fleet.get(Proto::H1, "spun", "/").expect(200).text, "Hello from wasi:http!\n");
    assert_eq!(fleet.stop(), Some(0));
}
