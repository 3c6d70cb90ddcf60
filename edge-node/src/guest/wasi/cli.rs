//! `wasi:cli`: standard output and error go to the log, standard input is closed, there is no terminal, no argument and
//! no working directory.

use wasmtime::{Result, component::Resource};

use super::{
    At, Cx,
    streams::{InputStream, OutputStream},
};
use crate::{
    account::guest_log::Stream,
    guest::GuestExit,
    host::environment::{self, Names},
};

/// A terminal to read from, which nobody ever gets.
pub enum TerminalInput {}
/// A terminal to write to, which nobody ever gets.
pub enum TerminalOutput {}

/// Links what a guest imports of it, whichever interface it stands in.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "get-environment" => at.func_wrap(name, get_environment),
        "get-arguments" => at.func_wrap(name, |_: Cx<'_>, (): ()| Ok((Vec::<String>::new(),))),
        "initial-cwd" => at.func_wrap(name, |_: Cx<'_>, (): ()| Ok((None::<String>,))),
        "exit" => at.func_wrap(name, |_: Cx<'_>, (status,): (Result<(), ()>,)| {
            exit(if status.is_ok() { 0 } else { 1 })
        }),
        "exit-with-code" => at.func_wrap(name, |_: Cx<'_>, (status,): (u8,)| exit(status)),
        "get-stdin" => {
            at.func_wrap(name, |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().push(InputStream::Closed)?,)))
        }
        "get-stdout" => at.func_wrap(name, |cx: Cx<'_>, (): ()| output(cx, Stream::Stdout)),
        "get-stderr" => at.func_wrap(name, |cx: Cx<'_>, (): ()| output(cx, Stream::Stderr)),
        "get-terminal-stdin" => {
            at.func_wrap(name, |_: Cx<'_>, (): ()| Ok((None::<Resource<TerminalInput>>,)))
        }
        "get-terminal-stdout" | "get-terminal-stderr" => {
            at.func_wrap(name, |_: Cx<'_>, (): ()| Ok((None::<Resource<TerminalOutput>>,)))
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Ends the run: status 0 is a good end, whatever the guest still had to do.
fn exit(status: u8) -> Result<()> {
    Err(wasmtime::Error::from(GuestExit(i32::from(status))))
}

fn output(mut cx: Cx<'_>, stream: Stream) -> Result<(Resource<OutputStream>,)> {
    Ok((cx.data_mut().push(OutputStream::Log(stream))?,))
}

/// Who and where the guest is (docs/guests.md).
fn get_environment(cx: Cx<'_>, (): ()) -> Result<(Vec<(String, String)>,)> {
    let identity = environment::identity(&cx.data().exchange);
    let Names { tenant, app, version, request, node, pop } = identity.names();
    let variables = [
        ("SKERRY_TENANT", tenant),
        ("SKERRY_APP", app),
        ("SKERRY_VERSION", version),
        ("SKERRY_REQUEST_ID", request),
        ("SKERRY_NODE", node),
        ("SKERRY_POP", pop),
    ];
    Ok((variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),))
}
