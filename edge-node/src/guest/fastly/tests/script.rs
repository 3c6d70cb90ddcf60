//! A guest written as a list of calls: each says what it must answer, and the guest's response is its memory, where
//! the test finds what the calls gave.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{run_in, written};
use crate::{
    exchange::Exchange,
    front::InboundBody,
    guest::{
        Program,
        fastly::{abi::Status, table},
    },
    testing::{self, Seen},
};

/// Where texts and outputs begin; before it are the number of the call that failed and its answer.
const DATA: u32 = 64;
/// Pages of memory: 256 KiB.
const PAGES: u32 = 4;

/// An argument.
pub enum Arg<'a> {
    /// A number.
    N(u32),
    /// A 64-bit number.
    L(u64),
    /// The number that an earlier call gave, such as a handle.
    At(Out),
    /// The address of a place.
    To(Out),
    /// Two arguments: a text's address and its length.
    T(&'a str),
}

/// A place in the guest's memory.
#[derive(Debug, Clone, Copy)]
pub struct Out(pub u32);

impl Out {
    /// So many bytes further on.
    pub fn plus(self, bytes: u32) -> Out {
        Out(self.0 + bytes)
    }
}

/// See the module.
pub struct Script {
    imports: BTreeMap<(&'static str, &'static str), &'static str>,
    body: String,
    calls: Vec<String>,
    data: Vec<u8>,
    /// The script sends a response itself.
    responds: bool,
}

impl Script {
    pub fn new() -> Script {
        let mut script = Script {
            imports: BTreeMap::new(),
            body: String::new(),
            calls: vec![],
            data: vec![],
            responds: false,
        };
        for name in ["new", "send_downstream"] {
            script.import("fastly_http_resp", name);
        }
        for name in ["new", "write", "close"] {
            script.import("fastly_http_body", name);
        }
        script
    }

    fn import(&mut self, module: &str, name: &str) -> (&'static str, &'static str) {
        let wasi = crate::guest::fastly::wasi_p1::FUNCTIONS
            .iter()
            .map(|(name, ty)| (crate::guest::fastly::wasi_p1::MODULE, *name, *ty));
        let mut known = table::rows().map(|(module, row)| (module, row.name, row.ty)).chain(wasi);
        let found = known.find(|(m, n, _)| *m == module && *n == name);
        let (module, name, ty) = found.unwrap_or_else(|| panic!("{module}.{name} is unknown"));
        self.imports.insert((module, name), ty);
        (module, name)
    }

    /// Room for `bytes` of output.
    pub fn out(&mut self, bytes: usize) -> Out {
        let at = self.data.len().next_multiple_of(8);
        self.data.resize(at + bytes, 0);
        Out(DATA + at as u32)
    }

    /// Bytes for a call to read.
    pub fn bytes(&mut self, bytes: &[u8]) -> Out {
        let out = self.out(bytes.len());
        let at = (out.0 - DATA) as usize;
        self.data[at..].copy_from_slice(bytes);
        out
    }

    /// The address of a text, for calls in structs.
    pub fn text(&mut self, text: &str) -> Out {
        self.bytes(text.as_bytes())
    }

