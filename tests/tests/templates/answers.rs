//! What each template must answer, the same in all its languages.

use serde_json::{Value, json};
use whole_flow::{Fleet, Proto, Request, Response, random_bytes};

use super::{
    backend::{Backend, bmp, png},
    project::Project,
};

/// More than all buffers on the way hold, so it goes through in pieces.
const LONG_BYTES: usize = 4 << 20;

/// Requests that a client may send in [`throttling_proxy`].
const REQUESTS: u32 = 4;
/// In so long.
const SECONDS: u32 = 3600;

/// `example.com`, type A: a query in base64url.
const QUERY: &str = "AAABAAABAAAAAAAAB2V4YW1wbGUDY29tAAABAAE";
const QUERY_BYTES: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

/// A deployed template.
pub struct App<'a> {
    pub fleet: &'a Fleet,
    pub name: &'a str,
}

impl App<'_> {
    fn to(&self, path: &str) -> Request {
        self.fleet.request(Proto::H2, self.name).path(path)
    }

    fn get(&self, path: &str) -> Response {
        self.to(path).send()
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Response {
        self.to(path).header("content-type", kind).body(body).send()
    }
}

#[track_caller]
fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.text).unwrap_or_else(|error| panic!("{error}: {response:?}"))
}

/// Lets a project find its backend on loopback, and what else its tests want.
pub fn prepare(template: &str, project: &Project, backend: &Backend, fleet: &Fleet) {
    let url = backend.url();
    match template {
        "hello" | "router" => {}
        "image-filter" => {
            // The address differs by what a language can decode.
            let is_rust = project.read("skerry.toml").contains("rust-lang.org");
            project.edit(if is_rust { "https://www.rust-lang.org" } else { "https://images.example" }, &url);
        }
        "dns-over-https" => project.edit("https://cloudflare-dns.com", &url),
        "graphql-proxy" => {
            project.edit("https://countries.trevorblades.com", &url);
            project.edit("# secrets =", "secrets =");
            let set = ["secrets", "set", project.name(), "GRAPHQL_TOKEN", "--json"];
            fleet.skerry_fed(&set, b"hunter2").ok();
        }
        "throttling-proxy" => {
            project.edit("https://example.com", &url);
            project.edit("requests = \"60\"", &format!("requests = \"{REQUESTS}\""));
            // So that none comes back while a busy machine takes its time.
            project.edit("seconds = \"60\"", &format!("seconds = \"{SECONDS}\""));
        }
        other => panic!("the template {other} has no test: write what it must answer"),
    }
}

/// Asks it.
pub fn check(template: &str, app: &App<'_>) {
    match template {
        "hello" => hello(app),
        "router" => router(app),
        "image-filter" => image_filter(app),
        "dns-over-https" => dns_over_https(app),
        "graphql-proxy" => graphql_proxy(app),
        "throttling-proxy" => throttling_proxy(app),
        other => panic!("the template {other} has no test: write what it must answer"),
    }
}

fn hello(app: &App<'_>) {
    let said = app.get("/").expect(200);
    assert_eq!(said.text, format!("Hello from {}!\n", app.name));
    assert_eq!(said.header("content-type"), Some("text/plain; charset=utf-8"));
    app.get("/elsewhere").expect(404);
}

fn router(app: &App<'_>) {
    let greeting = app.get("/greetings/Zo%C3%AB?lang=fr").expect(200);
    assert_eq!(json_of(&greeting), json!({ "name": "Zoë", "greeting": "Bonjour, Zoë!" }));
    assert_eq!(greeting.header("x-served-by"), Some(app.name));
    app.get("/greetings/ana?lang=tlh").expect(404);

    let sum = app.post("/sum", "application/json", br#"{"numbers":[1,2.5]}"#).expect(200);
    assert_eq!(json_of(&sum), json!({ "count": 2, "sum": 3.5 }));
    let refused = app.post("/sum", "application/json", b"[1").expect(400);
    assert!(json_of(&refused)["error"].is_string(), "{refused:?}");

    assert_eq!(app.get("/elsewhere").expect(404).header("x-served-by"), Some(app.name));
    assert_eq!(app.get("/sum").expect(405).header("allow"), Some("POST"));
}

fn image_filter(app: &App<'_>) {
    // What a language decodes shows in what it takes.
    let (kind, picture, bytes_max) = match app.get("/picture.png?w=10").status {
        200 => ("png", png(), 8 << 20),
        _ => ("bmp", bmp(), 16 << 20),
    };
    // Width and height as they stand in the file.
    let sized = if kind == "png" { "IHDR\0\0\0\n\0\0\0\u{5}" } else { "\n\0\0\0\u{5}\0\0\0" };
    for found in [app.get(&format!("/picture.{kind}?w=10&gray=1")), app.to("/?w=10").body(&picture).send()] {
        let found = found.expect(200);
        assert_eq!(found.header("content-type"), Some(&*format!("image/{kind}")));
        assert!(found.text.contains(sized), "{found:?}");
    }
    app.get(&format!("/picture.{kind}?w=0")).expect(400);
    app.to("/").body(b"no picture").send().expect(415);
    app.to("/").body(&vec![0; bytes_max + 1]).send().expect(413);
}

fn dns_over_https(app: &App<'_>) {
    let message = "application/dns-message";
    let by_get = app.get(&format!("/dns-query?dns={QUERY}")).expect(200);
    let by_post = app.post("/dns-query", message, QUERY_BYTES).expect(200);
    for found in [&by_get, &by_post] {
        assert_eq!(found.header("cache-control"), Some("max-age=300"));
        assert_eq!((found.header("content-type"), found.body_len), (Some(message), QUERY_BYTES.len() + 16));
    }
    let read = json_of(&app.get("/?name=example.com&type=A").expect(200));
    assert_eq!((&read["status"], &read["answers"][0]["data"]), (&json!("NOERROR"), &json!("192.0.2.7")));
    app.get("/dns-query?dns=AAAB").expect(400);
    app.post("/dns-query", "text/plain", QUERY_BYTES).expect(415);
}

fn graphql_proxy(app: &App<'_>) {
    let ask = |query: &str| {
        app.post("/graphql", "application/json", json!({ "query": query }).to_string().as_bytes())
    };
    let query = "{ country(code: \"IS\") { name } }";
    let told = json_of(&ask(query).expect(200));
    assert_eq!(told, json!({ "data": { "query": query }, "authorization": "Bearer hunter2" }));
    for (refused, why) in [
        ("mutation { drop }", "mutation.drop is not allowed"),
        ("{ country { a { b { c { d { e } } } } } }", "fields deep"),
    ] {
        let told = json_of(&ask(refused).expect(403));
        let message = told["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{told}");
    }
    ask("{").expect(400);
    app.get("/graphql").expect(405);
}

fn throttling_proxy(app: &App<'_>) {
    let body = random_bytes(1, LONG_BYTES);
    let echoed = app.to("/echo").body(&body).send().expect(200);
    assert!(echoed.is_body(&body), "{echoed:?}");
    assert_eq!(app.get("/a?b=c").expect(200).text, "GET /a?b=c for 127.0.0.1");
    for left in (0..REQUESTS - 2).rev() {
        let left = left.to_string();
        assert_eq!(app.get("/").expect(200).header("x-ratelimit-remaining"), Some(&*left));
    }
    let refused = app.get("/").expect(429);
    let wait: u32 = refused.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or_default();
    assert!((1..=SECONDS / REQUESTS).contains(&wait), "{refused:?}");
}
