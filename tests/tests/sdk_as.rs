//! The AssemblyScript SDK: its own tests, what its smallest program weighs and imports, and what its conformance guest
//! answers on a node.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, OnceLock},
    thread,
};

use whole_flow::{Fleet, Process, Proto, Response, guest, has_guest, random_bytes, skipped, wait_for};

const NOT_BUILT: &str = "the AssemblyScript SDK: not built; it needs node and npm (fixtures/build --all)";

/// What the smallest program may weigh as a component.
const HELLO_BYTES_MAX: u64 = 12 * 1024;

/// More than all buffers between a client, a node and a backend hold.
const LONG: usize = 16 << 20;
/// Memory that a program which passes such a body on may have had.
const ECHO_KIB_MAX: u64 = 512;

fn is_built() -> bool {
    let built = ["hello-as", "conformance-as", "corners-as"].into_iter().all(has_guest);
    if !built {
        skipped(NOT_BUILT);
    }
    built
}

#[test]
fn what_needs_no_host_does_what_its_tests_say() {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/as");
    if !sdk.join("node_modules").is_dir() {
        return skipped(NOT_BUILT);
    }
    let output = Command::new("node")
        .arg(sdk.join("tests/run.mjs"))
        .output()
        .expect("node is there: it built the guests");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn hello_is_small_imports_only_http_and_answers() {
    if !is_built() {
        return;
    }
    let file = guest("hello-as");
    let bytes = fs::metadata(&file).unwrap().len();
    assert!(bytes <= HELLO_BYTES_MAX, "hello has {bytes} bytes, at most {HELLO_BYTES_MAX}");

    let fleet = Fleet::shared();
    let deployed = fleet.deploy("hello-as");
    assert_eq!((&deployed["lane"], &deployed["outcome"]), (&"wasi".into(), &"live".into()), "{deployed}");
    for proto in Proto::secure() {
        let response = fleet.get(proto, "hello-as", "/").expect(200);
        assert_eq!(response.text, "hello\n");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    // Interfaces are named in a component as they are.
    let component = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    let others = [
        "wasi:cli",
        "wasi:clocks",
        "wasi:random",
        "wasi:config",
        "wasi:keyvalue",
        "wasi:logging",
        "skerry:edge",
        "outgoing-handler",
    ];
    assert_eq!(others.iter().find(|other| component.contains(**other)), None);
    assert!(component.contains("wasi:http/types@0.2.6") && component.contains("wasi:io/streams@0.2.6"));
}

#[test]
fn of_what_only_a_node_knows_a_program_imports_what_it_calls() {
    if !is_built() {
        return;
    }
    let names = |name: &str| String::from_utf8_lossy(&fs::read(guest(name)).unwrap()).into_owned();
    let (conformance, corners) = (names("conformance-as"), names("corners-as"));
    for name in ["client", "secrets", "geo", "device"] {
        let name = format!("skerry:edge/{name}@0.1.0");
        assert!(corners.contains(&name), "{name}");
        // It asks for the address and a secret, and nothing about TLS.
        assert_eq!(
            conformance.contains(&name),
            name.contains("client") || name.contains("secrets"),
            "{name}"
        );
    }
    assert!(corners.contains("tls-info") && !conformance.contains("tls-info"));
}

/// A fleet with the conformance guest and all it declares.
fn conforming() -> (Arc<Fleet>, Ask) {
    deployed("conformance-as")
}

fn deployed(name: &'static str) -> (Arc<Fleet>, Ask) {
    let manifest = format!(
        "kv_stores = [\"things\", \"counts\"]\noutbound = [\"{0}\"]\n\
         [config]\ngreeting = \"hi\"\nbackend = \"{0}\"\n[limits]\ncpu_ms = 5000\n",
        backend()
    );
    deployed_as(name, name, &manifest)
}

/// A guest as an app of another name, with the rest of its manifest.
fn deployed_as(name: &str, app: &'static str, manifest: &str) -> (Arc<Fleet>, Ask) {
    let fleet = Fleet::shared();
    // A folder for each test: they run at the same time.
    let folder = tempfile::tempdir_in(fleet.scratch()).unwrap();
    fs::copy(guest(name), folder.path().join("app.wasm")).unwrap();
    let manifest = format!("name = \"{app}\"\ncomponent = \"app.wasm\"\n{manifest}");
    fs::write(folder.path().join("skerry.toml"), manifest).unwrap();
    let folder = folder.path().display().to_string();
    fleet.skerry(&["deploy", &folder, "--json", "--timeout", "120s"]).ok();
    (fleet.clone(), Ask(fleet, app))
}

/// Keeps a secret for an app's next version.
fn set_secret(app: &str, more: &[&str], value: &[u8]) {
    let set = [&["secrets", "set", app], more, &["--json", "--timeout", "120s"]].concat();
    Fleet::shared().skerry_fed(&set, value).ok();
}

/// Asks an app.
struct Ask(Arc<Fleet>, &'static str);

impl Ask {
    fn get(&self, path: &str) -> Response {
        self.0.get(Proto::H1, self.1, path)
    }

    fn says(&self, path: &str, text: &str) -> Response {
        let response = self.get(path).expect(200);
        assert_eq!(response.text, text, "{path}");
        response
    }

    fn by(&self, method: &'static str, path: &str) -> Response {
        self.0.request(Proto::H1, self.1).path(path).method(method).send()
    }

    fn head(&self, path: &str) -> Response {
        self.0.request(Proto::H1, self.1).path(path).with(&["--head"]).send()
    }

    fn post(&self, path: &str, body: &[u8]) -> Response {
        let request = self.0.request(Proto::H1, self.1).path(path).method("POST").body(body);
        request.header("content-type", "application/x-test").send()
    }
}

#[test]
fn heads_paths_and_middleware_are_as_the_contract_says() {
    if !is_built() {
        return;
    }
    let (fleet, ask) = conforming();
    let hello = ask.says("/hello", "hello\n");
    assert_eq!(hello.header("content-type"), Some("text/plain; charset=utf-8"));
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        assert_eq!(ask.by(method, "/method").expect(200).text, format!("{method}\n"));
    }
    let head = ask.head("/method").expect(200);
    assert_eq!(head.header("content-length"), Some("5"));

    for (path, text) in [
        ("/where?x=1&y=a%20b", "path /where\nquery x=1&y=a%20b\n"),
        ("/where", "path /where\nquery -\n"),
        ("/query?name=Zo%C3%AB+B&name=second", "Zoë B,second\n"),
        ("/query", "none\n"),
        ("/users/42/posts/a%20b", "user 42 post a b\n"),
        ("/files/a/b/c.txt", "a/b/c.txt\n"),
        ("/url", "https|a.example|8443|/p/q|x=1&x=2|f\n"),
    ] {
        ask.says(path, text);
    }
    let refused = ask.by("POST", "/users/42/posts/7").expect(405);
    assert_eq!((refused.header("allow"), &*refused.text), (Some("GET, HEAD"), "method not allowed\n"));
    assert_eq!(ask.get("/nowhere").expect(404).text, "not found\n");

    let request = fleet.request(Proto::H1, "conformance-as").path("/headers");
    let headers = request.header("x-one", "a").header("x-one", "b").send().expect(200);
    assert_eq!(headers.text, "a|b\n");
    assert_eq!(
        (headers.header_all("set-cookie"), headers.header("x-count")),
        (vec!["a=1", "b=2"], Some("2"))
    );

    assert_eq!(ask.get("/status/418").expect(418).body_len, 0);
    for bad in ["/status/99", "/status/abc", "/status/600", "/status/199", "/status/0418"] {
        assert_eq!(ask.get(bad).expect(400).text, "not a status\n", "{bad}");
    }
    let redirect = ask.get("/redirect").expect(302);
    assert_eq!((redirect.header("location"), redirect.body_len), (Some("/hello"), 0));

    let marked = ask.says("/mw/hello", "hello\n");
    assert_eq!((marked.header("x-before"), marked.header("x-after")), (Some("1"), Some("200")));
    let closed = ask.get("/mw/closed").expect(403);
    assert_eq!(closed.text, "closed\n");
}

#[test]
fn bodies_are_as_the_contract_says() {
    if !is_built() {
        return;
    }
    let (fleet, ask) = conforming();
    for length in [0, 1, 4096, 4097, 65_536, 70_000, 1 << 20, LONG] {
        let body = random_bytes(length as u64, length);
        let response = ask.post("/echo", &body).expect(200);
        assert!(response.is_body(&body), "{length}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/x-test"));
    }
    // Nothing is freed, yet a body takes the memory of one piece.
    let peaks = wait_for("the access log", 10, || {
        Some(memory_peaks_kib(&fleet, "/echo")).filter(|all| all.len() >= 8)
    });
    assert!(peaks.iter().all(|kib| *kib <= ECHO_KIB_MAX), "{peaks:?}");

    assert_eq!(
        ask.post("/upper", "Straße, größer & 𝄞 z".as_bytes()).expect(200).text,
        "STRAßE, GRößER & 𝄞 Z"
    );
    assert_eq!(ask.post("/upper", b"").expect(200).body_len, 0);
    for bad in [&b"\xff"[..], b"a\xe2\x82", b"\xed\xa0\x80"] {
        assert_eq!(ask.post("/upper", bad).expect(400).text, "not text\n");
    }
    let long = ask.post("/upper", "x".repeat(1 << 20).as_bytes()).expect(200);
    assert!(long.is_body("X".repeat(1 << 20).as_bytes()));

    let stream = ask.says("/stream", "one\ntwo\nthree\n");
    assert_eq!(stream.header("content-length"), None);

    let json = ask.says("/json", r#"{"name":"skerry","n":3,"list":[1,2],"nothing":null}"#);
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(ask.post("/json", br#"{"a":1,"b":2}"#).expect(200).text, r#"{"sum":3}"#);
    for bad in ["", "x", "{}", r#"{"a":1}"#, r#"{"a":1,"b":"2"}"#, "[1,2]", "\u{fffd}"] {
        assert_eq!(ask.post("/json", bad.as_bytes()).expect(400).text, "not what was asked for\n", "{bad}");
    }
    // Deep enough to end a program that recurses as deep as it is told.
    assert_eq!(
        ask.post("/json", "[".repeat(500_000).as_bytes()).expect(400).text,
        "not what was asked for\n"
    );
}

#[test]
fn stores_and_surroundings_are_as_the_contract_says() {
    if !is_built() {
        return;
    }
    let (fleet, ask) = conforming();
    ask.says("/config", "hi\nnone\n");
    ask.says("/secret", "none\n");
    ask.says("/client", "127.0.0.1\n");
    ask.says("/env", "conformance-as\n");

    assert_eq!(ask.get("/kv/a").expect(404).text, "not found\n");
    let put = |name: &str, body: &[u8]| {
        let request = fleet.request(Proto::H1, "conformance-as").path(&format!("/kv/{name}")).method("PUT");
        request.body(body).send().expect(204)
    };
    let value = random_bytes(7, 100_000);
    put("b", b"one");
    put("a", &value);
    put("%C3%BC", b"");
    assert!(ask.get("/kv/a").expect(200).is_body(&value));
    assert_eq!(ask.get("/kv/%C3%BC").expect(200).body_len, 0);
    ask.says("/kv", "a\nb\nü\n");
    for name in ["a", "b", "%C3%BC"] {
        ask.by("DELETE", &format!("/kv/{name}")).expect(204);
    }
    ask.says("/kv", "");

    ask.says("/log", "logged\n");
    assert_eq!(ask.get("/error").expect(500).text, "internal error\n");
    wait_for("the log", 10, || {
        let log = fleet.log(Process::Node);
        ["info: a line", "error: another", "error: a handler failed"]
            .iter()
            .all(|line| log.contains(line))
            .then_some(())
    });
    ask.get("/panic").expect(500);

    let random: Vec<String> = (0..2).map(|_| ask.get("/random").expect(200).text).collect();
    assert!(random[0] != random[1], "{random:?}");
    assert!(
        random
            .iter()
            .all(|hex| hex.len() == 33 && hex.trim_end().bytes().all(|digit| digit.is_ascii_hexdigit()))
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let told: u128 = ask.get("/time").expect(200).text.trim().parse().unwrap();
    assert!(now.abs_diff(told) < 60_000, "{told}, and it is {now}");
}

#[test]
fn fetches_are_as_the_contract_says() {
    if !is_built() {
        return;
    }
    let (_, ask) = conforming();
    let backend = backend();
    ask.says(&format!("/fetch?url=http://{backend}/a"), "200 GET /a from skerry\n");
    ask.says(&format!("/fetch?url=http://{backend}/teapot"), "418 GET /teapot from skerry\n");
    ask.says(
        &format!("/both?url=http://{backend}/1&url=http://{backend}/2"),
        "GET /1 from skerryGET /2 from skerry",
    );
    // Each answers only when both are there.
    ask.says(&format!("/both?url=http://{backend}/meet&url=http://{backend}/meet"), "metmet");
    for bad in
        ["", "nothing", "ftp://a/", "http://127.0.0.1:1/", "http://a%20b/", "http://no-such-name.invalid/"]
    {
        let bad = bad.replace('%', "%25");
        assert_eq!(ask.get(&format!("/fetch?url={bad}")).expect(502).text, "fetch failed\n", "{bad}");
    }
    for length in [0, 5, 100_000, 1 << 20] {
        let body = random_bytes(length as u64, length);
        let response = ask.post(&format!("/fetch?url=http://{backend}/echo"), &body).expect(201);
        assert!(response.is_body(&body), "{length}: {response:?}");
    }
    // A server that answers while it reads.
    let body = random_bytes(9, LONG);
    let response = ask.post(&format!("/fetch?url=http://{backend}/through"), &body).expect(200);
    assert!(response.is_body(&body), "{response:?}");
}

#[test]
fn messages_from_backends_are_passed_on_as_they_are() {
    if !is_built() {
        return;
    }
    let (_, ask) = deployed("corners-as");
    assert_eq!(ask.says("/proxy/a", "GET /a from ").header("x-by"), Some("backend"));
    assert_eq!(ask.head("/proxy/a").expect(200).header("content-length"), Some("13"));
    let body = random_bytes(3, 70_000);
    assert!(ask.post("/proxy/echo", &body).expect(201).is_body(&body));
    assert_eq!(ask.get("/proxy/204").expect(204).body_len, 0);
    assert!(ask.get("/proxy/304").expect(304).complete);

    ask.says("/bare", "bare bare bare ");

    let rewritten = ask.post("/rewritten", b"what was there").expect(201);
    assert_eq!((&*rewritten.text, rewritten.complete), ("something longer", true));
    assert_eq!(ask.get("/own-content").expect(201).text, "3\n2\n1\n");
    assert_eq!(ask.get("/slow").expect(502).text, "HTTP-response-timeout");
    ask.says("/twice", "it was waited for before");
}

#[test]
fn misuse_is_an_error_or_ends_the_program_and_nothing_else() {
    if !is_built() {
        return;
    }
    let (fleet, ask) = deployed("corners-as");
    ask.says("/lone", "alive");
    wait_for("the log", 10, || fleet.log(Process::Node).contains("half \u{fffd} of a pair").then_some(()));
    assert_eq!(ask.get("/no-such-store").expect(502).text, "no such store");
    ask.get("/bad-status").expect(500);
    let refused = ask.get("/bad-location").expect(500);
    assert_eq!((&*refused.text, refused.header("set-cookie")), ("internal error\n", None));
    let forbidden = ask.says("/forbidden", "fine");
    assert_eq!(forbidden.header("transfer-encoding"), None);
    for path in ["/too-short", "/broken"] {
        let broken = ask.get(path);
        assert!(!broken.complete || broken.status == 500, "{path}: {broken:?}");
    }
    assert!(ask.get("/long").expect(200).is_body("x".repeat(300_000).as_bytes()));
}

#[test]
fn counters_and_swaps_are_atomic() {
    if !is_built() {
        return;
    }
    let (fleet, ask) = deployed("corners-as");
    ask.says("/increment/n", "2");
    ask.says("/increment/n", "4");
    fleet.skerry_fed(&["kv", "put", "counts", "text"], b"no number").ok();
    assert_eq!(ask.get("/increment/text").expect(502).text, "the value is no number");
    ask.says("/swap", "2 19 it was swapped");
}

#[test]
fn secrets_are_those_the_manifest_names() {
    if !is_built() {
        return;
    }
    // Until its end, or another test's fleet would have the secrets.
    let _fleet = Fleet::shared();
    set_secret("secretive-as", &["API_KEY"], "größer".as_bytes());
    let (_, ask) = deployed_as("conformance-as", "secretive-as", "secrets = [\"API_KEY\"]\n");
    ask.says("/secret", "8\n");

    set_secret("vaults-as", &["API_KEY"], "größer".as_bytes());
    set_secret("vaults-as", &["RAW"], b"\xff\xfe");
    set_secret("vaults-as", &["PIN", "--store", "vault"], b"12");
    let manifest = "secrets = [\"API_KEY\", \"RAW\"]\n[secret_stores]\nvault = [\"PIN\"]\n";
    let (_, ask) = deployed_as("corners-as", "vaults-as", manifest);
    ask.says("/secret/API_KEY", "größer");
    ask.says("/secret/PIN", "none");
    ask.says("/secret/PIN/of/vault", "12");
    ask.says("/secret/API_KEY/of/vault", "none");
    assert_eq!(ask.get("/secret/PIN/of/nix").expect(502).text, "no such store");
    assert_eq!(ask.get("/secret/RAW").expect(502).text, "the secret is not UTF-8");
    ask.says("/secret/API_KEY/after-a-failure", "größer");
    ask.says("/secret/%C3%BC", "none");
}

#[test]
fn connections_places_and_devices_are_what_the_node_knows() {
    if !is_built() {
        return;
    }
    let manifest = "[geo]\n\"192.0.2.7\" = '{\"city\":\"Köln\"}'\n\
                    [devices]\n\"Phone/1.0 (ü)\" = '{\"name\":\"One\"}'\n";
    let (fleet, ask) = deployed_as("corners-as", "lookups-as", manifest);
    for proto in Proto::secure() {
        let told = fleet.get(proto, "lookups-as", "/tls").expect(200).text;
        let cipher = match told.split(' ').collect::<Vec<_>>()[..] {
            ["TLSv1.3", cipher, "lookups-as.localhost"] => cipher,
            _ => panic!("{proto:?}: {told}"),
        };
        assert_eq!(cipher.starts_with("TLS_"), proto != Proto::H3, "{proto:?}: {told}");
    }
    assert_eq!(fleet.get(Proto::Plain, "lookups-as", "/tls").expect(200).text, "none");

    ask.says("/place/192.0.2.7", "Köln");
    for nowhere in ["192.0.2.8", "no%20address", "%F0%9D%84%9E"] {
        ask.says(&format!("/place/{nowhere}"), "nowhere");
        ask.says(&format!("/place-text/{nowhere}"), "nowhere");
    }
    let text = ask.get("/place-text/192.0.2.7").expect(200).text;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["city"], "Köln");
    ask.says("/device/Phone/1.0%20(%C3%BC)", "One {\"name\":\"One\"}");
    ask.says("/device/Phone/1.0", "- -");
}

/// What the executions for a path took, as the access log says.
fn memory_peaks_kib(fleet: &Fleet, path: &str) -> Vec<u64> {
    let log = fleet.log(Process::Node);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["path"] == path).filter_map(|line| line["memory_peak_kib"].as_u64()).collect()
}

/// A server: `/echo` gives the body back with 201, `/through` while it reads it, `/meet` waits for another one, the rest
/// say what was asked.
fn backend() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(start_backend)
}

fn start_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let meeting = Arc::new(std::sync::Barrier::new(2));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, meeting) = (stream.unwrap(), meeting.clone());
            thread::spawn(move || serve(stream, &meeting));
        }
    });
    address
}

