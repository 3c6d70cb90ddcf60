//! `compiler.toml`: what an operator sets. Unknown keys are refused, all mistakes are told at once.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use artifact::Target;
use serde::Deserialize;

/// The configuration of the service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, plain HTTP. Port 0 takes a free one, told in the ready file.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Holds `compiler.key` and `compiler.pub`; made when missing.
    pub data_dir: PathBuf,
    /// The token callers present; made when missing.
    pub token_file: PathBuf,
    /// What it compiles for.
    #[serde(default = "default_targets")]
    pub targets: Vec<Target>,
    /// Compile jobs at once, and as many more that take longer than a second. Each may take 3 GiB.
    #[serde(default = "default_jobs_max")]
    pub jobs_max: usize,
    /// Disk for compiled functions, which the next compile of the same app need not make again, in MiB; 0 keeps none.
    #[serde(default = "default_function_cache_mib_max")]
    pub function_cache_mib_max: u64,
    /// Those of one tenant. The part of it that the largest program takes is some 60 MiB for each target.
    #[serde(default = "default_function_cache_tenant_mib_max")]
    pub function_cache_tenant_mib_max: u64,
    /// Written when ready to serve: `{"listen": "address:port", "pid": n}`.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {path}: give the path of a compiler.toml with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No TOML, an unknown key, a wrong type.
    #[error("the configuration {path} is malformed")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Values that cannot be.
    #[error("the configuration {path} has mistakes: {}", .mistakes.join("; "))]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them.
        mistakes: Vec<String>,
    },
}

/// Processor cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 7403))
}

fn default_targets() -> Vec<Target> {
    Target::ALL.to_vec()
}

fn default_jobs_max() -> usize {
    cores().min(JOBS_MAX)
}

fn default_function_cache_mib_max() -> u64 {
    8 << 10
}

fn default_function_cache_tenant_mib_max() -> u64 {
    1 << 10
}

/// Most disk for compiled functions, in MiB: 16 TiB.
const FUNCTION_CACHE_MIB_MAX: u64 = 16 << 20;
/// Most jobs at once: 64 would be 256 GiB.
const JOBS_MAX: usize = 64;

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let config: Config = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        let mistakes = config.mistakes();
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Mistakes { path: path.into(), mistakes })
        }
    }

    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.targets.is_empty() {
            mistakes.push("`targets` is empty: leave it out to compile for all".into());
        }
        for (at, target) in self.targets.iter().enumerate() {
            if self.targets[..at].contains(target) {
                mistakes.push(format!("`targets` names {target} twice"));
            }
        }
        if self.jobs_max == 0 || self.jobs_max > JOBS_MAX {
            mistakes.push(format!("`jobs_max` is {}, it must be 1 to {JOBS_MAX}", self.jobs_max));
        }
        for (key, mib) in [
            ("function_cache_mib_max", self.function_cache_mib_max),
            ("function_cache_tenant_mib_max", self.function_cache_tenant_mib_max),
        ] {
            if mib > FUNCTION_CACHE_MIB_MAX {
                mistakes.push(format!("`{key}` is {mib}, it must be at most {FUNCTION_CACHE_MIB_MAX}"));
            }
        }
        mistakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(file.path())
    }

    #[test]
    fn two_paths_suffice() {
        let config = load("data_dir = \"d\"\ntoken_file = \"t\"").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7403");
        assert_eq!(config.targets, Target::ALL);
        assert_eq!(config.jobs_max, cores().min(JOBS_MAX));
        assert_eq!((config.function_cache_mib_max, config.function_cache_tenant_mib_max), (8_192, 1_024));
    }

    #[test]
    fn unknown_keys_are_refused_and_mistakes_told_at_once() {
        let error = load("data_dir = \"d\"\ntoken_file = \"t\"\nlisten_on = 1").unwrap_err();
        assert!(crate::compile::chain(&error).contains("listen_on"), "{error:?}");
        let error = load(
            "data_dir = \"d\"\ntoken_file = \"t\"\njobs_max = 0\nfunction_cache_mib_max = 99999999\ntargets = [\"aarch64\", \"aarch64\"]",
        );
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("jobs_max")
                && text.contains("function_cache_mib_max")
                && text.contains("aarch64 twice"),
            "{text}"
        );
    }
}
