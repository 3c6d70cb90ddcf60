//! What of a program costs each of its requests time, because the runtime cannot prepare it: advice, never a refusal.
//!
//! A fresh instance starts by mapping an image of its initial memory, and fills its tables when they are first used. That
//! works for what is known beforehand; the rest is done by code, for each request. What is known is decided by wasmtime
//! (`wasmtime-environ` 48, `ModuleTranslation::try_static_init` and `try_func_table_init`), whose rules stand here again.
//! Deliberately absent: what tools put between modules of a component, which nobody can change, and what costs less than is worth a line.

use artifact::compile::{Advice, AdviceCode};
use wasmparser::{
    ConstExpr, Data, DataKind, Element, ElementItems, ElementKind, Encoding, FunctionBody, Operator, Payload,
    TypeRef,
};

/// Bytes of data below which copying them is not worth a line: a page, which an image would cost as a fault.
const BYTES_MIN: u64 = 4096;
/// Elements below which setting them one by one is not worth a line: 65 ns each, and modules that tools put between
/// others have a hundred.
const ELEMENTS_MIN: u64 = 128;
/// Bytes of code that a start function reaches by calls, below which it is not worth a line: AssemblyScript's set some globals.
const START_CODE_BYTES_MIN: usize = 16 << 10;
/// What an image may have without being dense: wasmtime's `memory_guaranteed_dense_image_size`, which the engine leaves as it is.
const SPARSE_IMAGE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a page of a linear memory.
const PAGE_BYTES: u64 = 64 * 1024;

/// Collects it in the course of one pass.
#[derive(Debug, Default)]
pub struct Watch<'a> {
    /// The modules entered and not left; `None` is a component.
    open: Vec<Option<Module<'a>>>,
    core_modules: usize,
    /// Each code once, with the core module it was first found in.
    found: Vec<(usize, Advice)>,
}

/// What is known of a core module so far.
#[derive(Debug, Default)]
struct Module<'a> {
    /// Which of the file, from 0.
    index: usize,
    /// Memories: initial bytes of its own, `None` for an imported one.
    memories: Vec<Option<u64>>,
    /// Tables: initial elements of its own, `None` for an imported one.
    tables: Vec<Option<u64>>,
    /// Functions: how many are imported, and bodies of its own.
    imported: u32,
    functions: u32,
    bodies: Vec<FunctionBody<'a>>,
    data: Vec<(u32, Range)>,
    /// Bytes of active and passive segments.
    active: u64,
    passive: u64,
    defeats_image: Option<(AdviceCode, String)>,
    /// Elements that are set one by one, and the first reason.
    defeats_tables: Option<(AdviceCode, &'static str)>,
    elements: u64,
    passive_elements: u64,
    start: Option<u32>,
}

/// Bytes of a memory that a segment fills.
#[derive(Debug, Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl<'a> Watch<'a> {
    /// Looks at a part of the program. What cannot be read is for the validator to refuse.
    pub fn see(&mut self, payload: &Payload<'a>) {
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                let module = Module { index: self.core_modules, ..Module::default() };
                self.core_modules += 1;
                self.open.push(Some(module));
            }
            Payload::Version { encoding: Encoding::Component, .. } => self.open.push(None),
            Payload::End(_) => {
                if let Some(module) = self.open.pop().flatten() {
                    self.conclude(module);
                }
            }
            other => {
                if let Some(module) = self.open.last_mut().and_then(Option::as_mut) {
                    module.see(other);
                }
            }
        }
    }

    /// What was found, in the order of the file. `core_modules` decides whether messages name them.
    pub fn advice(self) -> Vec<Advice> {
        let several = self.core_modules > 1;
        let named = |(module, mut advice): (usize, Advice)| {
            if several {
                advice.message.insert_str(0, &format!("in core module {module}: "));
            }
            advice
        };
        self.found.into_iter().map(named).collect()
    }

    fn conclude(&mut self, module: Module<'a>) {
        let index = module.index;
        for advice in module.advice() {
            // Once for each kind: the codes bound how many there are.
            if !self.found.iter().any(|(_, found)| found.code == advice.code) {
                self.found.push((index, advice));
            }
        }
    }
}

