//! Ctrl-C in the middle of each command: it prints what was whole by then, says so, and fails.

mod built;

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One at a time: they would measure each other.
static TURNS: Mutex<()> = Mutex::new(());

/// Stops the command as soon as it has said `moment`, and gives its report.
fn stopped_at(moment: &str, command: &str, arguments: &[&str], guests: Option<&Path>) -> Value {
    let _turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut started = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    started.arg(command).args(arguments).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(guests) = guests {
        started.arg("--guests-dir").arg(guests);
    }
    let mut running = started.spawn().unwrap();
    let (mut stderr, mut said, mut byte) = (running.stderr.take().unwrap(), Vec::new(), [0]);
    while !said.ends_with(moment.as_bytes()) {
        let read = stderr.read(&mut byte).unwrap();
        assert!(read > 0, "it ended: {}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let _ = writeln!(std::io::stderr(), "{command}: {rest}");
    assert!(rest.ends_with("loadtest: it was told to stop: this is what there was\n"), "{rest}");
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{rest}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(rows: &Value) -> usize {
    rows.as_array().unwrap().len()
}

#[test]
fn deploy_has_the_deploys_that_were_whole() {
    let Some(guests) = built::guests() else { return };
    let guest = guests.join("wasi-hello.wasm");
    let report =
        stopped_at("deploy 3 of 50", "deploy", &["--runs", "50", "--guest", guest.to_str().unwrap()], None);
    assert_eq!((&report["stopped"], &report["runs"]), (&true.into(), &2.into()), "{report}");
    assert!(report["first_answer_ms"]["p50"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn micro_has_the_guests_that_were_whole() {
    let Some(guests) = built::guests() else { return };
    let arguments = ["--guest", "wasi-hello", "--guest", "fastly-hello", "--no-syscalls"];
    let report = stopped_at("fastly-hello: measuring", "micro", &arguments, Some(&guests));
    assert_eq!((&report["stopped"], count(&report["guests"])), (&true.into(), 1), "{report}");
}

#[test]
fn neighbours_has_the_attacks_that_were_whole() {
    let arguments =
        ["--seconds", "2", "--hostile", "2", "--fill-mib", "8", "--pace", "5", "--instances-max", "100"];
    let report = stopped_at("from many tenants", "neighbours", &arguments, None);
    assert_eq!((&report["stopped"], count(&report["phases"])), (&true.into(), 1), "{report}");
    assert!(report["quiet"]["p99_us"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn proxy_has_the_hello_alone() {
    let report = stopped_at("asking one that passes", "proxy", &["--seconds", "3"], None);
    assert!(report["hello_us"].as_f64().unwrap() > 0.0 && report["proxied_us"].is_null(), "{report}");
    assert_eq!((&report["stopped"], &report["verdict"]), (&true.into(), &"not_met".into()), "{report}");
}

#[test]
fn density_has_what_came_before() {
    let Some(guests) = built::guests() else { return };
    let arguments = ["--apps", "20", "--code-mib", "16", "--threads", "1", "--quiet-s", "600"];
    let report = stopped_at("steadily, in peace", "density", &arguments, Some(&guests));
    assert_eq!((&report["stopped"], count(&report["routes"])), (&true.into(), 4), "{report}");
    assert!(report["loading"]["apps"] == 20 && report["full"].is_object(), "{report}");
    assert!(report["swap"].is_null(), "{report}");
}

#[test]
fn tail_and_growth_have_the_rounds_that_were_whole() {
    let Some(guests) = built::guests() else { return };
    let tail = ["--rounds", "3", "--seconds", "1", "--most-seconds", "1", "--hostile", "1"];
    let report = stopped_at("round 2 of 3", "tail", &tail, Some(&guests));
    assert_eq!((&report["method"]["stopped"], &report["method"]["rounds_whole"]), (&true.into(), &1.into()));
    assert!(report["lanes"][0]["own_us"]["median"].as_f64().unwrap() > 0.0, "{report}");
    let report = stopped_at("the most: wasi-hello", "tail", &tail, Some(&guests));
    assert_eq!((&report["method"]["rounds_whole"], count(&report["lanes"])), (&0.into(), 1), "{report}");

    let growth = ["--rounds", "2", "--seconds", "1", "--connections", "2", "--apps", "2"];
    let report = stopped_at("round 2 of 2", "growth", &growth, Some(&guests));
    assert_eq!((&report["method"]["stopped"], &report["method"]["rounds_whole"]), (&true.into(), &1.into()));
    assert_eq!((count(&report["connections"]), count(&report["apps"])), (3, 0), "{report}");
    let report = stopped_at("round 2: one app of fastly-hello", "growth", &growth, Some(&guests));
    assert_eq!(report["method"]["rounds_whole"], 2);
    let alone = &report["apps"][0];
    assert!(alone["cpu_us"].is_object() != alone["void"].as_str().unwrap_or("").contains("200"), "{report}");
}
