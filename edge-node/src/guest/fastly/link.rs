//! Links a module: every function this host has, and for every other function of the interface, known or of
//! tomorrow, one that answers UNSUPPORTED.
//!
//! Importing is not calling: a hello imports 74 functions and calls 13. So a program links as long as all its imports
//! belong to the interface, and learns what is missing when it asks. What belongs to it: modules whose name starts
//! with `fastly_`, the names `xqd_*` of module `env` that older programs use, and WASI preview 1 (where the answer is
//! ENOSYS). Anything else is left out, and instantiating says which import has no definition.

use std::{collections::HashMap, sync::LazyLock};

use wasmtime::{Engine, ExternType, FuncType, ImportType, Linker, Module, Val, ValType};

use super::{
    FastlyState,
    abi::{ABI_VERSION, Status, code},
    downstream, headers, http_body, http_req, http_resp,
    wasi_p1::{self, Errno},
};

/// The module of the older names.
const ALIAS_MODULE: &str = "env";
const ABI_MODULE: &str = "fastly_abi";

/// Every function this host does, by module and name, with its type: `i` is i32, `I` is i64, results after `:`.
/// A test holds it against what is really linked.
pub(super) static OFFERED: LazyLock<HashMap<(&str, &str), &str>> = LazyLock::new(|| {
    let of = |module, functions: &'static [(&'static str, &'static str)]| {
        functions.iter().map(move |(name, ty)| ((module, *name), *ty))
    };
    of(ABI_MODULE, &[("init", "I:i")])
        .chain(of(http_req::MODULE, &http_req::FUNCTIONS))
        .chain(of(http_req::MODULE, &headers::FUNCTIONS))
        .chain(of(http_resp::MODULE, &http_resp::FUNCTIONS))
        .chain(of(http_resp::MODULE, &headers::FUNCTIONS))
        .chain(of(http_body::MODULE, &http_body::FUNCTIONS))
        .chain(downstream::functions().map(|(module, name, ty)| ((module, name), ty)))
        .chain(of(wasi_p1::MODULE, &wasi_p1::FUNCTIONS))
        .collect()
});

/// A linker with a definition for every import of `module` that belongs to the interface.
pub(super) fn linker(engine: &Engine, module: &Module) -> wasmtime::Result<Linker<FastlyState>> {
    let mut linker = offered(engine)?;
    // A type that has changed since, or twice the same import: the later definition counts.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let (module, name) = (import.module(), import.name());
        match belongs_to(&import) {
            None => {}
            Some(_) if is_offered(module, name, &ty) => {}
            Some(Interface::Alias(real, real_name)) if is_offered(real, real_name, &ty) => {
                linker.alias(real, real_name, module, name)?;
            }
            Some(Interface::Fastly | Interface::Alias(..)) => {
                constant(&mut linker, module, name, ty, Status::Unsupported as i32)?;
            }
            Some(Interface::Wasi) => constant(&mut linker, module, name, ty, Errno::NoSystem as i32)?,
        }
    }
    Ok(linker)
}

/// Everything this host does.
fn offered(engine: &Engine) -> wasmtime::Result<Linker<FastlyState>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(ABI_MODULE, "init", |version: u64| {
        code(if version == ABI_VERSION { Ok(()) } else { Err(Status::Unsupported) })
    })?;
    http_req::add(&mut linker)?;
    http_resp::add(&mut linker)?;
    http_body::add(&mut linker)?;
    downstream::add(&mut linker)?;
    wasi_p1::add(&mut linker)?;
    Ok(linker)
}

/// Which part of the interface an import belongs to.
enum Interface<'a> {
    Fastly,
    /// An older name, and the module and name it stands for.
    Alias(&'static str, &'a str),
    Wasi,
}

fn belongs_to<'a>(import: &ImportType<'a>) -> Option<Interface<'a>> {
    let (module, name) = (import.module(), import.name());
    if module.starts_with("fastly_") {
        return Some(Interface::Fastly);
    }
    if module == wasi_p1::MODULE {
        return Some(Interface::Wasi);
    }
    if module != ALIAS_MODULE {
        return None;
    }
    let old = name.strip_prefix("xqd_")?;
    let (real, real_name) = [
        ("req_", http_req::MODULE),
        ("resp_", http_resp::MODULE),
        ("body_", http_body::MODULE),
        ("", ABI_MODULE),
    ]
    .into_iter()
    .find_map(|(prefix, module)| Some((module, old.strip_prefix(prefix)?)))?;
    Some(Interface::Alias(real, real_name))
}

/// Is there a function of this name and this very type?
fn is_offered(module: &str, name: &str, ty: &FuncType) -> bool {
    OFFERED.get(&(module, name)).is_some_and(|offered| *offered == letters(ty))
}

/// A type in the short form of [`OFFERED`].
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
    use artifact::Profile;

    use super::*;

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

    #[test]
    fn the_table_of_functions_is_what_is_linked() {
        let engine = compiler();
        let offered = offered(&engine).unwrap();
        for ((module, name), ty) in OFFERED.iter() {
            let compiled = Module::new(&engine, importing(module, name, ty)).unwrap();
            // Links without anything being filled in, so it exists with this type.
            offered.instantiate_pre(&compiled).unwrap_or_else(|error| panic!("{module}.{name}: {error:#}"));
        }
        assert!(OFFERED.len() > 120, "{}", OFFERED.len());
    }

    #[test]
    fn anything_of_the_interface_links_and_nothing_else() {
        let engine = compiler();
        let links = |module: &str, name: &str, ty: &str| {
            let compiled = Module::new(&engine, importing(module, name, ty)).unwrap();
            linker(&engine, &compiled).unwrap().instantiate_pre(&compiled).is_ok()
        };
        assert!(links("fastly_http_req", "send_v3", "iiiiiii:i"), "known, not done");
        assert!(links("fastly_of_tomorrow", "anything", "IfFi:i"), "unknown");
        assert!(links("fastly_http_req", "method_get", "iiiii:i"), "known, of another type");
        assert!(links("env", "xqd_req_method_get", "iiii:i"), "an older name of what is done");
        assert!(links("env", "xqd_init", "I:i"));
        assert!(links("env", "xqd_pending_req_wait", "iii:i"), "an older name of what is not");
        assert!(links("wasi_snapshot_preview1", "path_open", "iiiiiIIii:i"));
        assert!(!links("env", "memcpy", "iii:i"));
        assert!(!links("wasi_snapshot_preview2", "fd_write", "iiii:i"));
    }
}
