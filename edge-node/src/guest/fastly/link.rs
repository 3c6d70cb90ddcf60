//! Links a module: every function this host has, and for every other function of the interface, known or of
//! tomorrow, one that answers UNSUPPORTED.
//!
//! Importing is not calling: a hello imports 74 functions and calls 13. So a program links as long as all its imports
//! belong to the interface, and learns what is missing when it asks. What belongs to it: modules whose name starts
//! with `fastly_`, the older names of [`table::ALIASES`], and WASI preview 1 (where the answer is ENOSYS). Anything else is left out, and instantiating says which import has no definition.

use wasmtime::{Engine, ExternType, FuncType, ImportType, Linker, Module, Val, ValType};

use super::{
    FastlyState,
    abi::{ABI_VERSION, Status, code},
    async_io, backend, compute_runtime, config_store, downstream, http_body, http_req, http_resp, kv_store,
    log, lookups, object_store, secret_store, shielding,
    table::{self, Support},
    wasi_p1::{self, Errno},
};

const ABI_MODULE: &str = "fastly_abi";

/// Everything this host does, defined for an engine.
pub struct Definitions(Linker<FastlyState>);

impl Definitions {
    /// Defines it.
    pub fn new(engine: &Engine) -> wasmtime::Result<Definitions> {
        definitions(engine).map(Definitions)
    }

    pub(super) fn engine(&self) -> &Engine {
        self.0.engine()
    }

    /// A linker with a definition for every import of `module` that belongs to the interface.
    pub(super) fn linker(&self, module: &Module) -> wasmtime::Result<Linker<FastlyState>> {
        linker(self.0.clone(), module)
    }
}

fn linker(mut linker: Linker<FastlyState>, module: &Module) -> wasmtime::Result<Linker<FastlyState>> {
    // A type that has changed since, or twice the same import: the later definition counts.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let (module, name) = (import.module(), import.name());
        match belongs_to(&import) {
            None => {}
            Some(_) if is_defined(module, name, &ty) => {}
            Some(Interface::Fastly)
                if object_store::INSERT_WAIT_WITH_OUTCOME == (module, name, letters(&ty).as_str()) =>
            {
                object_store::add_insert_wait_with_outcome(&mut linker)?;
            }
            Some(Interface::Alias(real, real_name)) if is_defined(real, real_name, &ty) => {
                linker.alias(real, real_name, module, name)?;
            }
            Some(Interface::Fastly | Interface::Alias(..)) => {
                constant(&mut linker, module, name, ty, Status::Unsupported as i32)?;
            }
            Some(Interface::Wasi) => constant(&mut linker, module, name, ty, Errno::NoSystem as i32)?,
        }
    }
    #[cfg(test)]
    let linker = super::tests::trace::traced(linker, module)?;
    Ok(linker)
}

/// Everything this host does, and nothing else.
fn definitions(engine: &Engine) -> wasmtime::Result<Linker<FastlyState>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(ABI_MODULE, "init", |version: u64| {
        code(if version == ABI_VERSION { Ok(()) } else { Err(Status::Unsupported) })
    })?;
    http_req::add(&mut linker)?;
    http_resp::add(&mut linker)?;
    http_body::add(&mut linker)?;
    downstream::add(&mut linker)?;
    async_io::add(&mut linker)?;
    backend::add(&mut linker)?;
    config_store::add(&mut linker)?;
    secret_store::add(&mut linker)?;
    kv_store::add(&mut linker)?;
    object_store::add(&mut linker)?;
    lookups::add(&mut linker)?;
    log::add(&mut linker)?;
    compute_runtime::add(&mut linker)?;
    shielding::add(&mut linker)?;
    wasi_p1::add(&mut linker)?;
    Ok(linker)
}

/// Which part of the interface an import belongs to.
pub(super) enum Interface {
    Fastly,
    /// An older name, and the module and name it stands for.
    Alias(&'static str, &'static str),
    Wasi,
}

pub(super) fn belongs_to(import: &ImportType<'_>) -> Option<Interface> {
    match import.module() {
        wasi_p1::MODULE => Some(Interface::Wasi),
        table::ALIAS_MODULE if import.name().starts_with(table::ALIAS_PREFIX) => {
            let alias = table::alias(import.name());
            Some(alias.map_or(Interface::Fastly, |(module, name)| Interface::Alias(module, name)))
        }
        module => module.starts_with("fastly_").then_some(Interface::Fastly),
    }
}

/// Is there a definition of this name and this very type?
fn is_defined(module: &str, name: &str, ty: &FuncType) -> bool {
    if module == wasi_p1::MODULE {
        return wasi_p1::FUNCTIONS.contains(&(name, letters(ty).as_str()));
    }
    table::row(module, name).is_some_and(|row| row.support != Support::Unsupported && row.ty == letters(ty))
}

