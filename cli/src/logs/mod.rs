//! Live logs of an app: what its nodes remember, and what comes, line by line. Used by `skerry logs` and `skerry dev`.
//!
//! | Module | One job |
//! |---|---|
//! | [`line`] | one line, as the API says it |
//! | [`seen`] | which lines were seen already: a stream that is asked for anew begins with what nodes remember |
//! | [`text`] | a line as people read it |
//!
//! A thread reads, so that whoever listens can stop at any moment. A lost connection is said and made anew, for as long as it
//! takes. Deliberately absent: printing; lines go to a sink.

mod line;
mod seen;
mod text;

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use artifact::{AppName, visible};

use self::{line::Place, seen::Seen};
pub use self::{
    line::{Line, Said},
    text::Style,
};
use crate::{
    api::Api,
    error::{Error, Result},
};

/// Bytes of one line of the stream: 12 KiB of text, each byte six in JSON, and what stands around it.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Lines that were read and not yet taken.
const READ_AHEAD_LINES: usize = 256;
/// How often it is looked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pause before a lost connection is made anew; doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause: a control plane that is back is found within it.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Lines kept to be put in order, without `follow`: the last.
const REMEMBERED_LINES_MAX: usize = 20_000;

/// Which lines.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Go on with what comes.
    pub follow: bool,
    /// Of what nodes remember only that of so long ago; `None`: all, zero: none.
    pub past: Option<Duration>,
}

/// What a sink gets.
#[derive(Debug)]
pub enum Heard<'a> {
    /// A line: what an app said, what a request cost, or how many lines are missing.
    Line(&'a Line),
    /// Something about listening itself, for standard error.
    Notice(String),
}

/// Takes what is heard; an error ends listening with it.
pub type Sink<'a> = dyn FnMut(Heard<'_>) -> Result<()> + 'a;

/// Hands an app's lines to `sink`: with [`Wanted::follow`] until `stop` says so, in the order in which they come; without it
/// those that nodes remember, by their times. Fails when the first connection does, and when the API refuses.
pub fn listen(
    api: &Api,
    app: &AppName,
    wanted: Wanted,
    stop: &dyn Fn() -> bool,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let first = open(api, app, wanted.follow, wanted.past)?;
    match wanted.follow {
        true => follow(api, app, wanted.past, first, stop, sink),
        false => remembered(api, app, &first, stop, sink),
    }
}

/// How a stream ended.
enum Ended {
    /// Ours to end.
    Stopped,
    /// To be asked for anew, which is nothing to speak of.
    Again,
    /// All was told, but what these nodes remember.
    Told(Vec<Place>),
    Lost,
}

fn follow(
    api: &Api,
    app: &AppName,
    past: Option<Duration>,
    first: Receiver<Line>,
    stop: &dyn Fn() -> bool,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let begun = Instant::now();
    let (mut seen, mut stream) = (Seen::default(), first);
    loop {
        let ended = take(&stream, stop, &mut |line| {
            let missed = seen.missed(line);
            if missed > 0 {
                sink(Heard::Line(&Line::missed(line, missed)))?;
            }
            if seen.is_new(line) { sink(Heard::Line(line)) } else { Ok(()) }
        })?;
        let mut lost =
            || sink(Heard::Notice("the connection to the control plane was lost; listening again".into()));
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::Again => {}
            Ended::Told(_) | Ended::Lost => lost()?,
        }
        let said = !matches!(ended, Ended::Again);
        // What was old at first is so still, also where a node tells of it that was away.
        let since = || past.map(|past| past + begun.elapsed());
        match reopen(api, app, &since, stop, &mut || if said { Ok(()) } else { lost() })? {
            Some(next) => stream = next,
            None => return Ok(()),
        }
    }
}

