//! What an image is called: `oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`.
//!
//! Every part goes into a URL, so every part is held against the characters that the distribution specification gives it.

use std::{fmt, path::Path};

use artifact::Digest;

/// How a reference begins.
pub const SCHEME: &str = "oci://";
/// Longest host and repository together, as the specification advises.
const NAME_BYTES_MAX: usize = 255;
/// Longest tag, as the specification says.
const TAG_BYTES_MAX: usize = 128;
/// The tag where none is named, as other tools have it.
const TAG_DEFAULT: &str = "latest";

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The registry's host, with its port if it was given.
    pub host: String,
    /// Path of the image in it.
    pub repository: String,
    /// Which of its images.
    pub which: Which,
}

/// Which image of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that a tag names now.
    Tag(String),
    /// The one whose manifest has this sha-256. A tag beside it says nothing more.
    Digest(Digest),
}

impl Reference {
    /// Is this meant as a reference, and not as a path?
    pub fn text_of(source: &Path) -> Option<&str> {
        source.to_str().filter(|text| text.starts_with(SCHEME))
    }

    /// Reads one; the error says what is wrong and how it should be.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let wrong = |why: &str| format!("{text:?} names no image: {why}; write oci://HOST/REPOSITORY:TAG");
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with oci://"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| wrong("it has no repository"))?;
        let (path, digest) = match path.split_once('@') {
            None => (path, None),
            Some((path, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
                (path, Some(digest.ok_or_else(|| wrong("a digest is sha256: and 64 hex characters"))?))
            }
        };
        let (repository, tag) = match path.split_once(':') {
            None => (path, TAG_DEFAULT),
            Some((repository, tag)) => (repository, tag),
        };
        if !is_host(host) {
            return Err(wrong("its host is none"));
        }
        if host.len() + repository.len() > NAME_BYTES_MAX || !repository.split('/').all(is_component) {
            return Err(wrong("a repository has lower-case letters, digits, and . _ - between them"));
        }
        if !is_tag(tag) {
            return Err(wrong("a tag has letters, digits, . _ and -"));
        }
        let which = digest.map_or_else(|| Which::Tag(tag.to_owned()), Which::Digest);
        Ok(Reference { host: host.to_owned(), repository: repository.to_owned(), which })
    }

    /// The same image, by the digest of its manifest.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { which: Which::Digest(digest), ..self.clone() }
    }

    /// The last part of the repository: what the image is of.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Is the registry on this machine?
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}{}", self.host, self.repository, self.which)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Tag(tag) => write!(f, ":{tag}"),
            Which::Digest(digest) => write!(f, "@sha256:{digest}"),
        }
    }
}

/// Is a `HOST[:PORT]` this machine, whatever a name service says?
pub fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_host(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", if after.is_empty() { None } else { after.strip_prefix(':').or(Some("")) })
        }
        None => match authority.split_once(':') {
            None => (authority, None),
            Some((host, port)) => (host, Some(port)),
        },
    };
    let is_label = |label: &str| {
        label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_plain = |c: Option<&u8>| c.is_some_and(|c| is_plain(*c));
    let is_separator = |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|c| *c == b'-');
    ends_plain(bytes.first())
        && ends_plain(bytes.last())
        && bytes.split(|c| is_plain(*c)).filter(|run| !run.is_empty()).all(is_separator)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|c| is_word(c) || b".-".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_other_tools_write_them() {
        let digest = Digest::of(b"manifest");
        for (text, host, repository, which) in [
            ("oci://ghcr.io/acme/shop:1.2", "ghcr.io", "acme/shop", Which::Tag("1.2".into())),
            ("oci://localhost:5000/shop", "localhost:5000", "shop", Which::Tag("latest".into())),
            ("oci://[::1]:5000/a/b--c/d__e:X", "[::1]:5000", "a/b--c/d__e", Which::Tag("X".into())),
            (&format!("oci://r.example/shop@sha256:{digest}"), "r.example", "shop", Which::Digest(digest)),
            (&format!("oci://r.example/shop:1@sha256:{digest}"), "r.example", "shop", Which::Digest(digest)),
        ] {
            let read = Reference::parse(text).unwrap();
            assert_eq!((read.host.as_str(), read.repository.as_str()), (host, repository));
            assert_eq!(read.which, which);
            assert_eq!(Reference::parse(&read.to_string()).unwrap(), read);
        }
        let read = Reference::parse("oci://ghcr.io/acme/shop:1.2").unwrap();
        assert_eq!(
            (read.name(), read.at(digest).to_string()),
            ("shop", format!("oci://ghcr.io/acme/shop@sha256:{digest}"))
        );
        assert_eq!(Reference::text_of(Path::new("oci://a/b")), Some("oci://a/b"));
        assert_eq!(Reference::text_of(Path::new("oci/b.wasm")), None);
    }

    #[test]
    fn what_would_be_something_else_in_a_url_is_no_reference() {
        for text in [
            "oci://",
            "oci://host",
            "oci:///shop",
            "oci://host/",
            "oci://user@host/shop",
            "oci://user:pw@host/shop",
            "oci://host:0/shop",
            "oci://host:99999/shop",
            "oci://ho st/shop",
            "oci://host./shop",
            "oci://[::1/shop",
            "oci://[::1]x/shop",
            "oci://host/Shop",
            "oci://host/../shop",
            "oci://host/a//b",
            "oci://host/a/",
            "oci://host/a?x=1",
            "oci://host/a#x",
            "oci://host/a___b",
            "oci://host/a..b",
            "oci://host/a:",
            "oci://host/a:-x",
            "oci://host/a:b/c",
            "oci://host/a%2f",
            "oci://host/a@sha256:12",
            "oci://host/a@sha512:12",
            "http://host/a",
        ] {
            let refused = Reference::parse(text).unwrap_err();
            assert!(
                refused.contains("names no image") && refused.contains("oci://HOST/"),
                "{text}: {refused}"
            );
        }
        assert!(Reference::parse(&format!("oci://host/{}", "a".repeat(256))).is_err());
        assert!(Reference::parse(&format!("oci://host/a:{}", "a".repeat(129))).is_err());
    }

    #[test]
    fn this_machine_is_told_from_hosts_that_are_named_like_it() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["localhost.evil.example", "127.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