fn serve(mut stream: TcpStream, meeting: &std::sync::Barrier) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0).map(|_| line.trim_end().to_owned())
    };
    let Some(first) = line() else { return };
    let (mut from, mut length, mut chunked) = (String::new(), 0, false);
    while let Some(field) = line().filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once(": ").unwrap_or((&field, ""));
        match name.to_ascii_lowercase().as_str() {
            "x-from" => from = value.to_owned(),
            "content-length" => length = value.parse().unwrap(),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    if path == "/through" {
        return through(&mut reader, &mut stream);
    }
    let body = if chunked { chunks(&mut reader) } else { bytes(&mut reader, length) };
    let (status, body) = match path {
        "/slow" => {
            thread::sleep(std::time::Duration::from_secs(2));
            ("200 OK", vec![])
        }
        "/204" => ("204 No Content", vec![]),
        "/304" => ("304 Not Modified", b"not see".to_vec()),
        "/echo" => ("201 Created", body),
        "/meet" => {
            meeting.wait();
            ("200 OK", b"met".to_vec())
        }
        "/teapot" => ("418 Teapot", format!("{method} {path} from {from}").into_bytes()),
        _ => ("200 OK", format!("{method} {path} from {from}").into_bytes()),
    };
    let length =
        if status.starts_with("204") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{length}x-by: backend\r\nconnection: close\r\n\r\n");
    if method != "HEAD" && !status.starts_with("304") {
        let _ = stream.write_all(&body);
    }
}

/// Chunks back as they come, and nothing more is read before they are taken.
fn through(reader: &mut impl BufRead, stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
    while let Some(chunk) = chunk(reader) {
        stream.write_all(&chunk).unwrap();
    }
}

fn bytes(reader: &mut impl Read, length: usize) -> Vec<u8> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

fn chunks(reader: &mut impl BufRead) -> Vec<u8> {
    std::iter::from_fn(|| chunk(reader)).flatten().collect()
}

/// The next chunk; `None` is the last, which is empty.
fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let chunk = bytes(reader, usize::from_str_radix(line.trim(), 16).unwrap());
    reader.read_line(&mut line).unwrap();
    Some(chunk).filter(|chunk| !chunk.is_empty())
}
