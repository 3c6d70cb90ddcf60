//! A prepared program does what it did before, byte for byte and trap for trap, and can be stopped inside bulk instructions.

use std::time::Duration;

use aot_compiler::prepare::prepare;
use wasmtime::{
    Caller, Config, Engine, Instance, Linker, Memory, MemoryType, Module, Ref, RefType, Store, Table,
    TableType, Trap, UpdateDeadline, Val,
};

/// Every bulk instruction, each on ranges that are longer than a piece.
fn program() -> Vec<u8> {
    let functions = "(func $a) (func $b) (func $c)";
    let elements = "$a $b $c ".repeat(7_000);
    let data = "0123456789abcdef".repeat(12_000);
    let wat = format!(
        r#"(module
        (type $unused (func (param f32 f32)))
        (import "host" "called" (func $called))
        (memory (export "memory") 8)
        (table $t (export "t") 30000 funcref)
        (data $long "{data}") (data $short "short")
        (elem $many func {elements}) (elem declare func $a)
        {functions}
        (func (export "fill") (param i32 i32 i32)
            (call $called) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "copy") (param i32 i32 i32)
            (memory.copy (local.get 0) (local.get 1) (local.get 2)) (call $called))
        (func (export "init") (param i32 i32 i32) (memory.init $long (local.get 0) (local.get 1) (local.get 2)))
        (func (export "init_short") (param i32 i32 i32)
            (memory.init $short (local.get 0) (local.get 1) (local.get 2)))
        (func (export "drop") (param i32 i32 i32) (data.drop $long) (elem.drop $many))
        (func (export "table_fill") (param i32 i32 i32)
            (table.fill $t (local.get 0) (ref.func $a) (local.get 2)))
        (func (export "table_copy") (param i32 i32 i32)
            (table.copy $t $t (local.get 0) (local.get 1) (local.get 2)))
        (func (export "table_init") (param i32 i32 i32)
            (table.init $t $many (local.get 0) (local.get 1) (local.get 2)))
        (func (export "constant") (param i32 i32 i32)
            (memory.fill (local.get 0) (local.get 1) (i32.const 65536))))"#
    );
    wat::parse_str(wat).unwrap()
}

const CALLS: [(&str, i64); 7] = [
    ("fill", 8 << 16),
    ("copy", 8 << 16),
    ("init", 8 << 16),
    ("init_short", 8 << 16),
    ("table_fill", 30_000),
    ("table_copy", 30_000),
    ("table_init", 30_000),
];

struct Running {
    store: Store<u64>,
    instance: Instance,
}

impl Running {
    fn new(engine: &Engine, wasm: &[u8]) -> Running {
        let module = Module::new(engine, wasm).unwrap();
        let mut linker = Linker::new(engine);
        linker.func_wrap("host", "called", |mut caller: Caller<'_, u64>| *caller.data_mut() += 1).unwrap();
        let mut store = Store::new(engine, 0);
        store.set_epoch_deadline(1);
        let instance = linker.instantiate(&mut store, &module).unwrap();
        Running { store, instance }
    }

    fn call(&mut self, name: &str, args: [i32; 3]) -> Result<(), Trap> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let called = function.call(&mut self.store, &args.map(Val::I32), &mut []);
        called.map_err(|error| error.downcast::<Trap>().unwrap())
    }

    /// What can be seen of it: memory, which elements of the tables are there, what the host was told.
    fn state(&mut self) -> (Vec<u8>, Vec<Option<usize>>, u64) {
        let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
        let bytes = memory.data(&self.store).to_vec();
        let table = self.instance.get_table(&mut self.store, "t").unwrap();
        let functions: Vec<_> =
            (0..table.size(&self.store)).map(|at| table.get(&mut self.store, at).unwrap()).collect();
        let names = functions
            .into_iter()
            .map(|function| function.unwrap_func().map(|function| function.to_raw(&mut self.store) as usize));
        let names: Vec<_> = names.collect();
        // Addresses differ between two instances: what is the same is the same in both.
        let first = names.iter().flatten().min().copied().unwrap_or(0);
        (bytes, names.into_iter().map(|name| name.map(|name| name - first)).collect(), *self.store.data())
    }
}

/// A repeatable sequence (Numerical Recipes' constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as i64) % max
    }

    /// Somewhere in a range of so many, at or over its end, near a piece's length, or anywhere in 32 bits.
    fn place(&mut self, size: i64) -> i32 {
        let near = self.below(5) - 2;
        (match self.below(8) {
            0 => near.max(0),
            1 => size + near,
            2 => (1 << 16) + near,
            3 => (1 << 13) + near,
            4 => u32::MAX as i64 - self.below(70_000),
            _ => self.below(size),
        }) as i32
    }
}

