//! The shape of a fastly lane program: exports `memory` and `_start`, imports host functions and nothing else.

use artifact::compile::{Refusal, RefusalCode};
use wasmparser::{FuncType, ValType, types::EntityType};

use super::{
    offers::{PREVIEW1, is_fastly},
    refuse, shown,
    walk::Walked,
};

/// The module name of WASI preview 1.
const PREVIEW1_MODULE: &str = "wasi_snapshot_preview1";

/// Its imports as `module#name`, sorted, if it is a core module this lane can run.
pub(super) fn check(walked: &Walked<'_>) -> Result<Vec<String>, Refusal> {
    check_exports(walked)?;
    check_imports(walked)
}

fn check_exports(walked: &Walked<'_>) -> Result<(), Refusal> {
    let types = walked.types.as_ref();
    let wrong = |why: &str| Err(refuse(RefusalCode::WrongModule, format!("the core module {why}")));
    let (mut memory, mut start, mut reactor) = (false, None, false);
    for (name, ty) in types.core_exports().into_iter().flatten() {
        match (name, ty) {
            ("memory", EntityType::Memory(_)) => memory = true,
            ("_start", EntityType::Func(id) | EntityType::FuncExact(id)) => {
                start = Some(types[id].unwrap_func())
            }
            ("_initialize", EntityType::Func(_)) => reactor = true,
            _ => {}
        }
    }
    match start {
        Some(ty) if ty.params().is_empty() && ty.results().is_empty() => {}
        Some(ty) => {
            return wrong(&format!(
                "exports \"_start\" of type {}, it must take and return nothing",
                signature(ty)
            ));
        }
        None if reactor => {
            return wrong(
                "is a library (it exports \"_initialize\"), not a program: build it as one, with a main function",
            );
        }
        None => {
            return wrong(
                "does not export the function \"_start\", where programs of the fastly lane begin; a wasi:http program is a \
                 component: build it for wasm32-wasip2 (or make one with `skerry component`)",
            );
        }
    }
    if !memory {
        return wrong("does not export a memory named \"memory\", through which the host answers");
    }
    Ok(())
}

fn check_imports(walked: &Walked<'_>) -> Result<Vec<String>, Refusal> {
    let types = walked.types.as_ref();
    let mut imports = Vec::new();
    for (module, name, ty) in types.core_imports().into_iter().flatten() {
        let unknown = |why: &str| {
            let import = format!("{}.{}", shown(module), shown(name));
            let message = format!("the core module imports {import}{why}");
            Err(refuse(RefusalCode::UnknownImport, message))
        };
        let function = match ty {
            EntityType::Func(id) | EntityType::FuncExact(id) => types[id].unwrap_func(),
            EntityType::Table(_) => return unknown(", a table; only functions can be imported"),
            EntityType::Memory(_) => return unknown(", a memory; only functions can be imported"),
            EntityType::Global(_) => return unknown(", a global; only functions can be imported"),
            EntityType::Tag(_) => return unknown(", a tag; only functions can be imported"),
        };
        if is_fastly(module, name) {
            // Every function of the interface answers with its status, unknown ones with UNSUPPORTED.
            let numbers = function.params().iter().all(|ty| letter(ty).is_some());
            if !numbers || function.results() != [ValType::I32] {
                return unknown(&format!(
                    " of type {}; functions of the Fastly interface take numbers and return one i32",
                    signature(function)
                ));
            }
        } else if module == PREVIEW1_MODULE {
            match PREVIEW1.iter().find(|(known, _)| *known == name) {
                None => return unknown(", which is no function of WASI preview 1"),
                Some((_, wanted)) if *wanted != signature(function) => {
                    return unknown(&format!(
                        " of type {}, in WASI preview 1 it is {wanted}",
                        signature(function)
                    ));
                }
                Some(_) => {}
            }
        } else {
            return unknown(
                ", which no host offers: core modules may import fastly_* modules, env.xqd_* and wasi_snapshot_preview1",
            );
        }
        imports.push(format!("{module}#{name}"));
    }
    imports.sort_unstable();
    imports.dedup();
    Ok(imports)
}

/// A function's type in the short form of [`PREVIEW1`].
fn signature(ty: &FuncType) -> String {
    let letters = |types: &[ValType]| types.iter().map(|ty| letter(ty).unwrap_or('?')).collect::<String>();
    format!("{}:{}", letters(ty.params()), letters(ty.results()))
}

fn letter(ty: &ValType) -> Option<char> {
    match ty {
        ValType::I32 => Some('i'),
        ValType::I64 => Some('I'),
        ValType::F32 => Some('f'),
        ValType::F64 => Some('F'),
        ValType::V128 | ValType::Ref(_) => None,
    }
}
