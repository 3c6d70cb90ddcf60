//! A fleet changes its compiler's key as docs/operating.md tells, step by step, under load; and what a revoked key is worth then.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::Value;
use whole_flow::{Fleet, Process, Raw, aot_compiler, wait_for};

/// Apps are named as their guests, and what they answer.
const APPS: [(&str, &str); 2] =
    [("wasi-hello", "Hello from wasi:http!"), ("fastly-hello", "Hello from the fastly crate!")];
const ASK_PAUSE: Duration = Duration::from_millis(12);
/// Connections after which each of 16 workers has had one, but for once in 400,000 runs.
const ALL_WORKERS: usize = 200;

#[test]
fn the_compilers_key_is_changed_under_load_and_what_the_old_one_signed_is_not_loaded_any_more() {
    let fleet = Fleet::workbench().start();
    APPS.iter().for_each(|(app, _)| drop(fleet.deploy(app)));
    let first = key_of(&fleet);

    let load = Load::default();
    thread::scope(|scope| {
        scope.spawn(|| load.ask_until_stopped(&fleet));
        let _stops = Stops(&load);
        load.one_more_round();
        rotate(&fleet, Restarts::ControlPlane);
        recompile_all(&fleet);
        revoke_old(&fleet);
        load.one_more_round();
    });
    let (asked, failed) = (load.asked.load(Ordering::Relaxed), load.failed.load(Ordering::Relaxed));
    println!("{asked} requests, {failed} failed");
    assert_eq!(failed, 0, "requests failed");
    let second = key_of(&fleet);
    assert_eq!(trusted(&fleet), [(second.clone(), true), (first.clone(), false)]);

    let new_key = in_compiler(&fleet, "compiler.pub");
    for (app, _) in APPS {
        let said = fleet.skerry(&["verify", app, "--key", &new_key, "--json"]).ok().json();
        let artifacts = said["artifacts"].as_array().expect("a list");
        let replaced = artifacts.iter().filter(|artifact| artifact["replaced"] == true);
        assert_eq!(replaced.count() * 2, artifacts.len(), "each is there twice, by both keys: {said}");
    }

    // Nothing that the old key says counts, and its key file brings nothing back.
    let late = fleet.scratch().join("late.endorsed");
    let sign = ["key", "endorse", &in_compiler(&fleet, "compiler.pub"), "--data-dir"];
    aot_compiler(&[&sign[..], &[&in_compiler(&fleet, "previous"), "--out", text(&late)]].concat()).ok();
    fleet
        .skerry(&["compiler-key", "add", text(&late)])
        .failed_with(3, &format!("{first}, which signed it, was revoked"));

    fleet.new_node();
    fleet.wait_connected();
    converged(&fleet);
    assert_eq!(failures(&fleet, APPS.len() * 3), 0, "on a node that enrolled after it all");

    code_of_a_revoked_key_goes_on_until_the_node_ends(&fleet);
}

/// What no operator should do: revoke before all is compiled anew.
fn code_of_a_revoked_key_goes_on_until_the_node_ends(fleet: &Fleet) {
    assert_eq!(failures(fleet, APPS.len() * ALL_WORKERS), 0);
    rotate(fleet, Restarts::Nothing);
    revoke_old(fleet);
    assert_eq!(failures(fleet, APPS.len() * 10), 0, "what is mapped goes on");
    // From its disk alone, which has the old code and the word that it is not to be loaded.
    fleet.kill9(Process::Node);
    fleet.kill9(Process::ControlPlane);
    fleet.restart(Process::Node);
    assert_eq!(failures(fleet, APPS.len() * 3), APPS.len() * 3);
    assert!(fleet.log(Process::Node).contains("no trusted key signed this"), "{}", fleet.log(Process::Node));

    fleet.restart(Process::ControlPlane);
    fleet.wait_connected();
    recompile_all(fleet);
    assert_eq!(failures(fleet, APPS.len() * 3), 0, "compiled anew");
}

#[derive(PartialEq)]
enum Restarts {
    Nothing,
    /// In the middle, when the file that it names has the new key already.
    ControlPlane,
}

