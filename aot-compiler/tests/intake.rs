//! What is refused, by which code and in which words; and that real guests are admitted.

mod support;

use aot_compiler::intake::{admit, limits, offers};
use artifact::{
    Lane,
    compile::{AdviceCode, Refusal, RefusalCode, WASM_BYTES_MAX},
};
use support::{component, guest, guests, module};

fn refusal(wasm: &[u8]) -> Refusal {
    match admit(wasm) {
        Ok(admitted) => panic!("admitted {admitted:?}"),
        Err(refusal) => refusal,
    }
}

/// The code, and words that must stand in the message.
#[track_caller]
fn refused(wasm: &[u8], code: RefusalCode, said: &[&str]) {
    let refusal = refusal(wasm);
    assert_eq!(refusal.code, code, "{}", refusal.message);
    for words in said {
        assert!(refusal.message.contains(words), "{words:?} not in: {}", refusal.message);
    }
    assert!(refusal.message.len() < 1_000, "an endless message: {}", refusal.message);
}

#[track_caller]
fn refused_text(wat: &str, code: RefusalCode, said: &[&str]) {
    refused(&wat::parse_str(wat).unwrap(), code, said);
}

#[test]
fn minimal_programs_of_both_lanes_are_admitted() {
    let core = admit(&module()).unwrap();
    assert_eq!(
        (core.lane, core.imports.as_slice()),
        (Lane::Fastly, ["fastly_abi#init".to_owned()].as_slice())
    );
    let component = admit(&component()).unwrap();
    assert_eq!(component.lane, Lane::Wasi);
    assert_eq!(component.imports, ["wasi:http/types@0.2.3", "wasi:random/random@0.2.3"]);
}

#[test]
fn empty_text_native_code_and_archives_are_no_wasm() {
    refused(b"", RefusalCode::Empty, &["0 bytes"]);
    refused(b"This is not WebAssembly.\n", RefusalCode::NotWasm, &["looks like text"]);
    refused(b"\x7fELF\x02\x01\x01\xc8", RefusalCode::NotWasm, &["native code is never taken"]);
    refused(b"\x1f\x8b\x08\x00", RefusalCode::NotWasm, &["gzip", "unpack"]);
    let native =
        aot_compiler::compile_in_process(&module(), artifact::Target::X86_64V2, artifact::Profile::Serve);
    refused(&native.unwrap().native, RefusalCode::NotWasm, &["native code"]);
}

#[test]
fn too_large_is_refused_before_anything_is_parsed() {
    let mut large = b"\0asm\x01\0\0\0".to_vec();
    large.resize(WASM_BYTES_MAX as usize + 1, 0);
    refused(&large, RefusalCode::Limit, &["67108865 bytes", "64 MiB"]);
}

#[test]
fn malformed_wasm_is_refused_with_the_offset() {
    refused(b"\0asm\x01", RefusalCode::Invalid, &["byte 5", "cut short"]);
    refused(b"\0asm\x02\0\0\0", RefusalCode::Invalid, &["version 2, layer 0"]);
    refused(b"\0asm\x01\0\0\0\x55\x00", RefusalCode::Invalid, &["at byte 0xa", "section id"]);
    let whole = module();
    for length in 8..whole.len() {
        let code = refusal(&whole[..length]).code;
        // A cut between two sections leaves a valid module, but not a program.
        assert!(matches!(code, RefusalCode::Invalid | RefusalCode::WrongModule), "cut at {length}: {code:?}");
    }
    refused(&whole[..whole.len() - 1], RefusalCode::Invalid, &["cut short"]);
    let bad_body = "(module (memory (export \"memory\") 1) (func) (func (export \"_start\") i32.add))";
    let bytes = wat::parse_str(bad_body).unwrap();
    refused(&bytes, RefusalCode::Invalid, &["function 1", "at byte 0x", "type mismatch"]);
}

#[test]
fn features_that_are_off_are_named() {
    for what in
        ["(memory i64 1)", "(memory 1 1 shared)", "(tag)", "(type (struct))", "(func (param externref))"]
    {
        let wasm = wat::parse_str(format!("(module (func (export \"_start\")) {what})")).unwrap();
        refused(&wasm, RefusalCode::Invalid, &["at byte 0x", "this platform runs WebAssembly without it"]);
    }
}