/// Tries until the control plane answers; `None` when it is time to stop. Says so when that takes more than one try.
fn reopen(
    api: &Api,
    app: &AppName,
    past: &dyn Fn() -> Option<Duration>,
    stop: &dyn Fn() -> bool,
    say: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Receiver<Line>>> {
    let mut pause = PAUSE;
    loop {
        match open(api, app, true, past()) {
            Ok(stream) => return Ok(Some(stream)),
            Err(Error::Unreachable { .. } | Error::ControlPlane { .. }) => {}
            // We had a place: it may be our own of before that is not given back yet.
            Err(Error::Rejected { code, .. }) if code == "too_many_listeners" => {}
            Err(error) => return Err(error),
        }
        if pause == PAUSE {
            say()?;
        }
        let over = Instant::now() + pause;
        while Instant::now() < over {
            if stop() {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY);
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

fn remembered(
    api: &Api,
    app: &AppName,
    stream: &Receiver<Line>,
    stop: &dyn Fn() -> bool,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut lines = std::collections::VecDeque::new();
    let mut left_out = 0;
    let ended = take(stream, stop, &mut |line| {
        if !matches!(line.said, Said::Listening { .. } | Said::From { .. }) {
            lines.push_back(line.clone());
        }
        if lines.len() > REMEMBERED_LINES_MAX {
            lines.pop_front();
            left_out += 1;
        }
        Ok(())
    })?;
    let unheard = match ended {
        Ended::Stopped => return Ok(()),
        Ended::Told(unheard) => unheard,
        Ended::Again | Ended::Lost => {
            return Err(api.failed(doing(app), "its answer broke off: ask again"));
        }
    };
    lines.make_contiguous().sort_by_key(|line| line.time_ms);
    lines.iter().try_for_each(|line| sink(Heard::Line(line)))?;
    if left_out > 0 {
        sink(Heard::Notice(format!("{left_out} more lines were left out: ask for less with --since")))?;
    }
    for place in &unheard {
        let (node, pop) = (visible::for_people(&place.node), visible::for_people(&place.pop));
        sink(Heard::Notice(format!(
            "node {node} in {pop} did not answer in time: what it remembers is missing"
        )))?;
    }
    if lines.is_empty() && unheard.is_empty() {
        sink(Heard::Notice(format!(
            "no node remembers a line of {app}; they keep the last ones in memory only. Follow new ones with: skerry logs {app} -f"
        )))?;
    }
    Ok(())
}

/// Hands on lines until the stream ends.
fn take(
    stream: &Receiver<Line>,
    stop: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(&Line) -> Result<()>,
) -> Result<Ended> {
    loop {
        if stop() {
            return Ok(Ended::Stopped);
        }
        match stream.recv_timeout(LOOK_EVERY) {
            Ok(Line { said: Said::Again, .. }) => return Ok(Ended::Again),
            Ok(Line { said: Said::End { unheard }, .. }) => return Ok(Ended::Told(unheard)),
            Ok(line) => sink(&line)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Lost),
        }
    }
}

fn doing(app: &AppName) -> String {
    format!("listening to {app}")
}

/// A stream that a thread reads. Its end is that of the channel.
fn open(api: &Api, app: &AppName, follow: bool, past: Option<Duration>) -> Result<Receiver<Line>> {
    let body = api.logs(doing(app), app, follow, past)?;
    let (tell, lines) = mpsc::sync_channel(READ_AHEAD_LINES);
    thread::spawn(move || read(body, &tell));
    Ok(lines)
}

/// Until the stream ends, nobody takes lines any more, or something else than lines comes.
fn read(body: impl Read, tell: &mpsc::SyncSender<Line>) {
    let mut body = BufReader::new(body);
    loop {
        let mut text = Vec::new();
        match body.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text) {
            Ok(1..) if text.ends_with(b"\n") => {}
            _ => return, // an end, in the middle of a line or not; or no line of ours
        }
        let Ok(text) = std::str::from_utf8(&text) else { return };
        let text = text.trim();
        if text.is_empty() {
            continue; // says only that somebody is there
        }
        match Line::parse(text) {
            Some(line) => {
                if tell.send(line).is_err() {
                    return;
                }
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
