//! Compile bombs: programs that are small to send and dear to compile. Each is refused, by a message that says which limit and
//! where, or compiled within the caps of a job.
//!
//! `cargo test --workspace --test bombs -- --nocapture` prints the table, for CI with smaller caps than the service's and three
//! sizes a shape; `SKERRY_BOMBS=all` takes the service's own caps and ten sizes.

mod support;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use aot_compiler::job::{JobCaps, JobRunner};
use artifact::{
    Profile, Target,
    compile::{Refusal, RefusalCode},
};
use wasm_encoder::{
    BlockType, CodeSection, ComponentSectionId, ConstExpr, DataSection, DataSegment, DataSegmentMode,
    ElementSection, Elements, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, InstructionSink, MemorySection, MemoryType, Module, NameMap,
    NameSection, TableSection, TableType, TypeSection, ValType,
};

/// A kind of bomb.
struct Shape {
    name: &'static str,
    make: fn(u32) -> Vec<u8>,
    /// The size that is harmless, and the largest.
    sizes: [u32; 2],
    /// What is said of the largest; empty: it is compiled, or ends at a cap of the job.
    said: &'static str,
}

const SHAPES: [Shape; 19] = [
    Shape { name: "branches over live locals", make: support::bomb, sizes: [1_000, 100_000], said: "" },
    Shape {
        name: "tiny functions",
        make: tiny_functions,
        sizes: [1_000, 900_000],
        said: "functions in the program, at most 100000",
    },
    Shape {
        name: "one huge function",
        make: one_function,
        sizes: [1_000, 1_000_000],
        said: "body of function 0",
    },
    Shape { name: "functions of a mebibyte", make: mebibyte_functions, sizes: [1, 60], said: "" },
    Shape { name: "calls in one function", make: calls, sizes: [1_000, 400_000], said: "" },
    Shape {
        name: "targets of one br_table",
        make: br_table,
        sizes: [1_000, 100_000],
        said: "wasm[0]::function[0]",
    },
    Shape { name: "nested blocks", make: nested, sizes: [1_000, 300_000], said: "" },
    Shape { name: "locals of one function", make: locals, sizes: [1_000, 60_000], said: "locals" },
    Shape {
        name: "types",
        make: types,
        sizes: [1_000, 500_000],
        said: "types in a core module, at most 10000",
    },
    Shape {
        name: "imports",
        make: imports,
        sizes: [100, 100_000],
        said: "imports of a core module, at most 1000",
    },
    Shape {
        name: "exports",
        make: exports,
        sizes: [1_000, 300_000],
        said: "exports of a core module, at most 100000",
    },
    Shape {
        name: "globals",
        make: globals,
        sizes: [1_000, 500_000],
        said: "globals in a core module, at most 10000",
    },
    Shape { name: "data segments", make: data_segments, sizes: [1_000, 200_000], said: "data segments" },
    Shape {
        name: "elements of one segment",
        make: elements,
        sizes: [1_000, 2_000_000],
        said: "elements of tables",
    },
    Shape { name: "element segments", make: element_segments, sizes: [1_000, 200_000], said: "segments" },
    Shape { name: "names in the name section", make: names, sizes: [1_000, 1_000_000], said: "" },
    Shape {
        name: "components in components",
        make: components,
        sizes: [10, 5_000],
        said: "components in the component, at most 64",
    },
    Shape {
        name: "core modules in a component",
        make: core_modules,
        sizes: [10, 50_000],
        said: "core modules in the component, at most 64",
    },
    Shape { name: "long segments that are copied from", make: long_segments, sizes: [10, 900], said: "" },
];

/// Caps that a run with three sizes of each shape stays short with.
const SHORT: JobCaps = JobCaps { memory_bytes: 1 << 30, cpu_s: 5, wall: Duration::from_secs(60) };

fn sizes([least, most]: [u32; 2], count: u32) -> Vec<u32> {
    let factor = (f64::from(most) / f64::from(least)).powf(1.0 / f64::from(count - 1));
    let middle = (1..count - 1).map(|step| (f64::from(least) * factor.powi(step as i32)) as u32);
    std::iter::once(least).chain(middle).chain([most]).collect()
}