/// Our feature set and the engine's must not drift apart: both judge the same modules alike.
#[test]
fn the_engine_refuses_and_accepts_the_same_features() {
    let engine = engine::compiler::engine(artifact::Target::X86_64V3, artifact::Profile::Serve).unwrap();
    for what in [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(tag)",
        "(type (struct))",
        "(func (param externref))",
        "(func (param (ref 0)))",
        "(func (result i32 i32) i32.const 1 i32.const 2)",
        "(func (return_call 0))",
        "(func (param v128) (result v128) local.get 0 local.get 0 i8x16.relaxed_swizzle)",
        "(func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_u)",
        "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        "(table 1 funcref) (table 1 funcref) (func (table.copy 0 1 (i32.const 0) (i32.const 0) (i32.const 0)))",
    ] {
        let wasm = wat::parse_str(format!(
            "(module (func (export \"_start\")) (memory (export \"memory\") 1) {what})"
        ))
        .unwrap();
        let ours = admit(&wasm);
        let theirs = engine.precompile_module(&wasm);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{what}: {ours:?} {:?}", theirs.err());
    }
}

#[test]
fn components_of_other_worlds_get_a_sentence_with_the_cure() {
    let exporting = |name: &str| format!("(component (instance $i) (export \"{name}\" (instance $i)))");
    let world = RefusalCode::WrongWorld;
    refused_text(
        "(component)",
        world,
        &["does not export wasi:http/incoming-handler@0.2", "exports nothing"],
    );
    refused_text(&exporting("wasi:cli/run@0.2.3"), world, &["is a command", "wstd::http_server"]);
    refused_text(&exporting("wasi:http/handler@0.3.0"), world, &["0.3 is not offered yet", "build for 0.2"]);
    refused_text(&exporting("fastly:compute/http-incoming"), world, &["wasm32-wasip1"]);
    refused_text(&exporting("wasi:http/incoming-handler@0.1.0"), world, &["incoming-handler 0.1.0"]);
    refused_text(&exporting("wasi:http/incoming-handler@0.2.0-rc-2023"), world, &["0.2.0-rc-2023"]);
    refused_text(&exporting("wasi:http/incoming-handler@0.2.9"), world, &["without its function \"handle\""]);
    refused_text(&exporting("acme:shop/cart@1.0.0"), world, &["exports acme:shop/cart@1.0.0"]);
}

