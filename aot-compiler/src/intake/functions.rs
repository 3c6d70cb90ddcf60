//! Functions of the interfaces a component imports, held to those that are linked: by name, and by type. And the one it
//! exports, held to what nodes call.
//!
//! Types are compared as a text that two types share when they are structurally equal, which is what a node's linker
//! asks for: records by their fields, variants by their cases, handles by the kind of what they stand for. Names of
//! parameters and of types do not count. What is offered stands in `wit/`.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::LazyLock,
};

use artifact::compile::{Refusal, RefusalCode};
use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType,
        ResourceId,
    },
    types::Types,
};

use super::{refuse, shown, walk};

/// A component that imports everything in `wit/`.
const OFFERED_WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/offered.wasm"));
/// The type of `handle` of `wasi:http/incoming-handler`.
const HANDLER_TYPE: &str = "func(own<incoming-request>, own<response-outparam>)";
/// Bytes of a type's text: the longest that is offered has 1,900. A longer one is another type.
const TYPE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a type in a refusal.
const SHOWN_BYTES_MAX: usize = 300;

/// What can be imported.
struct Offered {
    /// Types by interface, without the version of a 0.2 release, and function.
    functions: HashMap<(String, String), String>,
    /// Kinds of handles, as [`kind`] names them.
    kinds: HashSet<String>,
}

static OFFERED: LazyLock<Offered> = LazyLock::new(|| {
    let walked = walk::walk(OFFERED_WASM).expect("the build made this component, and a test walks it");
    let mut offered = Offered { functions: HashMap::new(), kinds: HashSet::new() };
    let mut handles = Handles::new();
    for (interface, _) in &walked.imports {
        for (name, item) in items(&walked.types, interface) {
            match item {
                Item::Function(id) => {
                    let ty = text(&walked.types, &handles, id);
                    offered.functions.insert((unversioned(interface), name.to_owned()), ty);
                }
                Item::Resource(id) => {
                    let kind = *handles.entry(id).or_insert(kind(name));
                    offered.kinds.insert(kind.to_owned());
                }
                Item::Type | Item::Other(_) => {}
            }
        }
    }
    offered
});

/// Kinds of handles by their resources. A resource has the name it is first exported under.
pub(super) type Handles<'a> = HashMap<ResourceId, &'a str>;

/// What an interface exports.
enum Item {
    Function(ComponentFuncTypeId),
    Resource(ResourceId),
    /// One that functions carry with them.
    Type,
    /// Something no interface has.
    Other(&'static str),
}

/// Checks every function of the `interfaces`, which are offered, in the order of their imports. The kinds of handles they
/// bring.
pub(super) fn check<'a>(
    types: &'a Types,
    interfaces: impl IntoIterator<Item = &'a str>,
) -> Result<Handles<'a>, Refusal> {
    let mut handles = Handles::new();
    for interface in interfaces {
        for (name, item) in items(types, interface) {
            let offered = match item {
                Item::Function(id) => check_function(interface, name, &text(types, &handles, id)),
                Item::Resource(id) => check_resource(&mut handles, name, id),
                Item::Type => Ok(()),
                Item::Other(what) => Err(format!(", {what}; interfaces hold functions and types")),
            };
            if let Err(why) = offered {
                let message = format!("the component imports {} of {}{why}", shown(name), shown(interface));
                return Err(refuse(RefusalCode::UnknownImport, message));
            }
        }
    }
    Ok(handles)
}

/// Checks the function that answers requests: nodes call it with what they link, so its handles are those of imports.
pub(super) fn check_handler(
    types: &Types,
    handles: &Handles<'_>,
    function: ComponentFuncTypeId,
) -> Result<(), String> {
    match text(types, handles, function) {
        ty if ty == HANDLER_TYPE => Ok(()),
        ty => Err(format!(
            " as {}; it is called as {HANDLER_TYPE}: build with wasi:http as published",
            cut(&ty)
        )),
    }
}

fn check_function(interface: &str, name: &str, ty: &str) -> Result<(), String> {
    match OFFERED.functions.get(&(unversioned(interface), name.to_owned())) {
        None => Err(", a function that this interface does not have here".to_owned()),
        Some(offered) if offered == ty => Ok(()),
        Some(offered) => Err(format!(
            " as {}; it is offered as {}: build with the interface as published",
            cut(ty),
            cut(offered)
        )),
    }
}

fn check_resource<'a>(handles: &mut Handles<'a>, name: &'a str, id: ResourceId) -> Result<(), String> {
    let own = kind(name);
    if !OFFERED.kinds.contains(own) {
        return Err(", a resource that this interface does not have here".to_owned());
    }
    let first = *handles.entry(id).or_insert(own);
    match first == own {
        true => Ok(()),
        false => Err(format!(", which is another name of {} in it and another resource here", shown(first))),
    }
}

