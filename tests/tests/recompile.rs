//! The drill: a whole fleet's code is compiled anew under load, and nobody who asks an app notices.
//!
//! `SKERRY_DRILL=200 cargo test --workspace --test recompile -- --nocapture` for 200 programs; 12 without.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use whole_flow::{Fleet, Process, Raw, guest, skipped, wait_for};

const APPS: usize = 12;
/// Programs and what they answer.
const GUESTS: [(&str, &str); 3] = [
    ("wasi-hello", "Hello from wasi:http!\n"),
    ("wstd-hello", "Hello from wstd!\n"),
    ("fastly-hello", "Hello from the fastly crate!\n"),
];
/// Threads that ask all the time, and the pause of each after a request: a steady load that leaves room for the compiler.
const ASKING: usize = 3;
const ASK_PAUSE: Duration = Duration::from_millis(12);
/// A debug build compiles a version for five targets in one to three seconds on a busy machine of two cores.
const VERSION_S_MAX: u64 = 10;

#[test]
fn the_whole_fleet_is_compiled_anew_under_load_and_over_a_kill_and_no_request_fails() {
    let apps = std::env::var("SKERRY_DRILL").map_or(APPS, |text| text.parse().expect("a number of apps"));
    let fleet = Fleet::workbench().start();
    let deployed = Instant::now();
    deploy_all(&fleet, apps);
    println!("{apps} apps deployed in {:.1} s", deployed.elapsed().as_secs_f64());
    let (numbers, old_files) = (versions(&fleet, apps), files(&fleet));
    let versions_all: usize = numbers.iter().map(Vec::len).sum();

    let load = Load::default();
    let (done, took) = thread::scope(|scope| {
        for thread in 0..ASKING {
            let (fleet, load) = (&fleet, &load);
            scope.spawn(move || load.ask_until_stopped(fleet, apps, thread));
        }
        let _stops = Stops(&load);
        load.one_more_round(apps);
        let loads = fleet.metric("skerry_code_load_seconds_count", &[]);

        fleet.widen_compiler();
        let begun = Instant::now();
        let recompile = scope.spawn(|| fleet.skerry(&["recompile", "--all", "--reason", "drill", "--json"]));
        let killed_at = kill_in_the_middle(&fleet, versions_all as u64);
        println!("control plane killed after {killed_at} of {versions_all} versions");
        let done = recompile.join().expect("it does not panic").ok().json();
        let took = begun.elapsed();

        converged(&fleet);
        load.one_more_round(apps);
        let loads = fleet.metric("skerry_code_load_seconds_count", &[]) - loads;
        println!("the node loaded code {loads} times meanwhile");
        if has_better_level(&fleet) {
            assert!(loads >= apps as f64, "the node runs other code of each app: {loads} loads");
        }
        (done, took)
    });
    println!(
        "{versions_all} versions in {:.1} s, {} requests, slowest {} ms, failed {}",
        took.as_secs_f64(),
        load.asked.load(Ordering::Relaxed),
        load.slowest_ms.load(Ordering::Relaxed),
        load.failed.load(Ordering::Relaxed)
    );
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "requests failed");
    assert_eq!(done["failed"], 0, "{done}");
    assert_eq!(done["versions"], versions_all, "{done}");
    // The control plane looks for targets that versions lack by itself, too, and may have been first with some.
    assert_eq!(
        done["changed"].as_u64().unwrap() + done["same"].as_u64().unwrap(),
        versions_all as u64,
        "{done}"
    );
    assert!(done["changed"].as_u64() > Some(0), "{done}");
    assert_eq!(versions(&fleet, apps), numbers, "versions keep their numbers");
    serves_without_the_old_code(&fleet, apps, &old_files);
}