#[test]
fn a_handler_that_no_node_could_call_is_refused_with_its_type() {
    let handling = |params: &str| support::component_handling("", params);
    let offered = "func(own<incoming-request>, own<response-outparam>)";
    let world = RefusalCode::WrongWorld;
    for (params, found) in [
        (r#"(param "a" u32) (param "b" u32)"#, "func(u32, u32)"),
        (
            r#"(param "a" (own $outparam)) (param "b" (own $request))"#,
            "func(own<response-outparam>, own<incoming-request>)",
        ),
        (r#"(param "a" (borrow $request)) (param "b" (own $outparam))"#, "func(borrow<incoming-request>, "),
    ] {
        refused_text(
            &handling(params),
            world,
            &["incoming-handler@0.2.3 with \"handle\" as", found, offered],
        );
    }
    // Neither is one that is no function, nor one of the program's own resources of the same name.
    let no_function = r#"(component
        (type $t u32)
        (instance $handler (export "handle" (type $t)))
        (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"#;
    refused_text(no_function, world, &["without its function \"handle\""]);
    let own = r#"(component
        (type $r' (resource (rep i32)))
        (type $o' (resource (rep i32)))
        (export $r "incoming-request" (type $r'))
        (export $o "response-outparam" (type $o'))
        (core module $m (func (export "handle") (param i32 i32)))
        (core instance $i (instantiate $m))
        (func $handle (param "a" (own $r)) (param "b" (own $o)) (canon lift (core func $i "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"#;
    refused_text(own, world, &["func(own<?>, own<?>)", offered]);
}

#[test]
fn component_imports_that_no_node_links_are_named() {
    let importing = |name: &str| support::component_text(&format!("(import \"{name}\" (instance))"));
    let unknown = RefusalCode::UnknownImport;
    for draft in [
        "wasi:config/store@0.2.0-rc.1",
        "wasi:config/store@0.2.0-draft-2024-09-27",
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:keyvalue/atomics@0.2.0-draft2",
        "wasi:logging/logging",
        "wasi:logging/logging@0.1.0-draft",
    ] {
        admit(&wat::parse_str(importing(draft)).unwrap()).unwrap();
    }
    refused_text(&importing("acme:shop/cart@1.0.0"), unknown, &["acme:shop/cart@1.0.0", "wasi:http"]);
    for spins in ["fermyon:spin/key-value@2.0.0", "spin:sqlite/sqlite@3.0.0"] {
        refused_text(&importing(spins), unknown, &[spins, "it is Spin's own", "wasi:keyvalue"]);
    }
    let drafts = ["0.2.0-draft or 0.2.0-draft2"];
    refused_text(&importing("wasi:keyvalue/store@0.2.0"), unknown, &drafts);
    refused_text(&importing("wasi:keyvalue/watcher@0.2.0-draft2"), unknown, &["atomics, batch, store only"]);
    refused_text(&importing("wasi:logging/logging@1.0.0"), unknown, &["no version or 0.1.0-draft"]);
    refused_text(&importing("wasi:config/store@0.3.0"), unknown, &["0.3 is not offered yet"]);
    refused_text(&importing("wasi:http/types@0.3.0"), unknown, &["0.3 is not offered yet"]);
    refused_text(&importing("wasi:http/types@1.0.0"), unknown, &["offered at version 0.2"]);
    refused_text(&importing("wasi:http/types"), unknown, &["offered at version 0.2"]);
    refused_text(&importing("wasi:http/magic@0.2.3"), unknown, &["outgoing-handler, types only"]);
    let function = support::component_text("(import \"now\" (func (result u32)))");
    refused_text(&function, unknown, &["imports \"now\" directly"]);
}

#[test]
fn core_modules_without_the_shape_of_a_program_are_refused() {
    let wrong = RefusalCode::WrongModule;
    refused_text("(module (memory (export \"memory\") 1))", wrong, &["\"_start\""]);
    refused_text("(module (func (export \"_start\")))", wrong, &["\"memory\""]);
    refused_text(
        "(module (func (export \"_start\") (param i32)) (memory (export \"memory\") 1))",
        wrong,
        &["i:"],
    );
    refused_text(
        "(module (func (export \"_initialize\")) (memory (export \"memory\") 1))",
        wrong,
        &["a library"],
    );
}

#[test]
fn functions_of_an_interface_are_held_to_those_that_are_linked() {
    let streams = |items: &str| {
        support::component_text(&format!(
            r#"(import "wasi:io/error@0.2.6" (instance $error (export "error" (type (sub resource)))))
               (alias export $error "error" (type $outer))
               (import "wasi:io/streams@0.2.6" (instance
                 (export "error" (type $e (eq $outer)))
                 (type $c (variant (case "last-operation-failed" (own $e)) (case "closed")))
                 (export "stream-error" (type $se (eq $c)))
                 {items}))"#
        ))
    };
    let reading = |kind: &str, length: &str, name: &str| {
        streams(&format!(
            r#"(export "{kind}" (type $in (sub resource)))
               (export "{name}" (func (param "self" (borrow $in)) (param "len" {length})
                 (result (result (list u8) (error $se)))))"#
        ))
    };
    let read = "[method]input-stream.read";
    admit(&wat::parse_str(reading("input-stream", "u64", read)).unwrap()).unwrap();
    let unknown = RefusalCode::UnknownImport;
    let other = "[method]input-stream.read-all";
    refused_text(
        &reading("input-stream", "u64", other),
        unknown,
        &[other, "wasi:io/streams@0.2.6", "does not have here"],
    );
    refused_text(
        &reading("input-stream", "u32", read),
        unknown,
        &[
            read,
            "wasi:io/streams@0.2.6 as func(borrow<input-stream>, u32) -> result<list<u8>, variant{",
            "offered as func(borrow<input-stream>, u64) -> ",
        ],
    );
    let drain = streams(r#"(export "drain" (type (sub resource)))"#);
    refused_text(&drain, unknown, &["drain of wasi:io/streams@0.2.6, a resource"]);
    let value = streams(r#"(export "nested" (instance))"#);
    refused_text(&value, unknown, &["nested of wasi:io/streams@0.2.6, an instance"]);
    let alias = streams(r#"(export "input-stream" (type (eq $e)))"#);
    refused_text(&alias, unknown, &["input-stream", "another name of error"]);
    // Drafts are themselves alone.
    let cursor = |draft: &str, cursor: &str| {
        support::component_text(&format!(
            r#"(import "wasi:keyvalue/atomics@{draft}" (instance
                 (export "bucket" (type $b (sub resource)))
                 (type $v (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                 (export "error" (type $e (eq $v)))
                 (export "increment" (func (param "bucket" (borrow $b)) (param "key" string)
                   (param "delta" {cursor}) (result (result {cursor} (error $e)))))))"#
        ))
    };
    admit(&wat::parse_str(cursor("0.2.0-draft", "u64")).unwrap()).unwrap();
    admit(&wat::parse_str(cursor("0.2.0-draft2", "s64")).unwrap()).unwrap();
    refused_text(&cursor("0.2.0-draft2", "u64"), unknown, &["increment", "s64"]);
}

#[test]
fn types_without_end_are_refused_in_a_short_sentence_and_little_time() {
    // Each is ten times the one before: written out, the last has 100,000 fields. More are refused as no component.
    let mut types = "(type $t0 u8)".to_owned();
    for n in 1..=5 {
        types += &format!(
            "(type $t{n} (tuple $t{0} $t{0} $t{0} $t{0} $t{0} $t{0} $t{0} $t{0} $t{0} $t{0}))",
            n - 1
        );
    }
    let import = format!(
        r#"(import "wasi:random/random@0.2.6" (instance {types} (export "get-random-u64" (func (result $t5)))))"#
    );
    let wasm = wat::parse_str(support::component_text(&import)).unwrap();
    refused(
        &wasm,
        RefusalCode::UnknownImport,
        &["get-random-u64", "as func() -> tuple<tuple<", "func() -> u64"],
    );
}

#[test]
fn core_imports_that_no_node_links_are_named() {
    let importing = |what: &str| {
        format!("(module (import {what}) (memory (export \"memory\") 1) (func (export \"_start\")))")
    };
    let unknown = RefusalCode::UnknownImport;
    refused_text(&importing("\"env\" \"mystery\" (func)"), unknown, &["env.mystery", "fastly_*"]);
    refused_text(&importing("\"env\" \"memory\" (memory 1)"), unknown, &["env.memory", "a memory"]);
    refused_text(
        &importing("\"fastly_log\" \"write\" (func (param i32))"),
        unknown,
        &["fastly_log.write", "i:;"],
    );
    refused_text(
        &importing("\"fastly_log\" \"write\" (func (param v128) (result i32))"),
        unknown,
        &["take numbers"],
    );
    refused_text(
        &importing("\"wasi_snapshot_preview1\" \"fd_magic\" (func)"),
        unknown,
        &["fd_magic", "preview 1"],
    );
    refused_text(&importing("\"wasi_snapshot_preview1\" \"fd_write\" (func)"), unknown, &["it is iiii:i"]);
    refused_text(&importing("\"a\\nb\" \"c\\u{202e}\" (func)"), unknown, &["a\\nb.c\\u{202e}"]);

    for allowed in [
        // Known by another type: the node links it to UNSUPPORTED, as an unknown one.
        "\"fastly_log\" \"write\" (func (param i32) (result i32))",
        "\"fastly_tomorrow\" \"new\" (func (param i32 i64) (result i32))",
        "\"env\" \"xqd_log_write\" (func (param i32 i32 i32) (result i32))",
        "\"wasi_snapshot_preview1\" \"proc_exit\" (func (param i32))",
    ] {
        admit(&wat::parse_str(importing(allowed)).unwrap()).unwrap();
    }
}

#[test]
fn every_cap_names_itself_and_the_place() {
    let with = |what: &str| format!("(module (func (export \"_start\")) {what})");
    let limit = RefusalCode::Limit;
    refused_text(&with("(memory (export \"memory\") 2049)"), limit, &["2049 pages", "at most 134217728"]);
    refused_text(&with("(memory (export \"memory\") 1) (memory 1)"), limit, &["2 memories", "at most 1"]);
    refused_text(&with("(table 1000000 funcref)"), limit, &["1000000 initial elements", "at most 65536"]);
    refused_text(&with(&"(table 1 funcref)".repeat(5)), limit, &["5 tables", "at most 4"]);
    refused_text(&with(&"(global i32 (i32.const 0))".repeat(10_001)), limit, &["10001 globals"]);
    refused_text(&with(&"(func)".repeat(100_000)), limit, &["100001 functions", "at most 100000"]);
    let nops = "nop ".repeat(limits::FUNCTION_BODY_BYTES_MAX);
    refused_text(
        &with(&format!("(func {nops})")),
        limit,
        &["the body of function 1", "at byte 0x", "at most 1048576"],
    );
    refused_text(&format!("(component {})", "(core module)".repeat(65)), limit, &["65 core modules"]);
    refused_text(&format!("(component {})", "(component)".repeat(65)), limit, &["65 components"]);
    let imports: String =
        (0..1_001).map(|n| format!("(import \"fastly_x\" \"f{n}\" (func (result i32)))")).collect();
    refused_text(&format!("(module {imports})"), limit, &["1001 imports"]);
    let long = format!("(import \"fastly_x\" \"{}\" (func (result i32)))", "n".repeat(65_537));
    let program = format!("(module {long} (memory (export \"memory\") 1) (func (export \"_start\")))");
    refused_text(&program, limit, &["bytes of import names"]);
}

#[test]
fn no_byte_flip_of_a_program_panics_the_intake() {
    for whole in [module(), component()] {
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let _ = admit(&bytes);
            }
        }
    }
}

#[test]
fn the_table_of_preview_1_is_whole_and_sorted() {
    assert_eq!(offers::PREVIEW1.len(), 46);
    assert!(offers::PREVIEW1.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn every_built_guest_is_admitted_or_refused_by_design() {
    for (name, wasm) in guests() {
        match (name.as_str(), admit(&wasm)) {
            ("not-http", result) => assert_eq!(result.unwrap_err().code, RefusalCode::WrongWorld),
            (name, Ok(admitted)) => {
                println!("{name}: {} {:?} {} imports", admitted.lane, admitted.shape, admitted.imports.len());
                let expected = if name.starts_with("fastly-") { Lane::Fastly } else { Lane::Wasi };
                assert_eq!(admitted.lane, expected, "{name}");
            }
            (name, Err(refusal)) => panic!("{name}: {}", refusal.message),
        }
    }
    for (name, code) in [
        ("bad/empty", RefusalCode::Empty),
        ("bad/text", RefusalCode::NotWasm),
        ("bad/native.cwasm", RefusalCode::NotWasm),
        ("bad/truncated", RefusalCode::Invalid),
        ("bad/garbage-after-magic", RefusalCode::Invalid),
        ("bad/unknown-import", RefusalCode::UnknownImport),
        ("bad/core-no-start", RefusalCode::WrongModule),
    ] {
        if let Some(wasm) = guest(name) {
            assert_eq!(refusal(&wasm).code, code, "{name}");
        }
    }
}

/// What toolchains make has images and tables of the quick kind: advice is for what is unusual.
#[test]
fn guests_of_the_usual_toolchains_need_no_advice() {
    for (name, wasm) in support::guests() {
        let Ok(admitted) = aot_compiler::intake::admit(&wasm) else { continue };
        let codes: Vec<_> = admitted.advice.iter().map(|advice| advice.code).collect();
        // CPython's libraries are linked when an instance starts: its 4,955 elements are known to cost 0.3 ms.
        let known = if name == "py-app" { vec![AdviceCode::ElementOfImportedTable] } else { vec![] };
        assert_eq!(codes, known, "{name}: {:?}", admitted.advice);
    }
}
