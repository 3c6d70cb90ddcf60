//! What loading one program costs in CPU, stage by stage, and what memory it takes once loaded: in process, one thread, on
//! the node's own loader. By the thread's own clock, so that what else runs disturbs it by its caches only.

use std::{fs, hint::black_box, sync::atomic::AtomicBool};

use anyhow::Context as _;
use artifact::{Digest, Lane, container::Container, keys::Trusted, statement::TrustedStatement};
use edge_node::{
    guest::Linker,
    load::{self, Loader, SealedCode},
};
use serde::Serialize;

use super::{apps::Bases, memory};
use crate::{
    counters::{self, thread_cpu_ns},
    micro::guest::{Bench, compiler_key},
    statistics::Summary,
    stop,
};

/// Programs loaded; they stay loaded until all are.
const PROGRAMS: u32 = 90;
/// Loaded before, so that what is made once is not in the figures.
const WARM_UP: u32 = 12;

/// Medians of the programs made from one hello, in µs of CPU.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    pub name: &'static str,
    pub lane: Lane,
    pub native_bytes: f64,
    pub container_bytes: f64,
    pub read_us: f64,
    /// Container, envelope, signature.
    pub statement_us: f64,
    /// Copying into a memory file.
    pub unpack_us: f64,
    /// What decompressing would take on top, where there is no unpacked copy.
    pub decompress_us: f64,
    pub digest_us: f64,
    /// Mapping, and what wasmtime reads of it: the rest of what the loader takes.
    pub map_us: f64,
    pub link_us: f64,
    pub unload_us: f64,
    pub all_us: f64,
    /// Bytes that stay allocated for a loaded program, beside its memory file.
    pub heap_bytes: f64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Loads {
    pub hellos: Vec<Load>,
    /// Descriptors and mappings of a loaded program.
    pub descriptors: f64,
    pub mappings: f64,
}

#[derive(Clone, Copy)]
struct One {
    base: usize,
    lane: Lane,
    native_bytes: u64,
    container_bytes: u64,
    read_ns: u64,
    decompress_ns: u64,
    statement_ns: u64,
    unpack_ns: u64,
    digest_ns: u64,
    load_ns: u64,
    link_ns: u64,
    unload_ns: u64,
    heap_bytes: f64,
}

/// Loads and unloads programs.
pub fn measure(bases: &Bases, stop: &AtomicBool) -> anyhow::Result<Loads> {
    let bench = Bench::new()?;
    let trusted = Trusted::new([compiler_key().public()]);
    let loader = Loader::new(vec![bench.target], trusted.clone());
    let linker = Linker::new(&bench.engine)?;
    let folder = tempfile::tempdir().context("making a folder for artifacts")?;
    let (mut kept, mut ones) = (Vec::new(), Vec::new());
    let mut before = memory::objects_of_process(std::process::id())?;
    for number in 0..WARM_UP + PROGRAMS {
        stop::check(stop)?;
        if number == WARM_UP {
            (kept, ones) = (Vec::new(), Vec::new());
            before = memory::objects_of_process(std::process::id())?;
        }
        let signed = bases.program(number)?;
        let path = folder.path().join(number.to_string());
        // As a node keeps it for itself.
        let unpacked = Container::decode(&signed.container)?.unpack(signed.native_bytes)?;
        let ((), decompress_ns) = timed(|| {
            drop(Container::decode(&signed.container).map(|container| container.unpack(signed.native_bytes)))
        });
        fs::write(&path, unpacked).context("storing an artifact")?;
        let (container, read_ns) = timed(|| fs::read(&path).context("reading an artifact"));
        let container = container?;
        let (stages, heap) = counters::kept(|| {
            let (code, load_ns) = timed(|| {
                let verified = loader.verify(&container, signed.wasm)?;
                load::map(&bench.engine, &verified).map(|code| (code, verified))
            });
            let (code, file) = code?;
            let (program, link_ns) = timed(|| linker.link(code));
            kept.push((program?, file));
            anyhow::Ok((load_ns, link_ns))
        });
        let (load_ns, link_ns) = stages?;
        let (opened, statement_ns) = timed(|| {
            let opened = Container::decode(&container)?;
            TrustedStatement::open(&opened.envelope, &trusted)?;
            anyhow::Ok(opened)
        });
        let opened = opened?;
        let mut file = SealedCode::writer()?;
        let (unpacked, unpack_ns) = timed(|| opened.decompress(signed.native_bytes, &mut file));
        unpacked?;
        let sealed = SealedCode::seal(file)?;
        let (_, digest_ns) = timed(|| black_box(Digest::of(sealed.as_ref())));
        ones.push(One {
            base: bases.base_of(number),
            lane: signed.lane,
            native_bytes: signed.native_bytes,
            container_bytes: signed.container.len() as u64,
            decompress_ns,
            read_ns,
            statement_ns,
            unpack_ns,
            digest_ns,
            load_ns,
            link_ns,
            unload_ns: 0,
            heap_bytes: heap,
        });
    }
    let after = memory::objects_of_process(std::process::id())?;
    for (program, one) in kept.into_iter().zip(&mut ones) {
        one.unload_ns = timed(|| drop(program)).1;
    }
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(PROGRAMS);
    Ok(Loads {
        hellos: bases.names().enumerate().filter_map(|(base, name)| summary(&ones, base, name)).collect(),
        descriptors: each(before.descriptors, after.descriptors),
        mappings: each(before.mappings, after.mappings),
    })
}

/// What it gives, and CPU nanoseconds of this thread.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = thread_cpu_ns();
    let done = work();
    (done, thread_cpu_ns() - before)
}

fn summary(ones: &[One], base: usize, name: &'static str) -> Option<Load> {
    let ones: Vec<One> = ones.iter().filter(|one| one.base == base).copied().collect();
    let median = |of: &dyn Fn(&One) -> f64| {
        let values: Vec<f64> = ones.iter().map(of).collect();
        Summary::of(&values).map_or(0.0, |summary| summary.median)
    };
    let us = |of: fn(&One) -> u64| median(&|one| of(one) as f64 / 1e3);
    Some(Load {
        name,
        lane: ones.first()?.lane,
        native_bytes: median(&|one| one.native_bytes as f64),
        container_bytes: median(&|one| one.container_bytes as f64),
        read_us: us(|one| one.read_ns),
        statement_us: us(|one| one.statement_ns),
        unpack_us: us(|one| one.unpack_ns),
        decompress_us: us(|one| one.decompress_ns),
        digest_us: us(|one| one.digest_ns),
        map_us: us(|one| one.load_ns.saturating_sub(one.statement_ns + one.unpack_ns + one.digest_ns)),
        link_us: us(|one| one.link_ns),
        unload_us: us(|one| one.unload_ns),
        all_us: us(|one| one.read_ns + one.load_ns + one.link_ns),
        heap_bytes: median(&|one| one.heap_bytes),
    })
}