impl<'a> Module<'a> {
    fn see(&mut self, payload: &Payload<'a>) {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports().flatten() {
                    match import.ty {
                        TypeRef::Memory(_) => self.memories.push(None),
                        TypeRef::Table(_) => self.tables.push(None),
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => self.imported += 1,
                        TypeRef::Global(_) | TypeRef::Tag(_) => {}
                    }
                }
            }
            Payload::FunctionSection(section) => self.functions += section.count(),
            Payload::MemorySection(section) => {
                let bytes = section.clone().into_iter().flatten();
                self.memories.extend(bytes.map(|memory| Some(memory.initial.saturating_mul(PAGE_BYTES))));
            }
            Payload::TableSection(section) => {
                let tables = section.clone().into_iter().flatten();
                // One that starts with a value for each is not taken: it needs a proposal that is off.
                self.tables.extend(tables.map(|table| Some(table.ty.initial)));
            }
            // Few have a start function, and only then bodies are looked into.
            Payload::CodeSectionEntry(body) if self.start.is_some() => self.bodies.push(body.clone()),
            Payload::StartSection { func, .. } => self.start = Some(*func),
            Payload::ElementSection(section) => {
                section.clone().into_iter().flatten().for_each(|segment| self.elements(&segment));
            }
            Payload::DataSection(section) => {
                section.clone().into_iter().flatten().for_each(|segment| self.data(&segment));
            }
            _ => {}
        }
    }

    fn data(&mut self, segment: &Data<'_>) {
        let bytes = segment.data.len() as u64;
        let DataKind::Active { memory_index, offset_expr } = &segment.kind else {
            self.passive += bytes;
            return;
        };
        self.active += bytes;
        let index = self.data.len();
        let size = self.memories.get(*memory_index as usize).copied().flatten();
        let why = match (size, constant(offset_expr)) {
            (None, _) => {
                (AdviceCode::DataOfImportedMemory, format!("data segment {index} is of an imported memory"))
            }
            (_, None) => {
                (AdviceCode::DataOffset, format!("the offset of data segment {index} is no constant"))
            }
            (Some(size), Some(start)) => {
                let range = Range { start: start.into(), end: u64::from(start) + bytes };
                self.data.push((*memory_index, range));
                if range.end <= size {
                    return;
                }
                (AdviceCode::DataOutside, format!("data segment {index} ends beyond the initial memory"))
            }
        };
        self.defeats_image.get_or_insert(why);
    }

    fn elements(&mut self, segment: &Element<'_>) {
        let (count, are_functions) = match &segment.items {
            ElementItems::Functions(items) => (items.count(), true),
            ElementItems::Expressions(_, items) => (items.count(), false),
        };
        let (table, offset) = match &segment.kind {
            ElementKind::Declared => return,
            ElementKind::Passive => {
                self.passive_elements += u64::from(count);
                return;
            }
            ElementKind::Active { table_index, offset_expr } => (table_index.unwrap_or(0), offset_expr),
        };
        let size = self.tables.get(table as usize).copied().flatten();
        let why = match (size, constant(offset)) {
            (None, _) => (AdviceCode::ElementOfImportedTable, "an element segment is of an imported table"),
            (_, None) => (AdviceCode::ElementOffset, "the offset of an element segment is no constant"),
            (Some(size), Some(start)) if u64::from(start) + u64::from(count) > size => {
                (AdviceCode::ElementOutside, "an element segment ends beyond its table")
            }
            _ if !are_functions => {
                (AdviceCode::ElementExpressions, "an element segment has expressions instead of functions")
            }
            _ if self.defeats_tables.is_none() => return,
            // Once one is set by code, those behind it are too.
            _ => (AdviceCode::ElementExpressions, ""),
        };
        self.elements += u64::from(count);
        self.defeats_tables.get_or_insert(why);
    }

    /// In the order of what it costs.
    fn advice(mut self) -> Vec<Advice> {
        let mut advice = Vec::new();
        if let Some(memory) = self.sparse() {
            let why = format!("the data of memory {memory} lies far apart");
            self.defeats_image.get_or_insert((AdviceCode::DataSparse, why));
        }
        if let Some((code, why)) = self.defeats_image.take().filter(|_| self.active >= BYTES_MIN) {
            let (bytes, cure) = (self.active, cure(code));
            advice.push(Advice {
                code,
                message: format!("{why}, so {bytes} bytes of data are copied for each request: {cure}"),
            });
        }
        if self.passive >= BYTES_MIN {
            let (code, bytes) = (AdviceCode::DataPassive, self.passive);
            let message = format!(
                "{bytes} bytes of data are in passive segments, which the program copies for each request: {}",
                cure(code)
            );
            advice.push(Advice { code, message });
        }
        if let Some((code, why)) = self.defeats_tables.take().filter(|_| self.elements >= ELEMENTS_MIN)
            // What tools put between modules only fills tables.
            && self.functions > 0
        {
            let (elements, cure) = (self.elements, cure(code));
            let message =
                format!("{why}, so {elements} elements are set one by one for each request: {cure}");
            advice.push(Advice { code, message });
        }
        if self.passive_elements >= ELEMENTS_MIN {
            let (code, elements) = (AdviceCode::ElementPassive, self.passive_elements);
            let message =
                format!("{elements} elements are in passive segments, made for each request: {}", cure(code));
            advice.push(Advice { code, message });
        }
        if let Some((function, bytes)) = self.start.map(|function| (function, self.reached(function)))
            && bytes >= START_CODE_BYTES_MIN
        {
            let code = AdviceCode::StartFunction;
            let message = format!(
                "function {function} is a start function, which runs for each request and reaches {bytes} bytes of code: {}",
                cure(code)
            );
            advice.push(Advice { code, message });
        }
        advice
    }

    /// Bytes of code that a function reaches by direct calls, its own included.
    fn reached(&self, function: u32) -> usize {
        let (mut bytes, mut seen, mut next) = (0, vec![false; self.bodies.len()], vec![function]);
        while let Some(function) = next.pop() {
            let Some(at) = function.checked_sub(self.imported).map(|at| at as usize) else { continue };
            let Some(body) = self.bodies.get(at).filter(|_| !std::mem::replace(&mut seen[at], true)) else {
                continue;
            };
            bytes += body.range().len();
            let operators = body.get_operators_reader().into_iter().flatten();
            next.extend(operators.filter_map(|operator| match operator {
                Ok(Operator::Call { function_index } | Operator::ReturnCall { function_index }) => {
                    Some(function_index)
                }
                _ => None,
            }));
        }
        bytes
    }

    /// A memory whose data is too far apart for an image, as wasmtime decides it.
    fn sparse(&self) -> Option<u32> {
        (0..self.memories.len() as u32).find(|memory| {
            let ranges = || self.data.iter().filter(|(of, range)| of == memory && range.end > range.start);
            let bytes: u64 = ranges().map(|(_, range)| range.end - range.start).sum();
            let start = ranges().map(|(_, range)| range.start).min().unwrap_or(0);
            let end = ranges().map(|(_, range)| range.end).max().unwrap_or(0);
            let image = end - start;
            image >= bytes.saturating_mul(2) && image >= SPARSE_IMAGE_BYTES_MAX
        })
    }
}

