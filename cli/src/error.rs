//! Everything a command can fail with: what was being done, to which thing, and the cure when there is one.
//! A cause stays in `source()`; [`Error::report`] prints the whole chain once.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use artifact::manifest::Mistake;
use serde_json::json;

use crate::{
    carets::{self, Look},
    exit::Exit,
};

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
        /// What stands in it.
        text: String,
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
    /// A registry of images answered that it has a fault, or something no registry answers.
    #[error("{doing}: the registry {registry} failed: {message}")]
    Registry {
        /// What was being done, to which image.
        doing: String,
        /// Its host.
        registry: String,
        /// What it did.
        message: String,
    },
    /// A registry, or a place that it leads to, does not answer.
    #[error("{doing}: cannot reach {place}")]
    RegistryUnreachable {
        /// What was being done, to which image.
        doing: String,
        /// Where nobody answers.
        place: String,
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
            Error::ControlPlane { .. }
            | Error::Registry { .. }
            | Error::Io { .. }
            | Error::Fleet(_)
            | Error::Command(_) => Exit::Failed,
            Error::Unreachable { .. } | Error::RegistryUnreachable { .. } => Exit::Unreachable,
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
            Error::Registry { .. } => "registry_fault",
            Error::RegistryUnreachable { .. } => "registry_unreachable",
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

    /// One line with its causes, then the mistakes, those of a file with their lines, then the cure.
    pub fn report(&self) -> String {
        self.report_with(Look::of_stderr())
    }

    fn report_with(&self, look: Look) -> String {
        let mut text = format!("error: {}", chain(self));
        match self {
            Error::Manifest { file, text: manifest, mistakes } => {
                let _ = write!(text, "\n{}", carets::draw(file, manifest, mistakes, look));
            }
            _ => {
                for mistake in self.mistakes() {
                    let _ = write!(text, "\n  {mistake}");
                }
            }
        }
        if let Error::Unreachable { cure, .. } = self {
            let _ = write!(text, "\n  {cure}");
        }
        text
    }

    /// The same for programs: `{"error":{"code","message","mistakes"}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut error = json!({ "code": self.code(), "message": chain(self) });
        match self {
            Error::Manifest { file, text, mistakes } => error["mistakes"] = placed(file, text, mistakes),
            _ if self.mistakes().is_empty() => {}
            _ => error["mistakes"] = json!(self.mistakes()),
        }
        json!({ "error": error })
    }
}

/// An error with all its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// The mistakes of a file, each with `file`, `line`, `column`, `key`, `message` and, if there is one, `suggestion`.
fn placed(file: &Path, text: &str, mistakes: &[Mistake]) -> serde_json::Value {
    let placed = mistakes.iter().map(|mistake| {
        let mut value = json!(mistake);
        value["file"] = json!(file.display().to_string());
        if let Some(span) = &mistake.span {
            let (line, column) = carets::position(text, span.start);
            (value["line"], value["column"]) = (json!(line), json!(column));
        }
        value
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_file_and_line_of_every_mistake() {
        let text = "name = \"Bad\"\nx = 1\n".to_owned();
        let mistakes = artifact::manifest::Project::parse(&text).unwrap_err();
        let error = Error::Manifest { file: "shop/skerry.toml".into(), text, mistakes };
        let report = error.report_with(Look::FILE);
        for said in [
            "x component: is missing",
            "shop/skerry.toml:1:8]",
            "shop/skerry.toml:2:1]",
            "x x: is not a known key",
        ] {
            assert!(report.contains(said), "{report}");
        }
        assert_eq!(error.exit(), Exit::Rejected);
        let json = error.to_json();
        assert_eq!(
            json["error"]["mistakes"][0],
            json!({ "file": "shop/skerry.toml", "key": "component", "message": "is missing" })
        );
        assert_eq!(json["error"]["mistakes"][1]["column"], 8);
        assert_eq!(json["error"]["mistakes"].as_array().map(Vec::len), Some(3));
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
