//! What a job is asked for, and what it answers.

use artifact::{
    Profile, Target,
    compile::{Refusal, RefusalCode},
};
use bytes::Bytes;

use crate::{
    compile::CompiledArtifact,
    functions::{Counts, LEARNED_BYTES_MAX, Learned, Pack},
    intake::refuse,
};

/// One compile.
#[derive(Debug, Clone)]
pub struct Work {
    /// The program.
    pub wasm: Bytes,
    /// What to compile for.
    pub target: Target,
    /// With which settings.
    pub profile: Profile,
    /// Threads to compile with.
    pub threads: usize,
    /// What may be taken from earlier compiles.
    pub reuse: Reuse,
}

/// What may be taken from earlier compiles.
#[derive(Debug, Clone)]
pub enum Reuse {
    /// Nothing, and nothing is answered for later ones.
    Nothing,
    /// The functions of this pack, if there is one; those that were compiled are answered.
    Functions(Option<Pack>),
}

/// What a job answered, as far as the service can check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobAnswer {
    /// The native code.
    pub compiled: CompiledArtifact,
    /// How many functions were found and compiled, by the job's word.
    pub functions: Counts,
    /// What it learned. Empty where that was not asked for.
    pub learned: Learned,
}

impl Reuse {
    /// The pack, if there is one.
    pub fn pack(&self) -> Option<&Pack> {
        match self {
            Reuse::Nothing => None,
            Reuse::Functions(pack) => pack.as_ref(),
        }
    }

    /// What the job is told: how much of its input is not the program. `None`: functions are not looked for.
    pub(super) fn pack_bytes(&self) -> Option<usize> {
        match self {
            Reuse::Nothing => None,
            Reuse::Functions(pack) => Some(pack.as_ref().map_or(0, |pack| pack.bytes().len())),
        }
    }

    /// By how much an answer may be longer than one without functions.
    pub(super) fn answer_bytes_max(&self) -> u64 {
        match self {
            Reuse::Nothing => 0,
            Reuse::Functions(pack) => {
                (LEARNED_BYTES_MAX + pack.as_ref().map_or(0, |pack| pack.len().div_ceil(8))) as u64
            }
        }
    }

    /// Reads what a job says it learned.
    pub(super) fn learned(&self, answer: Bytes) -> Result<Learned, Refusal> {
        let learned = match self {
            Reuse::Nothing => answer.is_empty().then(Learned::default),
            Reuse::Functions(pack) => Learned::read(answer, pack.as_ref().map_or(0, Pack::len)),
        };
        learned.ok_or_else(|| {
            refuse(RefusalCode::Internal, "the compile job gave a broken answer (of its functions)")
        })
    }
}
