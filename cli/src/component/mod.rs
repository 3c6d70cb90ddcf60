//! Core module → component: for languages whose compiler knows no components, such as AssemblyScript.
//!
//! Such a module imports and exports functions under the names, and with the flat types, that the canonical ABI gives
//! them. What is missing is a description of the interfaces in its world, and the wrapping. The world is taken from what
//! the module names, the interfaces from what the compiler service admits (`wit.rs`), so nothing is fetched.
//! Deliberately absent: adapters for WASI 0.1, which is another ABI.

mod module;
mod wit;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

pub use module::imports;

/// Text crosses the border in the form AssemblyScript has it in, so programs carry no conversion: the node converts when
/// it copies, which it does anyway.
const TEXT: StringEncoding = StringEncoding::UTF16;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not wasm, broken, or a component already.
    #[error("it is no core module: {0}")]
    NoModule(String),
    /// Nothing to call.
    #[error(
        "it does not export wasi:http/incoming-handler@0.2.x#handle; was it compiled with the SDK's transform?"
    )]
    NoHandler,
    /// Of an interface that no node has.
    #[error("it imports {function} of {interface}, which no node offers")]
    UnknownImport {
        /// The first function it imports of it.
        function: String,
        /// Its name.
        interface: String,
    },
    /// Two releases of one package.
    #[error("it names WASI {0} and {1}: one program has one release")]
    TwoReleases(String, String),
    /// A function of a wrong name or type, or a missing export.
    #[error("its functions are not those of the interfaces: {0}")]
    Mismatch(String),
}

/// Makes a component of a core module that answers HTTP.
pub fn encode(core: &[u8]) -> Result<Vec<u8>, Fault> {
    let named = module::names(core)?;
    let (resolve, world) = world(&named)?;
    let mut module = core.to_vec();
    embed_component_metadata(&mut module, &resolve, world, TEXT).map_err(mismatch)?;
    let mut encoder = ComponentEncoder::default().module(&module).map_err(mismatch)?.validate(true);
    encoder.encode().map_err(mismatch)
}

/// The world of exactly what a module names, and the interfaces in it.
fn world(named: &module::Names) -> Result<(Resolve, wit_parser::WorldId), Fault> {
    for (interface, function) in &named.interfaces {
        if !wit::offers(interface, &named.release) {
            return Err(Fault::UnknownImport { function: function.clone(), interface: interface.clone() });
        }
    }
    let mut resolve = Resolve::default();
    let app =
        wit::parse("app.wit", &wit::app(named.interfaces.keys(), &named.release)).map_err(Fault::Mismatch)?;
    let packages: Result<Vec<_>, String> =
        wit::packages(&named.release).map(|(name, text)| wit::parse(name, &text)).collect();
    let package = resolve
        .push_groups(app, packages.map_err(Fault::Mismatch)?)
        .map_err(|error| Fault::Mismatch(error.to_string()))?;
    let world = resolve.select_world(&[package], None).map_err(mismatch)?;
    Ok((resolve, world))
}

fn mismatch(error: anyhow::Error) -> Fault {
    Fault::Mismatch(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(body: &str) -> Vec<u8> {
        wat::parse_str(format!("(module {body})")).unwrap()
    }

    const MEMORY: &str = r#"(memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)"#;

    fn handler(release: &str) -> String {
        format!(r#"(func (export "wasi:http/incoming-handler@{release}#handle") (param i32 i32)){MEMORY}"#)
    }

    #[test]
    fn a_component_imports_what_the_module_calls_and_no_more() {
        let module = core(&format!(
            r#"(import "wasi:http/types@0.2.6" "[constructor]fields" (func (result i32)))
               (import "wasi:keyvalue/store@0.2.0-draft2" "open" (func (param i32 i32 i32)))
               {}"#,
            handler("0.2.6")
        ));
        let component = encode(&module).unwrap();
        let imports = imports(&component).unwrap();
        assert!(imports.iter().any(|name| name == "wasi:http/types@0.2.6"), "{imports:?}");
        assert!(imports.iter().any(|name| name == "wasi:keyvalue/store@0.2.0-draft2"), "{imports:?}");
        assert!(!imports.iter().any(|name| name.contains("outgoing-handler")), "{imports:?}");
    }

    #[test]
    fn interfaces_of_our_own_have_their_own_version() {
        for release in ["0.2.0", "0.2.12"] {
            let module = core(&format!(
                r#"(import "skerry:edge/client@0.1.0" "tls" (func (param i32)))
                   (import "skerry:edge/secrets@0.1.0" "get" (func (param i32 i32 i32 i32 i32 i32)))
                   {}"#,
                handler(release)
            ));
            let imports = imports(&encode(&module).unwrap()).unwrap();
            let ours: Vec<_> = imports.iter().filter(|name| name.starts_with("skerry:")).collect();
            assert_eq!(ours, ["skerry:edge/client@0.1.0", "skerry:edge/secrets@0.1.0"], "{release}");
        }
    }

    #[test]
    fn any_release_of_0_2_is_taken_as_the_module_names_it() {
        for release in ["0.2.0", "0.2.6", "0.2.12"] {
            let component = encode(&core(&handler(release))).unwrap();
            let text = String::from_utf8_lossy(&component).into_owned();
            assert!(text.contains(&format!("wasi:http/incoming-handler@{release}")), "{release}");
        }
    }

    #[test]
    fn what_is_not_one_is_named() {
        let import = |name: &str| format!(r#"(import "{name}" "f" (func)){}"#, handler("0.2.6"));
        let component = encode(&core(&handler("0.2.6"))).unwrap();
        let far = core(&format!(r#"(func (export "wasi:http/incoming-handler@0.3.0#handle")) {MEMORY}"#));
        for (module, wanted) in [
            (b"nothing".to_vec(), "it is no core module"),
            (component, "it is no core module: it is a component"),
            (core(""), "it does not export wasi:http/incoming-handler"),
            (far, "it does not export wasi:http/incoming-handler"),
            (core(&import("env")), "it imports f of env, which no node offers"),
            (core(&import("wasi:http/typos@0.2.6")), "it imports f of wasi:http/typos@0.2.6"),
            (core(&import("wasi:keyvalue/store@0.9.0")), "it imports f of wasi:keyvalue/store@0.9.0"),
            (core(&import("skerry:edge/geo@0.2.1")), "it imports f of skerry:edge/geo@0.2.1"),
            (core(&import("skerry:edge/geo@0.1.0")), "its functions are not those of the interfaces"),
            (core(&import("wasi:io/poll@0.2.1")), "it names WASI 0.2.6 and 0.2.1"),
            (core(&import("wasi:io/poll@0.2.6")), "its functions are not those of the interfaces"),
        ] {
            let error = encode(&module).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error:?}, wanted {wanted:?}");
        }
    }
}
