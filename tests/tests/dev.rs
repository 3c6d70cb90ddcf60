//! `skerry dev`: what is saved answers, what is broken leaves what was there, and nothing stays behind.

use std::{fs, io::Write as _, net::TcpListener, path::Path, time::Instant};

use whole_flow::{Dev, Fleet, guest, wait_for};

const FIRST: &str = "Hello from wasi:http!\n";
const SECOND: &str = "Hello from wstd!\n";

/// A project whose build takes no tools: its source is a program already.
fn project(command: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "name = \"shop\"\ncomponent = \"build/shop.wasm\"\n[build]\ncommand = \"{command}\"\nwatch = [\"src\"]\n"
    );
    fs::write(folder.path().join("skerry.toml"), manifest).unwrap();
    fs::create_dir_all(folder.path().join("src")).unwrap();
    save(folder.path(), "wasi-hello");
    folder
}

const BUILD: &str =
    "mkdir -p build && head -c 4 src/shop.wasm | grep -q asm && cp src/shop.wasm build/shop.wasm";

fn save(folder: &Path, name: &str) {
    fs::copy(guest(name), folder.join("src/shop.wasm")).unwrap();
}

#[test]
fn what_is_saved_answers_and_what_does_not_build_leaves_the_version_before() {
    let project = project(BUILD);
    let dev = Dev::start(project.path());
    dev.wait_said("watching", 1);
    assert_eq!(dev.get("shop").expect(200).text, FIRST);
    let said = dev.said();
    assert!(said.contains("https://shop.localhost:") && said.contains("curl --cacert "), "{said}");

    // What the app says and what its requests cost stands there as it happens.
    wait_for("the request's line", 10, || {
        dev.get("shop").expect(200);
        let said = dev.said();
        said.lines()
            .any(|line| line.contains("GET /") && line.contains("200") && line.contains("cpu"))
            .then_some(())
    });

    save(project.path(), "wstd-hello");
    wait_for("the second version", 60, || (dev.get("shop").expect(200).text == SECOND).then_some(()));

    fs::write(project.path().join("src/shop.wasm"), "does not compile").unwrap();
    dev.wait_said("running the build of shop", 1);
    assert_eq!(dev.get("shop").expect(200).text, SECOND);

    let manifest = project.path().join("skerry.toml");
    let good = fs::read(&manifest).unwrap();
    fs::write(&manifest, "name = \"shop\"\ncomponnt = \"x\"\n").unwrap();
    dev.wait_said("componnt", 1);
    assert_eq!(dev.get("shop").expect(200).text, SECOND);

    fs::write(&manifest, good).unwrap();
    save(project.path(), "wasi-hello");
    wait_for("the first one again", 60, || (dev.get("shop").expect(200).text == FIRST).then_some(()));
    assert_eq!(dev.stop(), Some(0));
}

/// A project made by `skerry new` answers a save in each of the languages whose builds are quick. The times are for people.
/// The project, whose `dev` has ended.
fn a_save_answers(language: &str, source: &str, from: &str, to: &str, compilers: usize) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("shop");
    let dir = folder.display().to_string();
    whole_flow::skerry(&["new", "shop", "--lang", language, "--dir", &dir]).ok();
    let began = Instant::now();
    let dev = Dev::start(&folder);
    dev.wait_said("watching", 1);
    let first = began.elapsed();
    let before = dev.get("shop").expect(200).text;
    assert!(before.contains(from), "{before}");

    let text = fs::read_to_string(folder.join(source)).unwrap();
    let began = Instant::now();
    fs::write(folder.join(source), text.replace(from, to)).unwrap();
    wait_for("what was saved", 120, || dev.get("shop").expect(200).text.contains(to).then_some(()));
    let saved = began.elapsed();
    let said = dev.said();
    let built = said.lines().rfind(|line| line.contains("built in")).unwrap_or_default();
    let line =
        format!("dev in {language}: first answer after {first:.1?}, a save after {saved:.1?} ({built})\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    assert_eq!(compilers_that_stay(&folder), compilers);
    assert_eq!(dev.stop(), Some(0));
    home
}

