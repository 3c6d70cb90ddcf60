//! `skerry recompile`: compile kept versions anew, and watch until it is done. The work is the control plane's: whoever stops
//! watching stops nothing.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use artifact::visible;

use crate::{
    api::{Api, AskRecompile, Recompiling},
    args::Recompile,
    commands::idempotency_key,
    error::{Error, Result},
    exit::Exit,
    output::{Output, Progress},
    up::Stop,
};

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How often Ctrl-C is looked for meanwhile.
const STOP_PAUSE: Duration = Duration::from_millis(50);
/// How often a line is printed where there is no terminal to show progress on.
const LINE_PAUSE: Duration = Duration::from_secs(10);
/// How long a control plane that does not answer is asked again: it may be restarting.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// Runs it.
pub fn run(api: &Api, args: &Recompile, output: Output) -> Result<()> {
    if let Some(id) = args.cancel {
        let seen = api.cancel_recompile(id)?;
        return output.print(&seen, || text(&seen));
    }
    let stop = Stop::listen()?;
    let taken = match args.watch {
        Some(id) => api.recompiling(id)?,
        None => {
            let reason = args.reason.as_deref().unwrap_or_default();
            let body = AskRecompile { app: args.app.as_ref(), all: args.all, reason };
            api.recompile(&body, &idempotency_key()?)?
        }
    };
    let seen = if args.no_wait { taken } else { watch(api, taken, &stop)? };
    output.print(&seen, || text(&seen))?;
    verdict(&seen)
}

/// Looks until it is done, or until it is told to stop.
fn watch(api: &Api, mut seen: Recompiling, stop: &Stop) -> Result<Recompiling> {
    let progress = Progress::start(line(&seen));
    let (mut said, mut answered) = (Instant::now(), Instant::now());
    while seen.ended_ms.is_none() {
        if !slept(LOOK_PAUSE, stop) {
            break;
        }
        match api.recompiling(seen.id) {
            Ok(now) => (seen, answered) = (now, Instant::now()),
            Err(Error::Unreachable { .. }) if answered.elapsed() < AWAY_MAX => {
                seen.problem = Some("the control plane does not answer; asking again".into());
            }
            Err(error) => return Err(error),
        }
        progress.now(line(&seen));
        if !progress.is_shown() && said.elapsed() >= LINE_PAUSE {
            eprintln!("{}", line(&seen));
            said = Instant::now();
        }
    }
    Ok(seen)
}

/// False: it was told to stop.
fn slept(pause: Duration, stop: &Stop) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if stop.is_raised() {
            return false;
        }
        thread::sleep(STOP_PAUSE);
    }
    true
}

fn what(seen: &Recompiling) -> &str {
    seen.app.as_deref().unwrap_or("the fleet")
}

fn counted(versions: u64) -> String {
    if versions == 1 { "1 version".to_owned() } else { format!("{versions} versions") }
}

fn line(seen: &Recompiling) -> String {
    let Recompiling { done, versions, failed, .. } = seen;
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    let problem = seen.problem.as_deref().map(|why| format!("; {}", visible::for_people(why)));
    format!("{}: {done} of {}{failed}{}", what(seen), counted(*versions), problem.unwrap_or_default())
}

fn text(seen: &Recompiling) -> String {
    let Recompiling { id, changed, same, gone, failed, failures, .. } = seen;
    if seen.ended_ms.is_none() {
        return format!("{}\nit goes on; look at it with: skerry recompile --watch {id}", line(seen));
    }
    let mut text = format!(
        "{}recompiled {}: {}, {changed} with other code than before, {same} with the same",
        if is_cut(seen) { "partly " } else { "" },
        what(seen),
        counted(seen.versions)
    );
    if let Some(why) = seen.problem.as_deref().filter(|_| is_cut(seen)) {
        let _ =
            write!(text, ", {} left as they were: {}", seen.versions - seen.done, visible::for_people(why));
    }
    for (count, what) in [(gone, "deleted meanwhile"), (failed, "failed")] {
        if *count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    for version in failures {
        let why = visible::for_people(&version.why);
        let _ = write!(text, "\n  {}/{} v{}: {why}", version.tenant, version.app, version.version);
    }
    if *failed > failures.len() as u64 {
        let _ = write!(text, "\n  and {} more", failed - failures.len() as u64);
    }
    text
}

/// Did it end before all was done?
fn is_cut(seen: &Recompiling) -> bool {
    seen.ended_ms.is_some() && seen.done < seen.versions
}

fn verdict(seen: &Recompiling) -> Result<()> {
    if is_cut(seen) {
        let message = format!("recompilation {} was cancelled before all was done", seen.id);
        return Err(Error::Outcome(message, Exit::Failed));
    }
    match seen.failed {
        0 => Ok(()),
        failed => {
            let message = format!("{failed} versions could not be compiled and keep the code they have");
            Err(Error::Outcome(message, Exit::Failed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RecompileFailed;

    fn seen() -> Recompiling {
        let why = "no room\u{1b}[2J".to_owned();
        let failed = RecompileFailed { tenant: "default".into(), app: "shop".into(), version: 3, why };
        Recompiling {
            id: 7,
            app: None,
            reason: "drill".into(),
            by: "tok_1".into(),
            asked_ms: 1,
            ended_ms: Some(2),
            problem: None,
            versions: 6,
            done: 6,
            changed: 2,
            same: 1,
            gone: 1,
            failed: 2,
            failures: vec![failed],
        }
    }

    #[test]
    fn the_end_is_told_with_what_failed_and_the_exit_code_says_so() {
        assert_eq!(
            text(&seen()),
            "recompiled the fleet: 6 versions, 2 with other code than before, 1 with the same, 1 deleted meanwhile, \
             2 failed\n  default/shop v3: no room\\u{1b}[2J\n  and 1 more"
        );
        assert_eq!(verdict(&seen()).unwrap_err().exit(), Exit::Failed);
        assert!(verdict(&Recompiling { failed: 0, ..seen() }).is_ok());
    }

    #[test]
    fn one_that_was_cancelled_says_what_is_left_and_is_no_success() {
        let problem = Some("cancelled by tok_1".to_owned());
        let cut = Recompiling {
            done: 3,
            changed: 3,
            same: 0,
            gone: 0,
            failed: 0,
            failures: vec![],
            problem,
            ..seen()
        };
        assert_eq!(
            text(&cut),
            "partly recompiled the fleet: 6 versions, 3 with other code than before, 0 with the same, \
             3 left as they were: cancelled by tok_1"
        );
        assert_eq!(verdict(&cut).unwrap_err().exit(), Exit::Failed);
    }

    #[test]
    fn whoever_stops_watching_is_told_that_it_goes_on_and_how_to_come_back() {
        let problem = Some("compiler unreachable".to_owned());
        let app = Some("shop".to_owned());
        let open =
            Recompiling { app, ended_ms: None, done: 4, failed: 0, failures: vec![], problem, ..seen() };
        assert_eq!(
            text(&open),
            "shop: 4 of 6 versions; compiler unreachable\nit goes on; look at it with: skerry recompile --watch 7"
        );
    }
}
