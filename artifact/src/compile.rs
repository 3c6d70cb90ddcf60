//! The wire between the control plane and the compiler service.
//!
//! `POST /v1/compile?target=<target>` with the wasm as body answers 200 and a [container](crate::container) blob, or
//! another status and a [`Refusal`] as JSON: 422 when the upload is at fault, 413 when it is too large, 503 with
//! `Retry-After` when the queue is full, 500 when we are at fault. With the blob may come [advice](Advice) for the uploader, as JSON in
//! the header [`ADVICE_HEADER`]. The request names the tenant ([`TENANT_HEADER`]), and with [`CACHE_HEADER`] what within it may share
//! compiled functions; the answer counts them. `POST /v1/prepare` with the wasm as body and a [`Prepare`](crate::manifest::Prepare) as
//! JSON in the header [`PREPARE_HEADER`] answers 200 and the prepared wasm, or refuses alike. `GET /v1/health` answers 200 and [`Health`].

use serde::{Deserialize, Serialize};

use crate::{
    Fingerprint, Target,
    keys::{Compiler, PublicKey},
};

/// Largest uploaded program in bytes: JS and Python engines are 10 to 40 MB.
pub const WASM_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Path of the compile call.
pub const COMPILE_PATH: &str = "/v1/compile";
/// Path of the call that prepares a program.
pub const PREPARE_PATH: &str = "/v1/prepare";
/// What to do to it: JSON in ASCII.
pub const PREPARE_HEADER: &str = "skerry-prepare";
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

/// Where a compiled program's [`Advice`] stands: a JSON array in ASCII.
pub const ADVICE_HEADER: &str = "skerry-advice";
/// Pieces of advice for one program.
pub const ADVICE_MAX: usize = 16;
/// Bytes of one: a sentence and its cure.
pub const ADVICE_MESSAGE_BYTES_MAX: usize = 500;

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

/// What of a program costs its requests time and could be otherwise. The program runs all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// Stable code.
    pub code: AdviceCode,
    /// One sentence: what is so, what it costs, and the cure.
    pub message: String,
}

/// Stable kinds of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdviceCode {
    /// Data whose offset is computed: the initial memory has no image and is copied.
    DataOffset,
    /// Data of a memory that is imported: the same.
    DataOfImportedMemory,
    /// Data beyond the initial memory: instances trap.
    DataOutside,
    /// Data too far apart for an image.
    DataSparse,
    /// Data that the program copies itself.
    DataPassive,
    /// Elements whose offset is computed: they are set one by one.
    ElementOffset,
    /// Elements of a table that is imported, or starts with values: the same.
    ElementOfImportedTable,
    /// Elements beyond their table: instances trap.
    ElementOutside,
    /// Elements given as expressions: they are set one by one.
    ElementExpressions,
    /// Elements that the program sets itself.
    ElementPassive,
    /// A function that runs before each request.
    StartFunction,
}

impl AdviceCode {
    /// All of them.
    pub const ALL: &[AdviceCode] = &[
        AdviceCode::DataOffset,
        AdviceCode::DataOfImportedMemory,
        AdviceCode::DataOutside,
        AdviceCode::DataSparse,
        AdviceCode::DataPassive,
        AdviceCode::ElementOffset,
        AdviceCode::ElementOfImportedTable,
        AdviceCode::ElementOutside,
        AdviceCode::ElementExpressions,
        AdviceCode::ElementPassive,
        AdviceCode::StartFunction,
    ];
}

impl Advice {
    /// Advice as it may be passed on: as much of it as the bounds allow, in printable ASCII.
    pub fn bounded(mut all: Vec<Advice>) -> Vec<Advice> {
        all.truncate(ADVICE_MAX);
        for advice in &mut all {
            let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
            advice.message = advice.message.chars().take(ADVICE_MESSAGE_BYTES_MAX).map(shown).collect();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_that_is_passed_on_is_bounded_printable_ascii() {
        let long = Advice { code: AdviceCode::DataOffset, message: "\u{1b}[31mé\r\n".repeat(1_000) };
        let bounded = Advice::bounded(vec![long; 100]);
        assert_eq!(bounded.len(), ADVICE_MAX);
        assert!(
            bounded[0].message.starts_with("?[31m????[31m")
                && bounded[0].message.len() == ADVICE_MESSAGE_BYTES_MAX
        );
    }
}