#[test]
fn a_prepared_program_does_the_same() {
    let engine = Engine::default();
    let wasm = program();
    let prepared = prepare(&wasm).unwrap();
    assert_ne!(wasm, prepared);
    let mut numbers = Numbers(1);
    let mut traps = 0;
    for round in 0..12 {
        let mut both = [&wasm, &prepared].map(|wasm| Running::new(&engine, wasm));
        for step in 0..60 {
            let (name, size) = CALLS[numbers.below(CALLS.len() as i64) as usize];
            let args = [numbers.place(size), numbers.place(size), numbers.place(size)];
            let said = both.each_mut().map(|running| running.call(name, args));
            assert_eq!(said[0], said[1], "round {round}, step {step}: {name}{args:?}");
            traps += usize::from(said[0].is_err());
            if step == 50 {
                both.iter_mut().for_each(|running| running.call("drop", [0; 3]).unwrap());
            }
        }
        let [before, after] = both.each_mut().map(Running::state);
        assert!(before.0 == after.0, "round {round}: memory differs");
        assert!(before.1 == after.1, "round {round}: the table differs");
        assert_eq!(before.2, after.2);
    }
    assert!((100..600).contains(&traps), "{traps} of 720 calls trapped: the cases are not a mix");
}

/// How often a call looks whether it is to stop: each look is a check of the epoch.
fn looks(wasm: &[u8], name: &str, args: [i32; 3]) -> u64 {
    let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
    let mut running = Running::new(&engine, wasm);
    running.store.set_epoch_deadline(0);
    running.store.epoch_deadline_callback(|mut store| {
        *store.data_mut() += 1000;
        Ok(UpdateDeadline::Continue(0))
    });
    running.call(name, args).unwrap();
    *running.store.data() / 1000
}

#[test]
fn a_long_bulk_instruction_can_be_stopped_in_the_middle() {
    let (wasm, prepared) = (program(), prepare(&program()).unwrap());
    for (name, args, pieces) in [
        ("fill", [0, 1, 8 << 16], 8),
        ("copy", [0, 1 << 16, 7 << 16], 7),
        ("copy", [1 << 16, 0, 7 << 16], 7),
        ("init", [0, 0, 192_000], 3),
        ("table_fill", [0, 0, 30_000], 4),
        ("table_copy", [1, 0, 29_000], 4),
        ("table_init", [0, 0, 21_000], 3),
    ] {
        let before = looks(&wasm, name, args);
        let after = looks(&prepared, name, args);
        assert!(before <= 2, "{name}: {before}");
        assert!(after >= before + pieces - 1, "{name}{args:?}: {after} looks, {before} before");
    }
    for (name, args) in [("constant", [0, 1, 0]), ("init_short", [0, 0, 5])] {
        assert_eq!(looks(&wasm, name, args), looks(&prepared, name, args), "{name} is short and left alone");
    }
}

/// A straight line of short ones moves as much as a long one.
#[test]
fn short_bulk_instructions_in_a_line_can_be_stopped_between() {
    let line = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))".repeat(50);
    let wat = format!(
        r#"(module (import "host" "called" (func)) (memory (export "memory") 1)
            (func (export "line") (param i32 i32 i32) {line}))"#
    );
    let wasm = wat::parse_str(wat).unwrap();
    // The engine looks before each: they are left alone.
    let prepared = prepare(&wasm).unwrap();
    assert_eq!(prepared, wasm);
    assert!(looks(&prepared, "line", [0; 3]) >= 50);
}

