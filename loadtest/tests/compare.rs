//! `loadtest compare` as a person calls it, with the server that is always there.

use std::{path::Path, process::Command};

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
