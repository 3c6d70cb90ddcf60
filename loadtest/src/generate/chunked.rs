//! Where a chunked body ends. Its bytes are counted, not kept.

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size {
        digits: u8,
    },
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// A trailer's line; the empty one is the last.
    Trailer {
        empty: bool,
    },
    TrailerEnd {
        last: bool,
    },
    Done,
}

/// A size of more digits is above 64 bits.
const DIGITS_MAX: u8 = 16;

/// Eats a body, in pieces of any length.
pub struct Chunked {
    at: At,
    left: u64,
}

/// It is not a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

impl Chunked {
    pub fn new() -> Chunked {
        Chunked { at: At::Size { digits: 0 }, left: 0 }
    }

    pub fn done(&self) -> bool {
        self.at == At::Done
    }

    /// How many of the bytes belong to the body.
    pub fn eat(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut eaten = 0;
        while eaten < bytes.len() && !self.done() {
            if self.at == At::Data {
                let piece = self.left.min((bytes.len() - eaten) as u64);
                self.left -= piece;
                eaten += piece as usize;
                if self.left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            self.at = self.step(bytes[eaten])?;
            eaten += 1;
        }
        Ok(eaten)
    }

    fn step(&mut self, byte: u8) -> Result<At, Broken> {
        Ok(match (self.at, byte) {
            (At::Size { digits }, _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                At::Size { digits: digits + 1 }
            }
            (At::Size { digits: 1.. }, b'\r') | (At::Extension, b'\r') => At::SizeEnd,
            (At::Size { digits: 1.. }, b';' | b' ' | b'\t') => At::Extension,
            (At::Extension, byte) if byte != b'\n' => At::Extension,
            (At::SizeEnd, b'\n') if self.left == 0 => At::Trailer { empty: true },
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size { digits: 0 },
            (At::Trailer { empty }, b'\r') => At::TrailerEnd { last: empty },
            (At::Trailer { .. }, byte) if byte != b'\n' => At::Trailer { empty: false },
            (At::TrailerEnd { last: true }, b'\n') => At::Done,
            (At::TrailerEnd { last: false }, b'\n') => At::Trailer { empty: true },
            _ => return Err(Broken),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"5;why=not\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nsum: 1\r\n\r\n";

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        let and_more = [BODY, b"HTTP/1.1"].concat();
        for cut in 0..BODY.len() {
            let mut body = Chunked::new();
            assert_eq!(body.eat(&and_more[..cut]), Ok(cut));
            assert!(!body.done(), "{cut}");
            assert_eq!(body.eat(&and_more[cut..]), Ok(BODY.len() - cut));
            assert!(body.done());
        }
    }

    #[test]
    fn what_is_no_chunked_body_is_told() {
        for wrong in [&b"\r\n"[..], b"x\r\n", b"2\r\nhello", b"1\nh", b"00000000000000001\r\n", b"0\r\n\n"] {
            assert_eq!(Chunked::new().eat(wrong), Err(Broken), "{}", wrong.escape_ascii());
        }
    }
}