/// What the uploader can do.
fn cure(code: AdviceCode) -> &'static str {
    match code {
        AdviceCode::DataOffset | AdviceCode::ElementOffset => {
            "link the program as one static executable, not as position-independent or shared libraries (no -fPIC, -pie, -shared)"
        }
        AdviceCode::DataOfImportedMemory => "let the module define its memory: link without --import-memory",
        AdviceCode::ElementOfImportedTable => {
            "link the program statically, so that its module defines the table (componentize-py has no such choice)"
        }
        AdviceCode::DataOutside => {
            "instances trap at their start; give the program a larger initial memory: --initial-memory of the linker"
        }
        AdviceCode::ElementOutside => {
            "instances trap at their start; give the table the size of its elements"
        }
        AdviceCode::DataSparse => {
            "place its data close together, within 16 MiB or at least half as many bytes of data as they span"
        }
        AdviceCode::DataPassive => {
            "link without threads (--shared-memory), so that its data has fixed places"
        }
        AdviceCode::ElementPassive => "use active element segments with constant offsets",
        AdviceCode::ElementExpressions => {
            "list functions by index in element segments, as linkers do by default"
        }
        AdviceCode::StartFunction => {
            "export it as a function and name that in the manifest, to run it once: [prepare] initialize = \"…\""
        }
    }
}

