//! Batches of cycles on one thread: first warm, then measured in turns, so that drift of the machine meets both hosts.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use tokio::task::coop::unconstrained;

use crate::{
    counters::{thread_cpu_ns, thread_minor_faults},
    statistics::Summary,
    stop,
};

/// Batches of each host. The median of 15 survives 7 that were disturbed.
const BATCHES: usize = 15;
/// Warming up fills caches and slots and trains the branch predictor.
const WARM_UP: Duration = Duration::from_millis(300);
/// Cycles of the warm-up at least: a slot's first uses fault.
const WARM_UP_CYCLES_MIN: u64 = 20;

/// Something that answers one request.
pub trait Cycle {
    /// Instantiate, run, read the answer, drop.
    async fn cycle(&self) -> anyhow::Result<Spent>;
}

/// What a cycle says of itself, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Store and instance.
    pub instantiate_ns: u64,
    /// All that is billed to the guest: instantiate, run, tear down. 0 where there is no bill.
    pub guest_ns: u64,
}

/// How long a batch takes, and who may end it.
pub struct Plan<'a> {
    batch: Duration,
    stop: &'a AtomicBool,
}

impl Plan<'_> {
    /// `seconds` of measured CPU time in all.
    pub fn of(seconds: f64, stop: &AtomicBool) -> Plan<'_> {
        Plan { batch: Duration::from_secs_f64(seconds / BATCHES as f64), stop }
    }

    /// How many cycles make a batch.
    pub fn cycles(&self, cycle_ns: f64) -> u64 {
        ((self.batch.as_nanos() as f64 / cycle_ns.max(1.0)) as u64).max(1)
    }
}

/// One host's figures over all batches, times in µs for each cycle.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    pub cycle_us: Summary,
    pub instantiate_us: Summary,
    /// All that was billed to the guest.
    pub guest_us: Summary,
    /// Minor page faults of the thread for each cycle.
    pub page_faults: f64,
}

#[derive(Default)]
struct Batches {
    cycles: u64,
    page_faults: u64,
    cycle_us: Vec<f64>,
    instantiate_us: Vec<f64>,
    guest_us: Vec<f64>,
}

/// Measures both in turns.
pub async fn side_by_side(
    plan: &Plan<'_>,
    ours: &impl Cycle,
    plain: &impl Cycle,
) -> anyhow::Result<(Measured, Measured)> {
    let ours_cycles = plan.cycles(warm_up(ours).await?);
    let plain_cycles = plan.cycles(warm_up(plain).await?);
    let (mut ours_batches, mut plain_batches) = (Batches::default(), Batches::default());
    for _ in 0..BATCHES {
        stop::check(plan.stop)?;
        ours_batches.add(ours, ours_cycles).await?;
        plain_batches.add(plain, plain_cycles).await?;
    }
    Ok((ours_batches.measured()?, plain_batches.measured()?))
}

/// Runs `count` cycles.
pub async fn cycles(host: &impl Cycle, count: u64) -> anyhow::Result<Spent> {
    let mut sum = Spent::default();
    for _ in 0..count {
        // On a node every request is polled with a fresh cooperative budget; a loop would spend one budget on all.
        let spent = unconstrained(host.cycle()).await?;
        sum.instantiate_ns += spent.instantiate_ns;
        sum.guest_ns += spent.guest_ns;
    }
    Ok(sum)
}

/// About as many cycles as fit into `time`.
pub fn cycles_of(time: Duration, measured: &Measured) -> u64 {
    ((time.as_secs_f64() * 1e6 / measured.cycle_us.median.max(0.001)) as u64).max(1)
}

/// Warms up and answers what a cycle costs now, in ns.
async fn warm_up(host: &impl Cycle) -> anyhow::Result<f64> {
    let (start, mut done) = (Instant::now(), 0);
    while done < WARM_UP_CYCLES_MIN || start.elapsed() < WARM_UP {
        cycles(host, 1).await?;
        done += 1;
    }
    let cpu_ns = thread_cpu_ns();
    cycles(host, WARM_UP_CYCLES_MIN).await?;
    Ok((thread_cpu_ns() - cpu_ns) as f64 / WARM_UP_CYCLES_MIN as f64)
}

impl Batches {
    async fn add(&mut self, host: &impl Cycle, count: u64) -> anyhow::Result<()> {
        let faults = thread_minor_faults()?;
        let cpu_ns = thread_cpu_ns();
        let spent = cycles(host, count).await?;
        let cpu_ns = thread_cpu_ns() - cpu_ns;
        self.page_faults += thread_minor_faults()? - faults;
        self.cycles += count;
        let per_cycle_us = |ns: u64| ns as f64 / count as f64 / 1e3;
        self.cycle_us.push(per_cycle_us(cpu_ns));
        self.instantiate_us.push(per_cycle_us(spent.instantiate_ns));
        self.guest_us.push(per_cycle_us(spent.guest_ns));
        Ok(())
    }

    fn measured(&self) -> anyhow::Result<Measured> {
        let summary =
            |values: &[f64]| Summary::of(values).ok_or_else(|| anyhow::anyhow!("no batch was measured"));
        Ok(Measured {
            cycle_us: summary(&self.cycle_us)?,
            instantiate_us: summary(&self.instantiate_us)?,
            guest_us: summary(&self.guest_us)?,
            page_faults: self.page_faults as f64 / self.cycles as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// Burns CPU time and says so.
    struct Burn(Duration);

    impl Cycle for Burn {
        async fn cycle(&self) -> anyhow::Result<Spent> {
            let end = thread_cpu_ns() + self.0.as_nanos() as u64;
            while thread_cpu_ns() < end {}
            Ok(Spent { instantiate_ns: 1_000, guest_ns: 2_000 })
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_costs_twice_as_much_is_measured_as_twice_as_much() {
        let plan = Plan::of(0.03, &NEVER);
        let (one, two) = (Burn(Duration::from_micros(50)), Burn(Duration::from_micros(100)));
        let (one, two) = block_on(side_by_side(&plan, &one, &two)).unwrap();
        let ratio = two.cycle_us.median / one.cycle_us.median;
        assert!((1.7..2.3).contains(&ratio), "{ratio}");
        assert!(one.cycle_us.median >= 50.0);
        assert_eq!((one.instantiate_us.median, one.guest_us.median), (1.0, 2.0));
    }

    #[test]
    fn told_to_stop_no_other_batch_begins() {
        let told = AtomicBool::new(true);
        let burn = Burn(Duration::ZERO);
        assert!(block_on(side_by_side(&Plan::of(0.03, &told), &burn, &burn)).is_err());
    }

    #[test]
    fn a_batch_holds_as_many_cycles_as_fit_and_at_least_one() {
        let plan = Plan::of(0.015, &NEVER);
        assert_eq!(plan.cycles(1_000.0), 1_000);
        assert_eq!(plan.cycles(5e9), 1);
    }
}
