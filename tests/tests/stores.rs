//! Config, secrets and key-value stores with real processes: from the command line to the node, and through kills.

use std::{
    fs,
    path::{Path, PathBuf},
};

use whole_flow::{Fleet, Process, guest};

const REJECTED: i32 = 3;

/// A value that is found wherever it stands as it is.
const SECRET: &str = "a-very-plain-value-73d1";

/// A folder that declares stores around a guest.
fn project(fleet: &Fleet) -> String {
    let folder = fleet.scratch().join("shop");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(guest("wasi-hello"), folder.join("app.wasm")).unwrap();
    let manifest = "name = \"shop\"\ncomponent = \"app.wasm\"\nsecrets = [\"API_KEY\"]\nkv_stores = [\"carts\"]\n\
                    [config]\ngreeting = \"hi\"\n[secret_stores]\nvault = [\"PIN\"]\n";
    fs::write(folder.join("skerry.toml"), manifest).unwrap();
    folder.display().to_string()
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    fs::read(path).unwrap_or_default().windows(needle.len()).any(|window| window == needle)
}

/// Every file under a directory that holds these bytes.
fn files_with(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_dir() => found.extend(files_with(&path, needle)),
            Ok(kind) if kind.is_file() && holds(&path, needle) => found.push(path),
            _ => {} // sockets, or gone since
        }
    }
    found
}

#[test]
fn an_app_gets_its_config_and_secrets_as_versions_and_no_file_or_log_holds_a_value() {
    let fleet = Fleet::separate().start();
    let folder = project(&fleet);
    let deploy = || fleet.skerry(&["deploy", &folder, "--json", "--timeout", "120s"]);
    deploy().failed_with(REJECTED, "skerry secrets set shop API_KEY");
    let set = |name: &str, more: &[&str], value: &str| {
        let arguments = [&["secrets", "set", "shop", name, "--json", "--timeout", "120s"], more].concat();
        fleet.skerry_fed(&arguments, value.as_bytes()).ok().json()
    };
    assert!(set("API_KEY", &[], &format!("{SECRET}\n"))["released"].is_null());
    set("PIN", &["--store", "vault"], SECRET);
    assert_eq!(deploy().ok().json()["outcome"], "live");

    let changed =
        fleet.skerry(&["config", "set", "shop", "greeting=hello", "a=1", "--json", "--timeout", "120s"]);
    let changed = changed.ok().json();
    assert_eq!(
        (&changed["version"], &changed["outcome"], &changed["compile_ms"]),
        (&2.into(), &"live".into(), &0.into())
    );
    let rotated = set("API_KEY", &[], &format!("{SECRET}-rotated"));
    assert_eq!(
        (&rotated["released"]["version"], &rotated["released"]["outcome"]),
        (&3.into(), &"live".into())
    );
    let taken = fleet.skerry(&["config", "unset", "shop", "a", "--json", "--timeout", "120s"]).ok().json();
    assert_eq!(taken["outcome"], "live");
    let config = fleet.skerry(&["config", "list", "shop", "--json"]).ok().json();
    assert_eq!(
        (&config["version"], &config["config"]),
        (&4.into(), &serde_json::json!({ "greeting": "hello" }))
    );
    let lines = format!("# both, as one version\nAPI_KEY={SECRET}-again\nUNDECLARED='{SECRET}'\n");
    let import = ["secrets", "import", "shop", "--json", "--timeout", "120s"];
    let imported = fleet.skerry_fed(&import, lines.as_bytes()).ok().json();
    assert_eq!(
        (&imported["names"], &imported["released"]["version"], &imported["released"]["outcome"]),
        (&serde_json::json!(["API_KEY", "UNDECLARED"]), &5.into(), &"live".into())
    );
    let back = fleet.skerry(&["rollback", "shop", "--to", "1", "--json", "--timeout", "120s"]).ok().json();
    assert_eq!(back["outcome"], "live", "the node opened the values of then: {back}");
    // A deploy brings the manifest's values again, and says so.
    fleet.skerry(&["config", "set", "shop", "greeting=moin", "--no-wait"]).ok();
    let undone = fleet.skerry(&["deploy", &folder, "--timeout", "120s"]).ok();
    assert!(
        undone.out.contains("config: greeting is \"hi\", as the manifest says; it was \"moin\""),
        "{undone}"
    );
    assert!(!fleet.skerry(&["deploy", &folder, "--timeout", "120s"]).ok().out.contains("config:"));

    let listed = fleet.skerry(&["secrets", "list", "shop"]).ok();
    assert!(
        listed.out.contains("API_KEY") && listed.out.contains("vault") && !listed.out.contains(SECRET),
        "{listed}"
    );
    fleet.skerry(&["secrets", "unset", "shop", "PIN", "--store", "vault"]).failed_with(REJECTED, "declares");
    assert_eq!(files_with(&fleet.data(), SECRET.as_bytes()), Vec::<PathBuf>::new());
    for process in Process::ALL {
        assert!(!fleet.log(process).contains(SECRET), "{process:?} logged it");
    }
}

#[test]
fn an_entry_that_was_acknowledged_survives_a_kill_of_the_control_plane() {
    let fleet = Fleet::separate().start();
    let kv = |arguments: &[&str]| fleet.skerry(&[&["kv"], arguments].concat());
    let put = |key: &str, value: &str, more: &[&str]| {
        fleet.skerry_fed(&[&["kv", "put", "carts", key, "--json"], more].concat(), value.as_bytes())
    };
    let first = put("a/1", "one", &["--metadata", "m", "--ttl", "1h"]).ok().json();
    for n in 0..10 {
        put(&format!("k{n}"), &n.to_string(), &[]).ok();
    }
    fleet.kill9(Process::ControlPlane);
    fleet.restart(Process::ControlPlane);

    let read = kv(&["get", "carts", "a/1", "--json"]).ok().json();
    assert_eq!(
        (&read["value"], &read["metadata"], &read["generation"]),
        (&"one".into(), &"m".into(), &first["generation"])
    );
    assert!(read["ttl_ms"].as_u64().is_some_and(|left| left <= 3_600_000), "{read}");
    for n in 0..10 {
        assert_eq!(kv(&["get", "carts", &format!("k{n}")]).ok().out, n.to_string());
    }
    let page = kv(&["list", "carts", "--prefix", "k", "--limit", "3", "--json"]).ok().json();
    assert_eq!(page["keys"], serde_json::json!(["k0", "k1", "k2"]));
    let next = page["next"].as_str().unwrap();
    let rest = kv(&["list", "carts", "--prefix", "k", "--cursor", next, "--json"]).ok().json();
    assert_eq!(rest["keys"].as_array().unwrap().len(), 7);

    let generation = first["generation"].to_string();
    put("a/1", "two", &["--if-generation", &generation]).ok();
    put("a/1", "three", &["--if-generation", &generation]).failed_with(REJECTED, "not as the write expected");
    put("a/1", "x", &["--mode", "add"]).failed_with(REJECTED, "not as the write expected");
    assert_eq!(kv(&["get", "carts", "a/1"]).ok().out, "two");
    assert_eq!(kv(&["delete", "carts", "a/1", "--json"]).ok().json()["existed"], true);
    kv(&["get", "carts", "a/1"]).failed_with(REJECTED, "no key");
}
