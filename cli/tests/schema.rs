//! The schema that editors use, held against the reader by somebody else's validator: `jsonschema` for Python, of
//! tests/clients/requirements.txt. The Rust crate would bring 27 others for this one test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use artifact::manifest::Project;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_command_prints_the_file_of_the_docs() {
    let output = Command::new(env!("CARGO_BIN_EXE_skerry")).arg("schema").output().unwrap();
    let file = fs::read_to_string(root().join("docs/skerry.schema.json")).unwrap();
    assert!(String::from_utf8(output.stdout).unwrap() == file, "SKERRY_WRITE_DOCS=1 writes it anew");
}

/// Every manifest that stands in the docs, with the page it stands in. Pieces of one are made whole.
fn examples() -> Vec<(String, String)> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    let mut examples = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let of_the_reference = page.ends_with("docs/manifest.md");
        for block in text.split("\n```toml\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            // Fastly's and Spin's stand in the docs, too.
            let ours = block.contains("component = \"") && !block.contains("spin_manifest_version");
            if !ours && !of_the_reference {
                continue;
            }
            let head = if ours { "" } else { "name = \"a\"\ncomponent = \"a.wasm\"\n" };
            let url = "[backends.origin]\nurl = \"https://origin.example\"\n";
            let above = if block.starts_with("[backends.origin.health]") { url } else { "" };
            examples.push((page.display().to_string(), format!("{head}{above}{block}\n")));
        }
    }
    examples
}

fn json(manifest: &str) -> serde_json::Value {
    serde_json::to_value(toml::from_str::<toml::Table>(manifest).unwrap()).unwrap()
}

#[test]
fn every_manifest_of_the_docs_is_taken() {
    let examples = examples();
    assert!(examples.len() >= 8, "{}", examples.len());
    for (page, text) in examples {
        if let Err(mistakes) = Project::parse(&text) {
            panic!("{page}: {mistakes:?}\n{text}");
        }
    }
}

#[test]
fn the_schema_takes_what_the_reader_takes_and_refuses_most_of_what_it_refuses() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut cases: Vec<serde_json::Value> =
        examples().iter().map(|(page, text)| serde_json::json!([true, page, json(text)])).collect();
    let head = "name = \"a\"\ncomponent = \"a.wasm\"\n";
    for wrong in [
        "host = []",
        "name = 3",
        "hosts = \"a.example\"",
        "hosts = [\"A.example\"]",
        "path_prefix = \"api\"",
        "methods = []",
        "methods = [\"get\"]",
        "config = { n = 1 }",
        "limits = { cpu_ms = 0 }",
        "limits = { cpu_ms = 30001 }",
        "limits = { cpu_ms = 1.5 }",
        "limits = { fuel = 1 }",
        "build = {}",
        "build = { command = \"\" }",
        "build = { command = \"make\", watch = [\"/src\"] }",
        "build = { command = \"make\", watch = [\"src/*\"] }",
        "backends = { b = {} }",
        "backends = { b = { url = \"https://a.example/x\" } }",
        "backends = { b = { url = \"https://a.example\", health = {} } }",
        "geo = { \"192.0.2.1\" = 3 }",
        "secrets = [\"\"]",
    ] {
        let head = if wrong.starts_with("name") { "component = \"a.wasm\"\n" } else { head };
        let text = format!("{head}{wrong}\n");
        assert!(Project::parse(&text).is_err(), "{wrong}");
        cases.push(serde_json::json!([false, wrong, json(&text)]));
    }
    cases.push(serde_json::json!([false, "nothing", {}]));
    let file = folder.path().join("cases.json");
    fs::write(&file, serde_json::to_vec(&cases).unwrap()).unwrap();
    let program = "\
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
validator = jsonschema.validators.validator_for(schema)
assert validator is jsonschema.Draft7Validator, validator
validator.check_schema(schema)
for taken, name, manifest in json.load(open(sys.argv[2])):
    errors = [error.message for error in validator(schema).iter_errors(manifest)]
    assert taken == (not errors), (name, errors)
";
    let arguments = [root().join("docs/skerry.schema.json"), file];
    let output = Command::new(python).args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A Python that has the validator: that of tests/clients/setup, or the system's.
fn python() -> Option<PathBuf> {
    let has = |python: &PathBuf| {
        let mut import = Command::new(python);
        import.args(["-c", "import jsonschema"]).stdout(Stdio::null()).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    let found = [root().join("target/venv/bin/python"), PathBuf::from("python3")].into_iter().find(has);
    if found.is_none() {
        assert!(std::env::var_os("SKERRY_TESTS_MUST_NOT_SKIP").is_none(), "no Python with jsonschema");
        eprintln!("SKIPPED: the schema by another validator: run tests/clients/setup");
    }
    found
}