#[tokio::test]
async fn every_bomb_is_refused_in_words_or_compiled_within_the_caps() {
    let all = std::env::var("SKERRY_BOMBS").is_ok_and(|what| what == "all");
    let (caps, count) = if all { (JobCaps::DEFAULT, 10) } else { (SHORT, 3) };
    let runner = JobRunner::of_program(PathBuf::from(env!("CARGO_BIN_EXE_aot-compiler")), caps);
    for shape in &SHAPES {
        for size in sizes(shape.sizes, count) {
            let wasm = (shape.make)(size);
            let (bytes, began) = (wasm.len(), Instant::now());
            let ended = runner.compile(wasm.into(), Target::X86_64V3, Profile::Serve, 2, || false).await;
            let took = began.elapsed();
            let what = format!("{size} {}", shape.name);
            let said = match &ended {
                Ok(compiled) => format!("compiled to {} KiB", compiled.native.len() >> 10),
                Err(refusal) => refusal.message.clone(),
            };
            eprintln!("{what:>45} {:>6} KiB {:>6} ms  {said}", bytes >> 10, took.as_millis());
            check(&what, &ended);
            let [least, most] = shape.sizes;
            // A component of nothing but components or modules is in its caps, and no program.
            let is_harmless = ended.is_ok() || said.contains("does not export wasi:http");
            assert!(size != least || is_harmless, "{what}: {said}");
            assert!(size != most || said.contains(shape.said), "{what}: {said}");
        }
    }
    // And the next program is compiled.
    runner.compile(support::module().into(), Target::X86_64V3, Profile::Serve, 2, || false).await.unwrap();
}

/// A refusal is the uploader's to understand, and never ours to excuse.
#[track_caller]
fn check<T>(what: &str, ended: &Result<T, Refusal>) {
    let Err(refusal) = ended else { return };
    let of_the_program = matches!(
        refusal.code,
        RefusalCode::Limit | RefusalCode::JobLimit | RefusalCode::Invalid | RefusalCode::WrongWorld
    );
    assert!(of_the_program, "{what}: {refusal:?}");
    let says_how_much = refusal.message.bytes().any(|byte| byte.is_ascii_digit());
    assert!(says_how_much && refusal.message.len() < 1_000, "{what}: {refusal:?}");
}

/// A program of the fastly lane with what a bomb adds. Functions of the bomb stand before `_start`.
#[derive(Default)]
struct Program {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
    names: Option<NameSection>,
    /// Functions with a body so far.
    defined: u32,
}

impl Program {
    /// Type 0 takes and returns nothing.
    fn new() -> Program {
        let mut program = Program::default();
        program.types.ty().function([], []);
        program
    }

    fn function(&mut self, locals: u32, write: impl FnOnce(&mut InstructionSink<'_>)) {
        let mut function = Function::new([(locals, ValType::I32)]);
        let mut code = function.instructions();
        write(&mut code);
        code.end();
        self.functions.function(0);
        self.code.function(&function);
        self.defined += 1;
    }

    fn wasm(mut self) -> Vec<u8> {
        self.function(0, |_| ());
        let start = self.imports.len() + self.defined - 1;
        self.exports.export("_start", ExportKind::Func, start);
        self.exports.export("memory", ExportKind::Memory, 0);
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions).section(&self.tables);
        module.section(&memories).section(&self.globals).section(&self.exports).section(&self.elements);
        module.section(&wasm_encoder::DataCountSection { count: self.data.len() });
        module.section(&self.code).section(&self.data);
        if let Some(names) = &self.names {
            module.section(names);
        }
        module.finish()
    }
}

fn tiny_functions(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    (0..count).for_each(|_| program.function(0, |_| ()));
    program.wasm()
}

/// Straight arithmetic: seven bytes a step.
fn steps(count: u32, code: &mut InstructionSink<'_>) {
    for step in 0..count {
        code.local_get(0).i32_const((step % 60) as i32).i32_add().local_set(0);
    }
    // What nobody reads is not computed.
    let at = wasm_encoder::MemArg { offset: 0, align: 0, memory_index: 0 };
    code.i32_const(0).local_get(0).i32_store(at);
}

