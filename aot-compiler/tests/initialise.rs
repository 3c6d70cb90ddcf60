//! What an app asks for under `[prepare]`, done in the capped job: a program with its start behind it, the same bytes each time.

mod support;

use std::{path::PathBuf, time::Instant};

use aot_compiler::{
    compile_in_process,
    initialise::initialised,
    intake::admit,
    job::{JobCaps, JobRunner},
};
use artifact::{
    Profile, Target,
    compile::{Refusal, RefusalCode},
    manifest::Prepare,
};
use wasmtime::{Engine, Instance, Module, Store};

/// Counts what ran in a global, and writes to memory; other functions end otherwise.
const MODULE: &str = r#"(module
    (import "fastly_abi" "init" (func $import (param i64) (result i32)))
    (memory (export "memory") 1 100)
    (table 2 funcref) (elem (i32.const 0) func $f)
    (global $n (mut i32) (i32.const 0)) (global $nan (mut f32) (f32.const 0)) (global $v (mut v128) (v128.const i64x2 0 0))
    (data (i32.const 16) "fresh") (data $kept "passive")
    (func $f (global.set $n (i32.add (global.get $n) (i32.const 1))))
    (func (export "wizer-initialize")
        (global.set $nan (f32.div (f32.const 0) (f32.const 0)))
        (global.set $v (i8x16.relaxed_swizzle (v128.const i8x16 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
            (v128.const i8x16 0 16 100 200 -1 -128 7 8 9 10 11 12 13 14 15 0)))
        (v128.store (i32.const 64) (global.get $v))
        (f32.store (i32.const 80) (global.get $nan))
        (memory.init $kept (i32.const 100) (i32.const 0) (i32.const 7))
        (i32.store (i32.const 70000) (memory.grow (i32.const 3)))
        (call_indirect (i32.const 0)))
    (func (export "calls_an_import") (drop (call $import (i64.const 1))))
    (func (export "never_ends") (loop (br 0)))
    (func (export "traps") unreachable)
    (func $deep (export "recurses") (call $deep) (nop))
    (func (export "grows") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))))
    (func (export "takes") (param i32))
    (func (export "n") (result i32) (global.get $n))
    (func (export "_start") (call $f)))"#;

fn module() -> Vec<u8> {
    // The first store is beyond the memory: grown before it, as it is when the address is a page further.
    wat::parse_str(MODULE.replace(
        "(i32.store (i32.const 70000) (memory.grow (i32.const 3)))",
        "(drop (memory.grow (i32.const 3)))",
    ))
    .unwrap()
}