/// AssemblyScript's stays beside its project while `dev` runs.
fn compilers_that_stay(folder: &Path) -> usize {
    fs::read_dir(folder.join("node_modules/.cache")).map_or(0, |files| files.count())
}

#[test]
fn a_save_in_rust_answers() {
    a_save_answers("rust", "src/lib.rs", "Hello", "Moin", 0);
}

#[test]
fn a_save_in_assemblyscript_answers() {
    let npm = std::process::Command::new("npm").arg("--version").output();
    if !npm.is_ok_and(|output| output.status.success()) {
        return whole_flow::skipped("a project in AssemblyScript: there is no npm");
    }
    let home = a_save_answers("as", "assembly/index.ts", "Hello", "Moin", 1);
    wait_for("its compiler to end", 20, || {
        (compilers_that_stay(&home.path().join("shop")) == 0).then_some(())
    });
}

#[test]
fn a_stop_in_a_build_that_hangs_ends_it_and_is_no_error() {
    let project = project("touch building; sleep 1000");
    let dev = Dev::start(project.path());
    wait_for("the build", 60, || project.path().join("building").exists().then_some(()));
    let said = dev.stopped();
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn a_secret_that_was_missing_and_is_set_starts_a_round_by_itself() {
    let project = project(BUILD);
    let manifest = project.path().join("skerry.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("secrets = [\"KEY\"]\n{text}")).unwrap();
    let dev = Dev::start(project.path());
    dev.wait_said("so do the secrets once they are set", 1);
    assert!(dev.said().contains("skerry secrets set shop KEY"), "{}", dev.said());
    let value = project.path().join("value");
    fs::write(&value, "s3cret").unwrap();
    let (data, value) = (project.path().join(".skerry").display().to_string(), value.display().to_string());
    whole_flow::skerry(&["secrets", "set", "shop", "KEY", "--file", &value, "--data", &data]).ok();
    dev.wait_said("shop v1 answers", 1);
    assert_eq!(dev.get("shop").expect(200).text, FIRST);
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn a_fleet_that_runs_already_is_used_and_stays() {
    let project = project(BUILD);
    let fleet = Fleet::up().start();
    std::os::unix::fs::symlink(fleet.data(), project.path().join(".skerry")).unwrap();
    let dev = Dev::start(project.path());
    dev.wait_said("watching", 1);
    assert!(dev.said().contains("using the fleet that runs"), "{}", dev.said());
    assert!(!dev.stopped().contains("error"));
    assert_eq!(fleet.get(whole_flow::Proto::H2, "shop", "/").expect(200).text, FIRST);
}

#[test]
fn a_project_of_another_platform_answers_what_its_own_tools_built() {
    let project = tempfile::tempdir().unwrap();
    let manifest = "manifest_version = 3\nname = \"shop\"\nlanguage = \"rust\"\n";
    fs::write(project.path().join("fastly.toml"), manifest).unwrap();
    fs::create_dir(project.path().join("bin")).unwrap();
    let built = project.path().join("bin/main.wasm");
    fs::copy(guest("fastly-hello"), &built).unwrap();
    let dev = Dev::start(project.path());
    dev.wait_said("watching", 1);
    assert_eq!(dev.get("shop").expect(200).text, "Hello from the fastly crate!\n");
    fs::copy(guest("wstd-hello"), &built).unwrap();
    wait_for("what was built anew", 60, || (dev.get("shop").expect(200).text == SECOND).then_some(()));
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn a_taken_port_is_said_before_anything_is_built() {
    let project = project("touch built");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = whole_flow::skerry(&["dev", "--https", &address, &project.path().display().to_string()]);
    said.failed_with(1, "--https");
    assert!(!project.path().join("built").exists());
}
