//! Hostile neighbours of a node: endless loops and memory bombs, each an app of a tenant of its own, kept in flight.

use std::fs;

use anyhow::Context as _;

use crate::{
    generate::{Scenario, generate},
    neighbours::{
        attack::{self, Attacked},
        guests::{self, Program},
    },
    servers::{Running, host},
};

/// Deploys `count` of them: loops and bombs in turns.
pub fn deploy(node: &Running, count: u32) -> anyhow::Result<Vec<String>> {
    let fleet = node.fleet()?;
    let programs = [guests::endless_loop(), guests::memory_bomb()];
    let mut hosts = Vec::new();
    for (number, Program { name, text }) in (0..count).zip(programs.iter().cycle()) {
        let file = fleet.folder().join(format!("{name}.wasm"));
        let wasm = wat::parse_str(text).with_context(|| format!("the guest {name}"))?;
        fs::write(&file, wasm).context("writing a hostile program")?;
        let (tenant, app) = (format!("hostile-{number}"), format!("{name}-{number}"));
        fleet.tenant(&tenant)?;
        fleet.deploy_for(&tenant, &file, &app)?;
        hosts.push(format!("{}:{}", host(&app), node.address.port()));
    }
    Ok(hosts)
}

/// Does `work` while one question to each of `hosts` is in flight.
pub fn beside<T>(
    node: &Running,
    hosts: &[String],
    like: &Scenario,
    work: impl FnOnce() -> T,
) -> anyhow::Result<(T, Attacked)> {
    let first = hosts.first().context("nobody attacks")?;
    let (scenario, target) = (attack::scenario(hosts, like), node.target_at(first));
    attack::beside(|stop| generate(&scenario, &target, &|_| {}, stop), work)
}
