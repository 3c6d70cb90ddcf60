//! What a command said.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// Exit code, stdout and stderr of a command that ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

/// Takes away what is meant for the test's own surroundings: credentials, and flags that must not reach a program for others.
pub(crate) fn without_surroundings(command: &mut Command) {
    const MEANT_FOR_OTHERS: [&str; 7] = [
        "SKERRY_TENANT",
        "SKERRY_API",
        "SKERRY_TOKEN",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ];
    MEANT_FOR_OTHERS.iter().for_each(|name| {
        command.env_remove(name);
    });
}

/// Runs `skerry` by itself, with no fleet's credentials.
pub fn skerry(arguments: &[&str]) -> Said {
    let mut command = Command::new(crate::process::binary("skerry"));
    without_surroundings(&mut command);
    Said::by(command.args(arguments))
}

/// Runs `aot-compiler`: what of it is for people.
pub fn aot_compiler(arguments: &[&str]) -> Said {
    Said::by(Command::new(crate::process::binary("aot-compiler")).args(arguments))
}

/// The same with these variables, and this on its standard input.
pub fn skerry_with(environment: &[(&str, &str)], arguments: &[&str], input: &[u8]) -> Said {
    let mut command = Command::new(crate::process::binary("skerry"));
    without_surroundings(&mut command);
    command.args(arguments).envs(environment.iter().copied());
    Said::fed(&mut command, input)
}

impl Said {
    /// Runs a command that reads all of this.
    pub(crate) fn fed(command: &mut Command, input: &[u8]) -> Said {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command line is built");
        // Gone when this statement ends, so that the child sees the end. One that does not read may be gone before.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        Said::from(child.wait_with_output().expect("it is our child"))
    }

    /// Runs a command to its end.
    pub(crate) fn by(command: &mut Command) -> Said {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Said::from(output)
    }

    /// The same, when exit code 0 is expected.
    #[track_caller]
    pub fn ok(self) -> Said {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Checks the exit code and that `text` stands in what was said.
    #[track_caller]
    pub fn failed_with(self, code: i32, text: &str) -> Said {
        assert_eq!(self.code, code, "{self}");
        let all = format!("{}{}", self.out, self.err).to_lowercase();
        assert!(all.contains(&text.to_lowercase()), "{text:?} was not said:\n{self}");
        self
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}):\n{self}"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}
