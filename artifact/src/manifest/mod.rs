//! What an app asks for. [`Project`] is a parsed `skerry.toml`; [`AppConfig`] is the part that a version pins and
//! that travels to the nodes. Reading files is the callers' work.

mod assets;
mod backends;
mod build;
pub mod keys;
pub mod lookups;
mod methods;
pub mod origin;
pub mod parse;
mod prepare;
pub mod schema;
mod stores;

use std::{collections::BTreeMap, fmt, ops::Range};

use serde::{Deserialize, Serialize};

pub use assets::{Assets, CACHE_CONTROL_BYTES_MAX, is_below};
pub use build::Build;
pub use prepare::Prepare;
pub use stores::DEFAULT_STORE;

use crate::{AppName, HostName};

/// Bounds of what a manifest may ask for, with their reasons in `docs/limits.md`.
pub mod bounds {
    /// Host names of one app.
    pub const HOSTS_MAX: usize = 64;
    /// Bytes of a path prefix.
    pub const PATH_PREFIX_BYTES_MAX: usize = 1024;
    /// Methods of one app.
    pub const METHODS_MAX: usize = 16;
    /// Bytes of a method: a node refuses longer ones before it routes.
    pub const METHOD_BYTES_MAX: usize = 32;
    /// Backends of one app.
    pub const BACKENDS_MAX: usize = 64;
    /// Origins of a backend beside its first.
    pub const FAILOVER_MAX: usize = 7;
    /// Certificates of all backends of one app, in bytes: a version's record must stay below its limit.
    pub const PEM_BYTES_MAX: usize = 64 * 1024;
    /// Patterns of hosts to fetch from.
    pub const OUTBOUND_MAX: usize = 64;
    /// Milliseconds of a timeout towards a backend: 1 to 10 min, which the wall time cuts short.
    pub const TIMEOUT_MS: std::ops::RangeInclusive<u32> = 1..=600_000;
    /// Milliseconds between two probes of an origin: 1 s to 1 h.
    pub const HEALTH_INTERVAL_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;
    /// Config entries, and secret names, of one app, in all its stores.
    pub const ENTRIES_MAX: usize = 512;
    /// Stores of each kind (configuration, secrets, key-value) of one app, the default ones not counted.
    pub const STORES_MAX: usize = 64;
    /// Bytes of a config key, as on other edge platforms.
    pub const CONFIG_KEY_BYTES_MAX: usize = 256;
    /// Bytes of a config value.
    pub const CONFIG_VALUE_BYTES_MAX: usize = 8 * 1024;
    /// All config keys and values of one app, in all its stores, in bytes: a version's record must stay below its limit.
    pub const CONFIG_BYTES_MAX: usize = 128 * 1024;
    /// Addresses in `geo`, and user agents in `devices`.
    pub const LOOKUPS_MAX: usize = 256;
    /// Bytes of the JSON object of one address or device. One with every field of either has about 600.
    pub const LOOKUP_JSON_BYTES_MAX: usize = 2 * 1024;
    /// Bytes of a `User-Agent` in `devices`.
    pub const USER_AGENT_BYTES_MAX: usize = 1024;
    /// All of `geo` and `devices` of one app, in bytes, keys included: a part of what a record may have.
    pub const LOOKUPS_BYTES_MAX: usize = 32 * 1024;
    /// Bytes of a line for the shell in `[build]`.
    pub const COMMAND_BYTES_MAX: usize = 4 * 1024;
    /// Paths in `build.watch`.
    pub const WATCH_MAX: usize = 64;
    /// Bytes of one of them.
    pub const WATCH_PATH_BYTES_MAX: usize = 1024;
    /// Bytes of the name of a function in `[prepare]`.
    pub const FUNCTION_NAME_BYTES_MAX: usize = 128;
    /// CPU milliseconds of one execution: 1 to 30 s.
    pub const CPU_MS: std::ops::RangeInclusive<u32> = 1..=30_000;
    /// Wall milliseconds of one execution: 1 to 120 s.
    pub const WALL_MS: std::ops::RangeInclusive<u32> = 1..=120_000;
    /// Guest memory of one execution, in MiB. The node's slots are this large at most.
    pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 1..=128;
}

