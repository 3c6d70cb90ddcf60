//! The child's one answer on its standard output.
//!
//! Layout: u32 little-endian length of the head · head, JSON of [`Head`] · native code to the end of the stream. The
//! parent does not believe it: it bounds it, and takes from it only what it cannot know itself.

use std::io::Write;

use artifact::{
    compile::{Refusal, RefusalCode},
    statement::ARTIFACT_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use crate::{
    compile::CompiledArtifact,
    intake::{Admitted, refuse},
};

/// Largest head in bytes: the caps on import names, JSON escapes included, and some.
pub const HEAD_BYTES_MAX: usize = 512 << 10;
/// Largest whole answer in bytes.
pub const ANSWER_BYTES_MAX: u64 = ARTIFACT_BYTES_MAX + HEAD_BYTES_MAX as u64 + 4;
/// Longest refusal message passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Compiled(Admitted),
    Refused(Refusal),
}

/// Writes the answer.
pub fn write(result: &Result<CompiledArtifact, Refusal>, out: &mut impl Write) -> std::io::Result<()> {
    let (head, native) = match result {
        Ok(compiled) => (Head::Compiled(compiled.admitted.clone()), compiled.native.as_slice()),
        Err(refusal) => (Head::Refused(refusal.clone()), [].as_slice()),
    };
    let head = serde_json::to_vec(&head)?;
    out.write_all(&(head.len() as u32).to_le_bytes())?;
    out.write_all(&head)?;
    out.write_all(native)?;
    out.flush()
}

/// Reads an answer that has ended.
pub fn read(mut answer: Vec<u8>) -> Result<CompiledArtifact, Refusal> {
    let broken =
        |what: &str| refuse(RefusalCode::Internal, format!("the compile job gave a broken answer ({what})"));
    let (length, rest) = answer.split_first_chunk::<4>().ok_or_else(|| broken("cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEAD_BYTES_MAX || length > rest.len() {
        return Err(broken("the head's length does not fit"));
    }
    match serde_json::from_slice(&rest[..length]).map_err(|_| broken("a malformed head"))? {
        Head::Refused(mut refusal) => {
            refusal.message = refusal.message.chars().take(MESSAGE_CHARS_MAX).collect();
            Err(refusal)
        }
        Head::Compiled(admitted) => {
            answer.drain(..4 + length);
            if answer.is_empty() {
                return Err(broken("no native code"));
            }
            Ok(CompiledArtifact { admitted, native: answer })
        }
    }
}

#[cfg(test)]
mod tests {
    use artifact::Lane;

    use super::*;
    use crate::intake::Shape;

    fn compiled() -> CompiledArtifact {
        let admitted = Admitted {
            lane: Lane::Wasi,
            imports: vec!["wasi:io/error@0.2.0".into()],
            shape: Shape::default(),
        };
        CompiledArtifact { admitted, native: b"native".to_vec() }
    }

    #[test]
    fn both_answers_are_read_back() {
        for result in [Ok(compiled()), Err(refuse(RefusalCode::Invalid, "at byte 7"))] {
            let mut bytes = Vec::new();
            write(&result, &mut bytes).unwrap();
            assert_eq!(read(bytes), result);
        }
    }

    #[test]
    fn no_broken_answer_is_taken_for_native_code() {
        let mut whole = Vec::new();
        write(&Ok(compiled()), &mut whole).unwrap();
        for length in 0..whole.len() - b"native".len() + 1 {
            assert_eq!(
                read(whole[..length].to_vec()).unwrap_err().code,
                RefusalCode::Internal,
                "cut at {length}"
            );
        }
        let mut long = whole;
        long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(long).unwrap_err().code, RefusalCode::Internal);
    }
}
