//! A fixture guest, made ready the way every program is: intake → compile → sign → verify → map → link.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::Context as _;
use artifact::{
    Digest, Lane, Profile, Target,
    keys::{Compiler, SecretKey, Trusted},
};
use edge_node::load::{self, Code, Loader};
use engine::node::{Pool, Reset};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use wasmtime::Engine;

/// What one execution may cost, for a machine of the class of 2 vCPUs of an AMD EPYC 9R14.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goal {
    #[serde(skip)]
    pub guest: &'static str,
    pub cycle_us: f64,
    /// Store and instance alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instantiate_us: Option<f64>,
}

pub const GOALS: [Goal; 4] = [
    Goal { guest: "fastly-hello", cycle_us: 8.0, instantiate_us: Some(4.0) },
    Goal { guest: "as-hello", cycle_us: 7.5, instantiate_us: None },
    Goal { guest: "wasi-hello", cycle_us: 10.5, instantiate_us: Some(7.0) },
    Goal { guest: "wstd-hello", cycle_us: 16.0, instantiate_us: None },
];
/// Slots of the pool. One is used at a time.
const INSTANCES_MAX: u32 = 64;
/// As on a node.
const EPOCH_TICK: Duration = Duration::from_millis(1);

/// A guest's signed container, as a node would fetch it.
pub struct Guest {
    pub name: String,
    pub lane: Lane,
    pub wasm: Digest,
    pub wasm_bytes: usize,
    pub container: Vec<u8>,
}

/// What every guest is measured on: one engine, its epoch ticking, on a thread pinned to one core.
pub struct Bench {
    pub engine: Engine,
    loader: Loader,
    pub target: Target,
    pub pool: Pool,
    /// That this process may use; the measuring thread is on the last of them.
    pub cores: Vec<usize>,
}

impl Guest {
    /// Compiles and signs `NAME.wasm`.
    pub fn compile(folder: &Path, name: &str) -> anyhow::Result<Guest> {
        Guest::of(name, &Guest::wasm(folder, name)?).with_context(|| format!("compiling {name}.wasm"))
    }

    /// The program in `NAME.wasm`.
    pub fn wasm(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = folder.join(format!("{name}.wasm"));
        fs::read(&path).with_context(|| {
            format!(
                "reading {} (fixtures/build makes the guests, or name their folder with --guests-dir)",
                path.display()
            )
        })
    }

    /// Compiles and signs a program.
    pub fn of(name: &str, wasm: &[u8]) -> anyhow::Result<Guest> {
        let target = best_target()?;
        let compiled = aot_compiler::compile_in_process(wasm, target, Profile::Serve)
            .map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
        let made = aot_compiler::Made { wasm: Digest::of(wasm), target, profile: Profile::Serve };
        let container =
            aot_compiler::sign(&compiled, made, &compiler_key()).context("packing the artifact")?;
        let lane = compiled.admitted.lane;
        Ok(Guest { name: name.to_owned(), lane, wasm: made.wasm, wasm_bytes: wasm.len(), container })
    }
}

impl Bench {
    /// An engine with a node's settings.
    pub fn new() -> anyhow::Result<Bench> {
        as_on_a_running_node()?;
        let reset = edge_node::machine::reset();
        let pool = Pool { instances_max: INSTANCES_MAX, reset };
        let engine = engine::node::engine(Profile::Serve, pool)?;
        let target = best_target()?;
        let loader = Loader::new(vec![target], Trusted::new([compiler_key().public()]));
        tick_epochs(&engine)?;
        let cores = cores();
        pin();
        Engine::tls_eager_initialize();
        Ok(Bench { engine, loader, target, pool, cores })
    }

    /// Verifies and maps a guest's code.
    pub fn load(&self, guest: &Guest) -> anyhow::Result<Code> {
        let verified = self.loader.verify(&guest.container, guest.wasm).context("verifying the artifact")?;
        load::map(&self.engine, &verified).context("mapping the artifact")
    }

    /// The settings that matter to the figures.
    pub fn settings(&self) -> String {
        let reset = match self.pool.reset {
            Reset::PagemapScan => "PAGEMAP_SCAN",
            Reset::Copy => "copying (slower: see the warning)",
        };
        format!("target {}, slots reset by {reset}, epoch tick 1 ms, one pinned thread", self.target)
    }
}

/// What a node has done long before its first guest: started its clock, and drawn random bytes for TLS. The first
/// draw of a process takes aws-lc about 50 ms (it gathers jitter), which would be billed to the first guest that asks.
pub fn as_on_a_running_node() -> anyhow::Result<()> {
    edge_node::meter::now_ns();
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut [0; 1]).map_err(|_| anyhow::anyhow!("this machine gives no random bytes"))
}

pub fn best_target() -> anyhow::Result<Target> {
    engine::levels::of_this_machine().pop().context("this processor is below every level Skerry compiles for")
}

/// Signs and is trusted within this process only.
pub fn compiler_key() -> SecretKey<Compiler> {
    SecretKey::from_seed([1; 32])
}

pub fn tick_epochs(engine: &Engine) -> anyhow::Result<()> {
    let engine = engine.weak();
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH_TICK);
        }
    };
    thread::Builder::new().name("epoch".into()).spawn(tick).context("starting the epoch thread")?;
    Ok(())
}

/// Pins this thread to the last core it may use: the first one takes most interrupts.
fn pin() {
    if let Some(core) = cores().last() {
        pin_to(*core);
    }
}

/// Those this thread may use.
pub fn cores() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
}

pub fn pin_to(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    if sched_setaffinity(None, &only).is_err() {
        eprintln!("loadtest: this thread could not be pinned; figures will vary more");
    }
}
