//! What a request's head asks of a file's representation: which coding, whether the client has it already, and which part
//! (RFC 9110 §12.5.3, §13, §14). Pure.

use std::ops::Range;

use artifact::assets::{AssetFile, Coding};
use http::{HeaderMap, HeaderName, header};

/// Elements of a list header looked at; the rest is as if it were not there.
const ELEMENTS_MAX: usize = 64;

/// The coding that is sent: of those there are, the one with the highest weight, and of equal ones the smallest. Where a client
/// says nothing, the file as it is.
pub fn coding(headers: &HeaderMap, file: &AssetFile) -> Coding {
    let (mut br, mut gzip, mut identity, mut any) = (None, None, None, None);
    for element in elements(headers, &header::ACCEPT_ENCODING) {
        let mut parts = element.split(';');
        let name = parts.next().unwrap_or_default().trim();
        // A weight that is none voids its element.
        let Some(weight) = weight(parts) else { continue };
        let place = match name {
            _ if name.eq_ignore_ascii_case("br") => &mut br,
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            _ if name.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        place.get_or_insert(weight);
    }
    let best = [(Coding::Br, br.or(any)), (Coding::Gzip, gzip.or(any))]
        .into_iter()
        .filter(|(coding, _)| file.blob(*coding).is_some())
        .filter_map(|(coding, weight)| Some((coding, weight.filter(|weight| *weight > 0)?)))
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    match (best, identity) {
        // What is not named is good enough, but the last choice.
        (Some((coding, _)), None) => coding,
        (Some((coding, weight)), Some(identity)) if weight >= identity => coding,
        // Refused or not: there is nothing else.
        _ => Coding::Identity,
    }
}

/// A weight in thousandths (RFC 9110 §12.4.2); without a parameter the whole.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<u32> {
    let Some(parameter) = parameters.next() else { return Some(1000) };
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// What the preconditions of a head make of a request for the representation with this tag (RFC 9110 §13.2.2). Dates are passed
/// over: a file has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It is to be answered.
    Holds,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wanted another one.
    Failed,
}

/// See [`Condition`].
pub fn condition(headers: &HeaderMap, tag: &str) -> Condition {
    if headers.contains_key(header::IF_MATCH) && !names(headers, &header::IF_MATCH, tag, Compare::Strong) {
        return Condition::Failed;
    }
    match names(headers, &header::IF_NONE_MATCH, tag, Compare::Weak) {
        true => Condition::NotModified,
        false => Condition::Holds,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// Does a list of tags name this one, or any? Tags are split at commas: ours have none within, so another tag that has
/// some is none of ours either way.
fn names(headers: &HeaderMap, list: &HeaderName, tag: &str, compare: Compare) -> bool {
    elements(headers, list).any(|element| {
        let bare = match compare {
            Compare::Weak => element.strip_prefix("W/").unwrap_or(element),
            Compare::Strong => element,
        };
        element == "*" || bare == tag
    })
}

/// Which part of a representation is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it, with 200: no range, one of a form that may be ignored, or one of another version.
    Whole,
    /// These bytes, with 206. Never empty.
    Bytes(Range<u64>),
    /// Nothing there is in the range: 416.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` for a representation of `bytes` bytes with this tag. Several ranges are answered with the
/// whole, which is allowed and bounded.
pub fn part(headers: &HeaderMap, bytes: u64, tag: &str) -> Part {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    if let Some(validator) = headers.get(header::IF_RANGE)
        && validator.as_bytes() != tag.as_bytes()
    {
        return Part::Whole;
    }
    let Some(spec) = range.to_str().ok().and_then(|text| text.trim().split_once('=')) else {
        return Part::Whole;
    };
    let (unit, spec) = (spec.0, spec.1.trim());
    if !unit.eq_ignore_ascii_case("bytes") || bytes == 0 {
        return Part::Whole;
    }
    let number = |text: &str| match !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // Beyond any file: the end.
        true => Some(text.parse().unwrap_or(u64::MAX)),
        false => None,
    };
    match spec.split_once('-') {
        Some(("", last)) => match number(last) {
            Some(0) => Part::Unsatisfiable,
            Some(count) => Part::Bytes(bytes.saturating_sub(count)..bytes),
            None => Part::Whole,
        },
        Some((first, last)) => {
            match (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) }) {
                (Some(first), Some(last)) if first > last => Part::Whole,
                (Some(first), Some(_)) if first >= bytes => Part::Unsatisfiable,
                (Some(first), Some(last)) => Part::Bytes(first..last.saturating_add(1).min(bytes)),
                _ => Part::Whole,
            }
        }
        None => Part::Whole,
    }
}

/// The elements of a list, over all its lines.
fn elements<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .take(ELEMENTS_MAX)
}

#[cfg(test)]
mod tests {
    use artifact::assets::AssetBlob;

    use super::*;