/// A `skerry.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The app's name.
    pub name: AppName,
    /// The program's file, relative to the manifest. An app of static files may have none.
    pub component: Option<String>,
    /// How that file is made, if the manifest says so.
    pub build: Option<Build>,
    /// What is done to the program when it is deployed.
    pub prepare: Prepare,
    /// The folder of its static files, relative to the manifest.
    pub assets_folder: Option<String>,
    /// Everything a version pins.
    pub config: AppConfig,
}

/// Routes, bindings and limits of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    /// Host names the app answers for. Empty means `<name>.<the fleet's domain>`.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// Only paths that start with it, at a segment boundary, are the app's. `/` is every path.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// Only requests of these methods are the program's; another is answered 405 by the node. Absent: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Origins the program may fetch from, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backends: BTreeMap<String, Backend>,
    /// Plain configuration the program can read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Names of secrets the program can read. Values never stand in a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Hosts the program may fetch from beside its backends: `host`, `*.host` or `*`, each with an optional `:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<String>,
    /// Further stores of plain configuration, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config_stores: BTreeMap<String, BTreeMap<String, String>>,
    /// Further stores of secrets, by name: the names of the secrets in each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_stores: BTreeMap<String, Vec<String>>,
    /// Key-value stores of the tenant that the program may use, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv_stores: Vec<String>,
    /// Geography of single addresses, asked before the operator's database: an address and a JSON object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub geo: BTreeMap<core::net::IpAddr, String>,
    /// Devices by their exact `User-Agent`: a JSON object each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, String>,
    /// How its static files are served. Absent: it has none. A node of before there were any does not know the key and
    /// refuses the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<Assets>,
    /// Limits of one execution.
    #[serde(default)]
    pub limits: Limits,
}

/// Origin servers behind one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backend {
    /// `http://` or `https://`, host and optional port; no path. The origin asked first.
    pub url: String,
    /// Further origins of the same form, asked in their order when those before cannot be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<String>,
    /// What the backend gets as `Host`; the request's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_host: Option<String>,
    /// The name its certificate must have, and that is sent as SNI; the URL's host when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_host: Option<String>,
    /// Authorities its certificate may come from instead of the platform's, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Certificate chain this side shows, PEM. Its key is the secret named by `client_key_secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_pem: Option<String>,
    /// Name of the secret that holds the key of `client_cert_pem`, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_secret: Option<String>,
    /// Time to connect, TLS included, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u32>,
    /// Time from the request's end to the response's head, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_timeout_ms: Option<u32>,
    /// Time between two pieces of the response's body, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between_bytes_timeout_ms: Option<u32>,
    /// How it is found out whether an origin is well. Absent: by requests alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
}

/// A probe of each origin, sent by every node that uses the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path of the GET that a well origin answers with 2xx.
    pub path: String,
    /// Time between two probes, ms.
    #[serde(default = "health_interval_ms")]
    pub interval_ms: u32,
}

fn health_interval_ms() -> u32 {
    10_000
}

/// Limits of one execution. What a manifest does not name has the default of DESIGN §4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPU time of the guest and its host calls, ms. Over it: 504.
    pub cpu_ms: u32,
    /// Time from the request's head to the response's end, ms. Over it: 504.
    pub wall_ms: u32,
    /// Linear memory, MiB. `memory.grow` beyond it answers −1.
    pub memory_mib: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cpu_ms: 50, wall_ms: 120_000, memory_mib: 128 }
    }
}

impl Default for AppConfig {
    fn default() -> AppConfig {
        AppConfig {
            hosts: Vec::new(),
            path_prefix: root(),
            methods: None,
            backends: BTreeMap::new(),
            config: BTreeMap::new(),
            secrets: Vec::new(),
            outbound: Vec::new(),
            config_stores: BTreeMap::new(),
            secret_stores: BTreeMap::new(),
            kv_stores: Vec::new(),
            geo: BTreeMap::new(),
            devices: BTreeMap::new(),
            assets: None,
            limits: Limits::default(),
        }
    }
}

fn root() -> String {
    "/".to_owned()
}

/// One thing wrong in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// Line in the file, from 1; absent when the manifest was not a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The key's path, such as `limits.cpu_ms`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// What was most likely meant by what stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The bytes of the file that are wrong. They stay with who has the file.
    #[serde(skip)]
    pub span: Option<Range<usize>>,
}