/// Two names may be one memory or table: what overlaps is not to be seen from the names.
#[test]
fn a_memory_and_a_table_under_two_names_are_copied_within() {
    let wat = r#"(module
        (import "host" "one" (memory 8)) (import "host" "other" (memory 8))
        (import "host" "first" (table 30000 funcref)) (import "host" "second" (table 30000 funcref))
        (func (export "memory") (param i32 i32 i32)
            (memory.copy 0 1 (local.get 0) (local.get 1) (local.get 2)))
        (func (export "table") (param i32 i32 i32)
            (table.copy 0 1 (local.get 0) (local.get 1) (local.get 2))))"#;
    let wasm = wat::parse_str(wat).unwrap();
    let engine = Engine::default();
    let run = |wasm: &[u8]| {
        let mut store = Store::new(&engine, ());
        let memory = Memory::new(&mut store, MemoryType::new(8, None)).unwrap();
        for (at, byte) in memory.data_mut(&mut store).iter_mut().enumerate() {
            *byte = (at % 251) as u8;
        }
        let table =
            Table::new(&mut store, TableType::new(RefType::FUNCREF, 30_000, None), Ref::Func(None)).unwrap();
        let function = wasmtime::Func::wrap(&mut store, || ());
        for at in (0..30_000).step_by(7) {
            table.set(&mut store, at, Ref::Func(Some(function))).unwrap();
        }
        let mut linker = Linker::new(&engine);
        for name in ["one", "other"] {
            linker.define(&store, "host", name, memory).unwrap();
        }
        for name in ["first", "second"] {
            linker.define(&store, "host", name, table).unwrap();
        }
        let instance = linker.instantiate(&mut store, &Module::new(&engine, wasm).unwrap()).unwrap();
        for (name, args) in
            [("memory", (1000, 0, 400_000)), ("table", (1000, 0, 25_000)), ("memory", (0, 70_000, 400_000))]
        {
            let copy = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, name).unwrap();
            copy.call(&mut store, args).unwrap();
        }
        let functions: Vec<bool> =
            (0..30_000).map(|at| table.get(&mut store, at).unwrap().unwrap_func().is_some()).collect();
        (memory.data(&store).to_vec(), functions)
    };
    assert!(run(&wasm) == run(&prepare(&wasm).unwrap()));
}

/// The helpers know tables of functions and memories of 32 bits alone.
#[test]
fn what_the_helpers_do_not_know_is_off() {
    let on = engine::wasm_features();
    for off in [
        wasmparser::WasmFeatures::GC_TYPES,
        wasmparser::WasmFeatures::FUNCTION_REFERENCES,
        wasmparser::WasmFeatures::MEMORY64,
        wasmparser::WasmFeatures::THREADS,
    ] {
        assert!(!on.intersects(off), "{off:?}: prepare/helpers.rs has to learn it first");
    }
}

#[test]
fn sections_that_nothing_needs_go_and_names_stay() {
    let custom = |name: &str| {
        let mut section = vec![0, (name.len() + 4) as u8, name.len() as u8];
        section.extend_from_slice(name.as_bytes());
        section.extend_from_slice(b"xyz");
        section
    };
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    for name in ["producers", "target_features", ".debug_info"] {
        wasm.extend(custom(name));
    }
    assert_eq!(prepare(&wasm).unwrap(), b"\0asm\x01\0\0\0");
    let named = wat::parse_str("(module $m (func $f))").unwrap();
    assert_eq!(prepare(&named).unwrap(), named);

    // A module in a component in a component.
    let wat = r#"(component (component (core module (memory 8)
        (func (param i32) (memory.fill (local.get 0) (i32.const 0) (local.get 0))))))"#;
    let nested = wat::parse_str(wat).unwrap();
    let prepared = prepare(&nested).unwrap();
    assert!(prepared.len() > nested.len());
    wasmparser::Validator::new().validate_all(&prepared).unwrap();
}

#[test]
fn the_same_upload_is_prepared_to_the_same_bytes() {
    assert_eq!(prepare(&program()).unwrap(), prepare(&program()).unwrap());
}

/// Time this thread has had a core.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The longest processor time in which a fill of 128 MiB does not look whether it is to stop: the overshoot of its limits.
/// Printed, for people; what is checked are counts.
#[test]
fn what_a_fill_holds_its_core_for_is_printed() {
    let wat = r#"(module (memory (export "memory") 2048) (table (export "t") 1 funcref) (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2))))"#;
    let wasm = wat::parse_str(wat).unwrap();
    let longest = |wasm: &[u8]| {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let module = Module::new(&engine, wasm).unwrap();
        let mut store = Store::new(&engine, (cpu(), Duration::ZERO));
        store.set_epoch_deadline(0);
        store.epoch_deadline_callback(|mut store| {
            let (last, longest) = store.data_mut();
            *longest = (cpu() - *last).max(*longest);
            *last = cpu();
            Ok(UpdateDeadline::Continue(0))
        });
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let fill = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, "fill").unwrap();
        [(); 2].map(|()| {
            *store.data_mut() = (cpu(), Duration::ZERO);
            fill.call(&mut store, (0, 1, 2048 << 16)).unwrap();
            let (last, longest) = *store.data();
            (cpu() - last).max(longest)
        })
    };
    let [[first, again], [first_split, again_split]] =
        [&wasm, &prepare(&wasm).unwrap()].map(|wasm| longest(wasm));
    eprintln!(
        "a fill of 128 MiB does not look at the epoch for: {first:.1?} on untouched memory, {again:.1?} on touched; in pieces \
         {first_split:.1?} and {again_split:.1?}"
    );
}
