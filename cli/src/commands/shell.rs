//! `skerry completions SHELL`, `skerry man`: what a shell and `man` want to know, made of the very definition that is parsed.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::{
    args::{Cli, Completions},
    error::{Error, Result},
};

/// The script that completes command lines.
pub fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "skerry", &mut script);
    write(&script)
}

/// The manual's page, with every command.
pub fn man() -> Result<()> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let doing = || Error::io("making the manual's page");
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(doing())?;
    for (name, command) in commands(&command) {
        writeln!(page, ".SH {}", name.to_uppercase()).map_err(doing())?;
        let part = clap_mangen::Man::new(command);
        part.render_synopsis_section(&mut page)
            .and_then(|()| part.render_description_section(&mut page))
            .and_then(|()| part.render_options_section(&mut page))
            .map_err(doing())?;
    }
    write(&page)
}

/// Every command that does something by itself, under its full name.
fn commands(parent: &clap::Command) -> Vec<(String, clap::Command)> {
    let own = parent.get_subcommands().filter(|command| command.get_name() != "help");
    own.flat_map(|command| match command.has_subcommands() {
        true => commands(command),
        false => {
            let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
            vec![(name, command.clone())]
        }
    })
    .collect()
}

fn write(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("writing to stdout")(cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_the_manual_under_its_full_name() {
        let mut command = Cli::command();
        command.build();
        let names: Vec<_> = commands(&command).into_iter().map(|(name, _)| name).collect();
        for name in ["skerry new", "skerry deploy", "skerry secrets import", "skerry node token create"] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
    }
}