/// Steps 1 to 4 of the page. The old key is kept in `previous`.
fn rotate(fleet: &Fleet, restarts: Restarts) {
    let at = |name: &str| in_compiler(fleet, name);
    let _ = fs::remove_dir_all(at("previous"));
    fs::create_dir(at("previous")).expect("our own directory");
    for name in ["compiler.key", "compiler.pub"] {
        fs::copy(at(name), at(&format!("previous/{name}"))).expect("our own directory");
    }
    aot_compiler(&["key", "new", "--data-dir", &at("next")]).ok();
    let new = at("next/compiler.pub");
    aot_compiler(&["key", "endorse", &new, "--data-dir", &at("."), "--out", &at("next.endorsed")]).ok();
    fleet.skerry(&["compiler-key", "add", &at("next.endorsed")]).ok();
    converged(fleet);
    fleet.kill9(Process::Compiler);
    fs::rename(at("next/compiler.key"), at("compiler.key")).expect("our own directory");
    fleet.restart(Process::Compiler);
    fs::remove_dir_all(at("next")).and_then(|()| fs::remove_file(at("next.endorsed"))).expect("our own");
    if restarts == Restarts::ControlPlane {
        fleet.kill9(Process::ControlPlane);
        fleet.restart(Process::ControlPlane);
        assert_eq!(trusted(fleet).iter().filter(|(_, trusted)| *trusted).count(), 2);
    }
}

/// Step 5.
fn recompile_all(fleet: &Fleet) {
    let done = fleet.skerry(&["recompile", "--all", "--reason", "key", "--json"]).ok().json();
    assert_eq!(done["changed"], APPS.len(), "another signature is another artifact: {done}");
    converged(fleet);
}

/// Step 6.
fn revoke_old(fleet: &Fleet) {
    let at = |name: &str| in_compiler(fleet, name);
    let old = at("previous/compiler.pub");
    aot_compiler(&["key", "revoke", &old, "--data-dir", &at("."), "--out", &at("old.revoked")]).ok();
    fleet.skerry(&["compiler-key", "add", &at("old.revoked")]).ok();
    fs::remove_file(at("old.revoked")).expect("our own directory");
    converged(fleet);
}

fn in_compiler(fleet: &Fleet, name: &str) -> String {
    text(&fleet.data_of(Process::Compiler).join(name)).to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("our own names")
}

/// The id of the compiler's key.
fn key_of(fleet: &Fleet) -> String {
    let said = aot_compiler(&["key", "show", &in_compiler(fleet, "compiler.pub")]).ok().out;
    said.trim().strip_prefix("compiler key ").expect("a key").to_owned()
}

/// Each key's id, and whether it is trusted.
fn trusted(fleet: &Fleet) -> Vec<(String, bool)> {
    let listed = fleet.skerry(&["compiler-key", "list", "--json"]).ok().json();
    let row = |key: &Value| (key["id"].as_str().expect("an id").to_owned(), key["trusted"] == true);
    listed.as_array().expect("a list").iter().map(row).collect()
}

/// Waits until the node that is there has applied everything there is.
fn converged(fleet: &Fleet) {
    let (_, body) = fleet.call_api("/healthz", &[]);
    let head: Value = serde_json::from_str(&body).expect("JSON");
    wait_for("the node to follow", 60, || {
        let nodes = fleet.skerry(&["node", "list", "--json"]).ok().json();
        let node = nodes.as_array()?.iter().find(|node| node["connected"] == true)?;
        (node["applied_rev"].as_u64()? >= head["rev"].as_u64()?).then_some(())
    });
}

/// How many of so many requests, on connections of their own, are not answered as they should be.
fn failures(fleet: &Fleet, requests: usize) -> usize {
    (0..requests).filter(|number| !is_answered(fleet, *number)).count()
}

fn is_answered(fleet: &Fleet, number: usize) -> bool {
    let (app, wanted) = APPS[number % APPS.len()];
    let request = format!("GET / HTTP/1.1\r\nHost: {app}.localhost\r\nConnection: close\r\n\r\n");
    let answer = Raw::plain(fleet.http()).exchange(&request);
    let is_right = answer.starts_with("HTTP/1.1 200") && answer.contains(wanted);
    if !is_right {
        println!("{app} answered {answer:?}");
    }
    is_right
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    asked: AtomicU64,
    failed: AtomicU64,
}

/// Also when the test fails: the thread that asks would go on for ever.
struct Stops<'l>(&'l Load);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn ask_until_stopped(&self, fleet: &Fleet) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if !is_answered(fleet, number) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            thread::sleep(ASK_PAUSE);
        }
    }

    /// Waits until every app was asked some times more.
    fn one_more_round(&self) {
        let until = self.asked.load(Ordering::Relaxed) + 20;
        wait_for("another round of requests", 60, || {
            (self.asked.load(Ordering::Relaxed) >= until).then_some(())
        });
    }
}
