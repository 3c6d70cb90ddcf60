//! Tenant, app, node and host names. Parsed once at the edge of the system, then carried as types, so that a
//! tenant is part of every key and no unchecked text becomes one.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest tenant, app or node name: one DNS label (RFC 1035 §2.3.4), because `<app>.<domain>` is a host name.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest host name in text form (RFC 1035 §2.3.4, without the root dot).
pub const HOST_BYTES_MAX: usize = 253;

/// The text is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

fn label(text: &str) -> Result<(), &'static str> {
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Err("is longer than 63 characters");
    }
    if !text.as_bytes().iter().all(inner) {
        return Err("has a character other than a-z, 0-9 and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("starts or ends with '-'");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<$type, NameError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(text) {
                    Ok(()) => Ok($type(text.to_owned())),
                    Err(why) => Err(NameError { what: $what, text: text.chars().take(80).collect(), why }),
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<$type, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Who owns apps, hosts and tokens.
    TenantName, "tenant name", label
);
name!(
    /// An app's name, unique within its tenant.
    AppName, "app name", label
);
name!(
    /// A POP node's name, unique within the fleet: its POP and a number, such as `fra1-3`.
    NodeName, "node name", label
);
name!(
    /// A POP's name, such as `fra1`.
    PopName, "POP name", label
);
name!(
    /// A host name in its one canonical form: lower case, ASCII (IDN as A-labels), no port, no trailing dot.
    /// It is the tenant key of a request, so it exists only in this form.
    HostName, "host name", host
);

name!(
    /// A store of configuration, secrets or key-value pairs, unique within its kind and owner.
    StoreName, "store name", store
);
name!(
    /// A secret's name within its store.
    SecretName, "secret name", secret
);
name!(
    /// A key of a key-value store: any text without control characters.
    KvKey, "key", kv_key
);

/// Longest name of a store or a secret, as on other edge platforms: programs made for those run unchanged.
pub const STORE_NAME_BYTES_MAX: usize = 255;
/// Longest key of a key-value store, the same way.
pub const KV_KEY_BYTES_MAX: usize = 1024;

/// Names that stand in paths and in error messages: visible, and none that a path would swallow (`.`, `..`).
fn store(text: &str) -> Result<(), &'static str> {
    plain_name(text, |c| c.is_ascii_alphanumeric() || b"_-. ".contains(&c))?;
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err("starts or ends with a space");
    }
    Ok(())
}

fn secret(text: &str) -> Result<(), &'static str> {
    plain_name(text, |c| c.is_ascii_alphanumeric() || b"_-.".contains(&c))
}

fn plain_name(text: &str, allowed: fn(u8) -> bool) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > STORE_NAME_BYTES_MAX {
        return Err("is longer than 255 characters");
    }
    if !text.bytes().all(allowed) {
        return Err("has a character other than letters, digits, '_', '-' and '.'");
    }
    if text.bytes().all(|c| c == b'.') {
        return Err("is made of dots alone");
    }
    Ok(())
}

fn kv_key(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > KV_KEY_BYTES_MAX {
        return Err("is longer than 1024 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    Ok(())
}

/// RFC 952 / RFC 1123 §2.1 host name: dot-separated labels. A name of digits only in the last label is
/// refused, because it would be an IP address (WHATWG URL §3.5 "ends in a number").
fn host(text: &str) -> Result<(), &'static str> {
    if text.len() > HOST_BYTES_MAX {
        return Err("is longer than 253 characters");
    }
    text.split('.').try_for_each(label)?;
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|c| c.is_ascii_digit()) {
        return Err("ends in a number: an address is not a host name");
    }
    Ok(())
}

impl HostName {
    /// Parses what a client wrote in `Host` or `:authority` without its port: case is folded and one
    /// trailing dot dropped, everything else must already be canonical.
    pub fn from_authority_host(text: &str) -> Result<HostName, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.bytes().any(|c| c.is_ascii_uppercase()) {
            return text.to_ascii_lowercase().parse();
        }
        text.parse()
    }
}

/// An app of a tenant: the key of everything an app owns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AppId {
    /// The owner.
    pub tenant: TenantName,
    /// The app's name within it.
    pub app: AppName,
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_one_canonical_form() {
        for (written, canonical) in [
            ("Hello.LOCALHOST", "hello.localhost"),
            ("a.example.", "a.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(HostName::from_authority_host(written).unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let deep = ["abcdefgh"; 32].join(".");
        for bad in [
            "",
            ".",
            "a..b",
            "a.b..",
            "-a.b",
            "a-.b",
            "a_b.c",
            "a b",
            "a,b",
            "user@host",
            "host:80",
            "[::1]",
            "127.0.0.1",
            "1.2.3",
            "bücher.example",
            "a/b",
            "*.localhost",
            long.as_str(),
            deep.as_str(),
        ] {
            assert!(HostName::from_authority_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_single_labels() {
        assert!("hello-2".parse::<AppName>().is_ok());
        for bad in ["", "Hello", "a.b", "a/b", "-a", "a-", &"x".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }
}
