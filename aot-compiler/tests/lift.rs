//! A core module that carries component types is compiled as the component it is half of.

mod support;

use std::path::PathBuf;

use aot_compiler::{
    compile_in_process,
    job::{JobCaps, JobRunner},
    prepare,
};
use artifact::{
    Lane, Profile, Target,
    compile::{Refusal, RefusalCode},
};

async fn compile(wasm: Vec<u8>) -> Result<aot_compiler::CompiledArtifact, Refusal> {
    let runner = JobRunner::of_program(PathBuf::from(env!("CARGO_BIN_EXE_aot-compiler")), JobCaps::DEFAULT);
    runner.compile(wasm.into(), Target::X86_64V3, Profile::Serve, 1, || false).await
}

#[tokio::test]
async fn half_of_a_component_is_lifted_and_twice_gives_the_same_bytes() {
    let half = support::half("");
    let compiled = compile(half.clone()).await.unwrap();
    assert_eq!(compiled.admitted.lane, Lane::Wasi);
    assert!(compiled.admitted.imports.contains(&"wasi:http/types@0.2.12".to_owned()), "{compiled:?}");
    assert!(compiled == compile_in_process(&half, Target::X86_64V3, Profile::Serve).unwrap());
    assert!(prepare::taken(half.clone()).unwrap().0 == prepare::taken(half).unwrap().0);
}

#[tokio::test]
async fn one_that_is_a_whole_program_of_the_fastly_lane_stays_one() {
    let text = "(module (memory (export \"memory\") 1) (func (export \"_start\")) (@custom \"component-type:x\" \"?\"))";
    assert_eq!(compile(wat::parse_str(text).unwrap()).await.unwrap().admitted.lane, Lane::Fastly);
}

#[tokio::test]
async fn what_cannot_be_lifted_is_refused_in_words() {
    let preview1 =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    let custom = |bytes: &str| {
        let text =
            format!("(module (memory (export \"memory\") 1) (@custom \"component-type:app\" \"{bytes}\"))");
        wat::parse_str(text).unwrap()
    };
    for (wasm, code, said) in [
        (
            support::half(preview1),
            RefusalCode::WrongModule,
            "wasi_snapshot_preview1.fd_write: only an adapter",
        ),
        (custom(""), RefusalCode::Invalid, "no component could be made of it"),
        (custom("\\00asm\\0d\\00\\01\\00"), RefusalCode::Invalid, "no component could be made of it"),
        (custom(&"x".repeat((1 << 20) + 1)), RefusalCode::Limit, "bytes of component types"),
        (
            support::half(r#"(import "env" "f" (func))"#),
            RefusalCode::Invalid,
            "no component could be made of it",
        ),
    ] {
        let refusal = compile(wasm).await.unwrap_err();
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert!(refusal.message.contains(said), "{refusal:?}");
    }
}

/// As many types as the caps let in, each a level deeper or a function more: an answer within seconds and the job's memory.
#[tokio::test]
async fn component_types_up_to_their_cap_are_no_bomb() {
    let deep: String = (0..90).map(|n| format!("type t{} = tuple<t{n}, t{n}>; ", n + 1)).collect();
    let wide: String =
        (0..45_000).map(|n| format!("g{n}: func(a: t0, b: list<t0>) -> option<t0>; ")).collect();
    for (shape, body) in [("deep", deep), ("wide", wide)] {
        let text = format!(
            "package skerry:app; interface i {{ type t0 = u8; {body} }} world app {{ import i; export i; }}"
        );
        let half = support::half_of(&text, "(module (memory (export \"memory\") 1))");
        let started = std::time::Instant::now();
        let refusal = compile(half.clone()).await.unwrap_err();
        eprintln!("{shape}: {} bytes, {:?}, {refusal:?}", half.len(), started.elapsed());
        assert!(refusal.code.is_uploads_fault(), "{refusal:?}");
        assert!(started.elapsed().as_secs() < 10);
    }
}

/// Sections that no toolchain writes end in a refusal, never in a panic.
#[test]
fn no_byte_flip_of_the_component_types_panics() {
    let half = support::half("");
    let name = b"component-type";
    let at = half.windows(name.len()).position(|bytes| bytes == name).unwrap() + name.len();
    let mut refused = 0;
    for place in (at..half.len()).step_by(3) {
        for bit in [0, 3, 7] {
            let mut flipped = half.clone();
            flipped[place] ^= 1 << bit;
            refused += usize::from(prepare::taken(flipped).is_err());
        }
    }
    assert!(refused > 50, "{refused}");
}
