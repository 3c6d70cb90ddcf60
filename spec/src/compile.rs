//! `.wast` → wasm → native code → signed container, by the functions of the compiler service.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use aot_compiler::{
    compile::{self, Made},
    intake,
};
use artifact::{
    Digest, Lane, Profile, Target,
    compile::RefusalCode,
    keys::{Compiler, SecretKey},
};
use spec_runner::plan::{self, Fate, Script};
use wast::{lexer::Lexer, parser::ParseBuffer};

use crate::{
    features,
    suite::{self, Wast},
};

/// Signs for one folder, with a key that nobody keeps.
pub struct Signer<'a> {
    folder: &'a Path,
    target: Target,
    key: SecretKey<Compiler>,
}

impl<'a> Signer<'a> {
    /// Makes the folder and writes the public key into it.
    pub fn new(folder: &'a Path, target: Target) -> anyhow::Result<Signer<'a>> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("making a key")?;
        let key = SecretKey::from_seed(seed);
        let code = folder.join(plan::CODE_FOLDER);
        fs::create_dir_all(&code).with_context(|| format!("making {}", code.display()))?;
        fs::write(folder.join(plan::KEY_FILE), key.public().to_text())?;
        Ok(Signer { folder, target, key })
    }

    /// Compiles a module and writes its container, or says why not.
    pub fn fate(&self, wasm: &[u8]) -> anyhow::Result<Fate> {
        let native = match compile::native(wasm, Lane::Fastly, self.target, Profile::Serve) {
            Ok(native) => native,
            Err(refusal) => return Ok(refused(wasm, refusal.message)),
        };
        let digest = Digest::of(wasm);
        let made = Made { wasm: digest, target: self.target, profile: Profile::Serve };
        let container = compile::sign_native(&native, Lane::Fastly, vec![], made, &self.key)?;
        let path = plan::container_path(self.folder, digest);
        fs::write(&path, container).with_context(|| format!("writing {}", path.display()))?;
        Ok(Fate::Compiled { wasm: digest, beyond_pool: features::beyond_pool(wasm) })
    }
}

fn refused(wasm: &[u8], reason: String) -> Fate {
    let missing = features::missing(wasm);
    if !missing.is_empty() {
        return Fate::Off(missing);
    }
    // What comes after intake's validation would be refused for its lane, which says nothing here.
    let by_intake = intake::admit(wasm).is_err_and(|refusal| {
        matches!(
            refusal.code,
            RefusalCode::Empty | RefusalCode::NotWasm | RefusalCode::Invalid | RefusalCode::Limit
        )
    });
    Fate::Refused { reason, by_intake }
}

/// Compiles the whole suite, or the files that `only` names.
pub fn compile(target: Target, out: &Path, only: &[String]) -> anyhow::Result<()> {
    let is_empty = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    ensure!(is_empty, "{} is not empty: remove it, or name another folder", out.display());
    let started = Instant::now();
    if let Some(word) = suite::unknown(only) {
        bail!("no file's name contains {word:?} of --only");
    }
    let files = suite::files(only);
    let signer = Signer::new(out, target)?;
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<usize> {
        let mut modules = 0;
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            modules += script(file, &signer).with_context(|| file.name.clone())?;
        }
        Ok(modules)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let modules = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().expect("no panic of its own"));
        done.sum::<anyhow::Result<usize>>()
    })?;
    let files = files.len();
    println!("{files} files with {modules} modules compiled for {target} in {:.1?}", started.elapsed());
    Ok(())
}

/// Writes the script of one file; answers how many modules it has.
fn script(file: &Wast, signer: &Signer<'_>) -> anyhow::Result<usize> {
    let mut lexer = Lexer::new(file.text);
    lexer.allow_confusing_unicode(true); // names.wast is about such
    let buffer = ParseBuffer::new_with_lexer(lexer)?;
    let parsed = wast::parser::parse::<wast::Wast<'_>>(&buffer)?;
    let mut wast = json_from_wast::Wast::from_ast(&file.name, file.text, parsed)?;
    let mut modules = BTreeMap::new();
    for (name, contents) in wast.wasms.drain(..) {
        let fate = if name.ends_with(".wat") { Fate::Text } else { signer.fate(&contents)? };
        modules.insert(name, fate);
    }
    let count = modules.values().filter(|fate| **fate != Fate::Text).count();
    let path = signer.folder.join(plan::SCRIPT_FOLDER).join(format!("{}.json", file.name));
    fs::create_dir_all(path.parent().expect("a file in a folder"))?;
    fs::write(&path, serde_json::to_string(&Script { wast, modules })?)?;
    Ok(count)
}
