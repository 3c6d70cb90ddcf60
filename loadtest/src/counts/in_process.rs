//! What needs a counting allocator, so a node within this process: allocations of an execution, and of a request over a
//! real socket. The client's own are not counted.

use std::{path::Path, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use artifact::HostName;
use edge_node::front::tls::{CertificateTable, certified_key};

use super::{
    asker::{Asker, Wire},
    baseline::{Count, Counts},
};
use crate::{
    counters::{self, Allocations},
    micro::{
        self,
        guest::{Bench, Guest},
        host::Host,
        measure,
    },
    neighbours::node::{Running, host},
};

/// Before anything counts.
const WARM_UP: u64 = 400;
/// What is counted over.
const CYCLES: u64 = 1_000;
const INSTANCES_MAX: u32 = 64;
const TENANT: &str = "bench";

/// Executions of a guest without sockets, as `micro` measures them.
pub fn executions(guests: &Path, names: &[String]) -> anyhow::Result<Vec<(String, Counts)>> {
    // On a thread of its own: it is pinned, and what else is started here must not be.
    let counted = thread::scope(|scope| scope.spawn(|| all_executions(guests, names)).join());
    counted.map_err(|_| anyhow::anyhow!("counting executions panicked"))?
}

fn all_executions(guests: &Path, names: &[String]) -> anyhow::Result<Vec<(String, Counts)>> {
    let bench = Bench::new()?;
    let runtime = micro::runtime()?;
    let one = |name: &String| {
        let host = Host::new(&bench, &Guest::compile(guests, name)?)?;
        runtime.block_on(measure::cycles(&host, WARM_UP))?;
        let faults = counters::thread_minor_faults()?;
        let (counted, allocations) =
            counters::allocations(CYCLES, || runtime.block_on(measure::cycles(&host, CYCLES)));
        counted?;
        let faults = counters::thread_minor_faults()? - faults;
        let mut counts = of(allocations);
        counts.insert(Count::PageFaults, faults as f64 / CYCLES as f64);
        anyhow::Ok((name.clone(), counts))
    };
    names.iter().map(|name| one(name).with_context(|| format!("counting executions of {name}"))).collect()
}

/// A node with real sockets.
pub struct Node(Running);

impl Node {
    /// Starts it with these guests as its apps.
    pub fn start(guests: &Path, names: &[String]) -> anyhow::Result<Node> {
        let node = Running::start(1, INSTANCES_MAX, edge_node::lane::NICE_DEFAULT, std::io::sink())?;
        let hosts: Vec<String> = names.iter().map(|name| host(TENANT, name)).collect();
        node.certificates.store(Arc::new(certificates(&hosts)?));
        for name in names {
            let guest = Guest::compile(guests, name)?;
            node.shelve(&guest)?;
            node.deploy(&guest, &[TENANT.to_owned()])?;
        }
        Ok(Node(node))
    }

    /// Allocations of a request, of every thread of the node.
    pub fn count(&self, app: &str, wire: Wire) -> anyhow::Result<Counts> {
        let address = match wire {
            Wire::H1 => self.0.address,
            Wire::H2Tls => self.0.secure,
        };
        let asker = Asker::connect(wire, address, &format!("{}:{}", host(TENANT, app), address.port()))?;
        asker.ask(WARM_UP, Duration::ZERO).context("warming up")?;
        let (asked, allocations) = counters::allocations(CYCLES, || asker.ask(CYCLES, Duration::ZERO));
        asked?;
        Ok(of(allocations))
    }

    /// Ends it.
    pub fn stop(self) -> anyhow::Result<()> {
        self.0.stop()
    }
}

fn certificates(hosts: &[String]) -> anyhow::Result<CertificateTable> {
    let made = rcgen::generate_simple_self_signed(hosts).context("making a certificate")?;
    let key = certified_key(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())?;
    let mut table = CertificateTable::default();
    for host in hosts {
        let name = HostName::from_authority_host(host).with_context(|| format!("the name {host}"))?;
        table.insert(name, key.clone());
    }
    Ok(table)
}

fn of(allocations: Allocations) -> Counts {
    let Allocations { count, bytes } = allocations;
    [(Count::Allocations, count), (Count::AllocatedBytes, bytes)].into()
}