impl Mistake {
    /// A mistake of no place.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Mistake {
        let (key, message) = (key.into(), message.into());
        Mistake { line: None, key, message, suggestion: None, span: None }
    }

    /// The same at this place of a text.
    pub fn at(self, text: &str, span: Range<usize>) -> Mistake {
        Mistake { line: Some(parse::line_at(text, span.start)), span: Some(span), ..self }
    }

    /// Key and message, without the place.
    pub fn said(&self) -> String {
        Mistake { line: None, ..self.clone() }.to_string()
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

impl Project {
    /// Reads a `skerry.toml`, collecting every mistake rather than the first.
    pub fn parse(text: &str) -> Result<Project, Vec<Mistake>> {
        parse::project(text)
    }
}

impl AppConfig {
    /// Checks values whose types cannot: for configuration that came as JSON.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        let mut note = |key: String, message: String| found.push(Mistake::new(key, message));
        if self.hosts.len() > bounds::HOSTS_MAX {
            note("hosts".into(), format!("{} host names, at most {}", self.hosts.len(), bounds::HOSTS_MAX));
        }
        if let Err(why) = check_path_prefix(&self.path_prefix) {
            note("path_prefix".into(), why);
        }
        methods::check(self, &mut note);
        backends::check(self, &mut note);
        stores::check(self, &mut note);
        assets::check(self, &mut note);
        let Limits { cpu_ms, wall_ms, memory_mib } = self.limits;
        for (name, value, range) in [
            ("cpu_ms", cpu_ms, bounds::CPU_MS),
            ("wall_ms", wall_ms, bounds::WALL_MS),
            ("memory_mib", memory_mib, bounds::MEMORY_MIB),
        ] {
            if !range.contains(&value) {
                let message = format!("{value} is out of range: {} to {}", range.start(), range.end());
                note(format!("limits.{name}"), message);
            }
        }
        found.extend(lookups::mistakes(self));
        found
    }
}

/// A prefix is compared with the request's path as sent, so it must be in the form paths are sent in
/// (RFC 3986 §3.3), without dot segments or empty segments.
fn check_path_prefix(prefix: &str) -> Result<(), String> {
    if prefix.len() > bounds::PATH_PREFIX_BYTES_MAX {
        return Err(format!("{} bytes, at most {}", prefix.len(), bounds::PATH_PREFIX_BYTES_MAX));
    }
    let Some(rest) = prefix.strip_prefix('/') else {
        return Err(format!("{prefix:?} does not start with '/'"));
    };
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@/".contains(&c);
    if !rest.bytes().all(plain) {
        return Err(format!("{prefix:?} has a character that a path prefix may not have"));
    }
    let segments = rest.strip_suffix('/').unwrap_or(rest);
    if !rest.is_empty() && segments.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(format!("{prefix:?} has an empty, '.' or '..' segment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_as_json_has_defaults_and_refuses_unknown_keys() {
        let config: AppConfig = serde_json::from_str(r#"{"hosts":["a.example"]}"#).unwrap();
        assert_eq!((config.limits.cpu_ms, config.path_prefix.as_str()), (50, "/"));
        assert!(config.mistakes().is_empty());
        assert!(serde_json::from_str::<AppConfig>(r#"{"host":"a.example"}"#).is_err());
    }

    #[test]
    fn every_bound_is_checked() {
        let config = AppConfig {
            path_prefix: "/a/../b".into(),
            backends: [("b".to_owned(), Backend { url: "ftp://x".into(), ..Backend::default() })].into(),
            config: [("k".to_owned(), "x".repeat(bounds::CONFIG_VALUE_BYTES_MAX + 1))].into(),
            limits: Limits { cpu_ms: 0, wall_ms: 1, memory_mib: 4096 },
            ..AppConfig::default()
        };
        let keys: Vec<String> = config.mistakes().into_iter().map(|mistake| mistake.key).collect();
        assert_eq!(keys, ["path_prefix", "backends.b.url", "config.k", "limits.cpu_ms", "limits.memory_mib"]);
    }

    #[test]
    fn path_prefixes() {
        for good in ["/", "/api", "/api/", "/a/b.c"] {
            assert_eq!(check_path_prefix(good), Ok(()), "{good}");
        }
        for bad in ["", "api", "//", "/a//b", "/a/./b", "/..", "/a?b", "/a b", "/%2e"] {
            assert!(check_path_prefix(bad).is_err(), "{bad}");
        }
    }
}
