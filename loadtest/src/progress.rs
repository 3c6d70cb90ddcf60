//! A bar on the terminal while a command measures: load after load. Where standard error is no terminal, a line for
//! each load instead.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::generate::{Progress, Scenario};

/// Gone from the screen when dropped.
pub struct Bar {
    bar: ProgressBar,
    /// What the loads before this one took, in ms.
    before_ms: AtomicU64,
}

impl Bar {
    /// For loads that take `total` together.
    pub fn new(total: Duration) -> anyhow::Result<Bar> {
        let bar = ProgressBar::new(total.as_millis() as u64);
        bar.set_style(ProgressStyle::with_template("{bar:30} {elapsed_precise} {prefix} {msg}")?);
        Ok(Bar { bar, before_ms: AtomicU64::new(0) })
    }

    /// A load is to begin.
    pub fn load(&self, what: String) {
        if self.bar.is_hidden() {
            eprintln!("{what}");
            return;
        }
        self.bar.set_message(String::new());
        self.bar.set_prefix(what);
        self.bar.tick();
    }

    /// How far it is.
    pub fn show(&self, progress: Progress) {
        let done = progress.elapsed.min(progress.total).as_millis() as u64;
        self.bar.set_position(self.before_ms.load(Relaxed) + done);
        self.bar.set_message(format!("{} answers, {} errors", progress.answered, progress.errors));
    }

    /// It is over, in whatever way.
    pub fn over(&self, scenario: &Scenario) {
        let before = self.before_ms.fetch_add(whole(scenario).as_millis() as u64, Relaxed);
        self.bar.set_position(before + whole(scenario).as_millis() as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a scenario takes, warm-up and all.
pub fn whole(scenario: &Scenario) -> Duration {
    scenario.warm_up + scenario.duration
}
