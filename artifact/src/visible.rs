//! Text of strangers where people read it: nothing in it moves a cursor, changes a colour, turns the direction of what
//! stands beside it, or is there without being seen.
//!
//! Deliberately absent: letters that look like others, and text that says something untrue. Escapes are not made unique:
//! text that looks like one stays as it is.

use std::{borrow::Cow, fmt::Write as _};

/// Does a character show itself, and do nothing else?
pub fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(
            u32::from(c),
            // Soft hyphen; Arabic and Mongolian marks without a shape.
            0xad | 0x61c | 0x180e
            // Zero-width spaces and joiners, direction marks; ends of lines and paragraphs, directions; invisible
            // operators, isolates; byte order mark; annotations.
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            // Shorthand and musical controls; tags, which spell text that nobody sees, and variation selectors.
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff
        ))
}

/// The text with everything else spelled out, as Rust does: `\n`, `\u{1b}`. Always one line.
pub fn for_people(text: &str) -> Cow<'_, str> {
    spelled(text, |c, out| out.extend(c.escape_default()))
}

/// A JSON value on one line with everything else in its strings spelled out, as JSON does: `\u001b`. It means the same.
pub fn for_json(text: &str) -> Cow<'_, str> {
    spelled(text, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}"); // writing to a String cannot fail
        }
    })
}

fn spelled(text: &str, spell: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) { out.push(c) } else { spell(c, &mut out) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_drive_a_terminal_or_a_readers_eye_is_spelled_out() {
        for (hostile, spelled) in [
            ("\x1b[2J\x1b]0;title\x07", r"\u{1b}[2J\u{1b}]0;title\u{7}"),
            ("a\r\nb\tc\x08\x7f", r"a\r\nb\tc\u{8}\u{7f}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("user\u{202e}gpj.exe\u{2066}", r"user\u{202e}gpj.exe\u{2066}"),
            ("a\u{200b}b\u{2028}c\u{feff}", r"a\u{200b}b\u{2028}c\u{feff}"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(for_people(hostile), spelled);
            let json = serde_json::to_string(hostile).unwrap();
            let safe = for_json(&json);
            assert!(safe.chars().all(is_plain) && safe.is_ascii(), "{safe}");
            assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), hostile);
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "plain \\ \"quoted\" {\"json\":1}", "Grüße, 世界, مرحبا", "🙂"] {
            assert!(matches!(for_people(text), Cow::Borrowed(same) if same == text));
            assert!(matches!(for_json(text), Cow::Borrowed(same) if same == text));
        }
    }
}
