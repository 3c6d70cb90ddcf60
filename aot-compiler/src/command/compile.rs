//! `aot-compiler compile`: a file compiled as the service would, in capped jobs, and signed.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use artifact::{
    Digest, Profile, Target,
    compile::{Advice, WASM_BYTES_MAX},
    keys::{Compiler, SecretKey},
    visible,
};
use bytes::Bytes;

use crate::{
    compile::{Made, sign},
    config, files,
    job::{JobCaps, JobRunner},
};

/// What to compile.
#[derive(Debug, Clone)]
pub struct Compile {
    /// The program.
    pub file: PathBuf,
    /// For which levels; at least one.
    pub targets: Vec<Target>,
    /// Where the artifact goes. With several targets a folder, and each is named like its target.
    pub out: PathBuf,
    /// Where the key is that signs; made for this command when absent, and trusted by nobody.
    pub data_dir: Option<PathBuf>,
}

/// Compiles and writes. One line for each artifact and for each piece of advice, for people.
pub async fn run(order: &Compile) -> anyhow::Result<Vec<String>> {
    let key = key(order)?;
    let wasm = read(order)?;
    let runner = JobRunner::this_executable(JobCaps::DEFAULT);
    let mut said = Vec::new();
    let mut advice = Vec::new();
    for target in &order.targets {
        let made = Made { wasm: Digest::of(&wasm), target: *target, profile: Profile::Serve };
        let compiled = runner.compile(wasm.clone(), *target, Profile::Serve, config::cores(), || false).await;
        let compiled = compiled.map_err(|refusal| {
            anyhow::anyhow!(
                "compiling {} for {target}: {}",
                order.file.display(),
                visible::for_people(&refusal.message)
            )
        })?;
        advice = Advice::bounded(compiled.admitted.advice.clone());
        let blob = sign(&compiled, made, &key).context("signing the native code")?;
        let path = match order.targets.len() {
            1 => order.out.clone(),
            _ => order.out.join(format!("{target}.skerry")),
        };
        fs::write(&path, &blob).with_context(|| format!("writing {}", path.display()))?;
        let (native, bytes) = (compiled.native.len(), blob.len());
        said.push(format!(
            "{}: {target}, {native} bytes of native code, {bytes} bytes signed and compressed",
            path.display()
        ));
    }
    said.extend(advice.iter().map(|advice| format!("advice: {}", advice.message)));
    Ok(said)
}

fn key(order: &Compile) -> anyhow::Result<SecretKey<Compiler>> {
    if let Some(data_dir) = &order.data_dir {
        return files::compiler_key(data_dir).context("reading the compiler's key");
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("making a key")?;
    Ok(SecretKey::from_seed(seed))
}

fn read(order: &Compile) -> anyhow::Result<Bytes> {
    let file = order.file.display();
    let bytes = fs::metadata(&order.file).with_context(|| format!("reading {file}"))?.len();
    if bytes > WASM_BYTES_MAX {
        bail!("{file} has {bytes} bytes, a program has at most {WASM_BYTES_MAX}");
    }
    Ok(fs::read(&order.file).with_context(|| format!("reading {file}"))?.into())
}