fn one_function(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(1, |code| steps(count, code));
    program.wasm()
}

fn mebibyte_functions(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    (0..count).for_each(|_| program.function(1, |code| steps(140_000, code)));
    program.wasm()
}

fn calls(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(0, |_| ());
    program.function(0, |code| {
        for _ in 0..count {
            code.call(0);
        }
    });
    program.wasm()
}

fn br_table(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(1, |code| {
        code.block(BlockType::Empty).local_get(0).br_table(vec![0; count as usize], 0).end();
    });
    program.wasm()
}

fn nested(depth: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(1, |code| {
        for _ in 0..depth {
            code.block(BlockType::Empty).local_get(0).br_if(0);
        }
        for _ in 0..depth {
            code.end();
        }
    });
    program.wasm()
}

fn locals(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(count, |code| {
        for local in 0..count {
            code.local_get(local).local_set(count - 1 - local);
        }
    });
    program.wasm()
}

fn types(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    for number in 0..count {
        let params = (0..20).map(|bit| if number >> bit & 1 == 0 { ValType::I32 } else { ValType::I64 });
        program.types.ty().function(params, []);
    }
    program.wasm()
}

fn imports(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.types.ty().function([ValType::I64], [ValType::I32]);
    for number in 0..count {
        program.imports.import("fastly_abi", &format!("f{number}"), EntityType::Function(1));
    }
    program.wasm()
}

fn exports(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(0, |_| ());
    for number in 0..count {
        program.exports.export(&format!("e{number}"), ExportKind::Func, 0);
    }
    program.wasm()
}

fn globals(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    for _ in 0..count {
        let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        program.globals.global(ty, &ConstExpr::i64_const(7));
    }
    program.wasm()
}

fn data_segments(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    for number in 0..count {
        let offset = ConstExpr::i32_const((number % 65_000) as i32);
        let mode = DataSegmentMode::Active { memory_index: 0, offset: &offset };
        program.data.segment(DataSegment { mode, data: [1] });
    }
    program.wasm()
}

fn elements(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(0, |_| ());
    program.elements.passive(Elements::Functions(vec![0; count as usize].into()));
    program.wasm()
}

fn element_segments(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    program.function(0, |_| ());
    program.tables.table(TableType {
        element_type: wasm_encoder::RefType::FUNCREF,
        minimum: 10,
        maximum: None,
        table64: false,
        shared: false,
    });
    for number in 0..count {
        let offset = ConstExpr::i32_const((number % 10) as i32);
        program.elements.active(None, &offset, Elements::Functions(vec![0].into()));
    }
    program.wasm()
}

fn names(count: u32) -> Vec<u8> {
    let mut map = NameMap::new();
    for number in 0..count {
        map.append(number, "a_function_with_a_long_name_that_somebody_made");
    }
    let mut section = NameSection::new();
    section.functions(&map);
    let mut program = Program::new();
    program.names = Some(section);
    program.wasm()
}

/// A component with these sections of one number.
fn component(id: ComponentSectionId, inner: &[u8], count: u32) -> Vec<u8> {
    let mut wasm = wasm_encoder::Component::HEADER.to_vec();
    for _ in 0..count {
        wasm.push(id.into());
        wasm_encoder::Encode::encode(inner, &mut wasm);
    }
    wasm
}

/// Each inside the one before.
fn components(depth: u32) -> Vec<u8> {
    let innermost = wasm_encoder::Component::HEADER.to_vec();
    (0..depth).fold(innermost, |inner, _| component(ComponentSectionId::Component, &inner, 1))
}

fn core_modules(count: u32) -> Vec<u8> {
    component(ComponentSectionId::CoreModule, &wasm_encoder::Module::HEADER, count)
}

/// Each needs a helper of its own, since it is longer than a piece.
fn long_segments(count: u32) -> Vec<u8> {
    let mut program = Program::new();
    let data = vec![7; 66_000];
    (0..count).for_each(|_| {
        program.data.passive(data.iter().copied());
    });
    program.function(1, |code| {
        for segment in 0..count {
            code.i32_const(0).i32_const(0).local_get(0).memory_init(0, segment);
        }
    });
    program.wasm()
}
