//! From a URL to the target it means.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    path::Path,
};

use anyhow::Context as _;
use http::Uri;

use crate::generate::{Protocol, Roots, Scenario, Target};

/// The target of a scenario, which takes the URL's path unless that is `/`.
pub fn target(
    url: &str,
    connect: Option<SocketAddr>,
    roots: Roots,
    scenario: &mut Scenario,
) -> anyhow::Result<Target> {
    let uri: Uri = url.parse().with_context(|| format!("--target {url} is not a URL"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => anyhow::bail!("--target {url} must begin with http:// or https://"),
    };
    let name = &scenario.name;
    match (tls, scenario.tls) {
        (true, false) => anyhow::bail!(
            "the scenario {name} is in the clear and --target {url} is not: give an http:// URL, or tls = true in \
             the scenario"
        ),
        (false, true) => anyhow::bail!(
            "the scenario {name} is encrypted and --target {url} is not: give an https:// URL{}",
            if scenario.protocol == Protocol::H3 { "" } else { ", or tls = false in the scenario" }
        ),
        _ => {}
    }
    let authority = uri.authority().with_context(|| format!("--target {url} has no host"))?;
    anyhow::ensure!(!authority.as_str().contains('@'), "--target takes no user name: {url}");
    if let Some(path) = uri.path_and_query().filter(|path| path.as_str() != "/") {
        path.as_str().clone_into(&mut scenario.request.path);
    }
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let address = match connect {
        Some(address) => address,
        None => resolve(authority.host(), port)?,
    };
    Ok(Target { address, authority: authority.as_str().to_owned(), roots })
}

fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    // Not every resolver knows them (RFC 6761).
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs().with_context(|| format!("looking up {host}"))?.next();
    found.with_context(|| format!("{host} has no address"))
}

/// Whose certificates are believed.
pub fn roots(ca: Option<&Path>, insecure: bool) -> anyhow::Result<Roots> {
    Ok(match ca {
        _ if insecure => Roots::Any,
        Some(path) => {
            Roots::Pem(fs::read(path).with_context(|| format!("reading the CA file {}", path.display()))?)
        }
        None => Roots::Platform,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(url: &str, text: &str) -> Result<(Target, Scenario), String> {
        let mut scenario = Scenario::parse(text).unwrap();
        let target = target(url, None, Roots::Any, &mut scenario).map_err(|error| format!("{error:#}"))?;
        Ok((target, scenario))
    }

    const PLAIN: &str = "name = 'x'\nprotocol = 'h1'\nconnections = 1\nduration_seconds = 1";
    const H3: &str = "name = 'x'\nprotocol = 'h3'\nconnections = 1\nduration_seconds = 1";

    #[test]
    fn a_url_names_address_authority_and_path() {
        let (target, scenario) = meant("http://a.localhost:8080/x?y", PLAIN).unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.authority.as_str(), scenario.request.path.as_str()), ("a.localhost:8080", "/x?y"));
        let (target, scenario) = meant("https://[::1]", H3).unwrap();
        assert_eq!(target.address, "[::1]:443".parse().unwrap());
        assert_eq!(scenario.request.path, "/");
    }

    #[test]
    fn a_url_that_does_not_fit_is_told_with_its_cure() {
        let told = |url: &str, text: &str| meant(url, text).map(drop).unwrap_err();
        assert_eq!(
            told("https://localhost", PLAIN),
            "the scenario x is in the clear and --target https://localhost is not: give an http:// URL, or tls = \
             true in the scenario"
        );
        assert_eq!(
            told("http://localhost", H3),
            "the scenario x is encrypted and --target http://localhost is not: give an https:// URL"
        );
        assert!(told("localhost:80", PLAIN).contains("must begin with http:// or https://"));
        assert!(told("ftp://localhost", PLAIN).contains("must begin with http:// or https://"));
        assert!(told("http://me@localhost", PLAIN).contains("takes no user name"));
    }
}
