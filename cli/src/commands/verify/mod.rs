//! `skerry verify [APP]`: what runs where, by digest. Local file → uploaded program → signed statements → what each node has
//! mapped; each is held against the one before, here and not by the control plane.
//!
//! What is held against each other comes through the control plane, and of it the statements alone are signed. Relied on: the
//! compiler's key, the control plane for the version's digest (unless a file is here to compare) and for handing on what
//! nodes answered, and the nodes for saying what they map. One that lies about that is not found this way. [`check`] has the
//! comparisons, [`text`] what a person sees.

mod check;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifact::{
    AppName, Digest,
    keys::{Compiler, PublicKey, Trusted},
    manifest::Project,
    visible::for_people,
};

use self::check::{Local, Prepared, Report};
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
    let first = format!("{} v{}: {what}", for_people(&report.app), report.version);
    let text = lines.iter().fold(first, |text, line| format!("{text}\n  {}", for_people(line)));
    Err(Error::Outcome(text, exit))
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
    let own = own_project(app);
    let prepared = own.as_ref().map_or(Prepared::Unknown, |(_, project)| prepared(project));
    if let Some(file) = &args.wasm {
        return digested(file, prepared).map(Some);
    }
    let built = own.and_then(|(folder, project)| Some(folder.join(project.component?)));
    built.filter(|file| file.is_file()).map(|file| digested(&file, prepared)).transpose()
}

fn digested(file: &Path, prepared: Prepared) -> Result<Local> {
    let bytes = project::read_wasm(file, None)?;
    Ok(Local { file: file.display().to_string(), digest: Digest::of(&bytes), prepared })
}

fn prepared(project: &Project) -> Prepared {
    if project.prepare.is_empty() { Prepared::No } else { Prepared::Yes }
}

/// The app's own folder, if one stands in it. Whatever is wrong with it, it keeps nobody from looking at what is live.
fn own_project(app: &AppName) -> Option<(PathBuf, Project)> {
    let folder = here::folder_if_any()?;
    let project = project::manifest(&folder).ok()??;
    (project.name == *app).then_some((folder, project))
}

#[cfg(test)]
mod tests {
    use artifact::Lane;

    use super::*;
    use crate::api::{NodeFailed, Running, RunningNode};

    #[test]
    fn what_strangers_wrote_drives_no_terminal() {
        let evil = || "\x1b[2Jok".to_owned();
        let node = RunningNode {
            node: evil(),
            pop: evil(),
            connected: true,
            answered: true,
            version: Some(3),
            is_active: true,
            code: None,
            failed: Some(NodeFailed { code: evil(), detail: evil() }),
        };
        let running = Running {
            app: evil(),
            version: 3,
            rev: 9,
            wasm: Digest::of(b"wasm"),
            wasm_bytes: 4,
            lane: Lane::Wasi,
            artifacts: vec![],
            nodes: vec![node],
        };
        let mut report = Report::of(running, None, None);
        report.artifacts.push(check::Artifact {
            target: evil(),
            profile: evil(),
            fingerprint: evil(),
            blob: evil(),
            code: None,
            bytes: None,
            compiler: Some(evil()),
            signers: vec![evil()],
            standing: check::Standing::Unchecked,
            replaced: false,
        });
        let Err(Error::Outcome(said, _)) = verdict(&report) else { panic!("{report:?}") };
        for text in [text::of(&report), said] {
            assert!(!text.contains('\x1b') && text.contains(r"\u{1b}[2J"), "{text:?}");
        }
    }
}
