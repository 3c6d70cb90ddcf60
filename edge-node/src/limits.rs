//! The limits of one execution, each with one name: in the struct, in answers, in metrics and in `docs/limits.md`.
//!
//! Whoever meets a limit notes it on the bill ([`crate::exchange::Exchange::over`] or [`crate::exchange::Bill::met`]),
//! which becomes `skerry_limits_met_total{limit="..."}`: executions that met it, each once. Some limits end the
//! execution, others only refuse what was asked for.

use artifact::manifest::Limits;

use crate::{failure::Failure, front::limits as head, guest::drive, host::pipe};

/// What one execution may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutionLimits {
    /// CPU time of the guest, its host calls and its teardown, ms.
    pub cpu_ms: u32,
    /// Time from the complete request head, ms.
    pub wall_ms: u32,
    /// All linear memories together, bytes.
    pub memory_bytes: usize,
    /// Native stack, bytes.
    pub stack_bytes: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Bytes one host call may copy out of the guest. wasmtime's default of 128 MiB is for trusted guests.
    pub copy_bytes_per_call: usize,
    /// Things of the host a guest may hold at once: handles, resources.
    pub resources: usize,
    /// Bytes the host may hold for a guest at once, beside its memories: see [`crate::host::held`].
    pub held_bytes: usize,
    /// Random bytes of one call.
    pub random_bytes_per_call: usize,
    /// Lines for the log, bytes.
    pub log_bytes: usize,
    /// Bytes of a streamed body that its guest may be ahead of its reader.
    pub body_held_bytes: usize,
    /// Bytes of a response body collected before it streams.
    pub quick_body_bytes: usize,
    /// Names and values of a head the guest makes, bytes.
    pub header_bytes: usize,
    /// Fields of such a head.
    pub header_fields: usize,
    /// A URL the guest makes, bytes.
    pub url_bytes: usize,
    /// Requests the guest may send.
    pub subrequests: u32,
    /// Those that may be open at once.
    pub subrequests_open: u32,
}

impl ExecutionLimits {
    /// The limits where an app asked for these.
    pub const fn of(limits: &Limits) -> ExecutionLimits {
        ExecutionLimits {
            cpu_ms: limits.cpu_ms,
            wall_ms: limits.wall_ms,
            memory_bytes: (limits.memory_mib as usize) << 20,
            stack_bytes: engine::STACK_BYTES_MAX,
            table_elements: engine::TABLE_ELEMENTS_MAX,
            copy_bytes_per_call: 16 << 20,
            resources: 10_000,
            held_bytes: 64 << 20,
            random_bytes_per_call: 64 << 10,
            log_bytes: crate::account::guest_log::LOG_BYTES_MAX,
            body_held_bytes: pipe::HELD_BYTES_MAX,
            quick_body_bytes: drive::QUICK_BODY_BYTES_MAX,
            header_bytes: head::HEADER_BYTES_MAX,
            header_fields: head::HEADER_FIELDS_MAX,
            url_bytes: head::URL_BYTES_MAX,
            subrequests: 32,
            subrequests_open: 6,
        }
    }
}

/// The limits that are the same for every app; what an app may choose has its default.
pub const EXECUTION: ExecutionLimits =
    ExecutionLimits::of(&Limits { cpu_ms: 50, wall_ms: 120_000, memory_mib: 128 });

/// The name of a limit of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Limit {
    /// See [`ExecutionLimits::cpu_ms`].
    Cpu,
    /// See [`ExecutionLimits::wall_ms`].
    Wall,
    /// See [`ExecutionLimits::memory_bytes`].
    Memory,
    /// The node's memory for all guests: [`crate::memory::Budget`].
    NodeMemory,
    /// See [`ExecutionLimits::stack_bytes`].
    Stack,
    /// See [`ExecutionLimits::table_elements`].
    Table,
    /// See [`ExecutionLimits::copy_bytes_per_call`].
    Copy,
    /// See [`ExecutionLimits::resources`].
    Resources,
    /// See [`ExecutionLimits::held_bytes`].
    Held,
    /// See [`ExecutionLimits::random_bytes_per_call`].
    Random,
    /// See [`ExecutionLimits::log_bytes`].
    Log,
    /// See [`ExecutionLimits::header_bytes`] and [`ExecutionLimits::header_fields`].
    Headers,
    /// See [`ExecutionLimits::url_bytes`].
    Url,
    /// See [`ExecutionLimits::subrequests`].
    Subrequests,
    /// See [`ExecutionLimits::subrequests_open`].
    SubrequestsOpen,
    /// Room in the slow lane: [`crate::lane`].
    SlowLane,
}

