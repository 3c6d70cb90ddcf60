//! What a deploy may meet: a line that breaks, a token that has run out, another deploy, a program for another target.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use whole_flow::{Fleet, Proto, guest, wait_for};

/// A line to the control plane that breaks: each of the first `breaks` connections after so many bytes of the client's.
fn breaking_line(to: SocketAddr, breaks: usize, after: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let broken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&broken);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            thread::spawn(move || pass(client, to, &count, breaks, after));
        }
    });
    (url, broken)
}

fn pass(mut client: TcpStream, to: SocketAddr, broken: &AtomicUsize, breaks: usize, after: usize) {
    let Ok(mut server) = TcpStream::connect(to) else { return };
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut answers, &mut back));
    let (mut bytes, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        passed += read;
        if passed > after && broken.fetch_add(1, Ordering::SeqCst) < breaks {
            let _ = client.shutdown(std::net::Shutdown::Both);
            break;
        }
        if server.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

fn api(fleet: &Fleet) -> SocketAddr {
    fleet.api().strip_prefix("http://").unwrap().parse().unwrap()
}

#[test]
fn an_upload_goes_on_after_its_line_broke_and_says_so_when_it_never_holds() {
    let fleet = Fleet::up().start();
    let file = guest("wstd-hello").display().to_string();
    let (url, broken) = breaking_line(api(&fleet), 2, 20_000);
    fleet.skerry(&["deploy", &file, "--app", "shop", "--api", &url]).ok();
    assert!(broken.load(Ordering::SeqCst) >= 2, "the line never broke");
    assert_eq!(fleet.get(Proto::H2, "shop", "/").expect(200).text, "Hello from wstd!\n");

    let other = guest("wasi-hello").display().to_string();
    let (url, _) = breaking_line(api(&fleet), usize::MAX, 20_000);
    let said = fleet.skerry(&["deploy", &other, "--app", "shop", "--api", &url, "--timeout", "3s"]);
    said.failed_with(6, "uploading");
    assert_eq!(fleet.get(Proto::H2, "shop", "/").expect(200).text, "Hello from wstd!\n");
}

#[test]
fn deploys_at_once_all_land_one_after_the_other() {
    let fleet = Fleet::up().start();
    let programs = [("wasi-hello", "Hello from wasi:http!\n"), ("wstd-hello", "Hello from wstd!\n")];
    let versions: Vec<(u64, &str)> = thread::scope(|scope| {
        let deploys = programs.map(|(name, text)| {
            let fleet = &fleet;
            scope.spawn(move || (fleet.deploy_as(name, "shop")["version"].as_u64().unwrap(), text))
        });
        deploys.into_iter().map(|deploy| deploy.join().unwrap()).collect()
    });
    let mut numbers: Vec<u64> = versions.iter().map(|(version, _)| *version).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    let (_, last) = versions.iter().max().unwrap();
    let answers = || (fleet.get(Proto::H2, "shop", "/").expect(200).text == *last).then_some(());
    wait_for("the later one", 10, answers);
    let listed = fleet.skerry(&["versions", "shop", "--json"]).ok().json();
    assert_eq!((&listed[0]["version"], &listed[0]["active"]), (&2.into(), &true.into()), "{listed}");
}

#[test]
fn a_token_that_ran_out_is_said_with_the_cure() {
    let fleet = Fleet::shared();
    let made = ["token", "create", "--action", "deploy", "--tenant", "default", "--ttl", "1s", "--json"];
    let made = fleet.skerry(&made).ok().json();
    let token = made["token"].as_str().unwrap();
    let file = guest("wasi-hello").display().to_string();
    wait_for("the token's end", 10, || {
        let said = fleet.skerry_with(token, &["deploy", &file, "--app", "late", "--no-wait"]);
        (said.code != 0).then(|| said.failed_with(3, "expired"))
    });
}

#[test]
fn a_program_for_another_target_is_said_with_the_right_one() {
    let fleet = Fleet::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unknown.wasm");
    // What `--target wasm32-unknown-unknown` leaves: a core module that no interface is in.
    let module =
        wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"handle\")))").unwrap();
    fs::write(&file, module).unwrap();
    let said = fleet.skerry(&["deploy", &file.display().to_string(), "--app", "unknown"]);
    said.failed_with(3, "wasm32-wasip2");
}
