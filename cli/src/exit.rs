//! Exit codes: what a script may rely on. One enum, one mapping; errors say which they are in `error.rs`.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It is done.
    Done,
    /// Something on this machine failed: a file, a port, a child process, or the control plane has a fault.
    Failed,
    /// The command line is wrong, or names something that is not there.
    Usage,
    /// Refused: bad wasm, bad manifest, bad token, taken host name, or by the nodes.
    Rejected,
    /// Halted and reverted. Reserved for rollouts; nothing answers it yet.
    #[allow(dead_code)]
    Reverted,
    /// Not everywhere in time; the laggards were named.
    TimedOut,
    /// The control plane, or a registry, could not be reached.
    Unreachable,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Rejected => 3,
            Exit::Reverted => 4,
            Exit::TimedOut => 5,
            Exit::Unreachable => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_scripts_were_promised() {
        let promised = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Rejected, 3),
            (Exit::Reverted, 4),
            (Exit::TimedOut, 5),
            (Exit::Unreachable, 6),
        ];
        for (exit, code) in promised {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
