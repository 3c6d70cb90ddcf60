//! The binary as an init system meets it.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use artifact::keys::{Compiler, SecretKey};

#[test]
fn the_binary_says_when_it_is_ready_and_ends_well_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let key = SecretKey::<Compiler>::from_seed([1; 32]);
    std::fs::write(at("compiler.pub"), key.public().to_text()).unwrap();
    let text = "api = \"127.0.0.1:0\"\nsync = \"127.0.0.1:0\"\ndata_dir = \"data\"\nready_file = \"ready\"\n\
                [compiler]\ntoken_file = \"compiler.token\"\npublic_key_file = \"compiler.pub\"\n";
    std::fs::write(at("control.toml"), text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .arg("--config")
        .arg(at("control.toml"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !at("ready").exists() {
        assert!(Instant::now() < end, "not ready within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("still running after SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn it_ends_with_an_error_when_another_one_took_over_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let key = SecretKey::<Compiler>::from_seed([1; 32]);
    std::fs::write(at("compiler.pub"), key.public().to_text()).unwrap();
    let text = "api = \"127.0.0.1:0\"\nsync = \"127.0.0.1:0\"\ndata_dir = \"data\"\nready_file = \"ready\"\n\
                [compiler]\ntoken_file = \"compiler.token\"\npublic_key_file = \"compiler.pub\"\n";
    std::fs::write(at("control.toml"), text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .arg("--config")
        .arg(at("control.toml"))
        .stderr(std::fs::File::create(at("stderr")).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !at("ready").exists() {
        assert!(Instant::now() < end, "not ready within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = rusqlite::Connection::open(at("data/log.sqlite")).unwrap();
    log.execute("UPDATE leader SET epoch = epoch + 1", []).unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("still running, though it can publish nothing");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = std::fs::read_to_string(at("stderr")).unwrap();
    assert!(!status.success() && said.contains("another control plane took over"), "{status} {said}");
}

#[test]
fn without_the_compilers_key_it_does_not_start_and_says_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.toml");
    std::fs::write(
        &path,
        "data_dir = \"data\"\n[compiler]\ntoken_file = \"t\"\npublic_key_file = \"nowhere\"\n",
    )
    .unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_control-plane")).arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success());
    assert!(said.contains("start aot-compiler once") && said.contains("nowhere"), "{said}");
}
