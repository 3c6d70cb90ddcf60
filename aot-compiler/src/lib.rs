//! wasm in, validated, compiled for every target in capped child processes, signed. The only room with Cranelift.
//!
//! | Module | One job |
//! |---|---|
//! | [`intake`] | any bytes → a program a lane can run, or one sentence why not |
//! | [`prepare`] | what is changed of a program before it is compiled |
//! | [`initialise`] | what an app asks to have done once: run its start, raise its memory |
//! | [`compile`] | the work itself, in one process, and the signature |
//! | [`functions`] | compiled functions, kept for the next compile of the same app |
//! | [`job`] | one compile as a capped child process that never holds the key |
//! | [`service`] | the HTTP service: token, fair queue, jobs, signature |
//! | [`command`] | `compile` and `inspect`, for people |
//! | [`server`], [`config`], [`files`] | the process around it: configuration, key and token files, start and stop |

pub mod command;
pub mod compile;
pub mod config;
pub mod files;
pub mod functions;
pub mod initialise;
pub mod intake;
pub mod job;
pub mod prepare;
pub mod server;
pub mod service;

pub use compile::{CompiledArtifact, Made, compile_in_process, sign};
