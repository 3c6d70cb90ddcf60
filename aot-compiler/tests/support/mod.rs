//! Small programs written by hand, and the built guests of `fixtures/` where they exist.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;

/// The smallest fastly lane program.
pub fn module() -> Vec<u8> {
    wat::parse_str(
        r#"(module
            (import "fastly_abi" "init" (func (param i64) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start") (drop (call 0 (i64.const 1)))))"#,
    )
    .expect("written here")
}

/// One whose data has no constant place.
pub fn module_to_advise() -> Vec<u8> {
    let data = "x".repeat(5_000);
    wat::parse_str(format!(
        r#"(module (memory (export "memory") 1) (func (export "_start"))
            (data (i32.add (i32.const 8) (i32.const 8)) "{data}"))"#
    ))
    .expect("written here")
}

/// The smallest wasi lane program.
pub fn component() -> Vec<u8> {
    let import =
        r#"(import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result u64)))))"#;
    wat::parse_str(component_text(import)).expect("written here")
}

/// A wasi lane program with these imports. It answers no request: its handler does nothing.
pub fn component_text(imports: &str) -> String {
    component_handling(imports, r#"(param "request" (own $request)) (param "response-out" (own $outparam))"#)
}

/// One whose handler has these parameters, of which the core function gets two numbers.
pub fn component_handling(imports: &str, params: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@0.2.3" (instance $types
              (export "incoming-request" (type (sub resource)))
              (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            {imports}
            (core module $m (func (export "handle") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func $handle {params} (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"#
    )
}

/// A core module as a linker leaves it beside `wit-bindgen`: a handler of `wasi:http` with the types of its world in a custom
/// section, and with `more` in it.
pub fn half(more: &str) -> Vec<u8> {
    let app = "package skerry:app; world app { import wasi:http/types@0.2.12; export wasi:http/incoming-handler@0.2.12; }";
    let module = format!(
        r#"(module {more} (import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
            (memory (export "memory") 1)
            (func (export "wasi:http/incoming-handler@0.2.12#handle") (param i32 i32) (drop (call $fields)))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0)))"#
    );
    half_of(app, &module)
}

/// A module with the types of this world.
pub fn half_of(world: &str, module: &str) -> Vec<u8> {
    use wit_component::{StringEncoding, embed_component_metadata};
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("wit")).expect("texts of this room");
    let package = resolve.push_str("app.wit", world).expect("written here");
    let world = resolve.select_world(&[package], None).expect("it has one");
    let mut wasm = wat::parse_str(module).expect("written here");
    embed_component_metadata(&mut wasm, &resolve, world, StringEncoding::UTF8).expect("it fits");
    wasm
}

fn guests_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/guests")
}

/// A built guest by its file name, with `.wasm` added if it has no extension. `None`, loudly, when it is not built.
pub fn guest(name: &str) -> Option<Vec<u8>> {
    let mut path = guests_folder().join(name);
    if path.extension().is_none() {
        path.set_extension("wasm");
    }
    let read = std::fs::read(&path).ok();
    if read.is_none() {
        eprintln!("SKIPPED: {} is not built; `./dev guests` builds it", path.display());
    }
    read
}

/// All built guests, by name.
pub fn guests() -> Vec<(String, Vec<u8>)> {
    let Ok(folder) = std::fs::read_dir(guests_folder()) else {
        eprintln!("SKIPPED: no guests are built; `./dev guests` builds them");
        return Vec::new();
    };
    let files = folder
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    let read = |path: PathBuf| Some((path.file_stem()?.to_str()?.to_owned(), std::fs::read(&path).ok()?));
    let mut guests: Vec<_> = files.filter_map(read).collect();
    guests.sort();
    guests
}

/// A compile bomb that passes intake: one function of `ifs` branches over 500 locals that are all alive to the end.
/// Register allocation needs memory and time far beyond its size.
pub fn bomb(ifs: u32) -> Vec<u8> {
    use std::fmt::Write as _;
    const LOCALS: u32 = 500;
    let mut text = String::from("(module (memory (export \"memory\") 1) (func (export \"_start\") (local");
    text.push_str(&" i32".repeat(LOCALS as usize));
    text.push(')');
    let mut state = 1_u32;
    let mut local = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % LOCALS
    };
    for _ in 0..ifs {
        let (a, b, c, d) = (local(), local(), local(), local());
        let _ = write!(text, "local.get {a} if local.get {b} local.get {c} i32.add local.set {d} end ");
    }
    for n in 0..LOCALS {
        let _ = write!(text, "i32.const 0 local.get {n} i32.store ");
    }
    text.push_str("))");
    wat::parse_str(text).expect("written here")
}

/// A repeatable sequence (Numerical Recipes' constants).
pub struct Bytes(pub u64);

impl Bytes {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    /// So many bytes.
    pub fn some(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// A module with features that a program may have; the same for the same number.
pub fn random_module(number: u64, min_funcs: usize) -> Option<Vec<u8>> {
    let bytes = Bytes(number).some(4096);
    let config = wasm_smith::Config {
        bulk_memory_enabled: true,
        gc_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        memory64_enabled: false,
        max_memory32_bytes: 1 << 24,
        max_memories: 1,
        max_tables: 4,
        min_funcs,
        ..wasm_smith::Config::default()
    };
    Some(wasm_smith::Module::new(config, &mut arbitrary::Unstructured::new(&bytes)).ok()?.to_bytes())
}
