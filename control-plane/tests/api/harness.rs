//! A control plane in a folder of its own, and calls that read as sentences.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use artifact::{
    Digest,
    keys::{Compiler, SecretKey},
};
use axum::body::Body;
use control_plane::{Config, ControlPlane, StartError};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A control plane that runs.
pub struct Plane {
    pub folder: TempDir,
    config: Config,
    running: Option<ControlPlane>,
    _compiler: Option<KilledAtEnd>,
    client: Client<HttpConnector, Body>,
    /// The operator's token.
    pub operator: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    pub retry_after: Option<String>,
}

impl Answer {
    /// The refusal's code.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("")
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }
}

/// One request in the making.
pub struct Ask<'p> {
    plane: &'p Plane,
    request: http::request::Builder,
    body: Body,
}

struct KilledAtEnd(Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Plane {
    /// With no compiler behind it: for everything that compiles nothing.
    pub async fn without_compiler() -> Plane {
        Plane::with_compiler_at("http://127.0.0.1:9", &SecretKey::from_seed([1; 32])).await
    }

    /// With something else in the compiler's place.
    pub async fn with_compiler_at(url: &str, key: &SecretKey<Compiler>) -> Plane {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compiler.pub"), key.public().to_text()).unwrap();
        std::fs::write(folder.path().join("compiler.token"), "shared\n").unwrap();
        Plane::start(folder, url, None).await
    }

    /// With the real compiler service, or `None` (said loudly) when it was not built.
    pub async fn with_real_compiler() -> Option<Plane> {
        let folder = tempfile::tempdir().unwrap();
        let compiler = start_compiler(folder.path())?;
        let ready = wait_for(&folder.path().join("compiler.ready"));
        let ready: Value = serde_json::from_str(&ready).unwrap();
        let url = format!("http://{}", ready["listen"].as_str().unwrap());
        Some(Plane::start(folder, &url, Some(compiler)).await)
    }

    async fn start(folder: TempDir, compiler_url: &str, compiler: Option<KilledAtEnd>) -> Plane {
        let text = format!(
            "api = \"127.0.0.1:0\"\nsync = \"127.0.0.1:0\"\ndata_dir = \"data\"\nready_file = \"ready\"\n\
             public_https_port = 8443\n[compiler]\nurl = \"{compiler_url}\"\ntoken_file = \"compiler.token\"\n\
             public_key_file = \"compiler.pub\"\n"
        );
        let path = folder.path().join("control.toml");
        std::fs::write(&path, text).unwrap();
        let config = Config::load(&path).unwrap();
        let running = ControlPlane::start(config.clone()).await.unwrap();
        let operator =
            std::fs::read_to_string(config.data_dir.join("operator.token")).unwrap().trim().to_owned();
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Plane { folder, config, running: Some(running), _compiler: compiler, client, operator }
    }

    /// Stops it and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.running.take().unwrap().stop().await;
        self.running = Some(ControlPlane::start(self.config.clone()).await.unwrap());
    }

    /// Tries to start a second one on the same data.
    pub async fn start_another(&self) -> Result<ControlPlane, StartError> {
        ControlPlane::start(self.config.clone()).await
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub fn running(&self) -> &ControlPlane {
        self.running.as_ref().unwrap()
    }

    /// A request with the operator's token.
    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        self.ask_as(&self.operator, method, path)
    }

    /// A request with this token.
    pub fn ask_as(&self, token: &str, method: Method, path: &str) -> Ask<'_> {
        self.ask_openly(method, path).header("authorization", &format!("Bearer {token}"))
    }

    /// A request without a token.
    pub fn ask_openly(&self, method: Method, path: &str) -> Ask<'_> {
        let uri = format!("http://{}{path}", self.running().api);
        Ask { plane: self, request: Request::builder().method(method).uri(uri), body: Body::empty() }
    }

    /// A new tenant, and a token of it with all actions.
    pub async fn tenant(&self, name: &str) -> String {
        self.ask(Method::POST, "/v1/tenants").json(json!({ "tenant": name })).send().await.ok();
        self.token(json!({ "tenant": name, "actions": ["deploy", "read", "admin"] })).await
    }

    /// A new token's text.
    pub async fn token(&self, request: Value) -> String {
        let made = self.ask(Method::POST, "/v1/tokens").json(request).send().await.ok();
        made["token"].as_str().unwrap().to_owned()
    }

    /// Uploads a program; its digest.
    pub async fn upload(&self, token: &str, wasm: &[u8]) -> String {
        let digest = Digest::of(wasm).to_string();
        self.ask_as(token, Method::PUT, &format!("/v1/wasm/{digest}")).bytes(wasm.to_vec()).send().await.ok();
        digest
    }

    /// Uploads and deploys.
    pub async fn deploy(&self, token: &str, app: &str, wasm: &[u8], config: Value) -> Answer {
        let digest = self.upload(token, wasm).await;
        let body = json!({ "wasm": digest, "config": config });
        self.ask_as(token, Method::POST, &format!("/v1/apps/{app}/versions")).json(body).send().await
    }
}

impl Ask<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn json(mut self, body: Value) -> Self {
        self.body = Body::from(body.to_string());
        self
    }

    pub fn bytes(mut self, body: Vec<u8>) -> Self {
        self.body = Body::from(body);
        self
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The answer's head; nothing of its body is read.
    pub async fn begin(self) -> http::Response<hyper::body::Incoming> {
        self.plane.client.request(self.request.body(self.body).unwrap()).await.unwrap()
    }

    pub async fn send(self) -> Answer {
        let response = self.begin().await;
        let status = response.status();
        let retry_after =
            response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&text).unwrap_or(Value::Null);
        Answer { status, body, retry_after }
    }
}

/// The smallest program of the fastly lane, made different by `name`: `(module (memory (export "memory") 1)
/// (func (export "_start")))` and a custom section.
pub fn program(name: &str) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.extend(b"\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01");
    wasm.extend(b"\x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b");
    let section = [b"\x04note".as_slice(), name.as_bytes()].concat();
    wasm.push(0);
    wasm.push(u8::try_from(section.len()).unwrap());
    wasm.extend(section);
    wasm
}

fn start_compiler(folder: &Path) -> Option<KilledAtEnd> {
    let test = std::env::current_exe().unwrap();
    let binary: PathBuf = test.parent().unwrap().parent().unwrap().join("aot-compiler");
    if !binary.exists() {
        eprintln!("SKIPPED: {} is not built; run `cargo build -p aot-compiler` first", binary.display());
        return None;
    }
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\ntoken_file = \"{}\"\nready_file = \"{}\"\n",
        at("compiler"),
        at("compiler.token"),
        at("compiler.ready"),
    );
    let config = folder.join("compiler.toml");
    std::fs::write(&config, text).unwrap();
    let child = Command::new(binary).arg("--config").arg(&config).stdout(Stdio::null()).spawn().unwrap();
    let child = KilledAtEnd(child);
    wait_for(&folder.join("compiler.ready"));
    std::fs::copy(folder.join("compiler/compiler.pub"), folder.join("compiler.pub")).unwrap();
    Some(child)
}

fn wait_for(file: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            return text;
        }
        assert!(Instant::now() < end, "{} did not appear within 30 s", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
