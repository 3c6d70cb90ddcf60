//! The servers that are compared: each a process of its own, started here and ended here.
//!
//! One lives at a time: an idle Viceroy alone burns 15 % of a core and turns 8,000 times a second, which another
//! server's figures would pay for. Ports are the kernel's choice. Relied on: peers are found in `PATH`; what is not
//! there is left out, and said.
//!
//! | Module | One job |
//! |---|---|
//! | [`bare`] | hyper, and quinn with h3, with nothing in them |
//! | [`lineup`] | who is compared, who is left out and why |
//! | [`peers`] | how each peer is started, at its best |
//! | [`start`] | starting one until it answers |
//! | [`process`] | a process and what it starts, ended together |
//! | [`asking`] | the questions before it counts |
//! | [`certificate`] | one for the only name |

mod asking;
pub mod bare;
mod certificate;
pub mod lineup;
mod peers;
pub mod process;
mod start;

use std::{net::SocketAddr, path::PathBuf};

pub use self::{
    lineup::Server,
    process::family,
    start::{fleet_of, together},
};
use crate::{
    deploy::fleet::Fleet,
    generate::{Roots, Target},
    options::{self, Binaries, Guests},
};

/// The name that every server is asked for.
pub const HOST: &str = "hello.localhost";
/// The app of that name.
const APP: &str = "hello";

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wire {
    /// HTTP/1.1 in the clear.
    H1,
    /// HTTP/1.1 over TLS.
    H1Tls,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/3.
    H3,
}

impl Wire {
    /// The server with nothing in it that speaks it.
    pub fn bare(self) -> &'static str {
        match self {
            Wire::H1 | Wire::H1Tls | Wire::H2 => "hyper",
            Wire::H3 => "quinn",
        }
    }

    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Wire::H1 => "HTTP/1.1 in the clear",
            Wire::H1Tls => "HTTP/1.1 over TLS",
            Wire::H2 => "HTTP/2 over TLS",
            Wire::H3 => "HTTP/3",
        }
    }
}

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folder with the guests.
    pub guests: PathBuf,
    /// Folder with skerry and its servers.
    pub binaries: PathBuf,
    /// Folders to look for peers in: `PATH`.
    pub path: Vec<PathBuf>,
}

impl Places {
    /// As the options say.
    pub fn find(guests: &Guests, binaries: &Binaries) -> anyhow::Result<Places> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Ok(Places {
            guests: options::absolute(&guests.folder)?,
            binaries: binaries.folder()?,
            path: std::env::split_paths(&path).collect(),
        })
    }
}

/// A server that answers. Dropping it ends it and what it started.
pub struct Running {
    pub address: SocketAddr,
    /// Whom to trust, PEM; none in the clear.
    pub ca_pem: Option<Vec<u8>>,
    /// Whose CPU and memory count.
    pub pids: Vec<u32>,
    held: start::Held,
}

impl Running {
    /// Asked for the name that every server has.
    pub fn target(&self) -> Target {
        self.target_at(HOST)
    }

    /// Asked for this host.
    pub fn target_at(&self, host: &str) -> Target {
        let roots = self.ca_pem.clone().map_or(Roots::Any, Roots::Pem);
        Target { address: self.address, authority: format!("{host}:{}", self.address.port()), roots }
    }

    /// The fleet around a node.
    pub fn fleet(&self) -> anyhow::Result<&Fleet> {
        match &self.held {
            start::Held::Fleet { fleet } => Ok(fleet),
            start::Held::Process { .. } => anyhow::bail!("this server is no node"),
        }
    }
}

/// Where an app of a fleet answers, whoever's it is.
pub fn host(app: &str) -> String {
    format!("{app}.localhost")
}
