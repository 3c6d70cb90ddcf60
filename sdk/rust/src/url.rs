//! Absolute URLs in parts.

use std::{fmt, ops::Range, str::FromStr};

use http::Uri;

use crate::Query;

/// An absolute URL, `scheme://user@host:port/path?query#fragment`, in parts that are as they were written: nothing is
/// decoded or made shorter.
///
/// ```
/// use skerry::Url;
///
/// let url: Url = "https://u@a.example:8443/p/q?x=1&x=2#f".parse()?;
/// assert_eq!((url.scheme(), url.user(), url.host(), url.port()), ("https", Some("u"), "a.example", Some(8443)));
/// assert_eq!((url.path(), url.query(), url.fragment()), ("/p/q", Some("x=1&x=2"), Some("f")));
/// assert_eq!(url.query_pairs().all("x").collect::<Vec<_>>(), ["1", "2"]);
/// assert!("/p".parse::<Url>().is_err());
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: Range<usize>,
    user: Option<Range<usize>>,
    host: Range<usize>,
    port: Option<u16>,
    path: Range<usize>,
    query: Option<Range<usize>>,
    fragment: Option<Range<usize>>,
}

/// Why a text is no absolute URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadUrl(&'static str);

impl Url {
    /// Before `://`.
    pub fn scheme(&self) -> &str {
        &self.text[self.scheme.clone()]
    }

    /// Before the `@`, with a password if there is one.
    pub fn user(&self) -> Option<&str> {
        self.part(&self.user)
    }

    /// A name or an address; one of IPv6 in its brackets.
    pub fn host(&self) -> &str {
        &self.text[self.host.clone()]
    }

    /// The port, if it is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port, or that of `http` (80) or `https` (443).
    pub fn port_or_default(&self) -> Option<u16> {
        self.port.or(match self.scheme() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })
    }

    /// The path; `/` where none is written.
    pub fn path(&self) -> &str {
        match &self.text[self.path.clone()] {
            "" => "/",
            path => path,
        }
    }

    /// Behind the `?`.
    pub fn query(&self) -> Option<&str> {
        self.part(&self.query)
    }

    /// Names and values of the query.
    pub fn query_pairs(&self) -> Query<'_> {
        Query::new(self.query().unwrap_or_default())
    }

    /// Behind the `#`.
    pub fn fragment(&self) -> Option<&str> {
        self.part(&self.fragment)
    }

    /// All of it, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, range: &Option<Range<usize>>) -> Option<&str> {
        range.clone().map(|range| &self.text[range])
    }
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Url, BadUrl> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadUrl("it has a character that must be percent-encoded"));
        }
        let scheme = 0..text.find("://").ok_or(BadUrl("it has no scheme"))?;
        if !is_scheme(&text[scheme.clone()]) {
            return Err(BadUrl("its scheme is none"));
        }
        let start = scheme.end + 3;
        let end = |from: usize, marks: &[char]| text[from..].find(marks).map_or(text.len(), |at| from + at);
        let authority = start..end(start, &['/', '?', '#']);
        let (user, host, port) = split_authority(text, authority.clone())?;

        let path = authority.end..end(authority.end, &['?', '#']);
        let behind = |from: usize, mark: char| text[from..].starts_with(mark).then_some(from + 1);
        let query = behind(path.end, '?').map(|from| from..end(from, &['#']));
        let fragment = query.as_ref().map_or(path.end, |query| query.end);
        let fragment = behind(fragment, '#').map(|from| from..text.len());
        Ok(Url { text: text.to_owned(), scheme, user, host, port, path, query, fragment })
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

type Authority = (Option<Range<usize>>, Range<usize>, Option<u16>);

/// User, host and port.
fn split_authority(text: &str, authority: Range<usize>) -> Result<Authority, BadUrl> {
    let user = text[authority.clone()].rfind('@').map(|at| authority.start..authority.start + at);
    let start = user.as_ref().map_or(authority.start, |user| user.end + 1);
    let rest = &text[start..authority.end];
    let length = match rest.strip_prefix('[') {
        Some(address) => address.find(']').ok_or(BadUrl("its address has no end"))? + 2,
        None => rest.find(':').unwrap_or(rest.len()),
    };
    let (host, port) = rest.split_at(length);
    let is_address = host.starts_with('[');
    let is_of_host = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || b"-._~%!$&'()*+,;=".contains(&byte)
            || (is_address && b"[]:".contains(&byte))
    };
    if host.is_empty() || !host.bytes().all(is_of_host) {
        return Err(BadUrl("its host is none"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| BadUrl("its port is none"))?)
        }
        _ => return Err(BadUrl("its port is none")),
    };
    Ok((user, start..start + length, port))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no absolute URL: {}", self.0)
    }
}

impl std::error::Error for BadUrl {}

/// For requests: without user and fragment, which no request has.
impl TryFrom<&Url> for Uri {
    type Error = http::Error;

    fn try_from(url: &Url) -> Result<Uri, http::Error> {
        let host = url.host();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let uri = Uri::builder().scheme(url.scheme()).path_and_query(target);
        match url.port() {
            Some(port) => uri.authority(format!("{host}:{port}")),
            None => uri.authority(host),
        }
        .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (&'a str, &'a str, Option<u16>, &'a str, Option<&'a str>, Option<&'a str>);

    #[test]
    fn urls_fall_into_their_parts() {
        let good: [(&str, Parts<'_>); 7] = [
            ("http://a", ("http", "a", None, "/", None, None)),
            ("http://a?b", ("http", "a", None, "/", Some("b"), None)),
            ("http://a#b?c", ("http", "a", None, "/", None, Some("b?c"))),
            ("http://a:/x", ("http", "a", None, "/x", None, None)),
            ("http://[::1]:8080/x?#", ("http", "[::1]", Some(8080), "/x", Some(""), Some(""))),
            ("http://u:p@w@a/@", ("http", "a", None, "/@", None, None)),
            ("wasi+x://a-b.c/%20", ("wasi+x", "a-b.c", None, "/%20", None, None)),
        ];
        for (text, parts) in good {
            let url: Url = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let found = (url.scheme(), url.host(), url.port(), url.path(), url.query(), url.fragment());
            assert_eq!(found, parts, "{text}");
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_absolute_url_is_refused() {
        for text in [
            "",
            "/p",
            "a.example",
            "://a",
            "1x://a",
            "h ttp://a",
            "http://",
            "http://:80",
            "http://a:x",
            "http://a:65536",
            "http://a:+1",
            "http://[::1",
            "http://[::1]x",
            "http://a b",
            "http://ä",
            "http://a\r\nb",
            "http://a<b/",
            "http:/a",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_request_is_made_of_what_a_server_may_know() {
        let url: Url = "https://u@a.example:8443/p?q#f".parse().unwrap();
        assert_eq!(Uri::try_from(&url).unwrap(), "https://a.example:8443/p?q");
        assert_eq!(url.port_or_default(), Some(8443));
        let url: Url = "https://a.example".parse().unwrap();
        assert_eq!(Uri::try_from(&url).unwrap(), "https://a.example/");
        assert_eq!(url.port_or_default(), Some(443));
    }
}
