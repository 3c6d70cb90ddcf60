//! Which host a request is for. The host is the tenant key, so there is exactly one spelling of one valid
//! authority or there is no request: bare hyper routes nothing and answers 200 to all that is refused here.
//!
//! Pure: no socket, no route table. Deliberately absent: whether the host exists (404, by the router).
//!
//! Rules, in the order they are checked:
//! 1. CONNECT, authority-form and asterisk-form targets name no resource of an app (RFC 9110 §9.3.6,
//!    RFC 9112 §3.2.3 and §3.2.4): 400.
//! 2. At most one `Host` field line; in h1 exactly one, in 1.0 too (RFC 9112 §3.2): 400.
//! 3. Every authority given is one valid name with an optional port: no userinfo (RFC 9110 §4.2.4), no list,
//!    no path, no address (RFC 9110 §7.2): 400.
//! 4. A target that names a host (absolute-form, `:authority`) names the same as `Host`
//!    (RFC 9112 §3.2.2, RFC 9113 §8.3.1, RFC 9114 §4.3.1), and the scheme of the connection
//!    (RFC 9110 §7.4): 400.
//! 5. Over TLS the host is the name the certificate was given for (RFC 9110 §7.4, RFC 6066 §3): 421.

use std::{fmt, str};

use artifact::HostName;
use http::{HeaderMap, Method, StatusCode, Uri, Version, header, uri};

use super::{Connection, TlsInfo};

/// A request's host and, when it was given, port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// In its canonical form.
    pub host: HostName,
    /// `None`: the scheme's default.
    pub port: Option<u16>,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => write!(f, "{}", self.host),
        }
    }
}

/// Why a request has no authority. The text may be shown to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// CONNECT, `host:port` or `*` as target.
    #[error("the request target must be a path or an absolute URL")]
    Target,
    /// Neither `Host` nor `:authority`.
    #[error("the request names no host")]
    Missing,
    /// More than one `Host` line.
    #[error("the request has more than one Host field")]
    Many,
    /// Not one host name with an optional port.
    #[error("the Host field or the authority of the request target is not one host name")]
    Invalid,
    /// `Host` and target disagree.
    #[error("the Host field and the request target name different hosts")]
    Mismatch,
    /// `http` over TLS, or the other way round.
    #[error("the scheme of the request target is not that of the connection")]
    Scheme,
    /// Another host than the one the TLS handshake was made for.
    #[error("this connection was opened for another host")]
    Misdirected,
}

impl Refusal {
    /// The status it is refused with.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Target
            | Refusal::Missing
            | Refusal::Many
            | Refusal::Invalid
            | Refusal::Mismatch
            | Refusal::Scheme => StatusCode::BAD_REQUEST,
            Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

/// The parts of a request that say where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The method, for CONNECT.
    pub method: &'a Method,
    /// The target as parsed by the protocol library, `:authority` and `:scheme` included.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// All fields, for `Host`.
    pub headers: &'a HeaderMap,
    /// What the handshake settled; `None` on a plaintext connection.
    pub tls: Option<&'a TlsInfo>,
}

impl<'a> Target<'a> {
    /// The target of a request on a connection.
    pub fn of(head: &'a http::request::Parts, connection: &'a Connection) -> Target<'a> {
        Target {
            method: &head.method,
            uri: &head.uri,
            version: head.version,
            headers: &head.headers,
            tls: connection.tls.as_ref(),
        }
    }

    /// Settles the authority by the rules of this module.
    pub fn authority(&self) -> Result<Authority, Refusal> {
        self.names_a_resource()?;
        let named_by_host = self.host_field()?;
        let named_by_target = self.uri.authority().map(|named| parse(named.as_str())).transpose()?;
        let authority = self.agree(named_by_host, named_by_target)?;
        self.scheme_matches()?;
        self.certificate_matches(&authority.host)?;
        Ok(authority)
    }

    fn names_a_resource(&self) -> Result<(), Refusal> {
        let path_only = self.uri.path_and_query().is_some_and(|path| path.as_str().starts_with('/'));
        if *self.method == Method::CONNECT || !path_only { Err(Refusal::Target) } else { Ok(()) }
    }

    fn host_field(&self) -> Result<Option<Authority>, Refusal> {
        let mut lines = self.headers.get_all(header::HOST).iter();
        let Some(line) = lines.next() else {
            // h2 and h3 may name the host by `:authority` alone.
            return if self.version < Version::HTTP_2 { Err(Refusal::Missing) } else { Ok(None) };
        };
        if lines.next().is_some() {
            return Err(Refusal::Many);
        }
        str::from_utf8(line.as_bytes()).map_err(|_| Refusal::Invalid).and_then(parse).map(Some)
    }

    fn agree(&self, host: Option<Authority>, target: Option<Authority>) -> Result<Authority, Refusal> {
        match (host, target) {
            (None, None) => Err(Refusal::Missing),
            (Some(only), None) | (None, Some(only)) => Ok(only),
            (Some(host), Some(target)) => {
                let port = |authority: &Authority| authority.port.unwrap_or(self.default_port());
                if host.host != target.host || port(&host) != port(&target) {
                    return Err(Refusal::Mismatch);
                }
                Ok(host)
            }
        }
    }

    fn default_port(&self) -> u16 {
        if self.tls.is_some() { 443 } else { 80 }
    }

    fn scheme_matches(&self) -> Result<(), Refusal> {
        let expected = if self.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        match self.uri.scheme() {
            Some(scheme) if *scheme != expected => Err(Refusal::Scheme),
            _ => Ok(()),
        }
    }

    fn certificate_matches(&self, host: &HostName) -> Result<(), Refusal> {
        match self.tls {
            Some(tls) if tls.server_name.as_ref() != Some(host) => Err(Refusal::Misdirected),
            _ => Ok(()),
        }
    }
}

