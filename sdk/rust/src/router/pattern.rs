//! Patterns of paths.

use crate::percent::{Plus, decode};

/// A segment of a pattern.
enum Segment {
    /// To be equal.
    Name(&'static str),
    /// Any one segment.
    Param(&'static str),
    /// All that follows.
    Rest(&'static str),
}

fn segment(text: &'static str) -> Segment {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        None => Segment::Name(text),
        Some(name) => match name.strip_prefix('*') {
            Some(name) => Segment::Rest(name),
            None => Segment::Param(name),
        },
    }
}

/// The program's own mistake, so it is a panic.
pub(super) fn check(pattern: &str) {
    assert!(pattern.starts_with('/'), "the pattern {pattern:?} does not begin with `/`");
    let behind = pattern.find("{*").and_then(|at| pattern[at..].find('/'));
    assert!(behind.is_none(), "the pattern {pattern:?} has something behind its rest");
}

/// The same for what stands before patterns.
pub(super) fn check_prefix(prefix: &str) {
    assert!(prefix.starts_with('/'), "the prefix {prefix:?} does not begin with `/`");
    assert!(!prefix.ends_with('/'), "the prefix {prefix:?} ends with `/`");
    assert!(!prefix.contains('{'), "the prefix {prefix:?} has a parameter");
}

/// Is the path the prefix, or under it?
pub(super) fn is_under(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The parameters, decoded, if the path fits.
pub(super) fn fit(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut pattern, mut path) = (pattern.strip_prefix('/')?, path.strip_prefix('/')?);
    let mut params = Vec::new();
    loop {
        let (wanted, more_wanted) = cut(pattern);
        let (found, more_found) = cut(path);
        match segment(wanted) {
            Segment::Rest(name) if !path.is_empty() => {
                params.push((name, decode(path, Plus::Plus).into_owned()));
                return Some(params);
            }
            Segment::Param(name) if !found.is_empty() => {
                params.push((name, decode(found, Plus::Plus).into_owned()));
            }
            Segment::Name(name) if decode(found, Plus::Plus) == name => {}
            _ => return None,
        }
        match (more_wanted, more_found) {
            (None, None) => return Some(params),
            (Some(wanted), Some(found)) => (pattern, path) = (wanted, found),
            _ => return None,
        }
    }
}

/// The first segment, and what follows its `/`.
fn cut(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pattern: &'static str, path: &str) -> Option<String> {
        let params = fit(pattern, path)?;
        Some(params.iter().map(|(name, value)| format!("{name}={value};")).collect())
    }

    #[test]
    fn paths_fit_segment_by_segment() {
        for (pattern, path, fits) in [
            ("/", "/", Some("")),
            ("/", "/a", None),
            ("/a", "/", None),
            ("/a", "/a", Some("")),
            ("/a", "/%61", Some("")),
            ("/a", "/A", None),
            ("/a", "/a/", None),
            ("/a/", "/a/", Some("")),
            ("/a", "/ab", None),
            ("/{x}", "/", None),
            ("/{x}", "/a%20b%2Fc+d", Some("x=a b/c+d;")),
            ("/{x}", "/a/b", None),
            ("/{x}/b/{y}", "/1/b/2", Some("x=1;y=2;")),
            ("/{x}/b/{y}", "/1/c/2", None),
            ("/{x}/{y}", "/1//", None),
            ("/f/{*rest}", "/f/a/b%20c/", Some("rest=a/b c/;")),
            ("/f/{*rest}", "/f/", None),
            ("/f/{*rest}", "/f", None),
            ("/{*rest}", "//", Some("rest=/;")),
            ("/{x}", "*", None),
        ] {
            assert_eq!(params(pattern, path).as_deref(), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn prefixes_end_where_segments_do() {
        assert!(is_under("/api", "/api") && is_under("/api", "/api/x"));
        assert!(!is_under("/api", "/apis") && !is_under("/api", "/"));
    }

    #[test]
    fn a_pattern_that_is_none_is_a_mistake() {
        for pattern in ["", "a", "/{*rest}/x"] {
            assert!(std::panic::catch_unwind(|| check(pattern)).is_err(), "{pattern}");
        }
        check("/{*rest}");
        for prefix in ["a", "/", "/a/", "/{x}"] {
            assert!(std::panic::catch_unwind(|| check_prefix(prefix)).is_err(), "{prefix}");
        }
    }
}
