//! `loadtest stages` as a person calls it. With `perf` it needs the built servers beside the command and a guest, as
//! `./dev test` makes them.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output},
};

fn stages(arguments: &[&str], path: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("stages").args(arguments);
    path.into_iter().for_each(|path| {
        command.env("PATH", path);
    });
    command.output().unwrap()
}

#[test]
fn without_perf_it_says_how_to_get_it() {
    let output = stages(&[], Some("/nonexistent"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.starts_with("loadtest: perf is not installed: apt-get install linux-perf"), "{said}");
}

/// Fewer are no picture of a request.
const SAMPLES_LEAST: u64 = 100;

/// Skipped where `perf` may not be used or the servers were not built, even where nothing may be: see `stages::perf`.
#[test]
fn stages_of_a_request_sum_to_its_cpu() {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    let guests = guests.to_str().unwrap();
    let arguments = ["--guest", "fastly-hello", "--seconds", "2", "--json", "--guests-dir", guests];
    let output = stages(&arguments, None);
    let said = String::from_utf8_lossy(&output.stderr);
    if ["perf is not installed", "perf may not", "the kernel hides", "this needs"]
        .iter()
        .any(|why| said.contains(why))
    {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {}", said.trim());
        return;
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = &report["guests"][0]["told"];
    if let Some(why) = told["void"].as_str() {
        // Of a machine that is busy with other tests, a void figure is all that can be said.
        assert!(output.status.code() == Some(2) && why.starts_with("with"), "{report}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let figures = &told["figures"];
    if figures["samples"].as_u64().is_some_and(|samples| samples < SAMPLES_LEAST) {
        // A machine that is busy with other things samples little, and the command says so.
        assert!(report["guests"][0]["warnings"].to_string().contains("say little"), "{report}");
        return;
    }
    let threads = figures["threads"].as_array().unwrap();
    let stages = threads.iter().flat_map(|thread| thread["stages"].as_array().unwrap());
    let sum: f64 = stages.map(|stage| stage["us"].as_f64().unwrap()).sum();
    let cpu_us = figures["cpu_us"].as_f64().unwrap();
    assert!(cpu_us > 1.0 && (sum - cpu_us).abs() < 1e-6, "{report}");
    let named = |name: &str| threads[0]["stages"].as_array().unwrap().iter().any(|one| one["stage"] == name);
    assert!(threads[0]["thread"] == "serving" && named("kernel: send") && named("guest code"), "{report}");
}
