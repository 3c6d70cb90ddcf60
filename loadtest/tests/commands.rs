//! The commands that start a fleet, in short: what is counted, not how long it took.

mod built;

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One fleet at a time: they would measure each other.
static TURNS: Mutex<()> = Mutex::new(());

/// What a command reported, or nothing where it cannot run.
fn report(arguments: &[&str]) -> Option<serde_json::Value> {
    let guests = built::guests()?;
    let _turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .arg("--json")
        .arg("--guests-dir")
        .arg(guests)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn both_lanes_are_asked_quiet_beside_hostile_neighbours_and_beside_hyper() {
    let arguments = ["tail", "--rounds", "1", "--seconds", "1", "--most-seconds", "1", "--hostile", "2"];
    let Some(report) = report(&arguments) else { return };
    let lanes = report["lanes"].as_array().unwrap();
    assert_eq!(lanes.iter().map(|lane| &lane["name"]).collect::<Vec<_>>(), ["fastly-hello", "wasi-hello"]);
    for lane in lanes {
        for who in ["quiet", "bare", "beside"] {
            // A machine that is busy with other tests may be too slow to answer all of an open loop in time.
            let told = &lane[who];
            let figures = &told["figures"];
            let asked = figures["requests_per_second"]["median"].as_f64().unwrap_or_default();
            assert!(asked > 0.0 || told["void"].as_str().is_some(), "{who}: {lane}");
        }
        assert!(lane["own_us"]["median"].as_f64().unwrap() >= 1.0, "{lane}");
        assert!(lane["per_second"].as_f64() < lane["per_second_max"].as_f64(), "{lane}");
        assert!(lane["hostile"]["statuses"]["504"].as_u64().unwrap() > 0, "{lane}");
    }
    assert_eq!(report["goals"].as_array().unwrap().len(), 8);
    assert!(report["method"]["node"].as_str().unwrap().starts_with("edge-node "), "{report}");
}

#[test]
fn many_connections_and_many_apps_are_asked_beside_few() {
    let arguments = ["growth", "--connections", "2,8", "--apps", "3", "--rounds", "1", "--seconds", "1"];
    let Some(report) = report(&arguments) else { return };
    let names = |rows: &serde_json::Value| {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| format!("{} {}", row["name"].as_str().unwrap(), row["count"])).collect::<Vec<_>>()
    };
    let connections = ["fastly-hello", "wasi-hello", "hyper"];
    let connections: Vec<_> =
        ["2", "8"].iter().flat_map(|n| connections.map(|name| format!("{name} {n}"))).collect();
    assert_eq!(names(&report["connections"]), connections);
    let apps = ["alone 1", "one of 3 1", "all 3"];
    let apps: Vec<_> = ["fastly-hello", "wasi-hello"]
        .iter()
        .flat_map(|guest| apps.map(|name| format!("{guest}, {name}")))
        .collect();
    assert_eq!(names(&report["apps"]), apps);
    for row in report["connections"].as_array().unwrap().iter().chain(report["apps"].as_array().unwrap()) {
        // Of a busy machine that leaves the slow lane nothing, a void figure is all that can be said.
        let cpu_us = row["cpu_us"]["median"].as_f64();
        assert!(cpu_us.is_some_and(|us| us > 0.0) != row["void"].is_string(), "{row}");
    }
    assert_eq!(report["goals"].as_array().unwrap().len(), 2 + 2);
    for fleet in report["fleets"].as_array().unwrap() {
        assert!(fleet["programs"] == "shared" && fleet["code_mib"].as_f64().unwrap() > 0.1, "{fleet}");
    }
}
