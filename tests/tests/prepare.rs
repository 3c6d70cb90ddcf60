//! An app that asks for it is initialised once, when it is deployed, and every request begins where that ended.

use std::{fs, path::Path};

use whole_flow::{Fleet, Proto};

/// Answers with how often it was initialised and with the count of this request, each a digit: fresh instances say "01", initialised ones "11".
const GUEST: &str = r#"(module
    (import "fastly_http_resp" "new" (func $resp (param i32) (result i32)))
    (import "fastly_http_resp" "send_downstream" (func $send (param i32 i32 i32) (result i32)))
    (import "fastly_http_body" "new" (func $body (param i32) (result i32)))
    (import "fastly_http_body" "write" (func $write (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 100) "00")
    (func (export "warm") (i32.store8 (i32.const 100) (i32.add (i32.load8_u (i32.const 100)) (i32.const 1))))
    (func (export "asks") (drop (call $resp (i32.const 8))))
    (func (export "_start")
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (i32.store8 (i32.const 101) (i32.add (global.get $count) (i32.const 48)))
        (drop (call $resp (i32.const 8)))
        (drop (call $body (i32.const 12)))
        (drop (call $write (i32.load (i32.const 12)) (i32.const 100) (i32.const 2) (i32.const 0) (i32.const 16)))
        (drop (call $send (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 0)))))"#;

fn project(folder: &Path, more: &str) -> String {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("app.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
    fs::write(folder.join("skerry.toml"), format!("name = \"warm\"\ncomponent = \"app.wasm\"\n{more}"))
        .unwrap();
    folder.display().to_string()
}

#[test]
fn an_app_that_asks_to_be_initialised_is_so_once_for_all_requests() {
    let fleet = Fleet::up().start();
    let folder = fleet.scratch().join("warm");
    let answer = || fleet.get(Proto::H2, "warm", "/").expect(200).text;
    let deploy = |more: &str| fleet.skerry(&["deploy", &project(&folder, more), "--json"]);

    let cold = deploy("").ok().json();
    assert_eq!((answer(), cold.get("prepared")), ("01".into(), None));

    let warm = "[prepare]\ninitialize = \"warm\"\ninitial_memory_mib = 4\n";
    let made = deploy(warm).ok().json();
    assert_ne!(made["prepared"], made["wasm"], "the program that runs is another");
    assert_eq!([answer(), answer()], ["11", "11"]);

    // What runs is not what lies in the folder, and its manifest says why.
    let file = folder.join("app.wasm").display().to_string();
    fleet.skerry(&["verify", "warm", "--wasm", &file]).failed_with(3, "or it was prepared at its deploy");
    project(fleet.scratch(), warm);
    fleet.skerry(&["verify"]).failed_with(5, "app.wasm cannot be compared: the compiler prepared");
    fs::remove_file(fleet.scratch().join("skerry.toml")).unwrap();

    // The same again is the same program, of which nothing is compiled anew, also when only configuration changes.
    let again = deploy(&format!("{warm}[config]\ngreeting = \"hi\"\n")).ok().json();
    assert_eq!((&again["prepared"], &again["compile_ms"]), (&made["prepared"], &0.into()));
    fleet.skerry(&["config", "set", "warm", "greeting=ho"]).ok();
    assert_eq!(answer(), "11");

    let refused = deploy("[prepare]\ninitialize = \"asks\"\n");
    refused.failed_with(3, "it called the import fastly_http_resp.new");
    assert_eq!(answer(), "11", "what ran goes on");
    fleet.skerry(&["rollback", "warm", "--to", "1"]).ok();
    assert_eq!(answer(), "01");
}