    /// A struct of 32-bit fields.
    pub fn fields(&mut self, fields: &[u32]) -> Out {
        let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    /// Calls `module.name`, which must answer OK.
    pub fn call(&mut self, function: &str, arguments: &[Arg<'_>]) {
        self.answers(Status::Ok, function, arguments);
    }

    /// The same, with an output of 4 bytes as last argument.
    pub fn gives(&mut self, function: &str, arguments: Vec<Arg<'_>>) -> Out {
        let out = self.out(8);
        let mut arguments = arguments;
        arguments.push(Arg::To(out));
        self.call(function, &arguments);
        out
    }

    /// Calls `module.name`, which must answer this.
    pub fn answers(&mut self, status: Status, function: &str, arguments: &[Arg<'_>]) {
        self.answers_number(status as i32, function, arguments);
    }

    /// The same, for WASI's numbers.
    pub fn answers_number(&mut self, status: i32, function: &str, arguments: &[Arg<'_>]) {
        let (module, name) = function.split_once('.').unwrap();
        let (module, name) = self.import(module, name);
        let mut pushed = String::new();
        for argument in arguments {
            let _ = match argument {
                Arg::N(number) => write!(pushed, "(i32.const {number})"),
                Arg::L(number) => write!(pushed, "(i64.const {number})"),
                Arg::At(out) => write!(pushed, "(i32.load (i32.const {}))", out.0),
                Arg::To(out) => write!(pushed, "(i32.const {})", out.0),
                Arg::T(text) => {
                    let at = self.text(text).0;
                    write!(pushed, "(i32.const {at}) (i32.const {})", text.len())
                }
            };
        }
        self.calls.push(format!("{function} (must answer {status})"));
        let number = self.calls.len();
        let _ = writeln!(
            self.body,
            "(local.set $status (call ${module}.{name} {pushed}))
             (if (i32.ne (local.get $status) (i32.const {status})) (then
                (i32.store (i32.const 0) (i32.const {number}))
                (i32.store (i32.const 4) (local.get $status))
                (br $failed)))"
        );
    }

    /// Copies a number from one place to another.
    pub fn copy(&mut self, from: Out, to: Out) {
        let _ = writeln!(self.body, "(i32.store (i32.const {}) (i32.load (i32.const {})))", to.0, from.0);
    }

    /// Does this, in the text format.
    pub fn then(&mut self, text: &str) {
        let _ = writeln!(self.body, "{text}");
    }

    /// The script has sent its own response: nothing more can be said of its memory.
    pub fn responds(&mut self) {
        self.responds = true;
    }

    fn wat(&self) -> String {
        let mut wat = "(module\n".to_owned();
        for ((module, name), ty) in &self.imports {
            let params: Vec<_> =
                ty.trim_end_matches(":i").chars().map(|c| if c == 'I' { "i64" } else { "i32" }).collect();
            let _ = writeln!(
                wat,
                "(import {module:?} {name:?} (func ${module}.{name} (param {}) (result i32)))",
                params.join(" ")
            );
        }
        let data: String = self.data.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let end = DATA + self.data.len() as u32;
        let respond = format!(
            "(drop (call $fastly_http_resp.new (i32.const 8)))
             (drop (call $fastly_http_body.new (i32.const 12)))
             (drop (call $fastly_http_resp.send_downstream (i32.load (i32.const 8)) (i32.load (i32.const 12))
                (i32.const 1)))
             (drop (call $fastly_http_body.write (i32.load (i32.const 12)) (i32.const 0) (i32.const {end})
                (i32.const 0) (i32.const 16)))
             (drop (call $fastly_http_body.close (i32.load (i32.const 12))))"
        );
        let respond = if self.responds {
            format!("(if (i32.load (i32.const 0)) (then {respond} unreachable))")
        } else {
            respond
        };
        let _ = writeln!(
            wat,
            r#"(memory (export "memory") {PAGES}) (data (i32.const {DATA}) "{data}")
               (func (export "_start") (local $status i32) (block $failed {}) {respond}))"#,
            self.body
        );
        wat
    }

    /// As a program.
    pub fn program(&self) -> Program {
        written(&self.wat())
    }

    /// Runs it; what its client sees.
    pub fn seen_in(&self, exchange: Exchange, request: http::Request<InboundBody>) -> Seen {
        run_in(&self.program(), exchange, request).unwrap()
    }

    /// Runs it and reads its memory.
    pub fn run_in(&self, exchange: Exchange, request: http::Request<InboundBody>) -> Memory {
        let seen = self.seen_in(exchange, request);
        assert_eq!(seen.error, None);
        let memory = Memory(seen.body);
        if let Some(call) = self.calls.get((memory.u32(Out(0)) as usize).wrapping_sub(1)) {
            panic!(
                "call {} of {}: {call} answered {}",
                memory.u32(Out(0)),
                self.calls.len(),
                memory.u32(Out(4))
            );
        }
        memory
    }

    /// Runs it for a GET of an app without any configuration.
    pub fn run(&self) -> Memory {
        self.run_in(testing::exchange(super::config()), super::get("/"))
    }
}

/// A guest's memory after its last call.
pub struct Memory(Vec<u8>);

impl Memory {
    pub fn u32(&self, out: Out) -> u32 {
        u32::from_le_bytes(self.bytes(out, 4).try_into().unwrap())
    }

    pub fn u64(&self, out: Out) -> u64 {
        u64::from_le_bytes(self.bytes(out, 8).try_into().unwrap())
    }

    pub fn bytes(&self, out: Out, length: u32) -> &[u8] {
        &self.0[out.0 as usize..(out.0 + length) as usize]
    }

    /// The text at `out`, whose length stands at `written`.
    pub fn text(&self, out: Out, written: Out) -> &str {
        std::str::from_utf8(self.bytes(out, self.u32(written))).unwrap()
    }
}
