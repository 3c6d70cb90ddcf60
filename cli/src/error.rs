//! Everything a command can fail with: what was being done, to which thing, and the cure when there is one.
//! A cause stays in `source()`; [`Error::report`] prints the whole chain once.

use std::{error::Error as _, fmt::Write as _, io, path::PathBuf};

use artifact::manifest::Mistake;
use serde_json::json;

use crate::exit::Exit;

/// What commands return.
pub type Result<T> = std::result::Result<T, Error>;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong or names something that is not there.
    #[error("{0}")]
    Usage(String),
    /// A `skerry.toml` with mistakes, all of them.
    #[error("{} cannot be used as it is", file.display())]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// Never empty.
        mistakes: Vec<Mistake>,
    },
    /// The control plane refused, or this program did, and trying again will not help.
    #[error("{doing}: {message}")]
    Rejected {
        /// What was being done, to which thing.
        doing: String,
        /// The stable code of the refusal.
        code: String,
        /// Why, and often the cure.
        message: String,
        /// What was wrong in the manifest, if that was the reason.
        mistakes: Vec<Mistake>,
    },
    /// The control plane answered that it has a fault, or something no control plane answers.
    #[error("{doing}: the control plane at {api} failed: {message}")]
    ControlPlane {
        /// What was being done.
        doing: String,
        /// Its URL.
        api: String,
        /// What it said.
        message: String,
    },
    /// Nobody answers.
    #[error("{doing}: cannot reach the control plane at {api}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// Its URL.
        api: String,
        /// The cure.
        cure: String,
        /// What the network said.
        #[source]
        cause: Box<ureq::Error>,
    },
    /// A file or socket of this machine.
    #[error("{doing}")]
    Io {
        /// What was being done, to which file.
        doing: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A part of a fleet on this machine does not start or stay up.
    #[error("{0}")]
    Fleet(String),
    /// A command of the user's project failed, or a program it needs is not here.
    #[error("{0}")]
    Command(String),
    /// The command did its work and printed the outcome, which is not success.
    #[error("{0}")]
    Outcome(String, Exit),
}

impl Error {
    /// An I/O failure while `doing`.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |cause| Error::Io { doing, cause }
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Usage(_) => Exit::Usage,
            Error::Manifest { .. } | Error::Rejected { .. } => Exit::Rejected,
            Error::ControlPlane { .. } | Error::Io { .. } | Error::Fleet(_) | Error::Command(_) => {
                Exit::Failed
            }
            Error::Unreachable { .. } => Exit::Unreachable,
            Error::Outcome(_, exit) => *exit,
        }
    }

    /// The stable name of the failure, for `--json`.
    fn code(&self) -> &str {
        match self {
            Error::Usage(_) => "usage",
            Error::Manifest { .. } => "bad_manifest",
            Error::Rejected { code, .. } => code,
            Error::ControlPlane { .. } => "control_plane_fault",
            Error::Unreachable { .. } => "unreachable",
            Error::Io { .. } => "io",
            Error::Fleet(_) => "fleet",
            Error::Command(_) => "project_command",
            Error::Outcome(..) => "outcome",
        }
    }

    fn mistakes(&self) -> &[Mistake] {
        match self {
            Error::Manifest { mistakes, .. } | Error::Rejected { mistakes, .. } => mistakes,
            _ => &[],
        }
    }

    /// One line with its causes, then a line for each mistake, then the cure.
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        for mistake in self.mistakes() {
            let _ = match self {
                Error::Manifest { file, .. } => {
                    let line = mistake.line.map(|line| format!(":{line}")).unwrap_or_default();
                    let bare = Mistake { line: None, ..mistake.clone() };
                    write!(text, "\n  {}{line}: {bare}", file.display())
                }
                _ => write!(text, "\n  {mistake}"),
            };
        }
        if let Error::Unreachable { cure, .. } = self {
            let _ = write!(text, "\n  {cure}");
        }
        text
    }

    /// The same for programs: `{"error":{"code","message","mistakes"}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        let mut error = json!({ "code": self.code(), "message": message });
        if !self.mistakes().is_empty() {
            error["mistakes"] = json!(self.mistakes());
        }
        json!({ "error": error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_file_and_line_of_every_mistake() {
        let mistakes = artifact::manifest::Project::parse("name = \"Bad\"\nx = 1\n").unwrap_err();
        let error = Error::Manifest { file: "shop/skerry.toml".into(), mistakes };
        let report = error.report();
        assert!(report.contains("shop/skerry.toml:1: name: "), "{report}");
        assert!(report.contains("shop/skerry.toml:2: x: "), "{report}");
        assert!(report.contains("shop/skerry.toml: component: is missing"), "{report}");
        assert_eq!(error.exit(), Exit::Rejected);
        assert_eq!(error.to_json()["error"]["mistakes"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn each_failure_has_its_exit_code() {
        let unreachable = Error::Unreachable {
            doing: "x".into(),
            api: "http://127.0.0.1:1".into(),
            cure: "start it".into(),
            cause: Box::new(ureq::Error::ConnectionFailed),
        };
        assert!(unreachable.report().ends_with("\n  start it"), "{}", unreachable.report());
        let rejected = Error::Rejected {
            doing: "deploying hello".into(),
            code: "host_taken".into(),
            message: "taken".into(),
            mistakes: vec![],
        };
        let io = Error::io("reading x")(io::Error::other("broken"));
        assert_eq!(io.report(), "error: reading x: broken");
        for (error, exit) in [
            (Error::Usage(String::new()), Exit::Usage),
            (rejected, Exit::Rejected),
            (unreachable, Exit::Unreachable),
            (io, Exit::Failed),
            (Error::Outcome(String::new(), Exit::TimedOut), Exit::TimedOut),
        ] {
            assert_eq!(error.exit(), exit, "{error:?}");
        }
    }
}
