//! `skerry up`: ready when it says so, one user of a directory, the same fleet again, nothing left behind.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

use whole_flow::{Fleet, Process, Proto, guest, wait_for};

/// An app as a folder.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(guest("hello"), folder.path().join("hello.wasm")).unwrap();
    fs::write(folder.path().join("skerry.toml"), "name = \"hello\"\ncomponent = \"hello.wasm\"\n").unwrap();
    folder
}

fn up(arguments: &[&str]) -> (Option<i32>, String) {
    let binary = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/skerry");
    let output = Command::new(binary).arg("up").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn up_with_a_project_serves_it_when_ready_and_says_how_to_reach_it() {
    let project = project();
    let fleet = Fleet::up().with_project(project.path()).start();
    for proto in Proto::secure() {
        assert_eq!(fleet.get(proto, "hello", "/").expect(200).text, "Hello from Skerry!\n", "{proto:?}");
    }
    let url = format!("https://hello.localhost:{}/", fleet.https().port());
    let said = wait_for("the summary", 5, || Some(fleet.up_said()).filter(|said| said.contains(&url)));
    let command =
        said.lines().find(|line| line.trim_start().starts_with("curl ")).expect("a command to copy").trim();
    // It is to be copied, so it is run as it stands.
    let copied =
        Command::new("sh").args(["-c", &format!("{command} --silent --noproxy '*'")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&copied.stdout), "Hello from Skerry!\n", "{command}: {copied:?}");

    // The directory, its keys and its tokens are the owner's alone.
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(fleet.data()), 0o700);
    assert_eq!(mode(fleet.data().join("control/operator.token")), 0o600);

    // `deploy` and `apps` find the fleet by its directory.
    let data = fleet.data().display().to_string();
    let binary = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/skerry");
    let apps = Command::new(binary).args(["apps", "--data", &data]).output().unwrap();
    assert!(String::from_utf8_lossy(&apps.stdout).contains("hello"), "{apps:?}");

    // One directory, one `up`.
    let (code, said) = up(&["--data", &data]);
    assert!(code == Some(1) && said.contains("is running") && said.contains("--data"), "{said}");

    assert_eq!(fleet.stop(), Some(0), "a clean stop");
}

#[test]
fn the_same_directory_brings_back_the_same_fleet_with_all_apps() {
    let first = Fleet::up().start();
    first.deploy("wstd-hello");
    first.deploy("fastly-hello");
    let token = first.token();
    let directory = first.directory();
    assert_eq!(first.stop(), Some(0));

    let second = Fleet::up().on(directory).start();
    assert_eq!(second.token(), token, "credentials stay valid");
    assert_eq!(second.get(Proto::H2, "wstd-hello", "/").expect(200).text, "Hello from wstd!\n");
    assert_eq!(second.get(Proto::H2, "fastly-hello", "/").expect(200).text, "Hello from the fastly crate!\n");
    let nodes = second.skerry(&["node", "list", "--json"]).ok().json();
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "the node joined once: {nodes}");
    assert_eq!(second.deploy("wstd-hello")["version"], 2);
}

#[test]
fn a_node_that_the_control_plane_no_longer_knows_is_said_and_everything_stays_up() {
    let first = Fleet::up().start();
    first.deploy("wstd-hello");
    let directory = first.directory();
    let control = first.data_of(Process::ControlPlane);
    assert_eq!(first.stop(), Some(0));
    // As if the rest had been restored from a backup without it.
    fs::remove_dir_all(control).unwrap();

    let second = Fleet::up().on(directory).start();
    let said = second.up_said();
    assert!(said.contains("did not reach the control plane") && said.contains("edge-node.log"), "{said}");
    assert_eq!(second.get(Proto::Plain, "wstd-hello", "/").expect(200).text, "Hello from wstd!\n");
    let nodes = second.skerry(&["node", "list", "--json"]).ok().json();
    assert!(
        nodes.as_array().is_some_and(|nodes| nodes.iter().all(|node| node["connected"] == false)),
        "{nodes}"
    );
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn a_killed_part_is_started_again_and_every_app_is_there() {
    let fleet = Fleet::up().start();
    fleet.deploy("wstd-hello");
    for victim in Process::ALL {
        let before = fleet.pid(victim);
        fleet.kill9(victim);
        fleet.restart(victim);
        assert_ne!(fleet.pid(victim), before);
        fleet.wait_connected();
        fleet.get(Proto::H2, "wstd-hello", "/").expect(200);
        fleet.deploy_as("wasi-hello", "again");
    }
    assert!(fleet.up_said().contains("starting it again"), "{}", fleet.up_said());
}

#[test]
fn when_up_is_killed_its_parts_end_too_and_the_fleet_can_be_started_again() {
    let fleet = Fleet::up().start();
    fleet.deploy("wstd-hello");
    let pids: Vec<u32> = Process::ALL.iter().filter_map(|process| fleet.pid(*process)).collect();
    assert_eq!(pids.len(), 3);
    let directory = fleet.directory();
    fleet.kill9_up();
    for process in Process::ALL {
        wait_for(&format!("{} to end with up", process.binary()), 20, || {
            fleet.pid(process).is_none().then_some(())
        });
    }
    drop(fleet);
    let again = Fleet::up().on(directory).start();
    again.get(Proto::H2, "wstd-hello", "/").expect(200);
}

#[test]
fn a_taken_port_is_said_with_its_cure_and_leaves_nothing_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("d").display().to_string();
    let (code, said) = up(&["--data", &data, "--https", &address, "--api", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--https"), "{said}");
}

#[test]
fn a_bad_project_is_said_and_leaves_the_fleet_running() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("skerry.toml"), "name = \"Bad\"\n").unwrap();
    let fleet = Fleet::up().with_project(folder.path()).start();
    wait_for("the mistakes", 5, || fleet.up_said().contains("skerry.toml:1:8]").then_some(()));
    fleet.deploy("wstd-hello");
    fleet.get(Proto::H2, "wstd-hello", "/").expect(200);
}
