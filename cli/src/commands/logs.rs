//! `skerry logs APP [-f]`: what an app said, and what its requests cost.

use std::{cell::Cell, io::Write as _};

use crate::{
    api::Api,
    args::Logs,
    error::{Error, Result},
    here,
    logs::{self, Heard, Said, Style, Wanted},
    output::Output,
    up::Stop,
};

/// Prints lines: as text, or as JSON, one a line. Following ends with a signal, or when nobody reads any more.
pub fn run(api: &Api, args: &Logs, output: Output) -> Result<()> {
    let app = here::app(args.app.as_ref())?;
    let stop = Stop::listen()?;
    let (style, unread) = (Style::of_stdout(), Cell::new(false));
    let wanted = Wanted { follow: args.follow, past: args.since };
    let mut print = |heard: Heard<'_>| {
        let text = match heard {
            Heard::Notice(notice) => {
                eprintln!("{notice}");
                return Ok(());
            }
            Heard::Line(line) => {
                if matches!(line.said, Said::Listening { nodes: 0 }) {
                    eprintln!("no node is connected to the control plane: lines come when one is");
                }
                match output {
                    Output::Json => Some(line.json.clone()),
                    Output::Text => style.text(line),
                }
            }
        };
        let Some(text) = text else { return Ok(()) };
        match writeln!(std::io::stdout().lock(), "{text}") {
            Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => unread.set(true),
            written => written.map_err(Error::io("writing to stdout"))?,
        }
        Ok(())
    };
    logs::listen(api, &app, wanted, &|| stop.is_raised() || unread.get(), &mut print)
}
