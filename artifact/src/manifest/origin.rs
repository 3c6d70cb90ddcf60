//! Where an app may fetch from: origins (`https://host:port`) and patterns of hosts, each in its one valid form.
//!
//! An address in any other spelling than dotted decimal or bracketed IPv6 (octal, hexadecimal, shortened, one number)
//! is refused here: resolvers take such spellings for addresses, which would slip past whoever checks names.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::HostName;

/// Longest host with port: a host name, brackets, colon and five digits.
const AUTHORITY_BYTES_MAX: usize = crate::names::HOST_BYTES_MAX + 9;

/// How an origin is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port of a URL without one.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A host in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OriginHost {
    /// A name to be looked up.
    Name(HostName),
    /// An address.
    Address(IpAddr),
}

/// One server: scheme, host, port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: OriginHost,
    /// Its port.
    pub port: u16,
}

/// Why a text is no host, origin or pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub struct OriginError {
    text: String,
    why: &'static str,
}

impl OriginError {
    fn new(text: &str, why: &'static str) -> OriginError {
        OriginError { text: text.chars().take(80).collect(), why }
    }
}

impl OriginHost {
    /// Parses a host as it stands in a URL, IPv6 in brackets. Case is folded and one trailing dot dropped.
    pub fn parse(text: &str) -> Result<OriginHost, OriginError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            let why = "is not an IPv6 address in brackets; zone ids are not allowed";
            return inner.map(|v6| OriginHost::Address(v6.into())).ok_or(OriginError::new(text, why));
        }
        let bare = text.strip_suffix('.').unwrap_or(text);
        if ends_in_a_number(bare) {
            let why = "is a number and not an IPv4 address in dotted decimal form";
            let v4 = bare.parse::<Ipv4Addr>().map_err(|_| OriginError::new(text, why))?;
            return Ok(OriginHost::Address(v4.into()));
        }
        let why = "is not a host name or an address";
        HostName::from_authority_host(text).map(OriginHost::Name).map_err(|_| OriginError::new(text, why))
    }
}

/// Would a resolver or browser take it for an IPv4 address? (WHATWG URL §3.5; `inet_aton` takes no more.)
fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|c| c.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|c| c.is_ascii_digit()),
    }
}

impl fmt::Display for OriginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginHost::Name(name) => name.fmt(f),
            OriginHost::Address(IpAddr::V4(v4)) => v4.fmt(f),
            OriginHost::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

impl Origin {
    /// Parses `http[s]://host[:port]`, with nothing after it but one `/`.
    pub fn parse(url: &str) -> Result<Origin, OriginError> {
        let (scheme, rest) = if let Some(rest) = url.strip_prefix("https://") {
            (Scheme::Https, rest)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (Scheme::Http, rest)
        } else {
            return Err(OriginError::new(url, "is not of the form http[s]://host[:port]"));
        };
        Origin::of(scheme, rest.strip_suffix('/').unwrap_or(rest))
    }

    /// The origin a URI's scheme and authority name.
    pub fn of(scheme: Scheme, authority: &str) -> Result<Origin, OriginError> {
        let (host, port) = split_port(authority)?;
        Ok(Origin {
            scheme,
            host: OriginHost::parse(host)?,
            port: port.unwrap_or_else(|| scheme.default_port()),
        })
    }

    /// Host and port as a request's authority: without the scheme's own port.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            return self.host.to_string();
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Takes an authority apart. No user, no empty port, no sign, no port 0.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), OriginError> {
    let wrong = |why| OriginError::new(authority, why);
    if authority.len() > AUTHORITY_BYTES_MAX {
        return Err(wrong("is too long"));
    }
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    let Some(colon) = colon else { return Ok((authority, None)) };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let port = port.parse().ok().filter(|port: &u16| digits && *port != 0);
    Ok((host, Some(port.ok_or_else(|| wrong("has a port that is not one of 1 to 65535"))?)))
}

