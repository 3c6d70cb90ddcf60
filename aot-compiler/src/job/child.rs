//! Inside the job: threads, caps, and only then the input; compile; answer.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use artifact::{
    Profile, Target,
    compile::{Refusal, RefusalCode, WASM_BYTES_MAX},
    manifest::Prepare,
};

use super::{JobCaps, caps::cap_this_process, filter::forbid_other_calls, frame};
use crate::{
    compile::compile_admitted,
    functions::{Finder, Pack},
    initialise::initialised,
    intake::refuse,
    prepare::taken,
};

/// What the parent asks for on the command line.
#[derive(Debug, Clone, Copy)]
pub struct JobOrder {
    /// What to compile for.
    pub target: Target,
    /// With which settings.
    pub profile: Profile,
    /// What to stay within. The wall time is the parent's to keep.
    pub caps: JobCaps,
    /// Threads to compile with.
    pub threads: usize,
    /// Bytes of a pack of compiled functions that come before the program, perhaps none. Without it functions are neither looked for
    /// nor answered.
    pub pack_bytes: Option<u64>,
}

/// What the parent asks for when a program is to be prepared.
#[derive(Debug, Clone)]
pub struct PrepareOrder {
    /// What to do to it.
    pub wish: Prepare,
    /// What to stay within.
    pub caps: JobCaps,
    /// Threads to compile for the interpreter with.
    pub threads: usize,
}

/// Prepares the program on standard input; the answer is framed as that of a compile.
pub fn run_prepare(order: &PrepareOrder) -> io::Result<()> {
    confine(order.threads, &order.caps)?;
    let mut answer = io::stdout().lock();
    let prepared = match read_input().and_then(|wasm| initialised(wasm, &order.wish)) {
        Ok((wasm, admitted)) => {
            frame::write_admitted(&admitted, &mut answer)?;
            Ok(wasm)
        }
        Err(refusal) => Err(refusal),
    };
    frame::write(&prepared, None, &mut answer)
}

/// Every thread exists before the caps, which allow no further one, and before the input.
fn confine(threads: usize, caps: &JobCaps) -> io::Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(io::Error::other)?;
    cap_this_process(caps)?;
    forbid_other_calls()
}

/// Runs the job on standard input and output. An error here is one of the machine; what is wrong with the program
/// goes into the answer.
pub fn run(order: &JobOrder) -> io::Result<()> {
    confine(order.threads, &order.caps)?;
    let mut answer = io::stdout().lock();
    let finder = order.pack_bytes.map(read_pack).transpose()?.map(Arc::new);
    let native = match read_input().and_then(taken) {
        Ok((wasm, admitted)) => {
            frame::write_admitted(&admitted, &mut answer)?;
            compile_admitted(&wasm, admitted, order.target, order.profile, finder.clone())
                .map(|compiled| compiled.native)
        }
        Err(refusal) => Err(refusal),
    };
    frame::write(&native, finder.as_deref(), &mut answer)
}

/// The pack before the program. What is none finds nothing.
fn read_pack(bytes: u64) -> io::Result<Finder> {
    let mut pack = Vec::new();
    io::stdin().lock().take(bytes).read_to_end(&mut pack)?;
    Ok(Finder::new(Pack::parse(pack.into())))
}

fn read_input() -> Result<Vec<u8>, Refusal> {
    let mut wasm = Vec::new();
    // One byte more than allowed, so that intake sees the excess and names the limit.
    let read = io::stdin().lock().take(WASM_BYTES_MAX + 1).read_to_end(&mut wasm);
    read.map_err(|error| {
        refuse(RefusalCode::Internal, format!("reading the program in the compile job: {error}"))
    })?;
    Ok(wasm)
}
