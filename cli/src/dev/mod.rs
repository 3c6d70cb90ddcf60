//! `skerry dev`: build → deploy → serve, again at every save, on the very fleet that `skerry up` is.
//!
//! Nothing is simulated: what a request meets here (native code, limits, stores, TLS) is what it meets at a POP. Relied on:
//! `up`, which starts and watches the servers; `build`, the project's own command; `deploy`; `logs`.
//! A save that cannot be built or deployed is said, and the version before goes on answering.

mod fleet;
mod lines;
mod round;
mod secrets;
mod watch;

use crate::{
    args::Dev,
    build::Recipe,
    error::{Error, Result},
    import,
    output::print_line,
    project::{MANIFEST_FILE, foreign_files},
    up::Stop,
};

use self::{fleet::Serving, round::Rounds, secrets::Awaited, watch::Watch};

/// Runs until stopped.
pub fn run(args: &Dev) -> Result<()> {
    require_project(args)?;
    let stop = Stop::listen()?;
    let serving = Serving::open(args, &stop)?;
    let mut watch = Watch::start(&args.folder)?;
    let mut rounds = Rounds::new(&args.folder, &serving);
    loop {
        let outcome = rounds.next(&stop);
        if stop.is_raised() {
            break; // whatever it says, it was ended in the middle
        }
        let mut awaited = outcome.as_ref().err().and_then(|error| {
            eprintln!("{}", error.report());
            Awaited::after(error, &args.folder, &serving.api)
        });
        let again = match (&outcome, &awaited) {
            (Ok(()), _) => "",
            (Err(_), None) => "; the next save tries again",
            (Err(_), Some(_)) => "; the next save tries again, and so do the secrets once they are set",
        };
        print_line(&format!("watching {}{again}; Ctrl-C stops", watch.shown()))?;
        if !watch.changed(&stop, &mut || awaited.as_mut().is_some_and(Awaited::are_set)) {
            break;
        }
        // The manifest may name other things to watch now. One with mistakes names none: what was watched stays.
        match Watch::start(&args.folder) {
            Ok(anew) => watch = watch.succeeded_by(anew),
            Err(Error::Manifest { .. }) => {}
            Err(error) => eprintln!("{}", error.report()),
        }
    }
    rounds.close();
    serving.close();
    Ok(())
}

/// Before anything is started: a wrong folder or manifest is told within the first line.
fn require_project(args: &Dev) -> Result<()> {
    if Recipe::read(&args.folder)?.is_some() || !foreign_files(&args.folder).is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} has no {MANIFEST_FILE}, {} or {}; start a project with: skerry new NAME --lang rust",
        args.folder.display(),
        import::MANIFEST_FILE,
        import::spin::FILE
    )))
}
