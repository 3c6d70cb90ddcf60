//! Why native code was not had, and whose fault that is.

use artifact::{
    Target,
    compile::{Refusal, RefusalCode},
    container::ContainerError,
    statement::VerifyError,
};
use http::StatusCode;

use crate::files::FileError;

/// Native code was not had.
#[derive(Debug, thiserror::Error)]
pub enum CompilerError {
    /// The service does not answer. The operator can cure it.
    #[error("compiler unreachable at {url}: start aot-compiler, or correct compiler.url in control.toml")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What happened on the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error(
        "the compiler at {url} did not answer within {waited_s} s: see its log, or raise jobs_max in compiler.toml"
    )]
    Slow {
        /// Where.
        url: String,
        /// The wait, in seconds.
        waited_s: u64,
    },
    /// The shared token's file.
    #[error(
        "reading the compiler's shared token: it is made when aot-compiler starts, see compiler.token_file"
    )]
    Token(#[source] FileError),
    /// The service does not take our token.
    #[error(
        "the compiler at {url} refuses our token: compiler.token_file must be the file that aot-compiler uses"
    )]
    TokenRefused {
        /// Where.
        url: String,
    },
    /// Its key is none of those trusted now.
    #[error(
        "the compiler's key is {found}, trusted are {}: it is an impostor's, or a new one that none of these endorsed yet (`skerry compiler-key add`)",
        trusted.join(", ")
    )]
    OtherKey {
        /// Id of the service's key.
        found: String,
        /// Ids of the keys trusted now.
        trusted: Vec<String>,
    },
    /// It refused the program.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// It answered what the wire does not allow.
    #[error("the compiler at {url} answered {status} with something unreadable: it is of another release?")]
    Unreadable {
        /// Where.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The answer is no container.
    #[error("reading the compiler's answer for {target}")]
    Container {
        /// Asked for.
        target: Target,
        /// What is wrong.
        #[source]
        source: ContainerError,
    },
    /// The signed statement does not hold.
    #[error("the compiler's answer for {target} is not trusted")]
    Untrusted {
        /// Asked for.
        target: Target,
        /// What is wrong.
        #[source]
        source: VerifyError,
    },
    /// Signed, but about something else than what was asked.
    #[error("the compiler's answer for {target} is about another {what}")]
    OtherThing {
        /// Asked for.
        target: Target,
        /// Program, target, profile or fingerprint.
        what: &'static str,
    },
    /// It compiles for nothing.
    #[error("the compiler has no targets: name some in compiler.toml")]
    NoTargets,
    /// The process is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

impl CompilerError {
    /// Is the program at fault, so that trying again will not help?
    pub fn is_uploads_fault(&self) -> bool {
        matches!(self, CompilerError::Refused(refusal) if refusal.code.is_uploads_fault())
    }

    /// Is the service merely full?
    pub fn is_busy(&self) -> bool {
        matches!(self, CompilerError::Refused(Refusal { code: RefusalCode::Busy, .. }))
    }
}
