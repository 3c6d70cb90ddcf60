//! Lines `NAME=VALUE`, as an `.env` file has them. A mistake is told by its line and never by what stands there.

use artifact::{
    manifest::bounds::ENTRIES_MAX,
    names::SecretName,
    secrets::{SECRET_VALUE_BYTES_MAX, SecretValue},
};

use crate::error::{Error, Result};

/// Bytes of all lines: an app's secrets have 80 KiB in all, the rest is for names, comments and quotes.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// The secrets, in their order; at least one.
pub(super) fn read(text: &str) -> Result<Vec<(SecretName, SecretValue)>> {
    let mut secrets: Vec<(SecretName, SecretValue)> = Vec::new();
    for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let wrong = |why: &str| Error::Usage(format!("line {}: {why}", n + 1));
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("it is not of the form NAME=VALUE"))?;
        let name = name.trim_end();
        let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
        // The name may be part of a value that began on another line: it is not repeated.
        let name: SecretName = name.parse().map_err(|_| wrong("what stands before = is no secret's name"))?;
        let value = value_of(value.trim_start()).map_err(wrong)?;
        if value.is_empty() {
            return Err(wrong("the value is empty"));
        }
        if value.len() > SECRET_VALUE_BYTES_MAX {
            return Err(wrong(&format!("the value is larger than {SECRET_VALUE_BYTES_MAX} bytes")));
        }
        if secrets.iter().any(|(known, _)| *known == name) {
            return Err(wrong("the name is there twice"));
        }
        if secrets.len() == ENTRIES_MAX {
            return Err(wrong(&format!("{ENTRIES_MAX} secrets are set at once, no more")));
        }
        secrets.push((name, SecretValue::new(value.into_bytes())));
    }
    if secrets.is_empty() {
        return Err(Error::Usage("there is no line NAME=VALUE".to_owned()));
    }
    Ok(secrets)
}

/// What a value stands for: in single quotes as it is, in double quotes with escapes, otherwise to the line's end. Some
/// readers of such files end the latter at a comment and some do not, so a value that looks like one with a comment is
/// asked to say which it is.
fn value_of(text: &str) -> std::result::Result<String, &'static str> {
    const OPEN: &str = "the quote is not closed on its line; a value of several lines is set alone, with `skerry secrets set`";
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, after) = rest.split_once('\'').ok_or(OPEN)?;
        return nothing_after(after).map(|()| value.to_owned());
    }
    let Some(rest) = text.strip_prefix('"') else { return plain(text).map(str::to_owned) };
    let (mut value, mut characters) = (String::new(), rest.chars());
    loop {
        match characters.next().ok_or(OPEN)? {
            '"' => return nothing_after(characters.as_str()).map(|()| value),
            '\\' => value.push(match characters.next().ok_or(OPEN)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                same @ ('"' | '\\' | '$' | '\'') => same,
                _ => return Err("an escape in the value is none of \\n, \\r, \\t, \\\", \\', \\$ and \\\\"),
            }),
            other => value.push(other),
        }
    }
}

/// A value without quotes.
fn plain(text: &str) -> std::result::Result<&str, &'static str> {
    let mut before = ' '; // what stands before the value is no part of it
    for character in text.chars() {
        if character == '#' && before.is_whitespace() {
            return Err(
                "a # behind a space is a comment or part of the value: put it in quotes if it is the \
                        value's, and otherwise on a line of its own",
            );
        }
        before = character;
    }
    Ok(text)
}

fn nothing_after(text: &str) -> std::result::Result<(), &'static str> {
    let text = text.trim_start();
    if text.is_empty() || text.starts_with('#') {
        Ok(())
    } else {
        Err("something stands behind the closing quote")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let text_of = |value: &SecretValue| String::from_utf8(value.expose().to_vec()).unwrap();
        read(text).unwrap().iter().map(|(name, value)| (name.to_string(), text_of(value))).collect()
    }

    #[test]
    fn lines_are_those_of_an_env_file() {
        let text = "\u{feff}# comment\n\nA=1\r\nexport B = two words\n  C='it''\n";
        assert!(read(text).is_err());
        let text = "\u{feff}# comment\n\nA=1\r\nexport B = two words#and this\n  C='a \"b\" \\n' # why\nD=\"x\\ny\\\"\\\\\"\nE=a=b==\nF='x # y' # z\nG=\"#\"\n";
        let wanted = [
            ("A", "1"),
            ("B", "two words#and this"),
            ("C", "a \"b\" \\n"),
            ("D", "x\ny\"\\"),
            ("E", "a=b=="),
            ("F", "x # y"),
            ("G", "#"),
        ];
        assert_eq!(pairs(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn mistakes_are_told_by_their_line_and_never_repeat_what_stands_there() {
        let large = format!("A={}", "hunter2".repeat(SECRET_VALUE_BYTES_MAX / 7 + 1));
        let many: String = (0..=ENTRIES_MAX).map(|n| format!("K{n}=hunter2\n")).collect();
        for (text, line, said) in [
            ("A=1\nhunter2", "line 2", "NAME=VALUE"),
            ("hunter2!/\u{7}=1", "line 1", "no secret's name"),
            ("=hunter2", "line 1", "no secret's name"),
            ("A=", "line 1", "empty"),
            ("A=''", "line 1", "empty"),
            ("A='hunter2", "line 1", "not closed"),
            ("A=\"hunter2\\", "line 1", "not closed"),
            ("A=\"hunter2\" hunter2", "line 1", "behind the closing quote"),
            ("A=\"\\hunter2\"", "line 1", "escape"),
            ("A=1\nB=hunter2 # of the staging account", "line 2", "put it in quotes"),
            ("A=hunter2\t#", "line 1", "put it in quotes"),
            ("A= # hunter2", "line 1", "put it in quotes"),
            ("A=1\n\nA=hunter2", "line 3", "twice"),
            (&large, "line 1", "larger"),
            (&many, "line 513", "no more"),
            ("# hunter2", "", "no line"),
        ] {
            let error = read(text).unwrap_err();
            let report = error.report();
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
            assert!(report.contains(line) && report.contains(said), "{said}: {report}");
            assert!(!report.contains("hunter2"), "{report}");
        }
    }
}
