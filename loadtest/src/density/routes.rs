//! What finding a route costs, in process, on the node's own generation: host name and path → deployment.

use std::{hint::black_box, sync::Arc};

use artifact::{AppId, Digest, HostName, Lane, manifest::AppConfig, record::Version};
use edge_node::{
    account::metrics::Metrics,
    generation::{Deployment, Generation},
};
use fleet_sync_replica::VersionState;
use serde::Serialize;

use crate::{counters, statistics::Summary};

/// Lookups of one batch.
const LOOKUPS: u64 = 50_000;
/// Batches; the figure is their median.
const BATCHES: usize = 15;

/// A generation of so many routes.
#[derive(Debug, Clone, Serialize)]
pub struct Lookup {
    pub routes: u32,
    /// CPU nanoseconds of one lookup of a name that is there, each time another one.
    pub ns: Summary,
    /// The same of a name that is not there.
    pub miss_ns: f64,
    pub allocations: f64,
    /// CPU microseconds to put one more route into a copy of the generation, as an activation does.
    pub insert_us: f64,
}

/// Measures a generation of `routes` apps, each with a host name of its own.
pub fn measure(routes: u32) -> anyhow::Result<Lookup> {
    let metrics = Metrics::new()?;
    let mut generation = Generation::default();
    for number in 0..routes {
        generation.insert(Arc::new(deployment(&metrics, number)?));
    }
    let there = hosts(routes, "test")?;
    let strangers = hosts(routes, "stranger")?;
    let mut ns = Vec::new();
    let mut miss_ns = Vec::new();
    for _ in 0..BATCHES {
        ns.push(batch(&generation, &there, true)?);
        miss_ns.push(batch(&generation, &strangers, false)?);
    }
    let (looked_up, allocations) = counters::allocations(LOOKUPS, || batch(&generation, &there, true));
    looked_up?;
    let median = |values: &[f64]| Summary::of(values).map(|summary| summary.median).unwrap_or_default();
    Ok(Lookup {
        routes,
        ns: Summary::of(&ns).ok_or_else(|| anyhow::anyhow!("no batches"))?,
        miss_ns: median(&miss_ns),
        allocations: allocations.count,
        insert_us: insert_us(&generation, &metrics, routes)?,
    })
}

/// CPU nanoseconds of a lookup. Names in an order that no cache foresees.
fn batch(generation: &Generation, hosts: &[HostName], is_there: bool) -> anyhow::Result<f64> {
    let count = hosts.len() as u64;
    let before = counters::thread_cpu_ns();
    let mut found = 0;
    for at in 0..LOOKUPS {
        let host = &hosts[(at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % count as usize];
        found += u64::from(black_box(generation.route(black_box(host), "/some/path")).is_some());
    }
    let ns = (counters::thread_cpu_ns() - before) as f64 / LOOKUPS as f64;
    anyhow::ensure!(found == if is_there { LOOKUPS } else { 0 }, "{found} of {LOOKUPS} names were found");
    Ok(ns)
}

fn insert_us(generation: &Generation, metrics: &Metrics, routes: u32) -> anyhow::Result<f64> {
    const INSERTS: u32 = 200;
    let new = (routes..routes + INSERTS).map(|number| Ok(Arc::new(deployment(metrics, number)?)));
    let new: Vec<_> = new.collect::<anyhow::Result<_>>()?;
    let before = counters::thread_cpu_ns();
    for deployment in new {
        let mut copy = generation.clone();
        copy.insert(deployment);
        black_box(copy);
    }
    Ok((counters::thread_cpu_ns() - before) as f64 / f64::from(INSERTS) / 1e3)
}

fn host(number: u32, domain: &str) -> String {
    format!("app-{number}.density.{domain}")
}

fn hosts(routes: u32, domain: &str) -> anyhow::Result<Vec<HostName>> {
    (0..routes).map(|number| Ok(host(number, domain).parse()?)).collect()
}

fn deployment(metrics: &Metrics, number: u32) -> anyhow::Result<Deployment> {
    let id = AppId { tenant: "density".parse()?, app: format!("app-{number}").parse()? };
    let config = AppConfig { hosts: vec![host(number, "test").parse()?], ..AppConfig::default() };
    let version = Version {
        id: id.clone(),
        version: 1,
        wasm: Digest::ZERO,
        wasm_bytes: 1,
        lane: Lane::Wasi,
        config: config.clone(),
        secrets: vec![],
        assets: None,
    };
    Ok(Deployment {
        metrics: metrics.version(&id, 1),
        id,
        version: 1,
        lane: Lane::Wasi,
        wasm: Digest::ZERO,
        allow: edge_node::generation::allow(&config),
        config,
        state: Arc::new(VersionState { version, artifacts: vec![], rev: 1, time_ms: 0 }),
        artifact: None,
        code: Default::default(),
        site: None,
        secrets: Default::default(),
        standing: Default::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_allocates_nothing_however_many_routes_there_are() {
        for routes in [1, 10, 1_000] {
            let lookup = measure(routes).unwrap();
            assert!(lookup.ns.median > 0.0 && lookup.insert_us > 0.0);
            // The counter is the process's, and other tests allocate beside this one: none of a lookup's own.
            assert!(lookup.allocations < 1.0, "{lookup:?}");
        }
    }
}
