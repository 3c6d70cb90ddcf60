//! Serves the fleet: release log and blob store behind their seams, streams, enrolment.
//!
//! Relied on by the control plane, which decides *what* to publish. Here it is made durable, signed, pushed to every
//! node, and what nodes answer is kept. Deliberately absent: tenants, API tokens, compiling; and any engine's own
//! types: SQLite and files stay behind [`log::LogStore`] and [`blobs::BlobStore`].
//!
//! | Module | One job |
//! |---|---|
//! | [`origin`] | [`Origin`]: open, publish, view, convergence |
//! | [`log`], [`blobs`] | the two seams, their adapters and conformance suites |
//! | [`kv`] | tenants' key-value stores: seam and adapter |
//! | `tail`, `signer` | the log's last records in memory; signed heads |
//! | [`nodes`], `roster` | what nodes say now; which nodes and join tokens exist |
//! | `ca` | the fleet CA |
//! | `serve` | TLS, HTTP/2, the five paths |

pub mod blobs;
mod ca;
mod clock;
mod files;
pub mod inspect;
pub mod kv;
pub mod listen;
pub mod log;
pub mod nodes;
pub mod origin;
mod publish;
mod roster;
mod serve;
mod signer;
mod tail;

pub use blobs::{BlobError, BlobStore, LocalBlobs};
pub use inspect::{Answers, TooManyInspections};
pub use kv::{KvError, KvQuotas, KvStore, Once, OnceError, SqliteKv, Swept};
pub use listen::{ListenError, Listening};
pub use log::{AppendError, LogBatch, LogError, LogStore, SqliteLog};
pub use nodes::{Convergence, FailedNode, LaggingNode, NodeAnswer, NodeStatus};
pub use origin::{Origin, OriginConfig, OriginError};
pub use publish::{PublishError, Published};
pub use roster::IssuedToken;
