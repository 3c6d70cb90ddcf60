//! What `loadtest density` prints.

use std::fmt::Write as _;

use super::{
    figures::{Artifacts, Loading, Longest, Swap},
    memory::{Memory, Source},
    report::{APP_KB_MAX, FIRST_P99_MS_MAX, LOOKUP_GROWTH_NS_MAX, Report, STALL_MS_MAX, Verdicts},
    routes::Lookup,
    stages::Loads,
};
use crate::{statistics::Summary, stop::STOPPED};

impl Report {
    /// For a person. What was not measured is left out.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine.text());
        if self.stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        text.push('\n');
        self.apps_text(&mut text);
        self.memory_text(&mut text);
        self.loading_text(&mut text);
        self.stages_text(&mut text);
        self.routes_text(&mut text);
        self.swap_text(&mut text);
        text
    }

    fn apps_text(&self, text: &mut String) {
        let Some(artifacts) = &self.artifacts else { return };
        let Artifacts { native_bytes_mean, native_bytes_max, container_bytes_mean } = artifacts;
        let _ = writeln!(
            text,
            "{} apps, each with a program and an artifact of its own: {:.0} KB of native code (at most {:.0}), {:.0} compressed",
            self.apps,
            native_bytes_mean / 1024.0,
            *native_bytes_max as f64 / 1024.0,
            container_bytes_mean / 1024.0,
        );
        if let Some(deploy_s) = self.deploy_s {
            let _ = writeln!(text, "released, fetched and loaded once in {deploy_s:.1} s");
        }
        if let Some(start_s) = self.start_s {
            let _ = writeln!(text, "a node that knows them starts in {start_s:.2} s");
        }
    }

    fn memory_text(&self, text: &mut String) {
        let (Some(source), Some(empty)) = (self.memory_source, &self.empty) else { return };
        let source = match source {
            Source::Cgroup => {
                "what the node's own memory cgroup is charged for, page cache of files left out"
            }
            Source::Proc => {
                "RSS and memory files by /proc: no cgroup could be made here, the kernel's own memory is not in it"
            }
        };
        let _ = writeln!(text, "\nmemory: {source}; MB");
        let row = |text: &mut String, name: &str, memory: &Memory, rest: &str| {
            let mb = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let _ = writeln!(
                text,
                "{name:<22} {:>8.1}  = {:>7.1} own + {:>7.1} shmem + {:>6.1} kernel{rest}",
                mb(memory.bytes()),
                mb(memory.anonymous),
                mb(memory.shmem),
                mb(memory.kernel),
            );
        };
        row(text, "no apps", empty, "");
        for (name, holding) in [("all idle, none loaded", &self.idle), ("each asked once", &self.full)] {
            let Some(holding) = holding else { continue };
            let of =
                holding.code_bytes_max.map_or_else(String::new, |max| format!(" of {:.1}", max / 1048576.0));
            let rest = format!(
                ";  code {:.1}{of} in {:.0} programs; /metrics has {:.1}",
                holding.code_bytes / 1048576.0,
                holding.programs.unwrap_or(f64::NAN),
                holding.metrics_bytes as f64 / 1048576.0
            );
            row(text, name, &holding.memory, &rest);
        }
        if let Some(kb) = self.idle_app_kb {
            let _ = writeln!(text, "each app over no apps: {kb:.1} KB with nothing loaded");
        }
        let (Some(kb), Some(beside_code)) = (self.full_app_kb, self.full_app_kb_beside_code) else { return };
        let Verdicts { memory, budget, .. } = self.verdicts;
        let _ = writeln!(
            text,
            "with the budget spent {kb:.1} KB, code included ({beside_code:.1} beside it)\n\
             goals: <= {APP_KB_MAX} KB: {}; the budget kept: {}",
            memory.text(),
            budget.text(),
        );
    }

    fn loading_text(&self, text: &mut String) {
        let Some(loading) = &self.loading else { return };
        let Loading { apps, first, loaded, loads, evictions, load_us } = loading;
        let _ = writeln!(
            text,
            "\nfirst answers of {apps} apps that were not loaded, one after the other over a real socket\n\
             first    {}\nloaded   {}\n\
             the node counts {:.0} loads of {:.0} µs in the mean, {:.0} evictions",
            first.text(),
            loaded.text(),
            loads.unwrap_or(f64::NAN),
            load_us.unwrap_or(f64::NAN),
            evictions.unwrap_or(f64::NAN),
        );
        let _ = writeln!(text, "goal: p99 <= {FIRST_P99_MS_MAX} ms: {}", self.verdicts.first_answer.text());
    }

    fn stages_text(&self, text: &mut String) {
        let Some(Loads { hellos, descriptors, mappings }) = &self.stages else { return };
        text.push_str("\nCPU of a load in µs, by the loading thread's own clock\n");
        for load in hellos {
            let _ = writeln!(
                text,
                "{:<13} {:>5.0} KB: read {:>3.0}, statement {:>3.0}, copy {:>4.0}, digest {:>4.0}, map {:>3.0}, link {:>3.0} = {:>5.0}; unload {:.0}; decompressing would take {:.0}; heap {:.0} KB",
                load.name,
                load.native_bytes / 1024.0,
                load.read_us,
                load.statement_us,
                load.unpack_us,
                load.digest_us,
                load.map_us,
                load.link_us,
                load.all_us,
                load.unload_us,
                load.decompress_us,
                load.heap_bytes / 1024.0
            );
        }
        let _ =
            writeln!(text, "a loaded program has {descriptors:.1} descriptors and {mappings:.1} mappings");
    }

    fn routes_text(&self, text: &mut String) {
        if self.routes.is_empty() {
            return;
        }
        text.push_str(
            "\nfinding a route, ns of CPU [range]; a name that is not there; a route put into a copy\n",
        );
        for Lookup { routes, ns: Summary { median, min, max }, miss_ns, allocations, insert_us } in
            &self.routes
        {
            let _ = writeln!(
                text,
                "{routes:>8} routes {median:>6.0} [{min:.0}..{max:.0}]  {miss_ns:>6.0}  {insert_us:>6.1} µs  {allocations:.2} allocations"
            );
        }
        let _ = writeln!(
            text,
            "goal: flat, at most {LOOKUP_GROWTH_NS_MAX} ns more of the most than of the fewest: {}",
            self.verdicts.lookup.text()
        );
    }

    fn swap_text(&self, text: &mut String) {
        let Some(swap) = &self.swap else { return };
        let Swap { releases, seconds, quiet, busy, swaps, swap_us, swap_longest, swaps_over_1_ms, stall_ms } =
            swap;
        let _ = writeln!(
            text,
            "\none app asked {:.0} times a second while {releases} others get another program, in {seconds:.1} s",
            super::STEADY_PER_SECOND
        );
        for (name, stall) in [("quiet", quiet), ("swaps", busy)] {
            let _ = writeln!(
                text,
                "{name:<8} {}  {} of {} over 1 ms; serving threads {:.1} µs of CPU and {:.1} µs without a core an answer",
                stall.times.text(),
                stall.over_1_ms,
                stall.answers,
                stall.cpu_us(),
                stall.threads.waited_ns as f64 / 1e3 / stall.answers.max(1) as f64
            );
        }
        let _ = writeln!(
            text,
            "{:.0} generations made and published, {:.0} µs each in the mean, {}, {:.0} above 1 ms, on no serving thread\n\
             goal: the longest answer grows by <= {STALL_MS_MAX} ms: {stall_ms:.1}: {}{}",
            swaps.unwrap_or(f64::NAN),
            swap_us.unwrap_or(f64::NAN),
            swap_longest.map_or_else(|| "the longest unknown".to_owned(), Longest::text),
            swaps_over_1_ms.unwrap_or(f64::NAN),
            self.verdicts.stall.text(),
            if swap.is_void() { " (void: the machine was not quiet)" } else { "" }
        );
    }
}