/// A type in the short form of [`table::Function::ty`].
fn letters(ty: &FuncType) -> String {
    let letter = |ty: ValType| match ty {
        ValType::I32 => 'i',
        ValType::I64 => 'I',
        ValType::F32 => 'f',
        ValType::F64 => 'F',
        ValType::V128 | ValType::Ref(_) => '?',
    };
    ty.params().map(letter).chain([':']).chain(ty.results().map(letter)).collect()
}

/// Answers one number, whatever the arguments.
fn constant(
    linker: &mut Linker<FastlyState>,
    module: &str,
    name: &str,
    ty: FuncType,
    answer: i32,
) -> wasmtime::Result<()> {
    // Uploads are refused unless the one result is an i32; any other gets its default.
    let values: Vec<Option<Val>> = ty
        .results()
        .map(|ty| match ty {
            ValType::I32 => Some(Val::I32(answer)),
            other => Val::default_for_ty(&other),
        })
        .collect();
    linker.func_new(module, name, ty, move |_, _, results| {
        for (result, value) in results.iter_mut().zip(&values) {
            *result =
                value.ok_or_else(|| wasmtime::format_err!("a function that is not offered has an answer"))?;
        }
        Ok(())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use artifact::Profile;

    use super::*;
    use crate::guest::fastly::tests;

    /// A module that imports one function, in the binary format.
    fn importing(module: &str, name: &str, ty: &str) -> Vec<u8> {
        let value = |letter: char| match letter {
            'i' => 0x7f,
            'I' => 0x7e,
            'f' => 0x7d,
            _ => 0x7c,
        };
        let (params, results) = ty.split_once(':').unwrap();
        let mut types = vec![1, 0x60, params.len() as u8];
        types.extend(params.chars().map(value));
        types.push(results.len() as u8);
        types.extend(results.chars().map(value));
        let mut imports = vec![1, module.len() as u8];
        imports.extend_from_slice(module.as_bytes());
        imports.push(name.len() as u8);
        imports.extend_from_slice(name.as_bytes());
        imports.extend([0, 0]);
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        for (section, bytes) in [(1, types), (2, imports)] {
            wasm.extend([section, bytes.len() as u8]);
            wasm.extend(bytes);
        }
        wasm
    }

    fn compiler() -> Engine {
        let target = *engine::levels::of_this_machine().last().unwrap();
        engine::compiler::engine(target, Profile::Serve).unwrap()
    }

    /// By module and name.
    fn signatures() -> BTreeMap<(&'static str, &'static str), &'static str> {
        let wasi = wasi_p1::FUNCTIONS.iter().map(|(name, ty)| ((wasi_p1::MODULE, *name), *ty));
        let rows = table::rows().filter(|(_, row)| row.support != Support::Unsupported);
        rows.map(|(module, row)| ((module, row.name), row.ty)).chain(wasi).collect()
    }

    #[test]
    fn the_table_of_functions_is_what_is_defined() {
        let engine = compiler();
        let linker = definitions(&engine).unwrap();
        let signatures = signatures();
        for ((module, name), ty) in &signatures {
            let compiled = Module::new(&engine, importing(module, name, ty)).unwrap();
            // Links without anything being filled in, so it exists with this type.
            linker.instantiate_pre(&compiled).unwrap_or_else(|error| panic!("{module}.{name}: {error:#}"));
        }
        let mut store = wasmtime::Store::new(&engine, tests::state());
        let defined = linker.iter(&mut store).map(|(module, name, _)| (module.to_owned(), name.to_owned()));
        for (module, name) in defined.collect::<Vec<_>>() {
            assert!(signatures.contains_key(&(module.as_str(), name.as_str())), "{module}.{name} has no row");
        }
    }

    #[test]
    fn anything_of_the_interface_links_and_nothing_else() {
        let engine = compiler();
        let links = |module: &str, name: &str, ty: &str| {
            let compiled = Module::new(&engine, importing(module, name, ty)).unwrap();
            Definitions::new(&engine).unwrap().linker(&compiled).unwrap().instantiate_pre(&compiled).is_ok()
        };
        for (module, row) in table::rows() {
            assert!(links(module, row.name, row.ty), "{module}.{}", row.name);
        }
        for (alias, module, name) in table::ALIASES {
            let row = table::row(module, name).unwrap();
            assert!(links("env", alias, row.ty), "{alias}");
        }
        assert!(links("fastly_of_tomorrow", "anything", "IfFi:i"), "unknown");
        assert!(links("fastly_http_req", "method_get", "iiiii:i"), "known, of another type");
        assert!(links("env", "xqd_req_method_get", "iiiii:i"), "an older name, of another type");
        assert!(links("env", "xqd_resp_send_downstream", "iii:i"), "not in the list, but by the rule");
        assert!(links("env", "xqd_of_yesterday", ":i"), "unknown");
        assert!(links("wasi_snapshot_preview1", "path_open", "iiiiiIIii:i"));
        assert!(!links("env", "memcpy", "iii:i"));
        assert!(!links("wasi_snapshot_preview2", "fd_write", "iiii:i"));
    }
}
