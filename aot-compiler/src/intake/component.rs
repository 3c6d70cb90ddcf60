//! The shape of a wasi lane program: it handles HTTP requests and imports only what a node links.

use artifact::compile::{Refusal, RefusalCode};
use wasmparser::{
    ComponentTypeRef, TypeBounds,
    component_types::{ComponentEntityType, ComponentFuncTypeId},
};

use super::{
    functions,
    offers::{HANDLER, PACKAGES, Releases},
    refuse, shown,
    walk::Walked,
};

const NO_WASI_0_3: &str = "WASI 0.3 is not offered yet; build for 0.2 (wasi:http/incoming-handler@0.2)";

/// `namespace:package/interface@version`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interface<'a> {
    package: &'a str,
    name: &'a str,
    version: Option<&'a str>,
}

impl<'a> Interface<'a> {
    fn parse(text: &'a str) -> Option<Interface<'a>> {
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(version)),
            None => (text, None),
        };
        let (package, name) = path.split_once('/')?;
        package.contains(':').then_some(Interface { package, name, version })
    }

    /// Is it of a 0.2 release (no draft of one)? Releases of one minor version are compatible.
    fn is_0_2(&self) -> bool {
        let patch = self.version.and_then(|version| version.strip_prefix("0.2."));
        patch.is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|c| c.is_ascii_digit()))
    }

    fn is_wasi_0_3(&self) -> bool {
        self.package.starts_with("wasi:") && self.version.is_some_and(|version| version.starts_with("0.3."))
    }
}

const SPINS_OWN: &str = "it is Spin's own, and no other host has it; requests out go by wasi:http, key-value stores by \
                         wasi:keyvalue, variables by wasi:config";

/// The interfaces it imports, sorted, if it is a component this lane can run.
pub(super) fn check(walked: &Walked<'_>) -> Result<Vec<String>, Refusal> {
    let handler = handler(walked)?;
    let mut imports = Vec::new();
    for (name, ty) in &walked.imports {
        match ty {
            // The name of a type that is defined elsewhere: nothing to link.
            ComponentTypeRef::Type(TypeBounds::Eq(_)) => {}
            ComponentTypeRef::Instance(_) => {
                check_import(name)?;
                imports.push(*name);
            }
            ComponentTypeRef::Func(_)
            | ComponentTypeRef::Module(_)
            | ComponentTypeRef::Value(_)
            | ComponentTypeRef::Component(_)
            | ComponentTypeRef::Type(TypeBounds::SubResource) => {
                let message = format!(
                    "the component imports \"{}\" directly; only interfaces of WASI 0.2 can be imported, such as \
                     wasi:http/types@0.2.3",
                    shown(name)
                );
                return Err(refuse(RefusalCode::UnknownImport, message));
            }
        }
    }
    let handles = functions::check(&walked.types, imports.iter().copied())?;
    if let Err(why) = functions::check_handler(&walked.types, &handles, handler.function) {
        let message =
            format!("the component exports {} with \"{}\"{why}", shown(handler.interface), HANDLER.2);
        return Err(refuse(RefusalCode::WrongWorld, message));
    }
    let mut imports: Vec<String> = imports.into_iter().map(str::to_owned).collect();
    imports.sort_unstable();
    Ok(imports)
}

/// What answers requests.
struct Handler<'a> {
    /// The name it is exported under.
    interface: &'a str,
    function: ComponentFuncTypeId,
}

/// The exported handler of `wasi:http` 0.2, with its function.
fn handler<'a>(walked: &Walked<'a>) -> Result<Handler<'a>, Refusal> {
    let (package, interface, function) = HANDLER;
    let exports = || walked.exports.iter().filter_map(|name| Some((*name, Interface::parse(name)?)));
    let handler =
        exports().find(|(_, found)| found.package == package && found.name == interface && found.is_0_2());
    let Some((name, _)) = handler else {
        return Err(refuse(RefusalCode::WrongWorld, other_world(walked)));
    };
    let types = walked.types.as_ref();
    let found = match types.component_item_for_export(name).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) => types[id].exports.get(function).map(|item| item.ty),
        _ => None,
    };
    match found {
        Some(ComponentEntityType::Func(function)) => Ok(Handler { interface: name, function }),
        _ => {
            let message =
                format!("the component exports {} without its function \"{function}\"", shown(name));
            Err(refuse(RefusalCode::WrongWorld, message))
        }
    }
}

