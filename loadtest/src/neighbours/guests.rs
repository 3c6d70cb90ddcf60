//! The guests: core modules of a few lines, so that it is plain what each does.

/// A program.
pub struct Program {
    pub name: &'static str,
    pub text: String,
}

/// Answers 200 at once: one that ends without a response has answered with an empty body. Two pages and a start that
/// touches them, as any program does.
pub fn good() -> Program {
    let text = r#"(module (memory (export "memory") 2)
        (func (export "_start") (i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 65536) (i32.const 1))))"#;
    Program { name: "good", text: text.to_owned() }
}

/// Never ends.
pub fn endless_loop() -> Program {
    let text = r#"(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))"#;
    Program { name: "loop", text: text.to_owned() }
}

/// Takes one MiB after the other and fills it, until it is given no more; then fills all it has, again and again.
pub fn memory_bomb() -> Program {
    let text = r#"(module (memory (export "memory") 1) (func (export "_start") (local $pages i32)
        (loop $grow
            (local.set $pages (memory.grow (i32.const 16)))
            (if (i32.ne (local.get $pages) (i32.const -1)) (then
                (memory.fill (i32.shl (local.get $pages) (i32.const 16)) (i32.const 170) (i32.const 0x100000))
                (br $grow))))
        (loop $fill
            (memory.fill (i32.const 0) (i32.const 170) (i32.shl (memory.size) (i32.const 16)))
            (br $fill))))"#;
    Program { name: "bomb", text: text.to_owned() }
}

/// Fills its whole memory again and again. Between two fills it can be stopped, within one it cannot.
pub fn fills(mib: u32) -> Program {
    Program { name: "fill", text: fill(mib, "(br 0)") }
}

/// Fills its whole memory once and ends: what one fill costs.
pub fn fill_once(mib: u32) -> Program {
    Program { name: "fill-once", text: fill(mib, "") }
}

fn fill(mib: u32, then: &str) -> String {
    let (pages, bytes) = (mib * 16, u64::from(mib) << 20);
    format!(
        r#"(module (memory (export "memory") {pages}) (func (export "_start")
            (loop (memory.fill (i32.const 0) (i32.const 170) (i32.const {bytes})) {then})))"#
    )
}
