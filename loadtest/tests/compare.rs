//! `loadtest compare` as a person calls it, with the server that is always there.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn bare_hyper_is_measured_and_ended() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["compare", "hello-h1", "--only", "hyper", "--rounds", "1", "--seconds", "1", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let hyper = &report["servers"][0];
    assert_eq!((&hyper["name"], &hyper["void"]), (&"hyper".into(), &serde_json::Value::Null), "{report}");
    assert_eq!(hyper["cpu_ratio"], 1.0);
    let round = &hyper["rounds"][0];
    for figure in ["requests_per_second", "p50_us", "p999_us", "cpu_us", "rss_mib", "client_busy"] {
        assert!(round[figure].as_f64().unwrap() > 0.0, "{figure} in {round}");
    }
    assert_eq!(report["verdict"], "no_goal");
}

#[test]
fn a_server_that_is_not_there_is_left_out_with_a_cure() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["compare", "--only", "viceroy"])
        .env("PATH", Path::new("/nonexistent"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cargo install viceroy --version 0.22.0 --locked"), "{said}");
}

#[test]
fn ctrl_c_gives_the_rounds_that_were_whole() {
    let mut compare = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["compare", "hello-h1", "--only", "hyper", "--rounds", "50", "--seconds", "0.5", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(compare.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("round 2 of 50") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    kill_process(Pid::from_child(&compare), Signal::INT).unwrap();
    let report: serde_json::Value = serde_json::from_reader(compare.stdout.take().unwrap()).unwrap();
    assert_eq!(report["servers"][0]["rounds"].as_array().unwrap().len(), 1);
    assert_eq!((&report["method"]["stopped"], &report["servers"][0]["void"]), (&true.into(), &().into()));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "loadtest: it was told to stop: this is what there was\n");
    assert_eq!(compare.wait().unwrap().code(), Some(2));
}

#[test]
fn what_cannot_be_run_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "name = 'x'\nconections = 1\n").unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let wrong = file.to_str().unwrap();
    for (arguments, why) in [
        (vec!["run", "hello-h1", "--target", &nobody], "connecting: Connection refused"),
        (vec!["run", "hello-h1", "--target", &nobody, "--rate", "0"], "arrivals.per_second must be"),
        (vec!["run", wrong, "--target", &nobody], "the scenario's line 2: unknown field `conections`"),
        (vec!["compare", wrong], "the scenario's line 2: unknown field `conections`"),
        (vec!["tail", "--guests-dir", "/nonexistent", "--binaries", "/nonexistent"], "cargo build --release"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{arguments:?}: {said}");
        assert!(said.starts_with("loadtest: ") && said.contains(why), "{arguments:?}: {said}");
    }
}
