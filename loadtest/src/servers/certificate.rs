//! A certificate for the only name that is asked: ECDSA P-256 as a fleet's own are, its own authority.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use artifact::HostName;
use edge_node::front::tls::{CertificateTable, SharedCertificates, certified_key};

use super::HOST;

/// What the listeners use, and what a client has to trust, PEM.
pub fn make() -> anyhow::Result<(SharedCertificates, String)> {
    let (certificate, key) = pem()?;
    let name = HostName::from_authority_host(HOST).context("the bare servers' name")?;
    let mut table = CertificateTable::default();
    table.insert(name, certified_key(certificate.as_bytes(), key.as_bytes())?);
    Ok((Arc::new(ArcSwap::from_pointee(table)), certificate))
}

/// Certificate and key, for a server that reads files.
pub fn pem() -> anyhow::Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).context("making a certificate")?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}
