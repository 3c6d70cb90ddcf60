//! What a test asks of a fleet: through the command line, over the API, and as a client of its apps.

use std::process::Command;

use serde_json::Value;

use crate::{
    client::{Proto, Request, Response},
    command::Said,
    fleet::Fleet,
    guests::guest,
    process::binary,
};

impl Fleet {
    /// Runs `skerry` with the operator's credentials.
    pub fn skerry(&self, arguments: &[&str]) -> Said {
        self.skerry_with(&self.token(), arguments)
    }

    /// Runs `skerry` with the operator's credentials and this on its standard input.
    pub fn skerry_fed(&self, arguments: &[&str], input: &[u8]) -> Said {
        Said::fed(&mut self.command(&self.token(), arguments), input)
    }

    /// Runs `skerry` with the operator's credentials and these variables.
    pub fn skerry_in(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Said {
        Said::by(self.command(&self.token(), arguments).envs(environment.iter().copied()))
    }

    /// Runs `skerry` with another token.
    pub fn skerry_with(&self, token: &str, arguments: &[&str]) -> Said {
        Said::by(&mut self.command(token, arguments))
    }

    pub(crate) fn command(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("skerry"));
        for name in ["SKERRY_TENANT", "SKERRY_API", "SKERRY_TOKEN"] {
            command.env_remove(name);
        }
        command
            .current_dir(self.scratch())
            .args(arguments)
            .env("SKERRY_API", self.api())
            .env("SKERRY_TOKEN", token);
        command
    }

    /// Deploys a guest under its own name, waits until it is live, and returns what `--json` said.
    #[track_caller]
    pub fn deploy(&self, name: &str) -> Value {
        self.deploy_as(name, name)
    }

    /// Deploys a guest under another app's name.
    #[track_caller]
    pub fn deploy_as(&self, name: &str, app: &str) -> Value {
        let file = guest(name).display().to_string();
        self.skerry(&["deploy", &file, "--app", app, "--json", "--timeout", "120s"]).ok().json()
    }

    /// Deploys a guest by a `skerry.toml` with this CPU limit: for guests whose honest work takes longer than the
    /// default 50 ms in a debug build on a busy machine.
    #[track_caller]
    pub fn deploy_with_cpu_ms(&self, name: &str, cpu_ms: u32) -> Value {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let manifest = format!("name = \"{name}\"\ncomponent = \"app.wasm\"\n[limits]\ncpu_ms = {cpu_ms}\n");
        std::fs::write(folder.path().join("skerry.toml"), manifest).expect("our own directory");
        std::fs::copy(guest(name), folder.path().join("app.wasm")).expect("our own directory");
        let path = folder.path().display().to_string();
        self.skerry(&["deploy", &path, "--json", "--timeout", "120s"]).ok().json()
    }

    /// What `skerry status APP --json` says.
    #[track_caller]
    pub fn status(&self, app: &str) -> Value {
        self.skerry(&["status", app, "--json"]).ok().json()
    }

    /// A request to an app.
    pub fn request(&self, proto: Proto, app: &str) -> Request {
        self.request_host(proto, &format!("{app}.localhost"))
    }

    /// A request to a host name.
    pub fn request_host(&self, proto: Proto, host: &str) -> Request {
        let place = self.place();
        let address = if proto == Proto::Plain { self.http() } else { place.https };
        Request::new(proto, host.to_owned(), address, place.ca)
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, proto: Proto, app: &str, path: &str) -> Response {
        self.request(proto, app).path(path).send()
    }

    /// A call to the API by curl, with exactly these arguments, past the command line's own checks. Answers status
    /// and body.
    pub fn call_api(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let url = format!("{}{path}", self.api());
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", "--max-time", "60", "--write-out", "\n%{http_code}"]);
        let said = Said::by(curl.args(arguments).arg(url));
        let (body, status) = said.out.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }

    /// The node's metrics.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.place().admin);
        Said::by(Command::new("curl").args([
            "--silent",
            "--fail",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            &url,
        ]))
        .ok()
        .out
    }

    /// The value of the first metric line that starts with `name` and has every one of `labels`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let wanted = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        let line = text.lines().find(wanted);
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }
}
