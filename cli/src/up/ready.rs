//! What a user, a script or a test has to know of a running fleet. Written to `DIR/skerry.json` and to the file
//! of `--ready-file`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::layout::{Layout, write_whole};
use crate::{credentials::DATA_DIR_DEFAULT, error::Result};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// URL of the API.
    pub api: String,
    /// Where apps are served, TCP and UDP.
    pub https: SocketAddr,
    /// Where apps are served without TLS.
    pub http: Option<SocketAddr>,
    /// The node's metrics and health.
    pub admin: SocketAddr,
    /// The local certificate authority, PEM.
    pub ca: PathBuf,
    /// An operator's API token.
    pub token_file: PathBuf,
    /// Process id of `up`.
    pub pid: u32,
    /// Process ids of the servers, by name.
    pub processes: BTreeMap<String, u32>,
}

impl Ready {
    /// Writes it where clients look for it.
    pub fn write(&self, layout: &Layout, also: Option<&Path>) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a ready file has only string keys");
        write_whole(&layout.fleet_file(), &text)?;
        also.map_or(Ok(()), |path| write_whole(path, &text))
    }

    /// For a person.
    pub fn summary(&self, layout: &Layout) -> String {
        let shown = layout.shown();
        let data = match shown == Path::new(DATA_DIR_DEFAULT) {
            true => String::new(),
            false => format!(" --data {}", shown.display()),
        };
        let http = self.http.map_or_else(String::new, |http| format!("\n  HTTP    {http}"));
        format!(
            "Skerry is up.\n  API     {}\n  HTTPS   {} (HTTP/1.1 and 2 over TCP, HTTP/3 over UDP){http}\n  \
             CA      {}\n  logs    {}\n\n  \
             Deploy with:  skerry deploy FILE.wasm{data}\n  Stop with:    Ctrl-C",
            self.api,
            self.https,
            self.ca.display(),
            shown.join("logs").display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_promised_keys() {
        let ready = Ready {
            api: "http://127.0.0.1:7400".into(),
            https: "127.0.0.1:8443".parse().unwrap(),
            http: None,
            admin: "127.0.0.1:9000".parse().unwrap(),
            ca: "/d/ca.pem".into(),
            token_file: "/d/token".into(),
            pid: 7,
            processes: [("edge-node".to_owned(), 8)].into(),
        };
        assert_eq!(
            serde_json::to_value(&ready).unwrap(),
            serde_json::json!({
                "api": "http://127.0.0.1:7400", "https": "127.0.0.1:8443", "http": null, "admin": "127.0.0.1:9000",
                "ca": "/d/ca.pem", "token_file": "/d/token", "pid": 7, "processes": { "edge-node": 8 },
            })
        );
    }
}