/// The value of an offset that is one `i32.const`.
fn constant(expression: &ConstExpr<'_>) -> Option<u32> {
    let mut operators = expression.get_operators_reader();
    match (operators.read().ok()?, operators.read().ok()?) {
        (Operator::I32Const { value }, Operator::End) => Some(value.cast_unsigned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake;

    /// The advice for a core module with this in it, in the order it is given.
    fn advice(body: &str) -> Vec<Advice> {
        let wasm = wat::parse_str(format!(
            "(module (import \"fastly_x\" \"f\" (func (result i32))) {body} (func $f (export \"_start\")))"
        ));
        intake::admit(&wasm.unwrap()).unwrap().advice
    }

    fn codes(body: &str) -> Vec<AdviceCode> {
        advice(body).into_iter().map(|advice| advice.code).collect()
    }

    const MEMORY: &str = "(memory (export \"memory\") 1000)";

    #[test]
    fn what_defeats_the_image_of_the_memory_is_named_once() {
        let data = "x".repeat(5_000);
        assert_eq!(codes(&format!("{MEMORY} (data (i32.const 8) \"{data}\")")), []);
        for (body, wanted) in [
            (format!("(data (i32.add (i32.const 8) (i32.const 9)) \"{data}\")"), AdviceCode::DataOffset),
            (format!("(data (i32.const 65535999) \"{data}\")"), AdviceCode::DataOutside),
            (
                format!("(data (i32.const 0) \"{data}\") (data (i32.const 17000000) \"{data}\")"),
                AdviceCode::DataSparse,
            ),
            (format!("(data \"{data}\")"), AdviceCode::DataPassive),
        ] {
            assert_eq!(codes(&format!("{MEMORY} {body}")), [wanted], "{}", &body[..40]);
        }
        let close = format!("(data (i32.const 0) \"{data}\") (data (i32.const 16000000) \"{data}\")");
        assert_eq!(codes(&format!("{MEMORY} {close}")), [], "within what may be sparse");
        let small = "(data (i32.add (i32.const 8) (i32.const 9)) \"small\")";
        assert_eq!(codes(&format!("{MEMORY} {small}")), [], "not worth a line");
        let said = &advice(&format!("{MEMORY} (data (i32.add (i32.const 8) (i32.const 9)) \"{data}\")"))[0];
        assert!(
            said.message.starts_with("the offset of data segment 0 is no constant, so 5000 bytes"),
            "{said:?}"
        );
    }

    #[test]
    fn what_defeats_tables_that_are_filled_when_used_is_named() {
        let (many, expressions) = ("$f ".repeat(130), "(ref.func $f) ".repeat(130));
        let table = format!("{MEMORY} (table $t 160 funcref) (table $u 160 funcref)");
        for (body, wanted) in [
            (format!("(elem (i32.const 1) func {many})"), None),
            (format!("(elem (i32.const 1) funcref {expressions})"), Some(AdviceCode::ElementExpressions)),
            (format!("(elem (table $u) (i32.const 1) func {many})"), None),
            (format!("(elem (i32.const 31) func {many})"), Some(AdviceCode::ElementOutside)),
            (
                format!("(elem (i32.add (i32.const 1) (i32.const 1)) func {many})"),
                Some(AdviceCode::ElementOffset),
            ),
            (format!("(elem func {many})"), Some(AdviceCode::ElementPassive)),
            (format!("(elem declare func {many})"), None),
            ("(elem func $f)".to_owned(), None),
        ] {
            assert_eq!(codes(&format!("{table} {body}")), Vec::from_iter(wanted), "{body}");
        }
        let behind = format!("{table} (elem func $f) (elem (i32.const 1) func {many})");
        assert_eq!(codes(&behind), [], "passive ones do not stop those behind");
    }

    #[test]
    fn a_start_function_is_named_with_the_core_module_it_is_in() {
        assert_eq!(codes(&format!("{MEMORY} (start $f)")), [], "of no length");
        let long = format!("(func $long {})", "(drop (i32.const 1))".repeat(6_000));
        let body = format!("{long} (func $s (call $f) (call $s) (return_call $long)) (start $s)");
        assert_eq!(codes(&format!("{MEMORY} {body}")), [AdviceCode::StartFunction]);
        let wasm = wat::parse_str(two_modules(&body)).unwrap();
        let found = intake::admit(&wasm).unwrap().advice;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].message.starts_with("in core module 1: function 1 is a start function"),
            "{found:?}"
        );
    }

    /// A component with a second core module, twice the same.
    fn two_modules(body: &str) -> String {
        let second = format!("(core module {body} (func $f))");
        format!(
            r#"(component
            (import "wasi:http/types@0.2.3" (instance $types
              (export "incoming-request" (type (sub resource)))
              (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            (core module $m (func (export "handle") (param i32 i32)))
            {second} {second}
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $outparam)) (canon lift (core func $i "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.3" (instance $handler)))"#
        )
    }

    #[test]
    fn advice_is_ascii_within_its_bounds() {
        use artifact::compile::ADVICE_MESSAGE_BYTES_MAX;
        for code in AdviceCode::ALL {
            assert!(cure(*code).len() + 200 < ADVICE_MESSAGE_BYTES_MAX);
        }
    }
}
