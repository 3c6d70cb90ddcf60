//! The bare servers as processes, as `loadtest compare` starts them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Beyond it something is broken, not slow.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn start(arguments: &[&str], ready_file: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("serve-bare")
        .args(arguments)
        .arg("--ready-file")
        .arg(ready_file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ready(file: &Path) -> serde_json::Value {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match fs::read(file) {
            Ok(text) => return serde_json::from_slice(&text).unwrap(),
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Err(error) => panic!("not ready: {error}"),
        }
    }
}

#[test]
fn bare_hyper_answers_with_as_many_bytes_as_asked_for_and_ends_with_who_started_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready.json");
    let mut server = start(&["hyper", "--threads", "2", "--body-bytes", "22"], &file);
    let address: SocketAddr = ready(&file)["address"].as_str().unwrap().parse().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: hello.localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{}", "a".repeat(22))), "{answer}");

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_servers_with_tls_hand_out_what_to_trust() {
    let folder = tempfile::tempdir().unwrap();
    for library in ["hyper-tls", "quinn"] {
        let file = folder.path().join(library);
        let mut server = start(&[library, "--threads", "1"], &file);
        let said = ready(&file);
        assert!(said["ca_pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE"), "{said}");
        drop(server.stdin.take());
        assert!(server.wait().unwrap().success());
    }
}

#[test]
fn a_bare_server_is_for_this_machine_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(&["hyper", "--listen", "0.0.0.0:0"], &folder.path().join("ready"));
    assert!(!server.wait().unwrap().success());
}
