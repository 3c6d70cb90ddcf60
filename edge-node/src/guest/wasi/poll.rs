//! `wasi:io/poll`: waiting for the first of several things. A pollable is a child of what it waits for, or a timer.

use std::task::Context;

use wasmtime::{Result, bail, component::Resource};

use super::{
    At, Cx, Later, State,
    handles::Entry,
    incoming::IncomingBody,
    outgoing::OutgoingBody,
    streams::{InputStream, OutputStream},
};
use crate::{
    host::{clock::Timer, wait},
    limits::{Limit, LimitReached},
};

/// Pollables in one list: each is looked at without the guest's clock running.
const POLLED_MAX: usize = 1_000;

/// See the module.
pub enum Pollable {
    /// Its parent.
    Parent,
    /// A point in time.
    Timer(Timer),
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]pollable.ready" => at.func_wrap(name, ready),
        "[method]pollable.block" => at.func_wrap_async(name, block),
        "poll" => at.func_wrap_async(name, poll),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn ready(mut cx: Cx<'_>, (pollable,): (Resource<Pollable>,)) -> Result<(bool,)> {
    let state = cx.data_mut();
    let door = state.exchange.door.clone();
    let found = wait::ready_now(&door, |task| state.ready(&[pollable], task));
    Ok((!found.is_empty(),))
}

fn block(mut cx: Cx<'_>, (pollable,): (Resource<Pollable>,)) -> Later<'_, ()> {
    Box::new(async move {
        cx.data_mut().select(&[pollable]).await;
        Ok(())
    })
}

fn poll(mut cx: Cx<'_>, (pollables,): (Vec<Resource<Pollable>>,)) -> Later<'_, (Vec<u32>,)> {
    Box::new(async move {
        if pollables.is_empty() {
            bail!("poll of an empty list, which would wait for ever");
        }
        if pollables.len() > POLLED_MAX {
            return Err(LimitReached(Limit::Resources).into());
        }
        Ok((cx.data_mut().select(&pollables).await,))
    })
}

impl State {
    async fn select(&mut self, pollables: &[Resource<Pollable>]) -> Vec<u32> {
        let door = self.exchange.door.clone();
        wait::select(&door, |task| {
            let found = self.ready(pollables, task);
            if found.is_empty() {
                self.waiting();
            }
            found
        })
        .await
    }

    /// Which of them are ready, by index.
    fn ready(&mut self, pollables: &[Resource<Pollable>], task: &mut Context<'_>) -> Vec<u32> {
        let indexed = (0..).zip(pollables);
        indexed.filter(|(_, pollable)| self.is_ready(pollable.rep(), task)).map(|(at, _)| at).collect()
    }

    fn is_ready(&mut self, pollable: u32, task: &mut Context<'_>) -> bool {
        match self.handles.entry_mut(pollable) {
            Ok(Entry::Pollable(Pollable::Timer(timer))) => timer.poll_due(task).is_ready(),
            // A parent outlives its children, so it is there; if it were not, its next use would say so.
            Ok(_) => match self.handles.parent(pollable) {
                Ok(source) => self.is_source_ready(source, task),
                Err(_) => true,
            },
            Err(_) => true,
        }
    }

    fn is_source_ready(&mut self, source: u32, task: &mut Context<'_>) -> bool {
        let handles = &mut self.handles;
        match handles.entry_mut(source) {
            Ok(Entry::FutureTrailers(trailers)) => trailers.poll(task).is_ready(),
            Ok(Entry::FutureIncomingResponse(response)) => response.poll(task).is_ready(),
            Ok(Entry::InputStream(InputStream::Body)) => match handles.parent_mut::<IncomingBody>(source) {
                Ok(body) => body.poll_readable(task).is_ready(),
                Err(_) => true,
            },
            Ok(Entry::OutputStream(OutputStream::Body)) => match handles.parent_mut::<OutgoingBody>(source) {
                Ok(body) => body.poll_writable(task).is_ready(),
                Err(_) => true,
            },
            // Streams that are always ready, and nothing else has a pollable.
            _ => true,
        }
    }
}