impl Limit {
    /// All of them, for metrics and tests.
    pub const ALL: [Limit; 16] = [
        Limit::Cpu,
        Limit::Wall,
        Limit::Memory,
        Limit::NodeMemory,
        Limit::Stack,
        Limit::Table,
        Limit::Copy,
        Limit::Resources,
        Limit::Held,
        Limit::Random,
        Limit::Log,
        Limit::Headers,
        Limit::Url,
        Limit::Subrequests,
        Limit::SubrequestsOpen,
        Limit::SlowLane,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Cpu => "cpu",
            Limit::Wall => "wall",
            Limit::Memory => "memory",
            Limit::NodeMemory => "node_memory",
            Limit::Stack => "stack",
            Limit::Table => "table",
            Limit::Copy => "copy",
            Limit::Resources => "resources",
            Limit::Held => "held",
            Limit::Random => "random",
            Limit::Log => "log",
            Limit::Headers => "headers",
            Limit::Url => "url",
            Limit::Subrequests => "subrequests",
            Limit::SubrequestsOpen => "subrequests_open",
            Limit::SlowLane => "slow_lane",
        }
    }

    /// What becomes of an execution that a limit ended.
    pub fn failure(self) -> Failure {
        match self {
            Limit::Cpu => Failure::CpuLimit,
            Limit::Wall => Failure::WallLimit,
            Limit::Memory => Failure::MemoryLimit,
            Limit::NodeMemory => Failure::NodeMemory,
            Limit::Stack => Failure::StackLimit,
            Limit::Table => Failure::TableLimit,
            Limit::Copy => Failure::CopyLimit,
            Limit::Resources => Failure::ResourceLimit,
            Limit::Held => Failure::HeldLimit,
            Limit::Random => Failure::RandomLimit,
            Limit::SlowLane => Failure::SlowLaneFull,
            // These are answered to the guest; one that gives up over it has trapped.
            Limit::Log | Limit::Headers | Limit::Url | Limit::Subrequests | Limit::SubrequestsOpen => {
                Failure::GuestTrap
            }
        }
    }
}

/// A limit that ends the execution: the error a host function or the epoch callback gives to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest went over its limit {:?}", .0.name())]
pub struct LimitReached(pub Limit);

/// A set of limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitSet(pub(crate) u32);

impl LimitSet {
    /// Is this one in it?
    pub fn has(self, limit: Limit) -> bool {
        self.0 & bit(limit) != 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Limit> + use<> {
        Limit::ALL.into_iter().filter(move |limit| self.has(*limit))
    }
}

/// A limit's place in a [`LimitSet`].
pub(crate) fn bit(limit: Limit) -> u32 {
    1 << limit as u8
}

#[cfg(test)]
mod guests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_places_are_in_order() {
        let names: std::collections::HashSet<_> = Limit::ALL.map(Limit::name).into();
        assert_eq!(names.len(), Limit::ALL.len());
        assert!(
            Limit::ALL.iter().enumerate().all(|(at, limit)| *limit as usize == at),
            "metrics index by it"
        );
        let set = LimitSet(bit(Limit::Table) | bit(Limit::SlowLane));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Limit::Table, Limit::SlowLane]);
    }

    #[test]
    fn what_an_app_does_not_choose_is_the_same_for_all() {
        assert_eq!(EXECUTION, ExecutionLimits::of(&Limits::default()));
    }

    #[test]
    fn the_page_people_read_names_every_limit() {
        let page = include_str!("../../docs/limits.md");
        for limit in Limit::ALL {
            assert!(page.contains(&format!("`{}`", limit.name())), "docs/limits.md lacks `{}`", limit.name());
        }
    }
}
