//! Directives that are known not to pass, each with its reason: `expected.txt`.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

const TEXT: &str = include_str!("../expected.txt");

/// The allocator with which it fails, or `any`, and words of how it does. The reason is for who reads the list.
#[derive(Debug)]
struct Known {
    allocator: &'static str,
    what: &'static str,
}

/// Known failures by file and line.
#[derive(Debug)]
pub struct Expected(BTreeMap<(&'static str, u32), Known>);

impl Expected {
    /// Reads the list that is part of this program.
    pub fn read() -> anyhow::Result<Expected> {
        parse(TEXT).context("in spec/expected.txt")
    }

    /// Is it known that this line of a file does not pass with this allocator, in this way?
    pub fn is_known(&self, file: &str, line: u32, allocator: &str, what: &str) -> bool {
        self.0.get(&(file, line)).is_some_and(|known| known.applies(allocator) && what.contains(known.what))
    }

    /// The lines of a file that do not pass with this allocator.
    pub fn lines(&self, file: &str, allocator: &str) -> Vec<u32> {
        let of_file = self.0.iter().filter(|((name, _), known)| *name == file && known.applies(allocator));
        of_file.map(|((_, line), _)| *line).collect()
    }
}

impl Known {
    fn applies(&self, allocator: &str) -> bool {
        self.allocator == "any" || self.allocator == allocator
    }
}

/// ``SUITE/FILE.wast:LINE ALLOCATOR `WHAT` REASON``, or a comment.
fn parse(text: &'static str) -> anyhow::Result<Expected> {
    let mut known = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, '`');
        let mut part =
            || parts.next().with_context(|| format!("{line:?} is not FILE:LINE ALLOCATOR `WHAT` REASON"));
        let (place, what, reason) = (part()?, part()?, part()?);
        let (place, allocator) =
            place.trim_end().split_once(' ').with_context(|| format!("{line:?} names no allocator"))?;
        ensure!(!what.is_empty() && !reason.trim().is_empty(), "{line:?} does not say how it fails and why");
        let (file, number) = place.rsplit_once(':').with_context(|| format!("{place:?} has no line"))?;
        let number = number.parse().with_context(|| format!("the line of {place:?}"))?;
        ensure!(["any", "pool", "on-demand"].contains(&allocator), "{allocator:?} is no allocator");
        let before = known.insert((file, number), Known { allocator, what });
        ensure!(before.is_none(), "{place} stands there twice");
    }
    Ok(Expected(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_failure_counts_for_its_line_and_allocator_only() {
        let expected =
            parse("# why\n\na/b.wast:7 pool `too small` memory\na/b.wast:9 any `x` other").unwrap();
        assert!(expected.is_known("a/b.wast", 7, "pool", "it is too small"));
        assert!(!expected.is_known("a/b.wast", 7, "pool", "it trapped"), "another way to fail");
        assert!(!expected.is_known("a/b.wast", 7, "on-demand", "it is too small"));
        assert!(!expected.is_known("a/b.wast", 8, "pool", "it is too small"));
        assert!(expected.is_known("a/b.wast", 9, "pool", "x"));
        assert_eq!(expected.lines("a/b.wast", "on-demand"), [9]);
        for bad in
            ["a/b.wast:7 pool", "a/b.wast:7 pool `x`", "a/b.wast:7 pool `` why", "a/b.wast:7 heap `x` why"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("a:1 any `x` y\na:1 pool `x` y").is_err());
    }

    #[test]
    fn the_list_can_be_read() {
        Expected::read().unwrap();
    }
}