/// Parses `host [":" port]`, total over all text. The port must be a number from 1 to 65535; an empty one is
/// refused although RFC 3986 §3.2.3 allows it, because nobody sends it in good faith.
pub fn parse(text: &str) -> Result<Authority, Refusal> {
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((host, port)) => (host, Some(parse_port(port)?)),
    };
    // Everything else (userinfo, list, path, brackets, addresses, spaces) is no host name.
    let host = HostName::from_authority_host(host).map_err(|_| Refusal::Invalid)?;
    Ok(Authority { host, port })
}

fn parse_port(text: &str) -> Result<u16, Refusal> {
    let digits_only = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits_only && port > 0 => Ok(port),
        _ => Err(Refusal::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    struct Case {
        method: &'static str,
        target: &'static str,
        version: Version,
        hosts: &'static [&'static str],
        sni: Option<&'static str>,
    }

    impl Case {
        fn authority(&self) -> Result<String, Refusal> {
            let mut request = Request::builder()
                .method(self.method)
                .uri(self.target)
                .version(self.version)
                .body(())
                .unwrap();
            for host in self.hosts {
                let value = http::HeaderValue::from_bytes(host.as_bytes()).unwrap();
                request.headers_mut().append(header::HOST, value);
            }
            let tls = self.sni.map(|name| TlsInfo {
                server_name: Some(name.parse().unwrap()),
                version: rustls::ProtocolVersion::TLSv1_3,
                cipher: None,
            });
            let target = Target {
                method: request.method(),
                uri: request.uri(),
                version: request.version(),
                headers: request.headers(),
                tls: tls.as_ref(),
            };
            target.authority().map(|authority| authority.to_string())
        }
    }

    fn h1(target: &'static str, hosts: &'static [&'static str]) -> Result<String, Refusal> {
        Case { method: "GET", target, version: Version::HTTP_11, hosts, sni: None }.authority()
    }

    fn h2(target: &'static str, hosts: &'static [&'static str]) -> Result<String, Refusal> {
        let h2 = Case { method: "GET", target, version: Version::HTTP_2, hosts, sni: Some("a.example") };
        let h3 = Case { version: Version::HTTP_3, ..h2 };
        let answers = (h2.authority(), h3.authority());
        assert_eq!(answers.0, answers.1, "h2 and h3 agree");
        answers.0
    }

    #[test]
    fn one_valid_authority_is_taken_in_canonical_form() {
        assert_eq!(h1("/", &["a.example"]).unwrap(), "a.example");
        assert_eq!(h1("/x?y", &["A.Example."]).unwrap(), "a.example");
        assert_eq!(h1("/", &["a.example:8443"]).unwrap(), "a.example:8443");
        assert_eq!(h1("//b.example/", &["a.example"]).unwrap(), "a.example", "a path may begin with //");
        assert_eq!(h1("http://a.example/", &["a.example"]).unwrap(), "a.example");
        assert_eq!(h1("http://a.example:80/", &["a.example"]).unwrap(), "a.example");
        assert_eq!(h2("https://a.example/", &[]).unwrap(), "a.example");
        assert_eq!(h2("https://A.example/", &["a.example"]).unwrap(), "a.example");
        assert_eq!(h2("https://a.example:443/", &["a.example"]).unwrap(), "a.example");
        assert_eq!(
            h2("/", &["a.example"]).unwrap(),
            "a.example",
            ":authority may be absent if Host is there"
        );
    }

    #[test]
    fn host_confusion_is_refused_on_h1() {
        let cases: &[(&str, &[&str], Refusal)] = &[
            ("/", &[], Refusal::Missing),
            ("http://a.example/", &[], Refusal::Missing),
            ("/", &["a.example", "b.example"], Refusal::Many),
            ("/", &["a.example", "a.example"], Refusal::Many),
            ("/", &["a.example, b.example"], Refusal::Invalid),
            ("/", &["a.example,b.example"], Refusal::Invalid),
            ("/", &[""], Refusal::Invalid),
            ("/", &["."], Refusal::Invalid),
            ("/", &[":80"], Refusal::Invalid),
            ("/", &["user@a.example"], Refusal::Invalid),
            ("/", &["user:pass@a.example"], Refusal::Invalid),
            ("/", &["a.example/path"], Refusal::Invalid),
            ("/", &["a.example?q"], Refusal::Invalid),
            ("/", &["a.example#f"], Refusal::Invalid),
            ("/", &["http://a.example"], Refusal::Invalid),
            ("/", &["a.example b.example"], Refusal::Invalid),
            ("/", &["a.example\\b"], Refusal::Invalid),
            ("/", &["a%2eexample"], Refusal::Invalid),
            ("/", &["a.example.."], Refusal::Invalid),
            ("/", &["*.example"], Refusal::Invalid),
            ("/", &["b\u{fc}cher.example"], Refusal::Invalid),
            ("/", &["127.0.0.1"], Refusal::Invalid),
            ("/", &["0x7f.1"], Refusal::Invalid),
            ("/", &["[::1]"], Refusal::Invalid),
            ("/", &["[::1]:80"], Refusal::Invalid),
            ("/", &["a.example:"], Refusal::Invalid),
            ("/", &["a.example:0"], Refusal::Invalid),
            ("/", &["a.example:65536"], Refusal::Invalid),
            ("/", &["a.example:+80"], Refusal::Invalid),
            ("/", &["a.example:80:80"], Refusal::Invalid),
            ("/", &["a.example:80a"], Refusal::Invalid),
            ("http://b.example/", &["a.example"], Refusal::Mismatch),
            ("http://a.example:81/", &["a.example"], Refusal::Mismatch),
            ("http://user@a.example/", &["a.example"], Refusal::Invalid),
            ("https://a.example/", &["a.example"], Refusal::Scheme),
            ("ftp://a.example/", &["a.example"], Refusal::Scheme),
            ("*", &["a.example"], Refusal::Target),
            ("a.example:80", &["a.example"], Refusal::Target),
        ];
        for (target, hosts, refusal) in cases {
            let case = Case { method: "GET", target, version: Version::HTTP_11, hosts, sni: None };
            assert_eq!(case.authority(), Err(*refusal), "{target} {hosts:?}");
            assert_eq!(refusal.status(), 400);
        }
        let old = Case { method: "GET", target: "/", version: Version::HTTP_10, hosts: &[], sni: None };
        assert_eq!(old.authority(), Err(Refusal::Missing), "HTTP/1.0 too");
        for target in ["a.example:80", "/"] {
            let tunnel = Case {
                method: "CONNECT",
                target,
                version: Version::HTTP_11,
                hosts: &["a.example"],
                sni: None,
            };
            assert_eq!(tunnel.authority(), Err(Refusal::Target));
        }
    }

    #[test]
    fn host_confusion_is_refused_on_h2_and_h3() {
        let cases: &[(&str, &[&str], Refusal)] = &[
            ("/", &[], Refusal::Missing),
            ("https://a.example/", &["b.example"], Refusal::Mismatch),
            ("https://a.example:8443/", &["a.example"], Refusal::Mismatch),
            ("https://a.example/", &["a.example", "a.example"], Refusal::Many),
            ("https://user@a.example/", &[], Refusal::Invalid),
            ("https://127.0.0.1/", &[], Refusal::Invalid),
            ("https://[::1]/", &[], Refusal::Invalid),
            ("http://a.example/", &[], Refusal::Scheme),
        ];
        for (target, hosts, refusal) in cases {
            assert_eq!(h2(target, hosts), Err(*refusal), "{target} {hosts:?}");
        }
    }

    #[test]
    fn another_host_than_the_certificate_is_misdirected() {
        for (host, sni, answer) in [
            ("a.example", "a.example", None),
            ("b.example", "a.example", Some(421)),
            ("sub.a.example", "a.example", Some(421)),
        ] {
            let target = Box::leak(format!("https://{host}/").into_boxed_str());
            let case = Case { method: "GET", target, version: Version::HTTP_2, hosts: &[], sni: Some(sni) };
            assert_eq!(case.authority().err().map(|refusal| refusal.status().as_u16()), answer);
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_idempotent(text in "\\PC{0,80}") {
            if let Ok(authority) = parse(&text) {
                prop_assert_eq!(parse(&authority.to_string()), Ok(authority));
            }
        }

        #[test]
        fn what_looks_like_a_name_parses_to_itself(
            host in "[a-z]([a-z0-9]{0,8}[a-z0-9])?(\\.[a-z]([a-z0-9]{0,8}[a-z0-9])?){0,3}",
            port in proptest::option::of(1u16..),
            dot in "\\.?",
        ) {
            let suffix = port.map(|port| format!(":{port}")).unwrap_or_default();
            let shouted = format!("{}{dot}{suffix}", host.to_ascii_uppercase());
            let authority = parse(&shouted).unwrap();
            prop_assert_eq!(authority.host.as_str(), host.as_str());
            prop_assert_eq!(authority.port, port);
        }

        #[test]
        fn punctuation_never_becomes_part_of_a_host(text in "[a-c.@,/:\\[\\] 0-9-]{0,24}") {
            if let Ok(authority) = parse(&text) {
                prop_assert!(authority.host.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
            }
        }
    }
}
