//! One pass over the program: full validation, the caps, and the facts the lanes' checks ask for.
//!
//! Relies on wasmparser to bound what it does not count itself (locals, nesting, sizes of types). Function bodies are
//! validated last, so that a cap refuses before the work is done.

use artifact::compile::{Advice, Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use wasmparser::{
    ComponentTypeRef, ConstExpr, DataKind, ElementItems, ElementKind, Encoding, Error, FuncToValidate,
    FuncValidatorAllocations, FunctionBody, Parser, Payload, TypeRef, ValidPayload, Validator,
    ValidatorResources, types::Types,
};

use super::{
    advice::Watch,
    limits::{self, at_most},
    refuse, shown,
};

/// Bytes of a linear memory's page.
const PAGE_BYTES: u64 = 64 * 1024;

/// A program's size in the terms of the caps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Core modules: 1 for a core module.
    pub core_modules: usize,
    /// Components inside the component.
    pub components: usize,
    /// Functions with a body, in all core modules.
    pub functions: usize,
    /// Bytes of the largest function body.
    pub function_body_bytes_largest: usize,
    /// That function's index, and its core module in the order of the file, from 0.
    pub function_largest: (u32, usize),
    /// Initial bytes of the largest memory.
    pub memory_initial_bytes_largest: u64,
    /// Initial elements of the largest table.
    pub table_initial_elements_largest: u64,
    /// Elements of all segments.
    pub elements: u64,
    /// Tables of the core module that defines most.
    pub tables_per_module_most: usize,
}

/// What is known of a valid program within its caps.
pub(super) struct Walked<'a> {
    /// Types of the outermost module or component.
    pub types: Types,
    /// Imports of the outermost component, in order.
    pub imports: Vec<(&'a str, ComponentTypeRef)>,
    /// Export names of the outermost component, in order.
    pub exports: Vec<&'a str>,
    /// What could be better.
    pub advice: Vec<Advice>,
    /// Its size.
    pub shape: Shape,
}

type Body<'a> = (FuncToValidate<ValidatorResources>, FunctionBody<'a>, Place);

/// Where in the program something is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Which core module, from 0, in file order.
    core_module: usize,
    memories: usize,
    tables: usize,
    /// Memories and tables that are imported.
    shared: usize,
    initialiser_bytes: usize,
}

struct Walk<'a> {
    /// The modules and components entered and not left.
    open: Vec<Place>,
    imports: Vec<(&'a str, ComponentTypeRef)>,
    exports: Vec<&'a str>,
    advice: Watch<'a>,
    shape: Shape,
}

