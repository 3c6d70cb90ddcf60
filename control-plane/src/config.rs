//! `control.toml`: what an operator states, checked once, every mistake in one run.
//!
//! Relied on by `main` and by whoever embeds the control plane. Deliberately absent: secrets. They lie in files of
//! mode 0600 which the configuration only names.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use artifact::HostName;
use fleet_sync_origin::KvQuotas;
use serde::Deserialize;

/// Everything the control plane needs to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the deploy API listens; plain HTTP. Port 0 picks one.
    #[serde(default = "default_api")]
    pub api: SocketAddr,
    /// Where nodes connect; HTTP/2 with mutual TLS. Port 0 picks one.
    #[serde(default = "default_sync")]
    pub sync: SocketAddr,
    /// Log, admin store, blobs and keys. Made at first start.
    pub data_dir: PathBuf,
    /// The compiler service.
    pub compiler: CompilerConfig,
    /// An app without host names answers at `<app>.<domain>`.
    #[serde(default = "default_domain")]
    pub domain: HostName,
    /// Port in printed URLs. Absent: learnt from what nodes say they serve on.
    #[serde(default)]
    pub public_https_port: Option<u16>,
    /// Names and addresses in the sync server's certificate: what nodes dial.
    #[serde(default = "default_sync_names")]
    pub sync_names: Vec<String>,
    /// What a tenant may have in its key-value stores.
    #[serde(default)]
    pub kv: KvConfig,
    /// Written, atomically, when the server is ready: the real addresses as JSON.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
}

/// Quotas of each tenant. Lowered below what a tenant has, they delete nothing: it can read, delete, and replace by what is
/// not larger, and not add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KvConfig {
    /// Stores that hold something.
    pub stores_per_tenant_max: u64,
    /// Entries.
    pub keys_per_tenant_max: u64,
    /// Keys, metadata and values, in bytes.
    pub bytes_per_tenant_max: u64,
}

impl Default for KvConfig {
    fn default() -> KvConfig {
        let KvQuotas { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max } =
            KvQuotas::default();
        KvConfig { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max }
    }
}

impl From<KvConfig> for KvQuotas {
    fn from(config: KvConfig) -> KvQuotas {
        let KvConfig { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max } = config;
        KvQuotas { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max }
    }
}

/// How to reach the compiler service, and whom to believe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompilerConfig {
    /// `http://host:port` of the service.
    #[serde(default = "default_compiler")]
    pub url: String,
    /// File with the shared token the service demands.
    pub token_file: PathBuf,
    /// File with the compiler's public key (`compiler.pub` in its data directory). Statements are believed by this key, by
    /// those that earlier starts found here, and by those they endorsed; by none that was revoked.
    pub public_key_file: PathBuf,
}

/// The configuration is unusable. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("reading the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, a missing or an unknown key.
    #[error("in {path}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What, with its line.
        message: String,
    },
    /// Values that cannot be right.
    #[error("in {path}: {}", mistakes.join("; "))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<String>,
    },
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Config = toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { path: path.to_owned(), message: error.to_string() })?;
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(ConfigError::Mistakes { path: path.to_owned(), mistakes });
        }
        config.anchor(path.parent().unwrap_or(Path::new(".")));
        Ok(config)
    }

    fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Err(why) = compiler_authority(&self.compiler.url) {
            found.push(format!("compiler.url: {why}"));
        }
        if self.sync_names.is_empty() {
            found.push("sync_names: needs at least one name or address that nodes dial".to_owned());
        }
        let KvConfig { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max } = self.kv;
        for (key, value) in [
            ("stores_per_tenant_max", stores_per_tenant_max),
            ("keys_per_tenant_max", keys_per_tenant_max),
            ("bytes_per_tenant_max", bytes_per_tenant_max),
        ] {
            if value == 0 {
                found.push(format!("kv.{key}: needs at least 1, with 0 no program could write"));
            }
        }
        if self.public_https_port == Some(0) {
            found.push(
                "public_https_port: 0 cannot be dialled; leave it out to learn it from the nodes".to_owned(),
            );
        }
        found
    }

    fn anchor(&mut self, folder: &Path) {
        let paths = [&mut self.data_dir, &mut self.compiler.token_file, &mut self.compiler.public_key_file];
        for path in paths.into_iter().chain(&mut self.ready_file) {
            *path = folder.join(&path);
        }
    }
}

/// The `host:port` of a compiler URL; anything but `http://host:port` is refused.
pub(crate) fn compiler_authority(url: &str) -> Result<http::uri::Authority, String> {
    let wanted = || format!("{url:?} is not of the form http://host:port");
    let rest = url.strip_prefix("http://").ok_or_else(wanted)?;
    let authority: http::uri::Authority =
        rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| wanted())?;
    if authority.port_u16().is_none() || authority.as_str().contains('@') {
        return Err(wanted());
    }
    Ok(authority)
}

fn default_api() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7400))
}

fn default_sync() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7401))
}

fn default_compiler() -> String {
    "http://127.0.0.1:7403".to_owned()
}

fn default_domain() -> HostName {
    "localhost".parse().expect("localhost is one lower-case label")
}

fn default_sync_names() -> Vec<String> {
    vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    const MINIMAL: &str = "data_dir = \"data\"\n[compiler]\ntoken_file = \"/t\"\npublic_key_file = \"k\"\n";

    #[test]
    fn a_minimal_file_has_the_documented_defaults_and_paths_beside_it() {
        let config = load(MINIMAL).unwrap();
        assert_eq!(config.api.to_string(), "127.0.0.1:7400");
        assert_eq!(config.sync.to_string(), "127.0.0.1:7401");
        assert_eq!(config.domain.as_str(), "localhost");
        assert_eq!(config.sync_names, ["localhost", "127.0.0.1"]);
        assert_eq!(KvQuotas::from(config.kv), KvQuotas::default());
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("data"));
        assert_eq!(config.compiler.token_file, Path::new("/t"));
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let message = load(&format!("colour = 1\n{MINIMAL}")).unwrap_err().to_string();
        assert!(message.contains("colour"), "{message}");
    }

    #[test]
    fn quotas_that_are_stated_replace_their_defaults_and_0_is_a_mistake() {
        let stated = load(&format!("{MINIMAL}[kv]\nkeys_per_tenant_max = 5\n")).unwrap().kv;
        assert_eq!(stated, KvConfig { keys_per_tenant_max: 5, ..KvConfig::default() });
        let message = load(&format!("{MINIMAL}[kv]\nbytes_per_tenant_max = 0\n")).unwrap_err().to_string();
        assert!(message.contains("kv.bytes_per_tenant_max"), "{message}");
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = format!("sync_names = []\npublic_https_port = 0\n{MINIMAL}url = \"https://x\"\n");
        let message = load(&text).unwrap_err().to_string();
        for key in ["compiler.url", "sync_names", "public_https_port"] {
            assert!(message.contains(key), "{key}: {message}");
        }
    }
}