/// A compiler with a key that nodes do not know stands for every way in which code can turn out not to be loadable.
#[test]
fn code_that_nodes_cannot_load_reaches_one_app_and_neither_load_nor_a_killed_node_loses_the_code_before() {
    const FEW: usize = 3;
    let fleet = Fleet::workbench().start();
    deploy_all(&fleet, FEW);
    let load = Load::default();
    let trusted = thread::scope(|scope| {
        scope.spawn(|| load.ask_until_stopped(&fleet, FEW, 0));
        let _stops = Stops(&load);
        load.one_more_round(FEW);
        let trusted = change_key(&fleet, None);
        fleet.skerry(&["recompile", "--all", "--reason", "other key", "--no-wait"]).ok();
        let held = wait_for("the request to be held", 60, || {
            let now = progress(&fleet)?;
            now["problem"].as_str().is_some_and(|problem| problem.contains("node fra1-1")).then_some(now)
        });
        assert_eq!((&held["done"], &held["ended_ms"]), (&0.into(), &Value::Null), "{held}");
        load.one_more_round(FEW);
        trusted
    });
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "requests failed");
    let published = fleet.status(&name(0));
    println!("held: {}", progress(&fleet).unwrap()["problem"]);

    // A node that comes back has the later code on its disk and cannot load it.
    fleet.kill9(Process::Node);
    fleet.restart(Process::Node);
    (0..FEW).for_each(|app| load.ask(&fleet, app));
    fleet.wait_connected();
    (0..FEW).for_each(|app| load.ask(&fleet, app));
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "after the node was killed");
    assert_eq!(fleet.status(&name(0))["versions"], published["versions"], "nothing more was published");

    let cancelled = fleet.skerry(&["recompile", "--cancel", "1", "--json"]).ok().json();
    assert!(cancelled["ended_ms"].is_u64(), "{cancelled}");
    change_key(&fleet, Some(trusted));
    let done = fleet.skerry(&["recompile", "--all", "--reason", "back", "--json"]).ok().json();
    assert_eq!((&done["failed"], &done["changed"]), (&0.into(), &1.into()), "{done}");
    (0..FEW).for_each(|app| load.ask(&fleet, app));
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "with the code of the key that is trusted");
}

/// Gives compiler and control plane another key, or one that they had. The one they had until now.
fn change_key(fleet: &Fleet, to: Option<[Vec<u8>; 2]>) -> [Vec<u8>; 2] {
    for process in [Process::ControlPlane, Process::Compiler] {
        fleet.kill9(process);
    }
    let files = ["compiler.key", "compiler.pub"].map(|file| fleet.data_of(Process::Compiler).join(file));
    let before = files.each_ref().map(|file| fs::read(file).expect("the compiler wrote it"));
    for (at, file) in files.iter().enumerate() {
        match &to {
            Some(keys) => fs::write(file, &keys[at]).expect("our own directory"),
            None => fs::remove_file(file).expect("it is there"),
        }
    }
    for process in [Process::Compiler, Process::ControlPlane] {
        fleet.restart(process);
    }
    before
}

/// Apps that differ in their bytes, so that each is compiled; every fourth has an older version, too.
fn deploy_all(fleet: &Fleet, apps: usize) {
    for app in 0..apps {
        let older = (app % 4 == 0).then_some("older");
        for round in older.into_iter().chain(["newest"]) {
            let mut wasm = fs::read(guest(GUESTS[app % GUESTS.len()].0)).expect("it was built");
            let note = format!("\x04note{app} {round}");
            wasm.extend([0, u8::try_from(note.len()).expect("short")]); // a custom section
            wasm.extend(note.as_bytes());
            let file = fleet.scratch().join("app.wasm");
            fs::write(&file, wasm).expect("our own directory");
            let (file, name) = (file.display().to_string(), name(app));
            fleet.skerry(&["deploy", &file, "--app", &name, "--timeout", "120s"]).ok();
        }
    }
}

fn name(app: usize) -> String {
    format!("app-{app}")
}

/// The version numbers of each app, the active one first.
fn versions(fleet: &Fleet, apps: usize) -> Vec<Vec<u64>> {
    let of = |app: usize| {
        let mut made = fleet.status(&name(app))["versions"].as_array().expect("a list").clone();
        made.sort_by_key(|made| made["active"] != true);
        made.iter().map(|made| made["version"].as_u64().expect("a number")).collect()
    };
    (0..apps).map(of).collect()
}

