//! Functions that were compiled before: what comes out is the same with them, and most of a changed program is found.

mod support;

use std::{
    fs,
    future::IntoFuture as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aot_compiler::{
    compile::native_with,
    compile_in_process,
    functions::{Counts, Finder, Pack, PackName, Shelf, ShelfLimits},
    job::{JobAnswer, JobCaps, JobRunner, Reuse, Work},
    service::{Service, Token},
};
use artifact::{
    Lane, Profile, Target,
    compile::{CACHE_HEADER, COMPILE_PATH, FUNCTIONS_FOUND_HEADER, TENANT_HEADER},
    keys::SecretKey,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aot-compiler");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const TARGET: Target = Target::X86_64V3;

struct Kept {
    folder: tempfile::TempDir,
    shelf: Shelf,
    name: PackName,
}

impl Kept {
    fn nothing() -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let limits = ShelfLimits { bytes_max: 1 << 30, tenant_bytes_max: 1 << 30 };
        let shelf = Shelf::open(folder.path().into(), limits).unwrap();
        let name = PackName::new("acme", "shop", TARGET, engine::fingerprint(TARGET, Profile::Serve));
        Kept { folder, shelf, name }
    }

    /// Compiles as the service does.
    async fn compile(&self, wasm: &[u8], threads: usize) -> JobAnswer {
        let pack = self.shelf.take(&self.name);
        let answer = job(wasm, threads, Reuse::Functions(pack.clone())).await;
        self.shelf.keep(&self.name, pack.as_ref(), answer.learned.clone());
        answer
    }

    fn pack_file(&self) -> PathBuf {
        pack_in(self.folder.path())
    }
}

/// The one pack of a shelf's folder.
fn pack_in(folder: &Path) -> PathBuf {
    let only = |folder: &Path| fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    only(&only(folder))
}

async fn job(wasm: &[u8], threads: usize, reuse: Reuse) -> JobAnswer {
    let runner = JobRunner::of_program(PathBuf::from(PROGRAM), JobCaps::DEFAULT);
    let work = Work { wasm: wasm.to_vec().into(), target: TARGET, profile: Profile::Serve, threads, reuse };
    runner.run(work, || false).await.unwrap()
}

#[tokio::test]
async fn code_is_the_same_with_functions_of_before_with_some_and_with_none() {
    let mut programs = vec![support::module(), support::component()];
    programs.extend(["wasi-hello", "fastly-hello"].iter().filter_map(|name| support::guest(name)));
    // Of two folders: the second knows some of the functions from the programs before.
    let (each, shared) = ([(); 4].map(|()| Kept::nothing()), Kept::nothing());
    for (wasm, alone) in programs.iter().zip(each) {
        let plain = compile_in_process(wasm, TARGET, Profile::Serve).unwrap();
        let first = alone.compile(wasm, 2).await;
        assert_eq!(first.functions.found, 0);
        let again = alone.compile(wasm, 1).await;
        assert!(again.functions.found > again.functions.compiled, "{:?}", again.functions);
        let partly = shared.compile(wasm, 2).await;
        for answer in [&first, &again, &partly] {
            assert!(answer.compiled == plain, "{:?}", answer.functions);
        }
    }
}

#[tokio::test]
async fn a_changed_script_compiles_a_tenth_of_the_functions_at_most() {
    let (Some(first), Some(changed)) = (support::guest("js-app"), support::guest("js-echo")) else { return };
    let kept = Kept::nothing();
    kept.compile(&first, 2).await;
    let answer = kept.compile(&changed, 2).await;
    let Counts { found, compiled } = answer.functions;
    eprintln!("a JS app with another script: {compiled} of {} functions compiled", found + compiled);
    assert!(compiled * 10 <= found + compiled, "{compiled} of {}", found + compiled);
    let plain = job(&changed, 2, Reuse::Nothing).await;
    assert_eq!(plain.functions, Counts::default());
    assert!(answer.compiled == plain.compiled, "the same code as without");
}

#[tokio::test]
async fn a_damaged_pack_costs_time_and_changes_no_code() {
    let Some(wasm) = support::guest("wasi-hello") else { return };
    let kept = Kept::nothing();
    let first = kept.compile(&wasm, 2).await;
    let whole = fs::read(kept.pack_file()).unwrap();
    let index = whole.len() - first.learned.fresh.iter().map(|(_, value)| value.len()).sum::<usize>();
    // One flip in each kibibyte of the values: many functions are damaged, the pack is not.
    let mut flipped = whole.clone();
    (index..whole.len()).step_by(1024).for_each(|at| flipped[at] ^= 1 << (at / 1024 % 8));
    fs::write(kept.pack_file(), &flipped).unwrap();
    let pack = kept.shelf.take(&kept.name).unwrap();
    let damaged = job(&wasm, 2, Reuse::Functions(Some(pack))).await;
    assert!(damaged.functions.compiled > 100 && damaged.functions.found > 0, "{:?}", damaged.functions);
    assert!(damaged.compiled == first.compiled);
    // In the index, in its head, cut, longer: no pack, and the file is gone.
    let file = kept.pack_file();
    for change in [
        (|bytes: &mut Vec<u8>| bytes[100] ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes[9] ^= 1,
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
        Vec::clear,
    ] {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        assert!(kept.shelf.take(&kept.name).is_none());
        assert!(!file.exists());
    }
    let anew = kept.compile(&wasm, 2).await;
    assert!(anew.functions.found == 0 && anew.compiled == first.compiled);
}

/// As a job that was taken over may answer.
#[tokio::test]
async fn a_function_that_cannot_be_read_is_compiled() {
    let wasm = support::component();
    let kept = Kept::nothing();
    let mut first = kept.compile(&wasm, 1).await;
    first.learned.fresh.iter_mut().for_each(|(_, value)| *value = b"no function".as_slice().into());
    kept.shelf.drop_pack(&kept.name);
    kept.shelf.keep(&kept.name, None, first.learned);
    let answer = kept.compile(&wasm, 1).await;
    assert!(answer.functions.compiled > 0 && answer.compiled == first.compiled);
}

/// A job before may have answered functions by which later ones fail. They do not keep the program from being compiled.
#[tokio::test]
async fn a_pack_by_which_a_job_fails_is_dropped_and_the_program_compiled_without() {
    let folder = tempfile::tempdir().unwrap();
    let failing = folder.path().join("failing");
    let script = format!(
        "#!/bin/sh\nfor word; do [ \"$before\" = --pack-bytes ] && [ \"$word\" != 0 ] && exit 3; before=$word; done\nexec {PROGRAM} \"$@\"\n"
    );
    fs::write(&failing, script).unwrap();
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    let limits = ShelfLimits { bytes_max: 1 << 30, tenant_bytes_max: 1 << 30 };
    let functions = folder.path().join("functions");
    let service = Service {
        key: SecretKey::from_seed([1; 32]),
        token: Token::from_text(TOKEN).unwrap(),
        targets: vec![TARGET],
        functions: Some(Shelf::open(functions.clone(), limits).unwrap()),
        runner: JobRunner::of_program(failing, JobCaps::DEFAULT),
        jobs_max: 1,
        cores: 1,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{COMPILE_PATH}?target={TARGET}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, service.router()).into_future());
    let ask = move || {
        let asked = ureq::post(&url)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header(TENANT_HEADER, "acme")
            .header(CACHE_HEADER, "shop");
        let mut answer = asked.send(support::component()).unwrap();
        let found = answer.headers()[FUNCTIONS_FOUND_HEADER].to_str().unwrap().to_owned();
        (found, answer.body_mut().read_to_vec().unwrap())
    };
    let first = tokio::task::spawn_blocking(ask.clone()).await.unwrap();
    assert!(pack_in(&functions).exists());
    assert!(tokio::task::spawn_blocking(ask).await.unwrap() == first, "none found, the same code");
    assert_eq!(first.0, "0");
}

/// Programs of all kinds, each with changed ones that have most of its functions behind other types, globals and tables: the key that
/// the code generator makes of a function says all that its code depends on.
#[test]
fn random_programs_compile_alike_with_each_others_functions() {
    let (mut counts, name, mut pack) = (Counts::default(), Kept::nothing().name, None);
    for number in 0..600 {
        let Some(wasm) = random_program(number) else { continue };
        let changed = (0..4).filter_map(|seed| mutated(&wasm, number << 8 | seed));
        for wasm in std::iter::once(wasm.clone()).chain(changed) {
            let native = |finder| native_with(&wasm, Lane::Fastly, TARGET, Profile::Serve, finder);
            let Ok(plain) = native(None) else { continue };
            let finder = Arc::new(Finder::new(pack.clone()));
            assert!(native(Some(Arc::clone(&finder))).unwrap() == plain, "program {number}");
            counts.found += finder.counts().found;
            counts.compiled += finder.counts().compiled;
            let next = finder.learned().next_pack(&name, pack.as_ref(), 0);
            pack = next.and_then(|next| Pack::read(next.into(), &name)).or(pack);
        }
    }
    eprintln!("{counts:?}");
    assert!(counts.found > 100 && counts.compiled > 100, "{counts:?}");
}

fn random_program(number: u64) -> Option<Vec<u8>> {
    let wasm = support::random_module(number, 3)?;
    let is_valid = wasmparser::Validator::new_with_features(engine::wasm_features()).validate_all(&wasm);
    is_valid.is_ok().then_some(wasm)
}

fn mutated(wasm: &[u8], seed: u64) -> Option<Vec<u8>> {
    let mut mutate = wasm_mutate::WasmMutate::default();
    mutate.preserve_semantics(true).seed(seed).fuel(200);
    mutate.run(wasm).ok()?.next()?.ok()
}
