//! What a module or a component names.

use std::collections::BTreeMap;

use wasmparser::{ComponentExternName, Encoding, Parser, Payload};

use super::Fault;

/// How the handler's export is called, around the release.
const HANDLER: (&str, &str) = ("wasi:http/incoming-handler@", "#handle");

/// The interfaces a core module names.
#[derive(Debug)]
pub struct Names {
    /// Those it imports, as `wasi:http/types@0.2.6`, each with the first function it imports of it.
    pub interfaces: BTreeMap<String, String>,
    /// The release of WASI it is made for, as `0.2.6`.
    pub release: String,
}

/// Reads them.
pub fn names(core: &[u8]) -> Result<Names, Fault> {
    if !core.starts_with(b"\0asm") {
        return Err(Fault::NoModule("it does not begin as wasm does".into()));
    }
    let (mut interfaces, mut release) = (BTreeMap::new(), None);
    for payload in Parser::new(0).parse_all(core) {
        match payload.map_err(no_module)? {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return Err(Fault::NoModule("it is a component".into()));
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(no_module)?;
                    interfaces.entry(import.module.to_owned()).or_insert_with(|| import.name.to_owned());
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    release = release.or(handler_release(export.map_err(no_module)?.name));
                }
            }
            _ => {}
        }
    }
    let release = release.ok_or(Fault::NoHandler)?;
    for interface in interfaces.keys() {
        match stable_release(interface) {
            Some(other) if other != release => return Err(Fault::TwoReleases(release, other.to_owned())),
            _ => {}
        }
    }
    Ok(Names { interfaces, release })
}

fn handler_release(export: &str) -> Option<String> {
    let release = export.strip_prefix(HANDLER.0)?.strip_suffix(HANDLER.1)?;
    is_0_2(release).then(|| release.to_owned())
}

/// The release of WASI in an interface's name, if it is one of 0.2 and no draft of it. Other packages count for themselves.
pub fn stable_release(interface: &str) -> Option<&str> {
    let (_, version) = interface.strip_prefix("wasi:")?.split_once('@')?;
    is_0_2(version).then_some(version)
}

fn is_0_2(version: &str) -> bool {
    let patch = version.strip_prefix("0.2.");
    patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The interfaces a component imports, in their order.
pub fn imports(component: &[u8]) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(no_module)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let ComponentExternName { name, .. } = import.map_err(no_module)?.name;
                    names.push(name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

fn no_module(error: wasmparser::BinaryReaderError) -> Fault {
    Fault::NoModule(error.to_string())
}
