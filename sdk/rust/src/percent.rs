//! Percent-encoding (RFC 3986 §2.1), read only.

use std::borrow::Cow;

/// What a `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    /// Itself: in paths.
    Plus,
    /// A space: in queries, as forms write them.
    Space,
}

/// The decoded text; what is no UTF-8 then becomes U+FFFD. A `%` without two hex digits behind it stays as it is.
pub(crate) fn decode(text: &str, plus: Plus) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (byte == b'+' && plus == Plus::Space)) {
        return Cow::Borrowed(text);
    }
    let (mut decoded, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, more @ ..] = rest {
        rest = more;
        decoded.push(match (first, more) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (hex(*high), hex(*low)) => {
                rest = after;
                high << 4 | low
            }
            (b'+', _) if plus == Plus::Space => b' ',
            (byte, _) => *byte,
        });
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_what_is_not_stays() {
        for (encoded, decoded) in [
            ("", ""),
            ("plain", "plain"),
            ("a%20b", "a b"),
            ("Zo%C3%AB", "Zoë"),
            ("%2f%2F", "//"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz%41", "%zzA"),
            ("a+b", "a+b"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decode(encoded, Plus::Plus), decoded, "{encoded}");
        }
        assert_eq!(decode("Zo%C3%AB+B%2B", Plus::Space), "Zoë B+");
    }
}
