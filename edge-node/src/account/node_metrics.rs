//! Series of what a node holds and changes as a whole: native code, generations.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, core::Collector};

/// Seconds: a small program takes 1 ms, one of 50 MB a tenth of a second.
const LOAD_SECONDS: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
/// Seconds: a group of apps takes some tens of microseconds.
const SWAP_SECONDS: [f64; 7] = [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.05];

/// Native code in memory.
pub struct CodeMetrics {
    /// Bytes it takes, those of programs included that were evicted and are in use still.
    pub bytes: IntGauge,
    /// What it may take.
    pub bytes_max: IntGauge,
    /// Programs.
    pub programs: IntGauge,
    /// As many as there may be.
    pub programs_max: IntGauge,
    /// Loads that wait for a thread.
    pub loads_waiting: IntGauge,
    /// Time of loads: from reading the artifact to a linked program.
    pub load_seconds: Histogram,
    /// Loads that ended without a program.
    pub load_failures: IntCounter,
    /// Programs that made room for others.
    pub evictions: IntCounter,
}

/// Generations published.
pub struct SwapMetrics {
    seconds: Histogram,
    longest_seconds: Gauge,
    longest: Mutex<Duration>,
}

impl CodeMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<CodeMetrics> {
        let gauge = |name, help| registered(registry, IntGauge::new(name, help)?);
        let counter = |name, help| registered(registry, IntCounter::new(name, help)?);
        Ok(CodeMetrics {
            bytes: gauge("skerry_code_bytes", "Bytes of memory that native code takes.")?,
            bytes_max: gauge("skerry_code_bytes_max", "Bytes of memory for native code.")?,
            programs: gauge("skerry_code_programs", "Programs whose code is in memory.")?,
            programs_max: gauge("skerry_code_programs_max", "Programs whose code may be in memory.")?,
            loads_waiting: gauge("skerry_code_loads_waiting", "Loads of code that wait for a thread.")?,
            load_seconds: histogram(
                registry,
                "skerry_code_load_seconds",
                "Time of loads of code, from reading to linked.",
                &LOAD_SECONDS,
            )?,
            load_failures: counter("skerry_code_load_failures_total", "Loads of code that failed.")?,
            evictions: counter("skerry_code_evictions_total", "Programs that made room for others.")?,
        })
    }
}

impl SwapMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<SwapMetrics> {
        Ok(SwapMetrics {
            seconds: histogram(
                registry,
                "skerry_generation_swap_seconds",
                "Time to make a generation of the one before and to publish it.",
                &SWAP_SECONDS,
            )?,
            longest_seconds: registered(
                registry,
                Gauge::new("skerry_generation_swap_longest_seconds", "The longest of them so far.")?,
            )?,
            longest: Mutex::default(),
        })
    }

    /// One was made and published in this time.
    pub fn count(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        let mut longest = self.longest.lock();
        *longest = took.max(*longest);
        self.longest_seconds.set(longest.as_secs_f64());
    }
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    registered(registry, Histogram::with_opts(options)?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
