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
    write(&page()?)
}

fn page() -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    let doing = || Error::io("making the manual's page");
    let whole = clap_mangen::Man::new(command.clone());
    whole
        .render_title(&mut page)
        .and_then(|()| whole.render_name_section(&mut page))
        .and_then(|()| whole.render_synopsis_section(&mut page))
        .and_then(|()| whole.render_options_section(&mut page))
        .and_then(|()| list(&command, &mut page))
        .and_then(|()| whole.render_extra_section(&mut page))
        .and_then(|()| whole.render_version_section(&mut page))
        .map_err(doing())?;
    for (name, command) in commands(&command) {
        writeln!(page, ".SH {}", name.to_uppercase()).map_err(doing())?;
        let part = clap_mangen::Man::new(command);
        part.render_synopsis_section(&mut page)
            .and_then(|()| part.render_description_section(&mut page))
            .and_then(|()| part.render_options_section(&mut page))
            .map_err(doing())?;
    }
    Ok(page)
}

/// The list of commands by the names they are typed by. What `clap_mangen` writes names a page of its own for each, such as
/// skerry-new(1), and there is this one page.
fn list(command: &clap::Command, page: &mut impl std::io::Write) -> std::io::Result<()> {
    writeln!(page, ".SH COMMANDS\nEach has a section below.")?;
    for (name, command) in commands(command) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", roff(&name), roff(&about))?;
    }
    Ok(())
}

/// Text that means itself in roff: a backslash and a hyphen are escaped, and no line begins with a command.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('\n', " ");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
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
    fn the_list_of_commands_names_what_is_typed_and_no_page_that_is_not_there() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        assert!(page.contains("\\fBskerry new\\fR\nStart a project"), "{}", &page[..1_000]);
        assert!(page.contains("\\fBskerry node token create\\fR\n"));
        assert!(page.contains("Exit codes:") && !page.contains("skerry\\-new(1)"));
        assert_eq!(roff(".a-b\\"), "\\&.a\\-b\\e");
    }

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
