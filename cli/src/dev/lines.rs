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

/// Prints an app's lines, from a thread of its own: builds go on meanwhile.
pub struct Lines {
    app: AppName,
    stop: Stop,
    printer: JoinHandle<()>,
}

impl Lines {
    /// Begins.
    pub fn follow(api: Api, app: AppName) -> Lines {
        let stop = Stop::by_hand();
        let (its_app, its_stop) = (app.clone(), stop.clone());
        let printer = thread::spawn(move || print(&api, &its_app, &its_stop));
        Lines { app, stop, printer }
    }

    /// Do they come, and are they of this app?
    pub fn are_of(&self, app: &str) -> bool {
        self.app.as_str() == app && !self.printer.is_finished()
    }

    /// Ends, and returns when nothing is printed any more.
    pub fn close(self) {
        self.stop.raise();
        let _ = self.printer.join();
    }
}

fn print(api: &Api, app: &AppName, stop: &Stop) {
    let style = Style::of_stdout();
    // What was said before belongs to what was there before.
    let wanted = Wanted { follow: true, past: Some(Duration::ZERO) };
    let mut sink = |heard: Heard<'_>| -> Result<()> {
        let Heard::Line(line) = heard else { return Ok(()) };
        let Some(text) = style.text(line) else { return Ok(()) };
        writeln!(std::io::stdout().lock(), "{text}").map_err(Error::io("writing to stdout"))
    };
    if let Err(error) = logs::listen(api, app, wanted, &|| stop.is_raised(), &mut sink)
        && !stop.is_raised()
    {
        eprintln!("the app's lines are not shown until the next save: {}", error.report());
    }
}
