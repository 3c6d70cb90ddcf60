//! The servers' configuration files. Field names are those servers' keys.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use artifact::Target;
use serde::Serialize;

use super::layout::{Layout, write_whole};
use crate::error::Result;

/// Any port of this machine: nobody but the fleet itself has to know it.
pub const ANY_LOCAL_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// `compiler.toml`
#[derive(Debug, Serialize)]
pub struct Compiler {
    pub listen: SocketAddr,
    /// Empty: all there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    pub data_dir: PathBuf,
    pub token_file: PathBuf,
    pub ready_file: PathBuf,
}

/// `control.toml`
#[derive(Debug, Serialize)]
pub struct Control {
    pub api: SocketAddr,
    pub sync: SocketAddr,
    pub data_dir: PathBuf,
    /// Absent while the node picks its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_https_port: Option<u16>,
    pub ready_file: PathBuf,
    pub compiler: CompilerClient,
}

/// `[compiler]` of `control.toml`
#[derive(Debug, Serialize)]
pub struct CompilerClient {
    pub url: String,
    pub token_file: PathBuf,
    pub public_key_file: PathBuf,
}

/// `node.toml`
#[derive(Debug, Serialize)]
pub struct Node {
    pub https: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub data_dir: PathBuf,
    pub control: String,
    pub join_token_file: PathBuf,
    pub ready_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geo_database: Option<PathBuf>,
    /// Requests under way get this long, within what `up` waits before it kills.
    pub drain_s: u64,
    /// Backends of an app in the making run on the developer's machine.
    pub outbound_allow: [&'static str; 2],
    /// 0 unless told otherwise: a developer's compiler keeps the machine busy, and guests that take longer are still to
    /// end.
    pub slow_lane_nice: u8,
}

/// Half of what a part gets to stop: Ctrl-C is answered soon, and nothing has to be killed.
const DRAIN_S: u64 = 5;

impl Compiler {
    pub fn new(layout: &Layout, listen: SocketAddr) -> Compiler {
        let data_dir = layout.data("compiler");
        Compiler {
            listen,
            targets: Vec::new(),
            token_file: data_dir.join("token"),
            data_dir,
            ready_file: layout.ready("compiler"),
        }
    }
}

impl Control {
    pub fn new(
        layout: &Layout,
        api: SocketAddr,
        sync: SocketAddr,
        https: SocketAddr,
        compiler: SocketAddr,
    ) -> Control {
        let compiler_data = layout.data("compiler");
        Control {
            api,
            sync,
            data_dir: layout.data("control"),
            public_https_port: (https.port() != 0).then_some(https.port()),
            ready_file: layout.ready("control"),
            compiler: CompilerClient {
                url: format!("http://{compiler}"),
                token_file: compiler_data.join("token"),
                public_key_file: compiler_data.join("compiler.pub"),
            },
        }
    }
}

impl Node {
    pub fn new(layout: &Layout, sync: SocketAddr, https: SocketAddr, http: Option<SocketAddr>) -> Node {
        let data_dir = layout.data("node");
        Node {
            https,
            http,
            admin: ANY_LOCAL_PORT,
            join_token_file: join_token_file(layout),
            data_dir,
            control: sync.to_string(),
            ready_file: layout.ready("node"),
            geo_database: None,
            drain_s: DRAIN_S,
            outbound_allow: ["127.0.0.0/8", "::1/128"],
            slow_lane_nice: 0,
        }
    }
}

/// Where the node's join token is put.
pub fn join_token_file(layout: &Layout) -> PathBuf {
    layout.data("node").join("join.token")
}

/// Writes a configuration file.
pub fn write<T: Serialize>(layout: &Layout, part: &str, config: &T) -> Result<()> {
    let text = toml::to_string(config).expect("configuration has only string keys, tables last");
    let head = "# Written by `skerry up` at every start.\n";
    write_whole(&layout.config(part), format!("{head}{text}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_servers_keys() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::make(home.path()).unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        write(&layout, "control", &Control::new(&layout, address(1), address(2), address(3), address(4)))
            .unwrap();
        let text = std::fs::read_to_string(layout.config("control")).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["api"].as_str(), Some("127.0.0.1:1"));
        assert_eq!(table["public_https_port"].as_integer(), Some(3));
        assert_eq!(table["compiler"]["url"].as_str(), Some("http://127.0.0.1:4"));
        write(&layout, "node", &Node::new(&layout, address(2), address(0), None)).unwrap();
        let text = std::fs::read_to_string(layout.config("node")).unwrap();
        assert!(text.contains("outbound_allow = [\"127.0.0.0/8\", \"::1/128\"]"), "{text}");
        assert!(text.contains("control = \"127.0.0.1:2\"") && !text.contains("http ="), "{text}");
    }
}
