//! SIGKILL at any moment, on real processes: this test binary starts itself as the node or the control plane.

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use artifact::record::{Body, Rev};
use fleet_sync_replica::{Replica, ReplicaConfig};
use support::{Control, Node, Recorder, TARGET, fingerprint, id};

const ROUNDS: u64 = 12;

/// Starts one of the ignored tests below in a process of its own.
fn child(role: &str, directory: &std::path::Path, control: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("SKERRY_TEST_DIRECTORY", directory)
        .env("SKERRY_TEST_CONTROL", control)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn directory() -> PathBuf {
    std::env::var("SKERRY_TEST_DIRECTORY").expect("only started by the tests of this file").into()
}

#[tokio::test]
#[ignore = "a node process for the test below"]
async fn node_process() {
    let config = ReplicaConfig {
        control: std::env::var("SKERRY_TEST_CONTROL").unwrap(),
        data_dir: directory(),
        join_token: None,
        targets: vec![(TARGET, fingerprint())],
        serving: None,
        software: "test".into(),
    };
    let replica = Replica::open(config).unwrap();
    replica.run(Recorder::new(&replica), std::future::pending()).await.unwrap();
}

#[tokio::test]
#[ignore = "a control plane process for the test below"]
async fn control_process() {
    let origin = support::open(&directory(), 1).await;
    loop {
        let body = Body::EpochStart { base_rev: origin.head().rev, compiler_keys: vec![] };
        let published = origin.publish::<(), _>("test", None, |_| Ok(vec![body])).await.unwrap();
        println!("acked {}", published.rev);
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_at_any_moment_has_all_it_acked_and_goes_on() {
    let control = Control::start().await;
    let node = Node::enrol(&control, "fra1").await;
    let Node { replica, directory, config } = node;
    drop(replica);
    let mut acked_under_way = 0;
    for round in 0..ROUNDS {
        let mut process = child("node_process", directory.path(), &control.address.to_string());
        for number in 0..6 {
            control.deploy("hello", format!("round {round}, release {number}").as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(round * 7)).await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let acked = control.origin.nodes()[0].applied_rev;
        acked_under_way = acked_under_way.max(acked);
        let replica = Replica::open(config.clone()).unwrap();
        let view = replica.view();
        assert!(view.rev >= acked, "round {round}: acked {acked}, on disk {}", view.rev);
        if let Some(pinned) = replica.pinned().get(&id("hello")) {
            assert!(view.version(&id("hello"), pinned.version).is_some(), "round {round}");
        }
    }
    assert!(acked_under_way > 0, "no round lasted long enough to say anything");
    let rev = control.deploy("hello", b"the last one").await;
    let mut process = child("node_process", directory.path(), &control.address.to_string());
    control.converged(rev).await;
    process.kill().unwrap();
    process.wait().unwrap();
    let replica = Replica::open(config).unwrap();
    assert_eq!(replica.view().position(), control.origin.view().position(), "the same log, byte for byte");
}

#[tokio::test]
async fn a_control_plane_killed_at_any_moment_has_every_acknowledged_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut last: Rev = 0;
    for round in 0..ROUNDS {
        let mut process = child("control_process", directory.path(), "");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for _ in 0..=round {
            last = next_acked(&mut lines).unwrap();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        while let Some(rev) = next_acked(&mut lines) {
            last = rev;
        }
        let origin = support::open(directory.path(), 1).await;
        assert!(origin.head().rev > last, "round {round}: acked {last}, head {}", origin.head().rev);
        assert!(origin.record(last).await.unwrap().is_some(), "round {round}");
    }
    assert!(last > ROUNDS);
}

fn next_acked(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<Rev> {
    // The harness prints the test's name in front of the first line.
    lines.map_while(Result::ok).find_map(|line| line.split("acked ").nth(1)?.trim().parse().ok())
}
