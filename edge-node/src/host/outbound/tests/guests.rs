//! Whole flows: guests between real front doors and real backends.

use std::{net::SocketAddr, rc::Rc};

use artifact::seal::SecretsKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    servers::{Authority, Server},
    *,
};
use crate::{
    front::{Drain, InboundBody, tcp},
    host::Host,
    serve,
    testing::ServingNode,
};

#[test]
fn trailers_of_a_backend_reach_a_guest() {
    let Some(rules) = testing::program("wit-rules") else { return };
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, &[b"h2"], None).await;
        let trusting = Backend { ca_pem: Some(authority.pem()), ..backend(server.https()) };
        let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
        let config = AppConfig { limits, ..config(trusting) };
        for (rule, path, expected) in [
            ("out-fetch", "/trailers", "status 200\nbody \"1\"\ntrailers [(\"x-sum\", [49])]\n"),
            (
                "out-trailers",
                "/echo",
                "finish Ok(())\nstatus 200\nbody \"body\\n\"\ntrailers [(\"x-sent\", [49])]\n",
            ),
        ] {
            let url = format!("{}{path}", server.https());
            let request = Request::get(format!("http://test.localhost/{rule}")).header("x-url", url);
            let request = request.body(InboundBody::Empty).unwrap();
            let seen = testing::ask_in(&rules, exchange(&dev(), config.clone()), request).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{rule}");
        }
    });
}

/// Sends its request to the backend `origin` and what comes back to its client; 508 when it may not.
const PASSES_ON: &str = r#"
    (module
      (import "fastly_http_req" "body_downstream_get" (func $get (param i32 i32) (result i32)))
      (import "fastly_http_req" "send" (func $send (param i32 i32 i32 i32 i32 i32) (result i32)))
      (import "fastly_http_resp" "new" (func $new (param i32) (result i32)))
      (import "fastly_http_resp" "status_set" (func $status (param i32 i32) (result i32)))
      (import "fastly_http_body" "new" (func $body (param i32) (result i32)))
      (import "fastly_http_resp" "send_downstream" (func $answer (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 100) "origin")
      (func (export "_start")
        (drop (call $get (i32.const 0) (i32.const 4)))
        (if (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4))
              (i32.const 100) (i32.const 6) (i32.const 8) (i32.const 12))
          (then
            (drop (call $new (i32.const 8)))
            (drop (call $status (i32.load (i32.const 8)) (i32.const 508)))
            (drop (call $body (i32.const 12)))))
        (drop (call $answer (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 0)))))
"#;

/// A node with a front door, not yet open.
struct FrontDoor {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl FrontDoor {
    fn new() -> FrontDoor {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        FrontDoor { listener, address }
    }

    /// Serves an app, `chain.localhost`, that passes its requests on to `next`, as a node of the fleet with this key.
    fn open(self, fleet: u8, next: u16, wall_ms: u32) -> (ServingNode, Drain) {
        let settings = Settings { fleet: Some(SecretsKey::from_bytes([fleet; 32])), ..dev_settings() };
        let host = Host { outbound: Outbound::new(settings), ..testing::bare_host() };
        let config = AppConfig {
            hosts: vec!["chain.localhost".parse().unwrap()],
            limits: Limits { wall_ms, cpu_ms: 2_000, ..Limits::default() },
            // By its name: a deadline is sealed only for who is connected to.
            ..config(backend(format!("http://chain.localhost:{next}")))
        };
        let serving = ServingNode::new(host, config, PASSES_ON);
        let (drain, draining) = Drain::new();
        let server = Rc::new(serve::Server::new(serving.node.clone(), 0, None));
        tokio::task::spawn_local(tcp::serve_plain(self.listener, server, draining));
        (serving, drain)
    }
}

/// What a client that would like the deadline to be over gets.
async fn call(address: SocketAddr) -> String {
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        "GET /seen HTTP/1.1\r\nHost: chain.localhost\r\nskerry-deadline-ms: 0\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_guest_that_calls_itself_by_way_of_other_nodes_ends_at_its_depth() {
    testing::local(async {
        let (one, two) = (FrontDoor::new(), FrontDoor::new());
        let (address, other) = (one.address, two.address);
        let (one, two) = (one.open(1, other.port(), 60_000), two.open(1, address.port(), 60_000));
        let answer = call(address).await;
        assert!(answer.starts_with("HTTP/1.1 508"), "{answer}");
        let metrics =
            |(serving, _): &(ServingNode, Drain)| String::from_utf8(serving.node.metrics.render()).unwrap();
        let loops = |text: &str| text.lines().any(|line| line.contains("\"loop\"") && line.ends_with(" 1"));
        // The first, third and second, fourth execution of the chain.
        assert!(!loops(&metrics(&one)) && loops(&metrics(&two)), "{}", metrics(&two));
    });
}

#[test]
fn the_deadline_of_the_first_is_that_of_the_last_unless_they_are_of_different_fleets() {
    testing::local(async {
        let origin = Server::plain().await;
        for (fleets, expected_ms) in [([1, 1, 1], 0..=5_000), ([1, 1, 2], 50_001..=60_000)] {
            let doors = [(); 3].map(|()| FrontDoor::new());
            let first = doors[0].address;
            let nexts = [doors[1].address, doors[2].address, origin.address].map(|address| address.port());
            let mut serving = Vec::new();
            for (at, door) in doors.into_iter().enumerate() {
                let wall_ms = if at == 0 { 5_000 } else { 60_000 };
                serving.push(door.open(fleets[at], nexts[at], wall_ms));
            }
            let seen = call(first).await;
            assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
            assert_eq!(seen.matches("cdn-loop: skerry").count(), 3, "{seen}");
            let ms = seen.lines().find_map(|line| line.strip_prefix("skerry-deadline-ms: ")).unwrap();
            assert!(expected_ms.contains(&ms.parse().unwrap()), "{fleets:?}: {ms}");
        }
    });
}