const COMPONENT: &str = r#"(component
            (import "wasi:http/types@0.2.3" (instance $types
              (export "incoming-request" (type (sub resource)))
              (export "response-outparam" (type (sub resource)))))
            (import "wasi:random/random@0.2.3" (instance $random (export "get-random-u64" (func (result u64)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            (core func $r (canon lower (func $random "get-random-u64")))
            (core module $m
                (import "r" "r" (func $r (result i64)))
                (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
                (func (export "handle") (param i32 i32))
                (func (export "init") (global.set $n (i32.const 7)) (i32.store (i32.const 8) (i32.const 0x706d6173)))
                (func (export "random") (drop (call $r))))
            (core instance $i (instantiate $m (with "r" (instance (export "r" (func $r))))))
            (func $handle (param "request" (own $request)) (param "response-out" (own $outparam)) (canon lift (core func $i "handle")))
            (func (export "wizer-initialize") (canon lift (core func $i "init")))
            (func (export "by-chance") (canon lift (core func $i "random")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"#;

fn component() -> Vec<u8> {
    wat::parse_str(COMPONENT).unwrap()
}

fn wish(function: &str) -> Prepare {
    Prepare { initialize: Some(function.to_owned()), ..Prepare::default() }
}

fn memory(mib: u32) -> Prepare {
    Prepare { initial_memory_mib: Some(mib), ..Prepare::default() }
}

async fn prepare(wasm: &[u8], wish: &Prepare) -> Result<Vec<u8>, Refusal> {
    let runner = JobRunner::of_program(PathBuf::from(env!("CARGO_BIN_EXE_aot-compiler")), JobCaps::DEFAULT);
    runner.prepare(wasm.to_vec().into(), wish, 2, || false).await
}

#[tokio::test]
async fn a_module_begins_where_its_initialisation_ended() {
    let wasm = module();
    let made = prepare(&wasm, &wish("wizer-initialize")).await.unwrap();
    assert!(made == initialised(wasm, &wish("wizer-initialize")).unwrap().0, "the job makes other bytes");

    let engine = Engine::default();
    let module = Module::new(&engine, &made).unwrap();
    assert!(module.get_export("wizer-initialize").is_none(), "nobody can run it again");
    let mut store = Store::new(&engine, ());
    let import = wasmtime::Func::wrap(&mut store, |_: i64| 0_i32);
    let instance = Instance::new(&mut store, &module, &[import.into()]).unwrap();
    let n = instance.get_typed_func::<(), i32>(&mut store, "n").unwrap();
    assert_eq!(n.call(&mut store, ()).unwrap(), 1);
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    assert_eq!(memory.size(&store), 4);
    let bytes = memory.data(&store);
    assert_eq!((&bytes[16..21], &bytes[100..107]), (&b"fresh"[..], &b"passive"[..]));
    assert_eq!(
        bytes[64..80],
        [1, 0, 0, 0, 0, 0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1],
        "relaxed SIMD is settled"
    );
    assert_eq!(bytes[80..84], 0x7fc0_0000_u32.to_le_bytes(), "one bit pattern for NaN");
}

#[tokio::test]
async fn a_component_does_too_and_native_code_of_it_is_the_same_twice() {
    let made = prepare(&component(), &wish("wizer-initialize")).await.unwrap();
    assert!(made.windows(4).any(|bytes| bytes == b"samp"), "what it wrote is data now");
    assert!(made == prepare(&component(), &wish("wizer-initialize")).await.unwrap());
    assert_eq!(admit(&made).unwrap().imports, admit(&component()).unwrap().imports);
    let native = || compile_in_process(&made, Target::X86_64V3, Profile::Serve).unwrap();
    assert!(native() == native());
    let half = support::half("");
    let lifted = prepare(&half, &memory(2)).await.unwrap();
    assert!(lifted == prepare(&half, &memory(2)).await.unwrap());
    assert_eq!(admit(&lifted).unwrap().shape.memory_initial_bytes_largest, 2 << 20);
}

#[tokio::test]
async fn a_component_keeps_what_ran_also_where_its_module_or_an_interface_names_it() {
    // As wit-component makes it of `export wizer-initialize: func();`.
    let same_name = COMPONENT.replace("\"init\"", "\"wizer-initialize\"");
    let again = COMPONENT.replace(
        r#"(func (export "wizer-initialize") (canon lift (core func $i "init")))"#,
        r#"(func $init (canon lift (core func $i "init"))) (export $ran "wizer-initialize" (func $init))
           (instance $again (export "again" (func $ran))) (export "skerry:app/again" (instance $again))"#,
    );
    for text in [same_name, again] {
        let wasm = wat::parse_str(text).unwrap();
        let made = prepare(&wasm, &wish("wizer-initialize")).await.unwrap();
        assert!(made.windows(4).any(|bytes| bytes == b"samp"), "what it wrote is data now");
        let twice = prepare(&made, &wish("wizer-initialize")).await;
        assert!(twice.is_ok(), "it is exported still: {twice:?}");
        compile_in_process(&made, Target::X86_64V3, Profile::Serve).unwrap();
    }
}

#[tokio::test]
async fn what_begins_with_more_memory_than_a_request_may_have_is_refused() {
    let within = |mib| Prepare { memory_mib_max: Some(mib), ..wish("grows") };
    // 100 pages are 6.25 MiB.
    let refusal = prepare(&module(), &within(6)).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Invalid);
    assert!(
        refusal.message.contains("7 MiB") && refusal.message.contains("limits.memory_mib, 6"),
        "{refusal:?}"
    );
    prepare(&module(), &within(7)).await.unwrap();
}

#[tokio::test]
async fn what_goes_wrong_in_it_is_told_with_the_functions_name() {
    let (module, component) = (module(), component());
    let image = |wasm: &[u8]| wasm.to_vec();
    for (wasm, function, code, said) in [
        (image(&module), "calls_an_import", RefusalCode::Invalid, "it called the import fastly_abi.init"),
        (image(&module), "traps", RefusalCode::Invalid, "`unreachable` instruction"),
        (image(&module), "recurses", RefusalCode::Invalid, "call stack exhausted"),
        (image(&module), "takes", RefusalCode::Invalid, "takes and returns nothing"),
        (image(&module), "memory", RefusalCode::Invalid, "exports no function"),
        (image(&module), "absent", RefusalCode::Invalid, "exports no function"),
        (
            image(&component),
            "by-chance",
            RefusalCode::Invalid,
            "it called the import wasi:random/random@0.2.3#get-random-u64",
        ),
        (image(&component), "absent", RefusalCode::Invalid, "exports no function"),
        (image(&component), "wasi:http/incoming-handler@0.2.3", RefusalCode::Invalid, "exports no function"),
        (
            wat::parse_str(
                MODULE.replace("(call_indirect", "(table.set (i32.const 1) (ref.null func)) (call_indirect"),
            )
            .unwrap(),
            "wizer-initialize",
            RefusalCode::Invalid,
            "table.set",
        ),
    ] {
        let refusal = prepare(&wasm, &wish(function)).await.unwrap_err();
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert!(
            refusal.message.contains(said) && refusal.message.contains(function),
            "{function}: {refusal:?}"
        );
    }
    let grown = prepare(&module, &wish("grows")).await.unwrap();
    assert_eq!(admit(&grown).unwrap().shape.memory_initial_bytes_largest, 100 << 16);
}

#[tokio::test]
async fn what_wizer_or_the_job_cannot_do_is_told_too() {
    let text = COMPONENT.to_owned();
    let wide = text.replace("(global $n", "(global (mut v128) (v128.const i64x2 0 0)) (global $n");
    let many = "(core module $large (memory 2048)) (core instance (instantiate $large))";
    let many = (0..30).fold(text.clone(), |text, n| {
        let one = many.replace("$large", &format!("$large{n}"));
        text.replace("(core module $m", &format!("{one} (core module $m"))
    });
    for (text, code, said) in [
        (wide, RefusalCode::Invalid, "does not support v128 globals"),
        (many, RefusalCode::JobLimit, "its memories are more than the job may have"),
    ] {
        let refusal = prepare(&wat::parse_str(text).unwrap(), &wish("wizer-initialize")).await.unwrap_err();
        assert!(refusal.code == code && refusal.message.contains(said), "{refusal:?}");
    }
}

#[tokio::test]
async fn one_that_never_ends_runs_out_of_fuel() {
    let started = Instant::now();
    let refusal = prepare(&module(), &wish("never_ends")).await.unwrap_err();
    eprintln!("{:?}: {refusal:?}", started.elapsed());
    assert_eq!(refusal.code, RefusalCode::JobLimit, "{refusal:?}");
    assert!(refusal.message.contains("1000000000 instructions"), "{refusal:?}");
}

#[tokio::test]
async fn initial_memory_is_raised_and_never_lowered() {
    let size = |wasm: &[u8]| admit(wasm).unwrap().shape.memory_initial_bytes_largest;
    for wasm in [module(), component()] {
        assert_eq!(size(&prepare(&wasm, &memory(5)).await.unwrap()), 5 << 20);
        let twice = prepare(&prepare(&wasm, &memory(5)).await.unwrap(), &memory(2)).await.unwrap();
        assert_eq!(size(&twice), 5 << 20);
    }
    let import = "(core module $other (memory 1)) (core instance (instantiate $other))";
    let text = support::component_text(import).replace("(core module $m ", "(core module $m (memory 1) ");
    let several = wat::parse_str(text).unwrap();
    for (wasm, mib, said) in [
        (module(), 7, "its memory has 6 MiB at most"),
        (support::component(), 1, "no memory"),
        (several, 1, "2 memories"),
        (module(), 129, "out of range"),
    ] {
        let refusal = prepare(&wasm, &memory(mib)).await.unwrap_err();
        assert!(refusal.code == RefusalCode::Invalid && refusal.message.contains(said), "{refusal:?}");
    }
}

/// Guests of every toolchain, by the function they are entered with: whatever comes of it, it comes in words.
#[tokio::test]
async fn built_guests_take_more_memory_and_do_not_run_without_their_imports() {
    for (name, said) in [
        ("wstd-hello", "exports no function"),
        ("hello-as", "exports no function"),
        ("fastly-hello", "it called the import"),
    ] {
        let Some(wasm) = support::guest(name) else { continue };
        let made = prepare(&wasm, &memory(32)).await.unwrap();
        assert_eq!(admit(&made).unwrap().shape.memory_initial_bytes_largest, 32 << 20, "{name}");
        let refusal = prepare(&wasm, &wish("_start")).await.unwrap_err();
        assert!(refusal.message.contains(said), "{name}: {refusal:?}");
    }
}
