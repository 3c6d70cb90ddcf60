//! `node.toml`.

use std::{net::SocketAddr, num::NonZero, path::PathBuf};

use artifact::Target;
use serde::Deserialize;

use crate::{host::outbound::address::Range, memory};

/// A node's configuration. Unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// HTTPS: TCP for h1 and h2, UDP for h3, same port. Port 0 picks one.
    pub https: SocketAddr,
    /// Plaintext HTTP/1.1, off by default.
    #[serde(default)]
    pub http: Option<SocketAddr>,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// Identity, copy of the release log, artifacts.
    pub data_dir: PathBuf,
    /// `host:port` of the control plane's sync listener.
    pub control: String,
    /// File with the join token; read only while the node has no identity.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// Where real addresses are written when the node serves.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
    /// Access log; standard output when absent.
    #[serde(default)]
    pub access_log: Option<PathBuf>,
    /// Geography of clients: an `.mmdb` file in the layout of GeoIP2. None: programs learn no places.
    #[serde(default)]
    pub geo_database: Option<PathBuf>,
    /// Ranges of addresses that guests may fetch from beside public ones, such as `10.0.0.0/8`.
    #[serde(default)]
    pub outbound_allow: Vec<Range>,
    /// The best processor level to run code of, such as `x86_64-v3` where AVX-512 is not wanted; the processor's best when absent.
    #[serde(default)]
    pub level_max: Option<Target>,
    /// Serving threads; the machine's cores when absent.
    #[serde(default)]
    pub threads: Option<NonZero<usize>>,
    /// Guests that may run at once, divided among the serving threads; [`crate::machine::instances_wanted`] when absent.
    #[serde(default)]
    pub instances_max: Option<u32>,
    /// Bytes of memory for guests, warm slots included; five eighths of what the machine or cgroup has when absent.
    #[serde(default)]
    pub guest_memory_bytes_max: Option<u64>,
    /// Niceness of the threads for guests that take longer than a tick, 0 to 19. Below 19 where other programs keep the
    /// machine busy, as a developer's compiler does.
    #[serde(default = "slow_lane_nice")]
    pub slow_lane_nice: u8,
    /// Bytes of native code kept in memory; an eighth of what the machine or cgroup has when absent.
    #[serde(default = "memory::default_code_bytes_max")]
    pub code_bytes_max: u64,
    /// Seconds that requests under way may take once the node was told to stop.
    #[serde(default = "drain_s")]
    pub drain_s: u64,
}

fn slow_lane_nice() -> u8 {
    crate::lane::NICE_DEFAULT
}

fn drain_s() -> u64 {
    30
}

impl Config {
    /// Reads the text of a `node.toml`.
    pub fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_unknown_keys() {
        let minimal = "https='127.0.0.1:0'\nadmin='127.0.0.1:0'\ndata_dir='d'\ncontrol='localhost:7401'\n";
        assert_eq!(Config::parse(minimal).unwrap().code_bytes_max, memory::default_code_bytes_max());
        let error = Config::parse(&format!("{minimal}colour='red'")).unwrap_err().to_string();
        assert!(error.contains("colour"), "{error}");
        assert!(Config::parse(&format!("{minimal}threads=0")).is_err());
        let allow = |range: &str| Config::parse(&format!("{minimal}outbound_allow=['{range}']"));
        assert_eq!(allow("127.0.0.0/8").unwrap().outbound_allow.len(), 1);
        let error = allow("127.0.0.1/8").unwrap_err().to_string();
        assert!(error.contains("127.0.0.1/8"), "{error}");
    }
}
