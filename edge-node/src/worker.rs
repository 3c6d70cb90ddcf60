//! Serving threads: one per core, pinned, each with its own runtime, listeners and QUIC endpoint. Guests run inline on
//! them, or in the worker's slow lane beside it; nothing moves between workers.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, thread};

use artifact::Profile;
use engine::node::Pool;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::runtime::{self, LocalOptions};
use wasmtime::Engine;

use crate::{
    front::{Draining, h3, sockets::Pair, tcp},
    lane::{self, Lanes, SlowLane},
    node::Node,
    serve::Server,
};

/// Tasks a worker polls before it looks at its sockets again: a look is a system call. Tokio's default of 61 lets as many
/// guests of almost 1 ms each pass; those of more go to the slow lane ([`crate::lane`]).
const EVENT_INTERVAL: u32 = 16;

/// What one worker serves.
pub struct Work {
    /// TLS over TCP, and QUIC.
    pub secure: Pair,
    /// Plaintext HTTP/1.1, if the operator asked for it.
    pub plain: Option<TcpListener>,
    /// TLS settings for TCP.
    pub tls: Arc<rustls::ServerConfig>,
    /// QUIC settings.
    pub quic: quinn::ServerConfig,
    /// For its slow lane.
    pub lane: lane::Settings,
}

/// The engine of worker number `index`. Made on a thread that may use this worker's core only: wasmtime divides a pool among as
/// many cores as its maker may use, and a thread looks elsewhere only when its part is full, so that the warm slots of the
/// other parts would be nobody's.
pub fn engine(index: usize, pool: Pool) -> anyhow::Result<Engine> {
    let make = move || {
        pin(index);
        engine::node::engine(Profile::Serve, pool)
    };
    let made = thread::Builder::new().name(format!("engine-{index}")).spawn(make)?.join();
    Ok(made.map_err(|_| anyhow::anyhow!("making the engine of worker {index} panicked"))??)
}

/// Starts worker number `index`. The thread ends when it has drained.
pub fn start(
    index: usize,
    work: Work,
    node: Arc<Node>,
    draining: Draining,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    thread::Builder::new().name(format!("serve-{index}")).spawn(move || {
        pin(index);
        // The engine's per-thread signal state, made now and not inside the first request.
        wasmtime::Engine::tls_eager_initialize();
        // The same for the random generator: its first draw takes tens of ms, which would be some guest's bill.
        let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default())?;
        // Pinned with this thread, to the core that its guests begin on.
        let slow = SlowLane::start(index, work.lane)?;
        let served = runtime.block_on(serve(index, work, node, slow.lanes().clone(), draining));
        // In this order: what is in the slow lane may hold timers and sockets of this runtime.
        drop(slow);
        drop(runtime);
        served
    })
}

async fn serve(
    index: usize,
    work: Work,
    node: Arc<Node>,
    lanes: Lanes,
    draining: Draining,
) -> io::Result<()> {
    let server = Rc::new(Server::new(node, index, Some(lanes)));
    let Work { secure: Pair { tcp, udp }, plain, tls, quic, .. } = work;
    let port = tcp.local_addr()?.port();
    let secure = tcp::serve_tls(tcp, tls, Some(port), server.clone(), draining.clone());
    let quic = h3::serve(udp, quic, server.clone(), draining.clone());
    let plain = async {
        match plain {
            Some(listener) => tcp::serve_plain(listener, server.clone(), draining.clone()).await,
            None => Ok(()),
        }
    };
    let (secure, quic, plain) = tokio::join!(secure, quic, plain);
    secure.and(quic).and(plain)
}

/// Pins the thread to one of the cores this process may use. A machine that forbids it still serves.
fn pin(index: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(core) = cores.get(index % cores.len().max(1)) else { return };
    let mut only = CpuSet::new();
    only.set(*core);
    if let Err(error) = sched_setaffinity(None, &only) {
        tracing::warn!("worker {index} could not be pinned to core {core}: {error}");
    }
}