/// What an imported interface exports, in its order.
fn items<'a>(types: &'a Types, interface: &str) -> impl Iterator<Item = (&'a str, Item)> {
    let instance = match types.component_item_for_import(interface).map(|item| item.ty) {
        Some(ComponentEntityType::Instance(id)) => Some(&types[id]),
        _ => None,
    };
    instance.into_iter().flat_map(|instance| &instance.exports).map(|(name, item)| {
        let item = match item.ty {
            ComponentEntityType::Func(id) => Item::Function(id),
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } => {
                Item::Resource(id.resource())
            }
            ComponentEntityType::Type { .. } => Item::Type,
            ComponentEntityType::Module(_) => Item::Other("a module"),
            ComponentEntityType::Value(_) => Item::Other("a value"),
            ComponentEntityType::Instance(_) => Item::Other("an instance"),
            ComponentEntityType::Component(_) => Item::Other("a component"),
        };
        (name.as_str(), item)
    })
}

/// The kind of handles of this name: some interfaces have a second name for another's.
fn kind(name: &str) -> &str {
    match name {
        "io-error" => "error",
        "headers" | "trailers" => "fields",
        name => name,
    }
}

/// All 0.2 releases have the same types; drafts are themselves alone.
fn unversioned(interface: &str) -> String {
    match interface.split_once("@0.2.") {
        Some((path, patch)) if patch.bytes().all(|c| c.is_ascii_digit()) => path.to_owned(),
        _ => interface.to_owned(),
    }
}

fn cut(ty: &str) -> String {
    match ty.char_indices().nth(SHOWN_BYTES_MAX) {
        None => ty.to_owned(),
        Some((end, _)) => format!("{}…", &ty[..end]),
    }
}

/// A function's type as a text. One that is cut off at [`TYPE_BYTES_MAX`] is equal to none that is offered.
fn text<'t>(types: &'t Types, handles: &'t Handles<'t>, id: ComponentFuncTypeId) -> String {
    let mut text = Text { types, handles, out: String::new() };
    let function = &types[id];
    let _ = text.function(function.async_, function.params.iter().map(|(_, ty)| *ty), function.result);
    text.out
}

struct Text<'t> {
    types: &'t Types,
    handles: &'t Handles<'t>,
    out: String,
}

/// The text is as long as it may be. Every step writes before it goes deeper, so depth and work are bounded as well.
struct Full;

