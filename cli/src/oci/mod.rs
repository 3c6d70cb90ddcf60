//! Programs in OCI registries: pulled for a deploy, pushed from a project.
//!
//! | Module | One job |
//! |---|---|
//! | [`reference`] | what an image is called |
//! | [`login`] | who asks: the command line, docker's configuration, its helpers |
//! | [`challenge`] | how a registry wants to be asked |
//! | [`client`] | the calls, and where they may lead |
//! | [`layout`] | how a program lies in an image |
//!
//! Over the blocking client that the rest of the command line has. Deliberately absent: the crates `oci-client` and `oci-wasm`,
//! which would bring an asynchronous HTTP stack, two of each other, a second wasmparser and 58 crates in all for these six
//! calls, and bound neither manifests nor layers; and signatures of images, which are not those of native code.

mod challenge;
mod client;
mod layout;
mod login;
pub mod reference;

use artifact::{Digest, compile::WASM_BYTES_MAX};

use self::{
    client::{Access, Client},
    layout::Found,
    login::Logins,
    reference::{Reference, Which},
};
use crate::{
    args::Registry,
    error::{Error, Result},
    output::Progress,
};

/// May a registry elsewhere be asked without TLS?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Yes.
    Allowed,
    /// Only one on this machine, which always is.
    OnLoopback,
}

/// A program, and where it came from.
#[derive(Debug)]
pub struct Pulled {
    pub wasm: Vec<u8>,
    /// The image by the digest of its manifest, whatever its tag names later.
    pub image: Reference,
}

/// What was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// The image by the digest of its manifest.
    pub image: Reference,
    /// The program.
    pub wasm: Digest,
}

/// Reads a reference of the command line.
pub fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(Error::Usage)
}

/// Fetches the program of an image.
pub fn pull(reference: &Reference, registry: &Registry, progress: &Progress) -> Result<Pulled> {
    pull_as(reference, &registry.logins()?, registry.plain(), progress)
}

fn pull_as(reference: &Reference, logins: &Logins, plain: Plain, progress: &Progress) -> Result<Pulled> {
    let doing = format!("pulling {reference}");
    progress.now(doing.clone());
    let mut client = Client::new(reference, logins, Access::Pull, plain, doing)?;
    let (digest, found) = manifest(&mut client, reference)?;
    let (image, layer) = match found {
        Found::Program(layer) => (digest, layer),
        // A list leads to a manifest, and that to no list.
        Found::Manifest(entry) => {
            let entry = entry.sha256().map_err(|why| client.rejected("oci_not_wasm", why))?;
            match manifest(&mut client, &reference.at(entry))? {
                (digest, Found::Program(layer)) => (digest, layer),
                (_, Found::Manifest(_)) => {
                    return Err(client.rejected("oci_not_wasm", "it is a list of lists".into()));
                }
            }
        }
    };
    if layer.size > WASM_BYTES_MAX {
        let message = format!("its program has {} bytes, one may have at most {WASM_BYTES_MAX}", layer.size);
        return Err(client.rejected("too_large", message));
    }
    let wanted = layer.sha256().map_err(|why| client.rejected("oci_not_wasm", why))?;
    let wasm = client.blob(wanted, layer.size, progress)?;
    check(&client, "layer", wanted, &wasm)?;
    if !wasm.starts_with(b"\0asm") {
        let head = String::from_utf8_lossy(&wasm[..wasm.len().min(4)]).into_owned();
        return Err(client.rejected("oci_not_wasm", format!("its layer is no wasm: it begins with {head:?}")));
    }
    Ok(Pulled { wasm, image: reference.at(image) })
}

/// The manifest and its digest, which is checked where the reference names it.
fn manifest(client: &mut Client<'_>, reference: &Reference) -> Result<(Digest, Found)> {
    let name = match &reference.which {
        Which::Tag(tag) => tag.clone(),
        Which::Digest(digest) => format!("sha256:{digest}"),
    };
    let (bytes, called) = client.manifest(&name)?;
    if let Which::Digest(wanted) = &reference.which {
        check(client, "manifest", *wanted, &bytes)?;
    }
    let found =
        layout::read(&bytes, called.as_deref()).map_err(|why| client.rejected("oci_not_wasm", why))?;
    Ok((Digest::of(&bytes), found))
}

fn check(client: &Client<'_>, what: &str, wanted: Digest, bytes: &[u8]) -> Result<()> {
    let is = Digest::of(bytes);
    if is == wanted {
        return Ok(());
    }
    let message = format!(
        "the registry sent other bytes than its name says, so nothing of it is used: {what} sha256:{wanted} came as \
         sha256:{is}"
    );
    Err(client.rejected("oci_digest", message))
}

/// Lays a program out as an image and sends it. `created`: when, as RFC 3339 has it.
pub fn push(
    reference: &Reference,
    wasm: &[u8],
    created: String,
    registry: &Registry,
    progress: &Progress,
) -> Result<Pushed> {
    push_as(reference, wasm, created, &registry.logins()?, registry.plain(), progress)
}

fn push_as(
    reference: &Reference,
    wasm: &[u8],
    created: String,
    logins: &Logins,
    plain: Plain,
    progress: &Progress,
) -> Result<Pushed> {
    let Which::Tag(tag) = &reference.which else {
        return Err(Error::Usage(format!("{reference} names an image that is there; name a tag to push to")));
    };
    let doing = format!("pushing {reference}");
    progress.now(doing.clone());
    let mut client = Client::new(reference, logins, Access::Push, plain, doing)?;
    let image = layout::write(wasm, created).map_err(|why| client.rejected("oci_not_wasm", why))?;
    client.put_blob(wasm)?;
    client.put_blob(&image.config)?;
    client.put_manifest(tag, &image.manifest)?;
    Ok(Pushed { image: reference.at(Digest::of(&image.manifest)), wasm: Digest::of(wasm) })
}

impl Registry {
    fn logins(&self) -> Result<Logins> {
        Logins::find(self.username.as_deref())
    }

    fn plain(&self) -> Plain {
        if self.plain_http { Plain::Allowed } else { Plain::OnLoopback }
    }
}

#[cfg(test)]
mod tests;