/// Walks the whole program once.
pub(super) fn walk(wasm: &[u8]) -> Result<Walked<'_>, Refusal> {
    let features = engine::wasm_features();
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);

    let mut walk = Walk {
        open: Vec::new(),
        imports: Vec::new(),
        exports: Vec::new(),
        advice: Watch::default(),
        shape: Shape::default(),
    };
    let mut bodies: Vec<Body<'_>> = Vec::new();
    let mut types = None;
    for payload in parser.parse_all(wasm) {
        let payload = payload.map_err(|error| invalid(&error))?;
        walk.see(&payload)?;
        walk.advice.see(&payload);
        match validator.payload(&payload).map_err(|error| invalid(&error))? {
            ValidPayload::Func(function, body) => {
                let place = walk.function(function.index, &body)?;
                bodies.push((function, body, place));
            }
            ValidPayload::End(ended) => types = Some(ended),
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    let types = types.ok_or_else(|| refuse(RefusalCode::Invalid, "the program has no end"))?;
    validate_bodies(bodies, walk.shape.core_modules)?;
    let Walk { imports, exports, advice, shape, .. } = walk;
    Ok(Walked { types, imports, exports, advice: advice.advice(), shape })
}

fn validate_bodies(bodies: Vec<Body<'_>>, core_modules: usize) -> Result<(), Refusal> {
    let mut allocations = FuncValidatorAllocations::default();
    for (function, body, place) in bodies {
        let index = function.index;
        let mut validator = function.into_validator(allocations);
        validator.validate(&body).map_err(|error| {
            let mut refusal = invalid(&error);
            refusal.message = format!("{}: {}", place.name(index, core_modules), refusal.message);
            refusal
        })?;
        allocations = validator.into_allocations();
    }
    Ok(())
}

impl Place {
    fn name(&self, function: u32, core_modules: usize) -> String {
        function_name(function, self.core_module, core_modules)
    }
}

/// "function 7", and of which core module if there are several.
fn function_name(function: u32, core_module: usize, core_modules: usize) -> String {
    match core_modules {
        0 | 1 => format!("function {function}"),
        _ => format!("function {function} of core module {core_module}"),
    }
}

impl Shape {
    /// What took a compile its time, as far as size tells: for a refusal.
    pub fn most_to_compile(&self) -> String {
        let (function, core_module) = self.function_largest;
        format!(
            "it has {} functions, the largest is {} with {} bytes",
            self.functions,
            function_name(function, core_module, self.core_modules),
            self.function_body_bytes_largest,
        )
    }
}

impl<'a> Walk<'a> {
    /// Counts before anything is validated or kept.
    fn see(&mut self, payload: &Payload<'a>) -> Result<(), Refusal> {
        match payload {
            Payload::Version { encoding, .. } => self.enter(*encoding)?,
            Payload::End(_) => {
                self.open.pop();
            }
            Payload::TypeSection(section) => {
                at_most(section.count().into(), limits::TYPES_MAX as u64, "types in a core module")?;
            }
            Payload::ImportSection(section) => {
                at_most(section.count().into(), limits::IMPORTS_MAX as u64, "imports of a core module")?;
                self.imports_of_module(section)?;
            }
            Payload::ExportSection(section) => {
                at_most(section.count().into(), limits::MODULE_ITEMS_MAX as u64, "exports of a core module")?;
            }
            Payload::GlobalSection(section) => {
                at_most(section.count().into(), limits::GLOBALS_MAX as u64, "globals in a core module")?;
                for global in section.clone() {
                    self.initialiser(&global.map_err(|error| invalid(&error))?.init_expr)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.shape.functions += section.count() as usize;
                at_most(
                    self.shape.functions as u64,
                    limits::FUNCTIONS_MAX as u64,
                    "functions in the program",
                )?;
            }
            Payload::TableSection(section) => self.tables(section)?,
            Payload::MemorySection(section) => self.memories(section)?,
            Payload::ElementSection(section) => self.elements(section)?,
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    if let DataKind::Active { offset_expr, .. } =
                        segment.map_err(|error| invalid(&error))?.kind
                    {
                        self.initialiser(&offset_expr)?;
                    }
                }
            }
            Payload::ComponentImportSection(section) if self.open.len() == 1 => {
                at_most(section.count().into(), limits::IMPORTS_MAX as u64, "imports")?;
                for import in section.clone() {
                    let import = import.map_err(|error| invalid(&error))?;
                    self.imports.push((import.name.name, import.ty));
                }
                at_most(self.imports.len() as u64, limits::IMPORTS_MAX as u64, "imports")?;
            }
            Payload::ComponentExportSection(section) if self.open.len() == 1 => {
                for export in section.clone() {
                    let export = export.map_err(|error| invalid(&error))?;
                    self.exports.push(export.name.name);
                    at_most(self.exports.len() as u64, limits::MODULE_ITEMS_MAX as u64, "exports")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, encoding: Encoding) -> Result<(), Refusal> {
        let core_module = self.shape.core_modules;
        match encoding {
            Encoding::Module => self.shape.core_modules += 1,
            Encoding::Component if self.open.is_empty() => {}
            Encoding::Component => self.shape.components += 1,
        }
        at_most(
            self.shape.core_modules as u64,
            limits::CORE_MODULES_MAX as u64,
            "core modules in the component",
        )?;
        at_most(self.shape.components as u64, limits::COMPONENTS_MAX as u64, "components in the component")?;
        self.open.push(Place { core_module, memories: 0, tables: 0, shared: 0, initialiser_bytes: 0 });
        Ok(())
    }

    fn tables(&mut self, section: &wasmparser::TableSectionReader<'a>) -> Result<(), Refusal> {
        let Some(place) = self.open.last_mut() else { return Ok(()) };
        place.tables += section.count() as usize;
        self.shape.tables_per_module_most = self.shape.tables_per_module_most.max(place.tables);
        at_most(place.tables as u64, limits::TABLES_PER_MODULE_MAX as u64, "tables in a core module")?;
        for table in section.clone() {
            let initial = table.map_err(|error| invalid(&error))?.ty.initial;
            let largest = &mut self.shape.table_initial_elements_largest;
            *largest = initial.max(*largest);
            at_most(initial, limits::TABLE_INITIAL_ELEMENTS_MAX, "initial elements in a table")?;
        }
        Ok(())
    }

    /// Memories and tables it is given: each pair may need a helper when it is prepared.
    fn imports_of_module(&mut self, section: &wasmparser::ImportSectionReader<'a>) -> Result<(), Refusal> {
        let Some(place) = self.open.last_mut() else { return Ok(()) };
        for import in section.clone().into_imports() {
            if let TypeRef::Memory(_) | TypeRef::Table(_) = import.map_err(|error| invalid(&error))?.ty {
                place.shared += 1;
            }
        }
        let what = "imported memories and tables of a core module";
        at_most(place.shared as u64, limits::SHARED_PER_MODULE_MAX as u64, what)
    }

    /// What computes a value or an offset at the start. All of a module become one function.
    fn initialiser(&mut self, expression: &ConstExpr<'_>) -> Result<(), Refusal> {
        let Some(place) = self.open.last_mut() else { return Ok(()) };
        place.initialiser_bytes += expression.get_binary_reader().bytes_remaining();
        let what = "bytes of initial values and offsets in a core module";
        at_most(place.initialiser_bytes as u64, limits::FUNCTION_BODY_BYTES_MAX as u64, what)
    }

    fn elements(&mut self, section: &wasmparser::ElementSectionReader<'a>) -> Result<(), Refusal> {
        for segment in section.clone() {
            let segment = segment.map_err(|error| invalid(&error))?;
            if let ElementKind::Active { offset_expr, .. } = &segment.kind {
                self.initialiser(offset_expr)?;
            }
            let count = match segment.items {
                ElementItems::Functions(items) => items.count(),
                ElementItems::Expressions(_, items) => items.count(),
            };
            self.shape.elements += u64::from(count);
            at_most(
                self.shape.elements,
                limits::ELEMENTS_MAX,
                "elements of tables in the program's segments",
            )?;
        }
        Ok(())
    }

    fn memories(&mut self, section: &wasmparser::MemorySectionReader<'a>) -> Result<(), Refusal> {
        let Some(place) = self.open.last_mut() else { return Ok(()) };
        place.memories += section.count() as usize;
        at_most(place.memories as u64, limits::MEMORIES_PER_MODULE_MAX as u64, "memories in a core module")?;
        for memory in section.clone() {
            let pages = memory.map_err(|error| invalid(&error))?.initial;
            let initial = pages.saturating_mul(PAGE_BYTES);
            let largest = &mut self.shape.memory_initial_bytes_largest;
            *largest = initial.max(*largest);
            at_most(
                initial,
                limits::MEMORY_INITIAL_BYTES_MAX,
                format_args!("bytes ({pages} pages) of initial memory"),
            )?;
        }
        Ok(())
    }

    fn function(&mut self, index: u32, body: &FunctionBody<'a>) -> Result<Place, Refusal> {
        let place =
            *self.open.last().ok_or_else(|| refuse(RefusalCode::Invalid, "a function outside a module"))?;
        let range = body.range();
        if range.len() > self.shape.function_body_bytes_largest {
            self.shape.function_body_bytes_largest = range.len();
            self.shape.function_largest = (index, place.core_module);
        }
        let name = place.name(index, self.shape.core_modules);
        let what = format_args!("bytes in the body of {name} (at byte {:#x})", range.start);
        at_most(range.len() as u64, limits::FUNCTION_BODY_BYTES_MAX as u64, what)?;
        Ok(place)
    }
}

/// wasmparser's words with the byte offset; a feature that is off is named as such.
fn invalid(error: &Error) -> Refusal {
    let (at, why) = (error.offset(), shown(error.message()));
    let message = match error.missing_wasm_feature() {
        Some(_) => {
            format!("invalid WebAssembly at byte {at:#x}: {why} (this platform runs WebAssembly without it)")
        }
        None if why.contains("unexpected end") => {
            format!("invalid WebAssembly at byte {at:#x}: {why}; the file may be cut short")
        }
        None => format!("invalid WebAssembly at byte {at:#x}: {why}"),
    };
    refuse(RefusalCode::Invalid, message)
}
