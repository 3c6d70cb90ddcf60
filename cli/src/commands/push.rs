//! `skerry push oci://…`: a program into a registry.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use artifact::Digest;
use serde::Serialize;

use crate::{
    args::Push,
    build::{Recipe, size},
    error::{Error, Result},
    oci,
    output::{Output, Progress, moment},
    project,
};

/// Where a build that is to be repeated says what time it is, in seconds since 1970 (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The result's JSON form.
#[derive(Serialize)]
struct Report {
    /// As it was named.
    image: String,
    /// The same by its digest.
    digest: String,
    wasm: Digest,
    bytes: usize,
}

/// Pushes what was built, and prints by which digest it is to be had.
pub fn run(args: &Push, output: Output) -> Result<()> {
    let image = oci::reference(&args.image)?;
    let wasm = read(&args.source)?;
    let progress = Progress::start(format!("pushing {image}"));
    let pushed = oci::push(&image, &wasm, created()?, &args.registry, &progress)?;
    drop(progress);
    let digest = pushed.image.to_string();
    let report = Report { image: image.to_string(), digest, wasm: pushed.wasm, bytes: wasm.len() };
    output.print(&report, || {
        format!("{} is pushed, {}\n  {}", report.image, size(wasm.len() as u64), report.digest)
    })
}

/// The program: a file, or what a project's last build left. Pushing builds nothing, as deploying does not.
fn read(source: &Path) -> Result<Vec<u8>> {
    if !source.is_dir() {
        return project::read_wasm(source, None);
    }
    let recipe = Recipe::require(source)?;
    let file = recipe.component.as_deref().ok_or_else(|| {
        Error::Usage(format!("{} is static files alone: there is no program to push", recipe.name))
    })?;
    project::read_wasm(file, Some("build the app first: skerry build"))
}

fn created() -> Result<String> {
    let seconds = match std::env::var(EPOCH) {
        Ok(text) => {
            text.parse().map_err(|_| Error::Usage(format!("{EPOCH} is {text:?}, which is no number")))?
        }
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    // Up to the year 9999, which RFC 3339 ends with.
    Ok(moment(u64::min(seconds, 253_402_300_799) * 1_000))
}
