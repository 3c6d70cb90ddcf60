//! `skerry dev`: build → deploy → serve, again at every save, on the very fleet that `skerry up` is.
//!
//! Nothing is simulated: what a request meets here (native code, limits, stores, TLS) is what it meets at a POP. Relied on:
//! `up`, which starts and watches the servers; `build`, the project's own command; `deploy`; `logs`.
//! A save that cannot be built or deployed is said, and the version before goes on answering.

mod fleet;
mod lines;
mod round;
mod watch;

use crate::{
    args::Dev,
    error::{Error, Result},
    import,
    output::print_line,
    project::MANIFEST_FILE,
    up::Stop,
};

use self::{fleet::Serving, watch::Watch};

/// Runs until stopped.
pub fn run(args: &Dev) -> Result<()> {
    require_project(args)?;
    let stop = Stop::listen()?;
    let serving = Serving::open(args, &stop)?;
    let mut watch = Watch::start(&args.folder)?;
    let mut rounds = round::Rounds::new(&args.folder, &serving, &stop);
    while !stop.is_raised() {
        if let Err(error) = rounds.next() {
            eprintln!("{}", error.report());
        }
        print_line(&format!("watching {}; Ctrl-C stops", watch.shown()))?;
        if !watch.changed(&stop) {
            break;
        }
        // The manifest may name other things to watch now. One with mistakes names none: what was watched stays.
        if let Ok(anew) = Watch::start(&args.folder) {
            watch = watch.succeeded_by(anew);
        }
    }
    stop.raise();
    rounds.close();
    serving.close();
    Ok(())
}

/// Before anything is started: a wrong folder is told within the first line.
fn require_project(args: &Dev) -> Result<()> {
    if args.folder.join(MANIFEST_FILE).is_file() || import::is_project(&args.folder, None) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} has no {MANIFEST_FILE} and no {}; start a project with: skerry new NAME --lang rust",
        args.folder.display(),
        import::MANIFEST_FILE
    )))
}