/// Hosts an app may fetch from beside its backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Any,
    Under(HostName),
    Exactly(OriginHost),
}

impl HostPattern {
    /// Parses `host`, `*.host` or `*`, each with an optional `:port`.
    pub fn parse(text: &str) -> Result<HostPattern, OriginError> {
        let (host, port) = split_port(text)?;
        let hosts = if host == "*" {
            Hosts::Any
        } else if let Some(parent) = host.strip_prefix("*.") {
            match OriginHost::parse(parent)? {
                OriginHost::Name(name) => Hosts::Under(name),
                OriginHost::Address(_) => {
                    return Err(OriginError::new(text, "has a `*.` before an address"));
                }
            }
        } else {
            Hosts::Exactly(OriginHost::parse(host)?)
        };
        Ok(HostPattern { hosts, port })
    }

    /// Does it hold this origin? Without a port it holds the scheme's own.
    pub fn holds(&self, origin: &Origin) -> bool {
        self.port.unwrap_or_else(|| origin.scheme.default_port()) == origin.port
            && match &self.hosts {
                Hosts::Any => true,
                Hosts::Exactly(host) => *host == origin.host,
                Hosts::Under(parent) => match &origin.host {
                    OriginHost::Name(name) => {
                        let below = name.as_str().strip_suffix(parent.as_str());
                        below.is_some_and(|below| below.ends_with('.'))
                    }
                    OriginHost::Address(_) => false,
                },
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_form() {
        for (written, canonical) in [
            ("https://origin.example", "https://origin.example"),
            ("https://Origin.EXAMPLE.:443/", "https://origin.example"),
            ("http://origin.example:8080", "http://origin.example:8080"),
            ("http://192.0.2.1:80", "http://192.0.2.1"),
            ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("http://127.0.0.1.", "http://127.0.0.1"),
        ] {
            assert_eq!(Origin::parse(written).unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "origin.example",
            "ftp://origin.example",
            "HTTP://origin.example",
            "https://",
            "https:///",
            "https://a.example/path",
            "https://a.example?x",
            "https://a.example#x",
            "https://user@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:+80",
            "https://a.example:65536",
            "https://a.example:80:80",
            "https://a..example",
            "https://a_b.example",
            "https://bücher.example",
            "http://2130706433",
            "http://0x7f000001",
            "http://0X7F.1",
            "http://0x",
            "http://127.1",
            "http://127.0.1",
            "http://0177.0.0.1",
            "http://127.0.0.01",
            "http://127.0.0.0x1",
            "http://1.2.3.4.5",
            "http://256.1.1.1",
            "http://127.0.0.1..",
            "http://[::1",
            "http://[fe80::1%25eth0]",
            "http://[127.0.0.1]",
            "http://[::1]x:80",
            "http://::1",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_hold_what_they_say() {
        let holds = |pattern: &str, url: &str| {
            HostPattern::parse(pattern).unwrap().holds(&Origin::parse(url).unwrap())
        };
        for (pattern, url, expected) in [
            ("api.example", "https://api.example", true),
            ("API.example.", "http://api.example", true),
            ("api.example", "https://api.example:8443", false),
            ("api.example:8443", "https://api.example:8443", true),
            ("api.example:8443", "https://api.example", false),
            ("api.example", "https://x.api.example", false),
            ("*.example", "https://api.example", true),
            ("*.example", "https://a.b.example", true),
            ("*.example", "https://example", false),
            ("*.example", "https://badexample", false),
            ("*.example", "https://example.evil", false),
            ("*", "https://anything.example", true),
            ("*", "https://anything.example:1", false),
            ("*:1", "http://192.0.2.1:1", true),
            ("192.0.2.1", "http://192.0.2.1", true),
        ] {
            assert_eq!(holds(pattern, url), expected, "{pattern} {url}");
        }
        for bad in
            ["", "*.", "*x.example", "a.*", "*.192.0.2.1", "https://a.example", "a.example:http", "0x7f.1"]
        {
            assert!(HostPattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
