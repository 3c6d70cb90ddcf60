//! Where a cycle's time goes, by the clock. Taken apart from the figures: each reading of the clock costs 20 to 30 ns.

use std::time::Instant;

use serde::Serialize;
use tokio::task::coop::unconstrained;

use super::{
    host::{self, Host},
    measure::Plan,
};

/// Cycles to guess from how many fit the plan.
const GUESS_CYCLES: u64 = 50;
/// Batches: enough for a median.
const BATCHES: u64 = 5;

/// Mean µs of a cycle's stages, in order. They add up to a cycle, but for [`Stages::account_us`], which comes on top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stages {
    /// Building the request and beginning the exchange.
    pub begin_us: f64,
    /// Store and instance.
    pub instantiate_us: f64,
    /// The guest and the host functions it calls, and tearing the instance down.
    pub run_and_drop_us: f64,
    /// What the driver does around them.
    pub drive_us: f64,
    /// Reading the answer and dropping it.
    pub read_us: f64,
    /// Not in the cycle: counting the request and queueing its line of the access log.
    pub account_us: f64,
}

/// Measures the stages of `host`.
pub async fn split(plan: &Plan<'_>, host: &Host) -> anyhow::Result<Stages> {
    let start = Instant::now();
    batch(host, GUESS_CYCLES).await?;
    let cycle_ns = start.elapsed().as_nanos() as f64 / GUESS_CYCLES as f64;
    batch(host, BATCHES * plan.cycles(cycle_ns)).await
}

async fn batch(host: &Host, cycles: u64) -> anyhow::Result<Stages> {
    let mut sum = Stages::default();
    for _ in 0..cycles {
        unconstrained(one(host, &mut sum)).await?;
    }
    let Stages { begin_us, instantiate_us, run_and_drop_us, drive_us, read_us, account_us } = sum;
    let mean = |us: f64| us / cycles as f64;
    Ok(Stages {
        begin_us: mean(begin_us),
        instantiate_us: mean(instantiate_us),
        run_and_drop_us: mean(run_and_drop_us),
        drive_us: mean(drive_us),
        read_us: mean(read_us),
        account_us: mean(account_us),
    })
}

async fn one(host: &Host, sum: &mut Stages) -> anyhow::Result<()> {
    let start = Instant::now();
    let begun = host.begin();
    let bill = begun.bill.clone();
    let began = Instant::now();
    let response = host.drive(begun).await?;
    let drove = Instant::now();
    host::read(response).await?;
    let read = Instant::now();

    let (instantiate_us, guest_us) = (bill.instantiate_ns() as f64 / 1e3, bill.cpu_ns() as f64 / 1e3);
    let us = |from: Instant, to: Instant| (to - from).as_nanos() as f64 / 1e3;
    sum.begin_us += us(start, began);
    sum.instantiate_us += instantiate_us;
    sum.run_and_drop_us += guest_us - instantiate_us;
    sum.drive_us += us(began, drove) - guest_us;
    sum.read_us += us(drove, read);

    let (head, _) = host::request().into_parts();
    let start = Instant::now();
    host.account(&head, &bill);
    sum.account_us += us(start, Instant::now());
    Ok(())
}
