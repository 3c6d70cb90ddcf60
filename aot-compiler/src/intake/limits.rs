//! The caps of a program, each with its reason. They keep out what no real guest has; what they cannot bound (a small
//! module that takes 2 GB to compile) is bounded by the caps of the [job](crate::job).

use artifact::compile::{Refusal, RefusalCode};

use super::refuse;

/// Bytes of one function's body. The largest of a JS engine (SpiderMonkey) is 168 KiB; one of 7 MB compiled for 16 s.
pub const FUNCTION_BODY_BYTES_MAX: usize = 1 << 20;
/// Functions of all core modules together. A JS engine has 12,800; 900,000 tiny ones made an artifact of 127 MB from 6 MB.
pub const FUNCTIONS_MAX: usize = 100_000;
/// Types of one core module. A JS engine has 140, CPython 396. Each has code of its own, by which functions are called: 22,000
/// made an artifact of 14 MB from 0.5.
pub const TYPES_MAX: usize = 10_000;
/// Exports of one core module, and exports of a component.
pub const MODULE_ITEMS_MAX: usize = 100_000;
/// Globals of one core module: each is 16 bytes of every instance, whose bookkeeping has 4 MiB.
pub const GLOBALS_MAX: usize = 10_000;
/// Core modules in a component. Tools make 3 or 4; composed components some more.
pub const CORE_MODULES_MAX: usize = 64;
/// Components inside a component, at all depths.
pub const COMPONENTS_MAX: usize = 64;
/// What one core module may have of its own memories: the size of a pool slot.
pub const MEMORIES_PER_MODULE_MAX: usize = engine::node::MEMORIES_PER_MODULE_MAX as usize;
/// What one core module may have of its own tables: the size of a pool slot.
pub const TABLES_PER_MODULE_MAX: usize = engine::node::TABLES_PER_MODULE_MAX as usize;
/// Memories and tables that one core module imports. Linked libraries have one of each.
pub const SHARED_PER_MODULE_MAX: usize = 16;
/// Initial bytes of a memory: nothing may start beyond what it is allowed to grow to.
pub const MEMORY_INITIAL_BYTES_MAX: u64 = engine::MEMORY_BYTES_MAX as u64;
/// Initial elements of a table: the size of a pool slot. A JS engine (SpiderMonkey) has 7,777.
pub const TABLE_INITIAL_ELEMENTS_MAX: u64 = engine::TABLE_ELEMENTS_MAX as u64;
/// Elements of all element segments together: what fills every table a module may have. Two million of them took more than a
/// gigabyte to compile from 2 MB.
pub const ELEMENTS_MAX: u64 = TABLES_PER_MODULE_MAX as u64 * TABLE_INITIAL_ELEMENTS_MAX;
/// Imports a program may have: JS guests of the Fastly interface have 181, and all of its names are about 350.
pub const IMPORTS_MAX: usize = 1_000;
/// Bytes of all import names: they stand in the signed statement, whose envelope has 256 KiB.
pub const IMPORT_NAMES_BYTES_MAX: usize = 64 << 10;

/// Custom sections in which a core module carries component types, and their bytes: all interfaces that are offered have 60 KiB.
pub const COMPONENT_TYPE_SECTIONS_MAX: u64 = 64;
/// See [`COMPONENT_TYPE_SECTIONS_MAX`].
pub const COMPONENT_TYPE_BYTES_MAX: u64 = 1 << 20;

/// Refuses more than `max` of something. `what` is said after the numbers: "functions in the program".
pub(crate) fn at_most(found: u64, max: u64, what: impl std::fmt::Display) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    Err(refuse(RefusalCode::Limit, format!("{found} {what}, at most {max} are allowed")))
}

/// Bounds what goes into the statement.
pub(crate) fn check_imports(imports: &[String]) -> Result<(), Refusal> {
    at_most(imports.len() as u64, IMPORTS_MAX as u64, "imports")?;
    let bytes: usize = imports.iter().map(String::len).sum();
    at_most(bytes as u64, IMPORT_NAMES_BYTES_MAX as u64, "bytes of import names")
}
