//! `skerry verify [APP]`: what runs where, by digest. Local file → uploaded program → signed statements → what each node has
//! mapped; each is held against the one before, here and not by the control plane.
//!
//! Relied on: the statements' signatures, and nodes saying what they map. A node is believed: one that lies about itself is
//! not found this way. [`check`] has the comparisons, [`text`] what a person sees.

mod check;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifact::{
    AppName, Digest,
    keys::{Compiler, PublicKey, Trusted},
};

use self::check::{Local, Report};
use crate::{
    api::Api,
    args::Verify,
    error::{Error, Result},
    exit::Exit,
    here,
    output::{Output, Progress},
    project,
};

/// Where `up` has its compiler's public key, in the fleet's directory.
const FLEET_KEY_FILE: &str = "compiler/compiler.pub";

/// Prints what runs where; fails if something does not match, or could not be seen.
pub fn run(api: &Api, args: &Verify, output: Output) -> Result<()> {
    let app = here::app(args.app.as_ref())?;
    let (trusted, local) = (trusted(api, args)?, local(&app, args)?);
    let progress = Progress::start(format!("{app}: asking its nodes"));
    let running = api.running(&app)?;
    drop(progress);
    let report = Report::of(running, local, trusted.as_ref());
    output.print(&report, || text::of(&report))?;
    verdict(&report)
}

fn verdict(report: &Report) -> Result<()> {
    let (what, lines, exit) = match (&report.problems[..], &report.unseen[..]) {
        ([], []) => return Ok(()),
        ([], unseen) => ("not all of it could be seen", unseen, Exit::TimedOut),
        (problems, _) => ("something does not match", problems, Exit::Rejected),
    };
    let first = format!("{} v{}: {what}", report.app, report.version);
    Err(Error::Outcome(lines.iter().fold(first, |text, line| format!("{text}\n  {line}")), exit))
}

/// The compiler's keys: those named, else that of a fleet on this machine.
fn trusted(api: &Api, args: &Verify) -> Result<Option<Trusted<Compiler>>> {
    let of_fleet =
        || api.fleet().map(|directory| directory.join(FLEET_KEY_FILE)).filter(|file| file.is_file());
    let Some(file) = args.key.clone().or_else(of_fleet) else { return Ok(None) };
    let text = fs::read_to_string(&file)
        .map_err(Error::io(format!("reading the compiler's public key {}", file.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: std::result::Result<Vec<PublicKey<Compiler>>, _> = lines.map(str::parse).collect();
    match keys {
        Ok(keys) if !keys.is_empty() => Ok(Some(Trusted::new(keys))),
        Ok(_) => Err(Error::Usage(format!("{} holds no key", file.display()))),
        Err(error) => Err(Error::Usage(format!("{}: {error}", file.display()))),
    }
}

/// The program as it lies here: the file that is named, else what the app's own folder says was built.
fn local(app: &AppName, args: &Verify) -> Result<Option<Local>> {
    if let Some(file) = &args.wasm {
        return Ok(Some(digested(file)?));
    }
    match built(app) {
        Some(file) if file.is_file() => Ok(Some(digested(&file)?)),
        _ => Ok(None),
    }
}

fn digested(file: &Path) -> Result<Local> {
    let bytes = project::read_wasm(file, None)?;
    Ok(Local { file: file.display().to_string(), digest: Digest::of(&bytes) })
}

/// Whatever is wrong with the folder, it keeps nobody from looking at what is live.
fn built(app: &AppName) -> Option<PathBuf> {
    let folder = here::folder_if_any()?;
    let project = project::manifest(&folder).ok()??;
    (project.name == *app).then_some(folder.join(project.component?))
}
