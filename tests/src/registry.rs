//! A registry of OCI images on loopback: Debian's `docker-registry`, with a directory of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use artifact::Digest;
use serde_json::json;
use tempfile::TempDir;

use crate::{process::Owned, skipped, wait_for};

const PROGRAM: &str = "docker-registry";
/// It ends with its standard input, as our own servers do: a test that is killed leaves none behind. Reading goes on beside it,
/// so that a signal is heeded at once.
const WITH_STDIN: &str = r#"exec 3<&0
"$0" serve "$1" & registry=$!
trap 'kill $registry; wait $registry' EXIT
trap exit TERM INT
cat <&3 >/dev/null & wait $!"#;
/// `me` with the password `word`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2y$05$skerryskerryskerryskeeU/Lb.LPEqEIxU0dzZVX012xApB0rvo6\n";
/// What the registry logs once it has its port.
const LISTENING: &str = "listening on ";

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Everybody.
    Anybody,
    /// `me`, whose password is `word`.
    Me,
}

/// A running registry, stopped when dropped.
pub struct Registry {
    _process: Owned,
    directory: TempDir,
    host: String,
}

impl Registry {
    /// Starts one on a port that the system picks. `None`, and said loudly, where there is no such program.
    #[track_caller]
    pub fn start(asks: Asks) -> Option<Registry> {
        let Some(program) = program() else {
            skipped("a real registry: docker-registry is not here (Debian: apt install docker-registry)");
            return None;
        };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (config, log) = (directory.path().join("config.json"), directory.path().join("log"));
        let htpasswd = directory.path().join("htpasswd");
        fs::write(&htpasswd, HTPASSWD).expect("our own directory");
        let mut settings = json!({ // YAML too
            "version": 0.1,
            "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": directory.path().join("data") } },
            "http": { "addr": "127.0.0.1:0", "secret": "of nobody" },
        });
        if asks == Asks::Me {
            settings["auth"] = json!({ "htpasswd": { "realm": "test", "path": htpasswd } });
        }
        fs::write(&config, settings.to_string()).expect("our own directory");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WITH_STDIN]).arg(program).arg(&config);
        let process = Owned::start(PROGRAM, &mut command, &log);
        let host = wait_for("the registry to listen", 30, || {
            let said = process.said();
            let (_, rest) = said.split_once(LISTENING)?;
            let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)))?;
            Some(rest[..end].to_owned())
        });
        Some(Registry { _process: process, directory, host })
    }

    /// `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// An image in it, as the command line names it.
    pub fn image(&self, repository_and_tag: &str) -> String {
        format!("oci://{}/{repository_and_tag}", self.host)
    }

    /// Where it keeps a blob.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(&hex).join("data")
    }

    /// Puts an image of one layer there as any tool could, with media types of one's own.
    #[track_caller]
    pub fn put(&self, repository: &str, tag: &str, config_type: &str, layer_type: &str, layer: &[u8]) {
        let config = json!({ "from": "a test" }).to_string().into_bytes();
        let described = |media_type: &str, bytes: &[u8]| {
            self.put_blob(repository, bytes);
            let digest = format!("sha256:{}", Digest::of(bytes));
            json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
        };
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": described(config_type, &config),
            "layers": [described(layer_type, layer)],
        });
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host);
        self.send("PUT", &url, manifest_type, manifest.to_string().as_bytes());
    }

    fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let started =
            self.send("POST", &format!("http://{}/v2/{repository}/blobs/uploads/", self.host), "", b"");
        let location =
            started.lines().find_map(|line| line.strip_prefix("Location: ")).expect("an upload's place");
        let url = format!("{}&digest=sha256:{}", location.trim(), Digest::of(bytes));
        self.send("PUT", &url, "application/octet-stream", bytes);
    }

    /// Sends it, and gives the answer's head.
    #[track_caller]
    fn send(&self, method: &str, url: &str, content_type: &str, body: &[u8]) -> String {
        let file = self.directory.path().join("body");
        fs::write(&file, body).expect("our own directory");
        let output = Command::new("curl")
            .args(["-sS", "--fail", "--noproxy", "*", "-i", "-X", method, url])
            .args(["-H", &format!("Content-Type: {content_type}")])
            .args(["--data-binary", &format!("@{}", file.display())])
            .output()
            .expect("curl is there");
        assert!(output.status.success(), "{method} {url}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Debian puts it into /usr/bin.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM));
    folders.chain([Path::new("/usr/bin").join(PROGRAM)]).find(|program| program.is_file())
}
