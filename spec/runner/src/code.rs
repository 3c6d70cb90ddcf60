//! Signed containers into modules, by the node's own loader.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context as _, bail};
use artifact::{Digest, Profile, keys::Trusted};
use node_load::{Code, Loader};
use wasmtime::{Engine, Module};

use crate::plan;

/// How instances are allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocator {
    /// From a node's pool, of so many instances at once.
    Pool(u32),
    /// One by one, with the same settings otherwise.
    OnDemand,
}

/// The engine of a node, or one with its settings.
pub fn engine(allocator: Allocator) -> anyhow::Result<Engine> {
    let engine = match allocator {
        Allocator::Pool(instances_max) => engine::node::engine(
            Profile::Serve,
            engine::node::Pool { instances_max, reset: engine::node::Reset::Copy },
        ),
        Allocator::OnDemand => engine::node::on_demand(Profile::Serve),
    };
    engine.context("making the node's engine")
}

/// The containers of one folder.
pub struct Containers {
    folder: PathBuf,
    loader: Loader,
    engine: Engine,
    loaded: HashMap<Digest, Module>,
}

impl Containers {
    /// Trusts the key that lies in the folder, and takes code for this processor only.
    pub fn open(folder: PathBuf, engine: Engine) -> anyhow::Result<Containers> {
        let path = folder.join(plan::KEY_FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let key = text.parse().with_context(|| format!("in {}", path.display()))?;
        let loader = Loader::new(engine::levels::of_this_machine(), Trusted::new([key]));
        Ok(Containers { folder, loader, engine, loaded: HashMap::new() })
    }

    /// The engine the modules are mapped for.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Verifies and maps what was compiled from `wasm`.
    pub fn load(&mut self, wasm: Digest) -> anyhow::Result<Module> {
        if let Some(module) = self.loaded.get(&wasm) {
            return Ok(module.clone());
        }
        let path = plan::container_path(&self.folder, wasm);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let verified = self.loader.verify(&bytes, wasm)?;
        let Code::Module(module) = node_load::map(&self.engine, &verified)? else {
            bail!("{wasm} was compiled as a component");
        };
        self.loaded.insert(wasm, module.clone());
        Ok(module)
    }

    /// Forgets what was loaded.
    pub fn clear(&mut self) {
        self.loaded.clear();
    }
}