/// Why a component without the handler is not run, with the cure for what it seems to be.
fn other_world(walked: &Walked<'_>) -> String {
    let exported: Vec<Interface<'_>> =
        walked.exports.iter().filter_map(|name| Interface::parse(name)).collect();
    let imported = walked.imports.iter().filter_map(|(name, _)| Interface::parse(name));
    let exports = |package: &str, name: &str| {
        exported.iter().any(|found| found.package == package && found.name == name)
    };

    if exported
        .iter()
        .copied()
        .chain(imported)
        .any(|found| found.is_wasi_0_3() && found.package == "wasi:http")
    {
        return format!("the component is built for wasi:http 0.3: {NO_WASI_0_3}");
    }
    if exports("wasi:cli", "run") {
        return "the component is a command (it exports wasi:cli/run), which answers no requests; export \
                wasi:http/incoming-handler@0.2 instead, in Rust with `#[wstd::http_server]` for instance"
            .into();
    }
    if exported.iter().any(|found| found.package.starts_with("fastly:")) {
        return "the component is built for Fastly's component interface; build the program as a core module \
                (target wasm32-wasip1) for the fastly lane, or export wasi:http/incoming-handler@0.2"
            .into();
    }
    if let Some(found) = exported.iter().find(|found| (found.package, found.name) == (HANDLER.0, HANDLER.1)) {
        let version = shown(found.version.unwrap_or("without a version"));
        return format!("the component exports wasi:http/incoming-handler {version}; the one offered is 0.2");
    }
    const NAMED_MAX: usize = 5;
    let mut named: Vec<String> = walked.exports.iter().take(NAMED_MAX).map(|name| shown(name)).collect();
    if walked.exports.len() > NAMED_MAX {
        named.push(format!("{} more", walked.exports.len() - NAMED_MAX));
    }
    let named = if named.is_empty() { "nothing".into() } else { named.join(", ") };
    format!(
        "the component does not export wasi:http/incoming-handler@0.2, so it cannot answer requests; it exports {named}"
    )
}

fn check_import(name: &str) -> Result<(), Refusal> {
    let unknown = |why: String| {
        Err(refuse(RefusalCode::UnknownImport, format!("the component imports {}: {why}", shown(name))))
    };
    let Some(interface) = Interface::parse(name) else {
        return unknown("no such interface is offered".into());
    };
    if interface.is_wasi_0_3() {
        return unknown(NO_WASI_0_3.into());
    }
    let Some(package) = PACKAGES.iter().find(|package| package.name == interface.package) else {
        if matches!(interface.package.split(':').next(), Some("fermyon" | "spin")) {
            return unknown(SPINS_OWN.into());
        }
        let names: Vec<&str> = PACKAGES.iter().map(|package| package.name).collect();
        return unknown(format!("no such package is offered; those offered are {}", names.join(", ")));
    };
    match package.releases {
        Releases::Stable if !interface.is_0_2() => {
            return unknown(format!("{} is offered at version 0.2", package.name));
        }
        Releases::Drafts(drafts) if !drafts.contains(&interface.version.unwrap_or_default()) => {
            let named: Vec<&str> =
                drafts.iter().map(|draft| if draft.is_empty() { "no version" } else { draft }).collect();
            return unknown(format!("{} is offered as the draft {}", package.name, named.join(" or ")));
        }
        Releases::Stable | Releases::Drafts(_) => {}
    }
    if !package.interfaces.contains(&interface.name) {
        return unknown(format!("{} is offered with {} only", package.name, package.interfaces.join(", ")));
    }
    Ok(())
}
