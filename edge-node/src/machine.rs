//! What this machine allows, found out once at start and said plainly.

use std::fs;

use artifact::{Fingerprint, Profile, Target};
use engine::node::Reset;

/// The machine cannot be a node.
#[derive(Debug, thiserror::Error)]
#[error(
    "this processor is below every level Skerry compiles for; it lacks {}. A node needs at least x86-64-v2 or aarch64",
    .0.join(", ")
)]
pub struct TooOld(Vec<&'static str>);

/// The configuration's `level_max` is none of this machine's levels.
#[derive(Debug, thiserror::Error)]
#[error("level_max = \"{wanted}\": this processor runs {}; name one of these, or leave level_max out for the best", names(.passed))]
pub struct NoSuchLevel {
    wanted: Target,
    passed: Vec<Target>,
}

fn names(targets: &[Target]) -> String {
    targets.iter().map(|target| target.name()).collect::<Vec<_>>().join(", ")
}

/// Targets this machine runs, and the configuration lets it run, with this build's fingerprint for each, best last.
pub fn offers(level_max: Option<Target>) -> anyhow::Result<Vec<(Target, Fingerprint)>> {
    let mut targets = engine::levels::of_this_machine();
    if targets.is_empty() {
        let lowest = if cfg!(target_arch = "aarch64") { Target::Aarch64 } else { Target::X86_64V2 };
        return Err(TooOld(engine::levels::missing(lowest)).into());
    }
    if let Some(wanted) = level_max {
        let at = targets.iter().position(|target| *target == wanted);
        let at = at.ok_or_else(|| NoSuchLevel { wanted, passed: targets.clone() })?;
        targets.truncate(at + 1);
    }
    Ok(targets.into_iter().map(|target| (target, engine::fingerprint(target, Profile::Serve))).collect())
}

/// How slots are reset here. A page in swap is not seen as dirty by the kernel's page scan, and the slot's next tenant
/// would read it: so the scan is used only where nothing can be swapped out.
pub fn reset() -> Reset {
    if !page_scan_available() {
        tracing::warn!(
            "the kernel has no page scan (Linux 6.7 or newer has): slots are reset by copying, which is slower"
        );
        return Reset::Copy;
    }
    if swap_possible() {
        tracing::warn!(
            "swap is on: slots are reset by copying, which is slower. Turn swap off (swapoff -a, or memory.swap.max=0 for this service) for full speed"
        );
        return Reset::Copy;
    }
    Reset::PagemapScan
}

/// Descriptors that a loaded program keeps open, at most: its own of its memory file, and that of the file itself.
const PROGRAM_DESCRIPTORS: u64 = 2;
/// Mappings of a loaded program, at most: before its code, its code, behind it, and that of its memory file for the check.
const PROGRAM_MAPPINGS: u64 = 4;
/// Mappings of an instance's share of the pool: a memory's image, the rest of it and its guard, tables, a stack.
const SHARE_MAPPINGS: u64 = 8;
/// Mappings for everything else: libraries, threads, heaps.
const OTHER_MAPPINGS: u64 = 4_096;
/// What a process may map where `/proc` does not say: the kernel's own default.
const MAPPINGS_MAX: u64 = 65_530;

/// Guests of one serving thread that may run at once where the operator does not say: so many that 1,000 active apps each
/// find a slot that was theirs last.
const WORKER_INSTANCES: u32 = 1_024;

/// Slots that fit into the addresses of a process: each reserves 4 GiB and its guards, and half of 47 bits is left to all else.
const ADDRESSABLE_INSTANCES: u64 = 16_000;

/// Guests that may run at once on this many serving threads where the operator does not say.
pub fn instances_wanted(workers: usize) -> u32 {
    u32::try_from(workers).unwrap_or(u32::MAX).saturating_mul(WORKER_INSTANCES)
}

/// As many of them as this process can have: by its addresses, and by half of the mappings it may make
/// (`vm.max_map_count`), since programs need some, too.
pub fn instances_that_fit(wanted: u32) -> u32 {
    fitting(mappings_max(), wanted)
}

fn fitting(mappings: u64, wanted: u32) -> u32 {
    let fit = u64::from(wanted).min(mappings / 2 / SHARE_MAPPINGS).min(ADDRESSABLE_INSTANCES);
    u32::try_from(fit).unwrap_or(u32::MAX)
}

fn mappings_max() -> u64 {
    let mappings = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    mappings.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPPINGS_MAX)
}

/// Programs that may be loaded at once, whatever memory there is: a process has only so many mappings
/// (`vm.max_map_count`) and descriptors, half of which are for connections.
pub fn programs_max(instances_max: u32) -> u64 {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    programs_that_fit(mappings_max(), descriptors.unwrap_or(u64::MAX), instances_max)
}

fn programs_that_fit(mappings: u64, descriptors: u64, instances_max: u32) -> u64 {
    let others = OTHER_MAPPINGS + u64::from(instances_max) * SHARE_MAPPINGS;
    let by_mappings = mappings.saturating_sub(others) / PROGRAM_MAPPINGS;
    by_mappings.min(descriptors / 2 / PROGRAM_DESCRIPTORS).max(PROGRAMS_MIN)
}

/// On the smallest machine.
const PROGRAMS_MIN: u64 = 16;

/// Any active swap area, unless this process's cgroup may not use it.
fn swap_possible() -> bool {
    let Ok(areas) = fs::read_to_string("/proc/swaps") else { return true };
    areas.lines().count() > 1 && cgroup_swap_max().is_none_or(|max| max != "0")
}

fn cgroup_swap_max() -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let max = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.swap.max")).ok()?;
    Some(max.trim().to_owned())
}

/// `PAGEMAP_SCAN` came with Linux 6.7.
fn page_scan_available() -> bool {
    let release = rustix::system::uname();
    let Ok(release) = release.release().to_str() else { return false };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 7)
}

#[cfg(test)]
mod tests {
    use artifact::Target;

    #[test]
    fn programs_are_bounded_by_mappings_and_descriptors_whichever_is_less() {
        assert_eq!(super::programs_that_fit(65_530, 1 << 20, 1_000), 13_358);
        assert_eq!(super::programs_that_fit(65_530, 20_000, 1_000), 5_000);
        assert_eq!(super::programs_that_fit(65_530, 1_024, 1_000), 256);
        assert_eq!(super::programs_that_fit(1_000, 1_024, 1_000), 16);
    }

    #[test]
    fn more_threads_have_more_guests_up_to_what_mappings_and_addresses_allow() {
        let of = |mappings: u64| {
            [1, 2, 4, 64].map(|workers| super::fitting(mappings, super::instances_wanted(workers)))
        };
        assert_eq!(of(65_530), [1_024, 2_048, 4_095, 4_095]);
        assert_eq!(of(1 << 20), [1_024, 2_048, 4_096, 16_000]);
    }

    #[test]
    fn the_machine_tests_run_on_can_be_a_node() {
        let offers = super::offers(None).unwrap();
        let lowest = super::offers(Some(offers[0].0)).unwrap();
        assert_eq!(lowest, offers[..1]);
        let foreign = if cfg!(target_arch = "aarch64") { Target::X86_64V2 } else { Target::Aarch64 };
        let error = super::offers(Some(foreign)).unwrap_err().to_string();
        assert!(error.contains(foreign.name()) && error.contains(offers[0].0.name()), "{error}");
    }
}