    fn headers(name: HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    fn file(codings: &[Coding]) -> AssetFile {
        let blob = |coding| codings.contains(&coding).then(|| AssetBlob::of(b"x"));
        let plain = AssetBlob::of(b"x");
        AssetFile { content_type: "a/b".into(), plain, br: blob(Coding::Br), gzip: blob(Coding::Gzip) }
    }

    #[test]
    fn codings_are_chosen_by_weight_among_those_there_are() {
        use Coding::{Br, Gzip, Identity};
        let (both, gzip, none) = (file(&[Br, Gzip]), file(&[Gzip]), file(&[]));
        for (lines, of_both, of_gzip) in [
            (&[][..], Identity, Identity),
            (&[""], Identity, Identity),
            (&["gzip, deflate, br"], Br, Gzip),
            (&["gzip", "br"], Br, Gzip),
            (&["GZIP"], Gzip, Gzip),
            (&["x-gzip"], Gzip, Gzip),
            (&["*"], Br, Gzip),
            (&["*;q=0"], Identity, Identity),
            (&["*;q=0, gzip"], Gzip, Gzip),
            (&["br;q=0, *"], Gzip, Gzip),
            (&["br;q=0.5, gzip;q=0.8"], Gzip, Gzip),
            (&["br;q=0.8, gzip;q=0.8"], Br, Gzip),
            (&["br ; q=0.001"], Br, Identity),
            (&["br;q=0"], Identity, Identity),
            (&["br;q=0.000"], Identity, Identity),
            (&["identity;q=1, br;q=0.5"], Identity, Identity),
            (&["identity;q=0.5, br;q=0.5"], Br, Identity),
            (&["identity;q=0"], Identity, Identity),
            (&["br;q=1.5"], Identity, Identity),
            (&["br;q=0.1234"], Identity, Identity),
            (&["br;level=3"], Identity, Identity),
            (&["br;q="], Identity, Identity),
            (&["zstd, deflate"], Identity, Identity),
            (&["br;q=0, br"], Identity, Identity),
        ] {
            let headers = headers(header::ACCEPT_ENCODING, lines);
            assert_eq!(coding(&headers, &both), of_both, "{lines:?}");
            assert_eq!(coding(&headers, &gzip), of_gzip, "{lines:?} of gzip");
            assert_eq!(coding(&headers, &none), Identity, "{lines:?} of none");
        }
    }

    #[test]
    fn preconditions() {
        use Condition::{Failed, Holds, NotModified};
        for (name, lines, expected) in [
            (header::IF_NONE_MATCH, &["\"a\""][..], NotModified),
            (header::IF_NONE_MATCH, &["W/\"a\""], NotModified),
            (header::IF_NONE_MATCH, &["\"b\", \"a\""], NotModified),
            (header::IF_NONE_MATCH, &["\"b\"", "\"a\""], NotModified),
            (header::IF_NONE_MATCH, &["*"], NotModified),
            (header::IF_NONE_MATCH, &["\"b\""], Holds),
            (header::IF_NONE_MATCH, &["a"], Holds),
            (header::IF_NONE_MATCH, &[""], Holds),
            (header::IF_MATCH, &["\"a\""], Holds),
            (header::IF_MATCH, &["*"], Holds),
            (header::IF_MATCH, &["W/\"a\""], Failed),
            (header::IF_MATCH, &["\"b\""], Failed),
            (header::IF_MODIFIED_SINCE, &["Fri, 01 Jan 2100 00:00:00 GMT"], Holds),
            (header::IF_UNMODIFIED_SINCE, &["Thu, 01 Jan 1970 00:00:00 GMT"], Holds),
        ] {
            assert_eq!(condition(&headers(name.clone(), lines), "\"a\""), expected, "{name}: {lines:?}");
        }
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-", Part::Bytes(0..10)),
            ("bytes=3-5", Part::Bytes(3..6)),
            ("Bytes=3-5", Part::Bytes(3..6)),
            ("bytes= 3-5", Part::Bytes(3..6)),
            ("bytes=9-99", Part::Bytes(9..10)),
            ("bytes=0-18446744073709551615", Part::Bytes(0..10)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-30", Part::Bytes(0..10)),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=5-3", Part::Whole),
            ("bytes=1-2,4-5", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1 - 2", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes", Part::Whole),
        ] {
            assert_eq!(part(&headers(header::RANGE, &[range]), 10, "\"a\""), expected, "{range}");
        }
        assert_eq!(part(&headers(header::RANGE, &["bytes=0-1", "bytes=0-1"]), 10, "\"a\""), Part::Whole);
        assert_eq!(part(&headers(header::RANGE, &["bytes=0-1"]), 0, "\"a\""), Part::Whole);
        for (validator, expected) in [
            ("\"a\"", Part::Bytes(0..2)),
            ("\"b\"", Part::Whole),
            ("W/\"a\"", Part::Whole),
            ("Fri, 01 Jan 2100 00:00:00 GMT", Part::Whole),
        ] {
            let mut headers = headers(header::RANGE, &["bytes=0-1"]);
            headers.insert(header::IF_RANGE, validator.parse().unwrap());
            assert_eq!(part(&headers, 10, "\"a\""), expected, "{validator}");
        }
    }
}
