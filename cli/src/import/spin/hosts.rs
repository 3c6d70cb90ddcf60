//! `allowed_outbound_hosts` → `outbound`: `scheme://host[:port]`, `*` in the places of each.

use std::collections::BTreeMap;

use artifact::manifest::{AppConfig, origin::HostPattern, parse::Value};

use super::{super::Note, Variable, Walk};

impl Walk<'_> {
    pub(super) fn outbound_hosts(
        &mut self,
        path: &str,
        value: &Value<'_>,
        variables: &BTreeMap<String, Variable>,
        config: &mut AppConfig,
    ) {
        for written in self.reader.strings(path, value) {
            let known = super::variables::resolve(&written, variables);
            let pattern = match known.as_deref() {
                Some(known) => pattern(known),
                None => Err("it is made of a variable that has no value here"),
            };
            match pattern {
                Ok(pattern) if config.outbound.contains(&pattern) => {}
                Ok(pattern) => {
                    self.notes.push(Note::Taken(format!("outbound {pattern} (from {written:?})")));
                    config.outbound.push(pattern);
                }
                Err(why) => {
                    self.notes.push(Note::Ignored(format!(
                        "{}: {path}: {written:?} is ignored: {why}",
                        super::FILE
                    )));
                }
            }
        }
    }
}

/// `https://api.example:8443` → `api.example:8443`
fn pattern(written: &str) -> Result<String, &'static str> {
    if written == "insecure:allow-all" {
        return Ok("*".into());
    }
    let (scheme, authority) = match written.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.strip_suffix('/').unwrap_or(rest)),
        None => ("*", written),
    };
    if !matches!(scheme, "http" | "https" | "*") {
        return Err("programs fetch by HTTP only");
    }
    if authority == "self" || authority.ends_with(".spin.internal") {
        return Err("a program does not call others of its app; each is an app with a host name of its own");
    }
    if authority.contains('/') {
        return Err("networks are not named by their prefix; name hosts");
    }
    let host = match authority.rsplit_once(':') {
        // Any port is no pattern here.
        Some((_, "*")) => return Err("hosts on any port are not offered; name the ports"),
        Some((_, ports)) if ports.contains("..") => return Err("ranges of ports are not offered; name each"),
        _ => authority,
    };
    HostPattern::parse(host).map_err(|_| "it is not host, *.host or *, with an optional port")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn hosts_of_spin_become_patterns_or_are_told() {
        for (written, pattern_here) in [
            ("https://api.example", "api.example"),
            ("https://api.example/", "api.example"),
            ("http://api.example:8080", "api.example:8080"),
            ("https://*.example.com", "*.example.com"),
            ("*://api.example:443", "api.example:443"),
            ("https://*", "*"),
            ("insecure:allow-all", "*"),
            ("api.example", "api.example"),
        ] {
            assert_eq!(pattern(written).as_deref(), Ok(pattern_here), "{written}");
        }
        for refused in [
            "redis://cache.example:6379",
            "http://self",
            "http://other.spin.internal",
            "http://10.0.0.0/8",
            "https://*:*",
            "http://api.example:8000..9000",
            "https://a b",
            "",
        ] {
            assert!(pattern(refused).is_err(), "{refused}");
        }
    }
}
