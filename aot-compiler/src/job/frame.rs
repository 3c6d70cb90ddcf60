//! What the child says on its standard output: what it admitted, before it compiles, and its one answer.
//!
//! Layout: heads, each a u32 little-endian length and JSON of [`Head`] · native code · what was [`Learned`] of functions, if that was asked
//! for, to the end of the stream. The parent does not believe it: it bounds it, and takes from it only what it cannot know itself.

use std::io::Write;

use artifact::{
    compile::{Refusal, RefusalCode},
    statement::ARTIFACT_BYTES_MAX,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    compile::CompiledArtifact,
    functions::{Counts, Finder},
    intake::{Admitted, refuse},
};

/// Largest head in bytes: the caps on import names, JSON escapes included, and some.
pub const HEAD_BYTES_MAX: usize = 512 << 10;
/// Largest whole answer in bytes: two heads and native code.
pub const ANSWER_BYTES_MAX: u64 = ARTIFACT_BYTES_MAX + 2 * (HEAD_BYTES_MAX as u64 + 4);
/// Longest refusal message passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    Admitted(Admitted),
    Compiled { native_bytes: u64, functions: Counts },
    Refused(Refusal),
}

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The native code.
    pub compiled: CompiledArtifact,
    /// How many functions were found and compiled; zeros where functions are not looked for.
    pub functions: Counts,
    /// What the job says it learned of functions.
    pub learned: Bytes,
}

/// Writes what was admitted. If compiling it ends the job, the parent can say of what it was.
pub fn write_admitted(admitted: &Admitted, out: &mut impl Write) -> std::io::Result<()> {
    write_head(&Head::Admitted(admitted.clone()), out)?;
    out.flush()
}

/// Writes the answer: native code, if something was admitted before, and what was learned of functions.
pub fn write(
    native: &Result<Vec<u8>, Refusal>,
    finder: Option<&Finder>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    match native {
        Ok(native) => {
            let functions = finder.map(Finder::counts).unwrap_or_default();
            write_head(&Head::Compiled { native_bytes: native.len() as u64, functions }, out)?;
            out.write_all(native)?;
            if let Some(finder) = finder {
                finder.learned().write(out)?;
            }
        }
        Err(refusal) => write_head(&Head::Refused(refusal.clone()), out)?,
    }
    out.flush()
}

fn write_head(head: &Head, out: &mut impl Write) -> std::io::Result<()> {
    let head = serde_json::to_vec(head)?;
    out.write_all(&(head.len() as u32).to_le_bytes())?;
    out.write_all(&head)
}

/// What was admitted, out of an answer that may be cut anywhere.
pub fn admitted(answer: &[u8]) -> Option<Admitted> {
    match head(answer) {
        Ok((Head::Admitted(admitted), _)) => Some(admitted),
        _ => None,
    }
}

/// Reads an answer that has ended.
pub fn read(mut answer: Vec<u8>) -> Result<Answer, Refusal> {
    let (first, after) = head(&answer)?;
    let admitted = match first {
        Head::Admitted(admitted) => admitted,
        Head::Refused(refusal) => return Err(shortened(refusal)),
        Head::Compiled { .. } => return Err(broken("nothing was admitted")),
    };
    let (second, native) = head(&answer[after..])?;
    let (native_bytes, functions) = match second {
        Head::Compiled { native_bytes, functions } => (native_bytes, functions),
        Head::Refused(refusal) => return Err(shortened(refusal)),
        Head::Admitted(_) => return Err(broken("two programs")),
    };
    answer.drain(..after + native);
    if native_bytes == 0 || native_bytes > answer.len() as u64 {
        return Err(broken("no native code, or less than it says"));
    }
    let learned = answer.split_off(native_bytes as usize).into();
    Ok(Answer { compiled: CompiledArtifact { admitted, native: answer }, functions, learned })
}

/// The first head, and where what follows begins.
fn head(bytes: &[u8]) -> Result<(Head, usize), Refusal> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| broken("cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > HEAD_BYTES_MAX || length > rest.len() {
        return Err(broken("the head's length does not fit"));
    }
    let head = serde_json::from_slice(&rest[..length]).map_err(|_| broken("a malformed head"))?;
    Ok((head, 4 + length))
}

fn broken(what: &str) -> Refusal {
    refuse(RefusalCode::Internal, format!("the compile job gave a broken answer ({what})"))
}

fn shortened(mut refusal: Refusal) -> Refusal {
    refusal.message = refusal.message.chars().take(MESSAGE_CHARS_MAX).collect();
    refusal
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
            advice: vec![],
        };
        CompiledArtifact { admitted, native: b"native".to_vec() }
    }

    fn written(compiled: &CompiledArtifact) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_admitted(&compiled.admitted, &mut bytes).unwrap();
        write(&Ok(compiled.native.clone()), None, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn all_answers_are_read_back() {
        let refusal = refuse(RefusalCode::Invalid, "at byte 7");
        let answer = |learned: &'static [u8]| Answer {
            compiled: compiled(),
            functions: Counts::default(),
            learned: Bytes::from_static(learned),
        };
        assert_eq!(read(written(&compiled())), Ok(answer(b"")));
        let longer = [written(&compiled()).as_slice(), b"functions"].concat();
        assert_eq!(read(longer), Ok(answer(b"functions")));
        let mut bytes = Vec::new();
        write(&Err(refusal.clone()), None, &mut bytes).unwrap();
        assert_eq!(read(bytes), Err(refusal.clone()), "by intake");
        let mut bytes = Vec::new();
        write_admitted(&compiled().admitted, &mut bytes).unwrap();
        assert_eq!(admitted(&bytes), Some(compiled().admitted));
        write(&Err(refusal.clone()), None, &mut bytes).unwrap();
        assert_eq!(read(bytes), Err(refusal), "by the code generator");
    }

    #[test]
    fn no_broken_answer_is_taken_for_native_code() {
        let whole = written(&compiled());
        for length in 0..whole.len() {
            assert_eq!(
                read(whole[..length].to_vec()).unwrap_err().code,
                RefusalCode::Internal,
                "cut at {length}"
            );
        }
        let mut long = whole.clone();
        long[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(long).unwrap_err().code, RefusalCode::Internal);
        let mut unadmitted = Vec::new();
        write(&Ok(b"native".to_vec()), None, &mut unadmitted).unwrap();
        assert_eq!(read(unadmitted).unwrap_err().code, RefusalCode::Internal);
        let mut twice = Vec::new();
        write_admitted(&compiled().admitted, &mut twice).unwrap();
        twice.extend(whole);
        assert_eq!(read(twice).unwrap_err().code, RefusalCode::Internal);
    }
}
