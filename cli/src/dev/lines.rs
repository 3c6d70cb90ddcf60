//! What the app says while it is worked on, and what each of its requests cost: the lines of `skerry logs -f`.

use std::{
    io::Write as _,
    thread::{self, JoinHandle},
    time::Duration,
};

use artifact::AppName;

use crate::{
    api::Api,
    error::{Error, Result},
    logs::{self, Heard, Style, Wanted},
    up::Stop,
};

/// Prints the app's lines until told to stop, from a thread of its own: builds go on meanwhile.
pub fn follow(api: Api, app: AppName, stop: Stop) -> JoinHandle<()> {
    thread::spawn(move || {
        let style = Style::of_stdout();
        // What was said before belongs to what was there before.
        let wanted = Wanted { follow: true, past: Some(Duration::ZERO) };
        let mut print = |heard: Heard<'_>| -> Result<()> {
            let Heard::Line(line) = heard else { return Ok(()) };
            let Some(text) = style.text(line) else { return Ok(()) };
            writeln!(std::io::stdout().lock(), "{text}").map_err(Error::io("writing to stdout"))
        };
        if let Err(error) = logs::listen(&api, &app, wanted, &|| stop.is_raised(), &mut print) {
            eprintln!("the app's lines are not shown any more: {}", error.report());
        }
    })
}
