//! `loadtest serve-bare`: what HTTP itself costs on this machine. A thread per core, pinned like a node's, each with
//! listeners of its own on one port, and an answer of the size of a hello.
//!
//! Sockets and TLS settings are the node's front's own, so that a difference to a node is what the node does beyond
//! them: its limits, its routing, its guest, its bill. Deliberately absent: timeouts, limits, a log; this is a
//! reference and no server to put anywhere.
//!
//! | Module | One job |
//! |---|---|
//! | [`tcp`] | hyper: HTTP/1.1, and HTTP/1.1 and 2 over TLS |
//! | [`quic`] | quinn and h3: HTTP/3 |

mod quic;
mod tcp;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context as _;
use bytes::Bytes;
use edge_node::front::{sockets, tls};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, LocalOptions};

use super::certificate;

/// What a bare server is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Library {
    /// HTTP/1.1 in the clear
    Hyper,
    /// HTTP/1.1 and HTTP/2 over TLS
    HyperTls,
    /// HTTP/3
    Quinn,
}

/// See the module.
#[derive(Debug, clap::Args)]
pub struct Args {
    library: Library,
    /// Where to listen, on this machine only; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Bytes of the answer's body
    #[arg(long, value_name = "N", default_value_t = 29, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    body_bytes: u32,
    /// Serving threads; default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Write the address and the certificate to this file (JSON) when ready
    #[arg(long, value_name = "FILE")]
    ready_file: PathBuf,
}

/// What a caller has to know of a running one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    pub address: SocketAddr,
    /// The certificate to trust, PEM; none in the clear.
    pub ca_pem: Option<String>,
}

/// Serves until standard input ends, so that it cannot outlive who started it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "a bare server is for this machine only: {}",
        args.listen
    );
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let threads = args.threads.map_or(cores, |threads| threads as usize);
    let body = Bytes::from(vec![b'a'; args.body_bytes as usize]);
    let ready = match args.library {
        Library::Hyper => {
            let listeners = sockets::bind_tcp(args.listen, threads)?;
            let address = first_address(listeners.first().map(|listener| listener.local_addr()))?;
            each_core(listeners, move |listener| tcp::serve(listener, None, body.clone()))?;
            Ready { address, ca_pem: None }
        }
        Library::HyperTls => {
            let (certificates, ca_pem) = certificate::make()?;
            let listeners = sockets::bind_tcp(args.listen, threads)?;
            let address = first_address(listeners.first().map(|listener| listener.local_addr()))?;
            let config = tls::tcp_config(certificates)?;
            each_core(listeners, move |listener| tcp::serve(listener, Some(config.clone()), body.clone()))?;
            Ready { address, ca_pem: Some(ca_pem) }
        }
        Library::Quinn => {
            let (certificates, ca_pem) = certificate::make()?;
            let pairs = sockets::bind_pairs(args.listen, threads)?;
            let address = first_address(pairs.first().map(|pair| pair.udp.local_addr()))?;
            let config = tls::quic_config(certificates)?;
            each_core(pairs, move |pair| quic::serve(pair.udp, config.clone(), body.clone()))?;
            Ready { address, ca_pem: Some(ca_pem) }
        }
    };
    write_whole(&args.ready_file, &serde_json::to_vec(&ready)?)?;
    io::copy(&mut io::stdin(), &mut io::sink()).context("waiting for the end of standard input")?;
    Ok(())
}

fn first_address(address: Option<io::Result<SocketAddr>>) -> anyhow::Result<SocketAddr> {
    address.context("no thread to serve")?.context("finding the address that was bound")
}

/// A reader sees all of it or nothing.
fn write_whole(file: &Path, text: &[u8]) -> anyhow::Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("writing {}", file.display()))
}

/// One thread with a runtime of its own for each socket. They end with the process.
fn each_core<S, F>(sockets: Vec<S>, serve: impl Fn(S) -> F + Clone + Send + 'static) -> anyhow::Result<()>
where
    S: Send + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    for (index, socket) in sockets.into_iter().enumerate() {
        let serve = serve.clone();
        let work = move || -> anyhow::Result<()> {
            pin(index);
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            runtime.block_on(serve(socket))
        };
        thread::Builder::new()
            .name(format!("bare-{index}"))
            .spawn(move || {
                if let Err(error) = work() {
                    eprintln!("serving: {error:#}");
                }
            })
            .context("starting a serving thread")?;
    }
    Ok(())
}

/// As a node's workers are.
fn pin(index: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(core) = cores.get(index % cores.len().max(1)) else { return };
    let mut only = CpuSet::new();
    only.set(*core);
    let _ = sched_setaffinity(None, &only);
}