/// Kills the control plane once a third is done, and starts it again. How much was done then.
fn kill_in_the_middle(fleet: &Fleet, versions: u64) -> u64 {
    let seconds = 30 + VERSION_S_MAX * versions;
    let done = wait_for("a third of the versions", seconds, || {
        thread::sleep(Duration::from_millis(100)); // a look is a process
        let done = progress(fleet)?["done"].as_u64()?;
        (done >= (versions / 3).max(1)).then_some(done)
    });
    fleet.kill9(Process::ControlPlane);
    assert!(done < versions, "killed too late to show anything: {done} of {versions}");
    thread::sleep(Duration::from_millis(500));
    fleet.restart(Process::ControlPlane);
    let after = wait_for("the request to be known after the kill", 30, || progress(fleet));
    assert!(after["done"].as_u64() >= Some(done), "{done} before, {after} after");
    assert_eq!(after["reason"], "drill");
    done
}

fn progress(fleet: &Fleet) -> Option<Value> {
    let bearer = format!("Authorization: Bearer {}", fleet.token());
    let (status, body) = fleet.call_api("/v1/recompiles/1", &["-H", &bearer]);
    (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
}

/// Waits until the node has applied everything there is.
fn converged(fleet: &Fleet) {
    let (_, body) = fleet.call_api("/healthz", &[]);
    let head: Value = serde_json::from_str(&body).expect("JSON");
    wait_for("the node to follow", 60, || {
        let nodes = fleet.skerry(&["node", "list", "--json"]).ok().json();
        (nodes[0]["applied_rev"].as_u64()? >= head["rev"].as_u64()?).then_some(())
    });
}

fn has_better_level(fleet: &Fleet) -> bool {
    let nodes = fleet.skerry(&["node", "list", "--json"]).ok().json();
    nodes[0]["targets"].as_array().is_some_and(|targets| targets.len() > 1)
}

/// Everything in the node's folder of blobs.
fn files(fleet: &Fleet) -> BTreeSet<PathBuf> {
    fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => collect(&path, into),
                path => drop(into.insert(path)),
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&fleet.data_of(Process::Node).join("blobs"), &mut found);
    found
}

/// With the old code gone from its disk and nobody to ask for it, a node serves all apps: what it runs is the new.
fn serves_without_the_old_code(fleet: &Fleet, apps: usize, old: &BTreeSet<PathBuf>) {
    if !has_better_level(fleet) {
        return skipped("this machine has one level alone: its code stayed as it was");
    }
    let new = files(fleet).difference(old).count();
    println!("{} files of code on the node before, {new} new ones", old.len());
    for process in Process::ALL {
        fleet.kill9(process);
    }
    old.iter().for_each(|file| fs::remove_file(file).expect("the node only adds"));
    fleet.restart(Process::Node);
    let load = Load::default();
    for app in 0..apps {
        load.ask(fleet, app);
    }
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "without the old code");
}

/// Requests on sockets of their own, and what became of them.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    asked: AtomicU64,
    failed: AtomicU64,
    slowest_ms: AtomicU64,
}

/// Also when the test fails: the threads that ask would go on for ever.
struct Stops<'l>(&'l Load);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn ask_until_stopped(&self, fleet: &Fleet, apps: usize, first: usize) {
        let mut app = first;
        while !self.stop.load(Ordering::Relaxed) {
            self.ask(fleet, app % apps);
            app += 1;
            thread::sleep(ASK_PAUSE);
        }
    }

    fn ask(&self, fleet: &Fleet, app: usize) {
        let host = format!("{}.localhost", name(app));
        let begun = Instant::now();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = Raw::plain(fleet.http()).exchange(&request);
        let wanted = GUESTS[app % GUESTS.len()].1.trim_end();
        if !(answer.starts_with("HTTP/1.1 200") && answer.contains(wanted)) {
            println!("app {app} answered {answer:?}");
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until every app was asked once more.
    fn one_more_round(&self, apps: usize) {
        let until = self.asked.load(Ordering::Relaxed) + (2 * ASKING * apps) as u64;
        wait_for("another round of requests", 60 + apps as u64, || {
            (self.asked.load(Ordering::Relaxed) >= until).then_some(())
        });
    }
}