impl Text<'_> {
    fn push(&mut self, text: &str) -> Result<(), Full> {
        self.out.push_str(text);
        if self.out.len() > TYPE_BYTES_MAX { Err(Full) } else { Ok(()) }
    }

    fn function(
        &mut self,
        is_async: bool,
        params: impl Iterator<Item = ComponentValType>,
        result: Option<ComponentValType>,
    ) -> Result<(), Full> {
        self.push(if is_async { "async func(" } else { "func(" })?;
        self.list(params)?;
        self.push(")")?;
        match result {
            None => Ok(()),
            Some(ty) => {
                self.push(" -> ")?;
                self.value(ty)
            }
        }
    }

    fn list(&mut self, of: impl Iterator<Item = ComponentValType>) -> Result<(), Full> {
        for (n, ty) in of.enumerate() {
            self.push(if n > 0 { ", " } else { "" })?;
            self.value(ty)?;
        }
        Ok(())
    }

    /// `name<ty>`
    fn of(&mut self, name: &str, ty: Option<ComponentValType>) -> Result<(), Full> {
        self.push(name)?;
        self.push("<")?;
        self.maybe(ty)?;
        self.push(">")
    }

    fn maybe(&mut self, ty: Option<ComponentValType>) -> Result<(), Full> {
        match ty {
            None => self.push("_"),
            Some(ty) => self.value(ty),
        }
    }

    /// `name{a, b: ty}`
    fn named<'n>(
        &mut self,
        name: &str,
        of: impl Iterator<Item = (&'n str, Option<ComponentValType>)>,
    ) -> Result<(), Full> {
        self.push(name)?;
        self.push("{")?;
        for (n, (name, ty)) in of.enumerate() {
            self.push(if n > 0 { ", " } else { "" })?;
            self.push(name)?;
            if let Some(ty) = ty {
                self.push(": ")?;
                self.value(ty)?;
            }
        }
        self.push("}")
    }

    fn handle(&mut self, name: &str, id: ResourceId) -> Result<(), Full> {
        let kind = self.handles.get(&id).copied().unwrap_or("?");
        self.push(&format!("{name}<{kind}>"))
    }

    fn value(&mut self, ty: ComponentValType) -> Result<(), Full> {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return self.push(&primitive.to_string()),
            ComponentValType::Type(id) => id,
        };
        let types = self.types;
        match &types[id] {
            ComponentDefinedType::Primitive(primitive) => self.push(&primitive.to_string()),
            ComponentDefinedType::Record(record) => {
                self.named("record", record.fields.iter().map(|(name, ty)| (name.as_str(), Some(*ty))))
            }
            ComponentDefinedType::Variant(variant) => {
                self.named("variant", variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty)))
            }
            ComponentDefinedType::Flags(names) => {
                self.named("flags", names.iter().map(|name| (name.as_str(), None)))
            }
            ComponentDefinedType::Enum(names) => {
                self.named("enum", names.iter().map(|name| (name.as_str(), None)))
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.push("tuple<")?;
                self.list(tuple.types.iter().copied())?;
                self.push(">")
            }
            ComponentDefinedType::List { element, .. } => self.of("list", Some(*element)),
            ComponentDefinedType::Option { ty, .. } => self.of("option", Some(*ty)),
            ComponentDefinedType::Result { ok, err, .. } => {
                self.push("result<")?;
                self.maybe(*ok)?;
                self.push(", ")?;
                self.maybe(*err)?;
                self.push(">")
            }
            ComponentDefinedType::Own(id) => self.handle("own", id.resource()),
            ComponentDefinedType::Borrow(id) => self.handle("borrow", id.resource()),
            ComponentDefinedType::Future { ty, .. } => self.of("future", *ty),
            ComponentDefinedType::Stream { ty, .. } => self.of("stream", *ty),
            ComponentDefinedType::Map { key, value, .. } => {
                self.push("map<")?;
                self.list([*key, *value].into_iter())?;
                self.push(">")
            }
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                let _ = write!(self.out, "list-of-{length}");
                self.of("", Some(*element))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::offers::{PACKAGES, Releases};

    #[test]
    fn every_interface_that_is_offered_has_its_functions_here_and_no_other_has() {
        let walked = walk::walk(OFFERED_WASM).unwrap();
        let here: HashSet<String> = walked.imports.iter().map(|(name, _)| unversioned(name)).collect();
        let (mut offered, mut drafts_of_it) = (HashSet::new(), HashMap::new());
        for package in PACKAGES {
            for interface in package.interfaces {
                let path = format!("{}/{interface}", package.name);
                match package.releases {
                    Releases::Stable => drop(offered.insert(path)),
                    Releases::Drafts(drafts) => drop(drafts_of_it.insert(path, drafts)),
                }
            }
        }
        for name in &here {
            let (path, version) = name.split_once('@').unwrap_or((name, ""));
            let known =
                offered.remove(path) || drafts_of_it.get(path).is_some_and(|all| all.contains(&version));
            assert!(known, "{name}");
        }
        assert!(offered.is_empty(), "{offered:?} lack their functions");
        for (path, _) in drafts_of_it {
            assert!(here.iter().any(|name| name.split('@').next() == Some(&path)), "{path}");
        }
    }

    #[test]
    fn a_type_without_end_is_written_to_its_bound_and_no_further() {
        let mut types = "(type $t0 u8)".to_owned();
        for n in 1..=5 {
            let before = format!("$t{} ", n - 1);
            types += &format!("(type $t{n} (tuple {}))", before.repeat(10));
        }
        let wasm = wat::parse_str(format!(
            r#"(component (import "a:b/c" (instance {types} (export "f" (func (result $t5))))))"#
        ));
        let wasm = wasm.unwrap();
        let walked = walk::walk(&wasm).unwrap();
        let mut written = items(&walked.types, "a:b/c").filter_map(|(_, item)| match item {
            Item::Function(id) => Some(text(&walked.types, &Handles::new(), id).len()),
            _ => None,
        });
        let bytes = written.next().unwrap();
        assert!((TYPE_BYTES_MAX..TYPE_BYTES_MAX + 64).contains(&bytes), "{bytes}");
    }

    #[test]
    fn no_type_that_is_offered_is_cut_off_and_every_handle_has_a_kind() {
        for (function, ty) in &OFFERED.functions {
            assert!(ty.len() < TYPE_BYTES_MAX / 4 && !ty.contains('?'), "{function:?}: {ty}");
        }
        assert_eq!(OFFERED.functions.len(), 215, "as many as `wit/` has");
        let read = ("wasi:io/streams".to_owned(), "[method]input-stream.read".to_owned());
        assert_eq!(
            OFFERED.functions[&read],
            "func(borrow<input-stream>, u64) -> result<list<u8>, variant{last-operation-failed: own<error>, closed}>"
        );
    }
}
