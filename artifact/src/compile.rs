//! The wire between the control plane and the compiler service.
//!
//! `POST /v1/compile?target=<target>` with the wasm as body answers 200 and a [container](crate::container) blob, or
//! another status and a [`Refusal`] as JSON: 422 when the upload is at fault, 413 when it is too large, 503 with
//! `Retry-After` when the queue is full, 500 when we are at fault. The request names the tenant ([`TENANT_HEADER`]), and with
//! [`CACHE_HEADER`] what within it may share compiled functions; the answer counts them. `GET /v1/health` answers 200 and [`Health`].

use serde::{Deserialize, Serialize};

use crate::{
    Fingerprint, Target,
    keys::{Compiler, PublicKey},
};

/// Largest uploaded program in bytes: JS and Python engines are 10 to 40 MB.
pub const WASM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Path of the compile call.
pub const COMPILE_PATH: &str = "/v1/compile";
/// Path of the call that tells where programs wait: `GET /v1/queue?wasm=<digest>` for the tenant of [`TENANT_HEADER`] answers 200 and
/// [`Queued`].
pub const QUEUE_PATH: &str = "/v1/queue";
/// The caller's name for the tenant it asks for.
pub const TENANT_HEADER: &str = "skerry-tenant";
/// The caller's name for what compiled functions may be shared by, within the tenant. Without it none are taken or kept.
pub const CACHE_HEADER: &str = "skerry-cache";
/// In the answer: functions that were there already, those of the program and of the code around it.
pub const FUNCTIONS_FOUND_HEADER: &str = "skerry-functions-found";
/// In the answer: functions that were compiled for it; 0 where none are looked for.
pub const FUNCTIONS_COMPILED_HEADER: &str = "skerry-functions-compiled";
/// In the answer, where the job was given functions of earlier programs: the code is to be used only by what may share them. Said by the
/// service, not by the job.
pub const FUNCTIONS_SHARED_HEADER: &str = "skerry-functions-shared";
/// Path of the health call.
pub const HEALTH_PATH: &str = "/v1/health";

/// What the compiler service says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// Its public key.
    pub key: PublicKey<Compiler>,
    /// Targets it compiles for, with the fingerprint it would state.
    #[serde(deserialize_with = "crate::target::known_only")]
    pub targets: Vec<(Target, Fingerprint)>,
    /// Its version.
    pub compiler: String,
}

/// How much of a tenant's program waits to be compiled: a compile for each target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Compiles that wait.
    pub waiting: u32,
    /// Which in the queue the first of them is, as it stands: 1 is the next. Absent where none waits.
    pub position: Option<u32>,
}

/// Why a program was not compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable code.
    pub code: RefusalCode,
    /// One sentence: what is wrong, with the byte offset, import name or limit, and the cure when there is one.
    pub message: String,
}

/// Stable reasons of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No bytes.
    Empty,
    /// Not WebAssembly at all: text, an ELF file, native code.
    NotWasm,
    /// WebAssembly, but malformed or using a feature that is off.
    Invalid,
    /// A valid component that is no `wasi:http/proxy` handler.
    WrongWorld,
    /// A valid core module without the exports of the Fastly interface.
    WrongModule,
    /// Imports something no lane offers.
    UnknownImport,
    /// Over a named limit.
    Limit,
    /// The compile job ran out of its memory, CPU or time.
    JobLimit,
    /// The queue is full; try again.
    Busy,
    /// Our fault.
    Internal,
}

impl RefusalCode {
    /// Is the uploader at fault? Then trying again will not help.
    pub fn is_uploads_fault(self) -> bool {
        match self {
            RefusalCode::Busy | RefusalCode::Internal => false,
            RefusalCode::Empty
            | RefusalCode::NotWasm
            | RefusalCode::Invalid
            | RefusalCode::WrongWorld
            | RefusalCode::WrongModule
            | RefusalCode::UnknownImport
            | RefusalCode::Limit
            | RefusalCode::JobLimit => true,
        }
    }
}
