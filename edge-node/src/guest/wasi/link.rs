//! Links a component to what it imports, and to nothing else: an interface by its name, at any 0.2 release or at a draft
//! that is in use, a function by its name in there. wasmtime checks the types.
//!
//! The compiler service admits imports by the same table (`aot-compiler/src/intake/offers.rs`), and their functions by
//! the interfaces as they are published (`aot-compiler/wit`), all of which are linked here.

use wasmtime::{
    Engine, Result, bail,
    component::{Component, Linker, ResourceType, types::ComponentItem},
    error::Context as _,
};

use super::{
    At, Cx, State, cli, clocks, config, edge, error, fields, filesystem, http_types, incoming, keyvalue,
    logging, outgoing, outgoing_handler, outgoing_request, poll, random, sockets, streams,
};

/// Defines a function of an interface by its name. `false`: it has none of that name.
type Define = fn(&mut At<'_>, &str) -> Result<bool>;

/// Versions of an interface.
enum Releases {
    /// Any of 0.2: minor releases only add.
    Stable,
    /// These, which differ in nothing that is linked; `""` is no version at all.
    Drafts(&'static [&'static str]),
}

/// Of a package that is a draft still; `runtime` is what `store` was called first.
const CONFIG: Releases = Releases::Drafts(&["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"]);

const EDGE: Releases = Releases::Drafts(&["0.1.0"]);

/// What there is to be imported.
const INTERFACES: &[(&str, Releases, Define)] = &[
    ("wasi:io/error", Releases::Stable, error::define),
    ("wasi:io/poll", Releases::Stable, poll::define),
    ("wasi:io/streams", Releases::Stable, streams::define),
    ("wasi:clocks/monotonic-clock", Releases::Stable, clocks::define_monotonic),
    ("wasi:clocks/wall-clock", Releases::Stable, clocks::define_wall),
    ("wasi:random/random", Releases::Stable, random::define),
    ("wasi:random/insecure", Releases::Stable, random::define),
    ("wasi:random/insecure-seed", Releases::Stable, random::define),
    ("wasi:cli/environment", Releases::Stable, cli::define),
    ("wasi:cli/exit", Releases::Stable, cli::define),
    ("wasi:cli/stdin", Releases::Stable, cli::define),
    ("wasi:cli/stdout", Releases::Stable, cli::define),
    ("wasi:cli/stderr", Releases::Stable, cli::define),
    ("wasi:cli/terminal-input", Releases::Stable, cli::define),
    ("wasi:cli/terminal-output", Releases::Stable, cli::define),
    ("wasi:cli/terminal-stdin", Releases::Stable, cli::define),
    ("wasi:cli/terminal-stdout", Releases::Stable, cli::define),
    ("wasi:cli/terminal-stderr", Releases::Stable, cli::define),
    ("wasi:http/types", Releases::Stable, http),
    ("wasi:http/outgoing-handler", Releases::Stable, outgoing_handler::define),
    ("wasi:filesystem/types", Releases::Stable, filesystem::define),
    ("wasi:filesystem/preopens", Releases::Stable, filesystem::define),
    ("wasi:sockets/instance-network", Releases::Stable, sockets::define),
    ("wasi:sockets/ip-name-lookup", Releases::Stable, sockets::define),
    ("wasi:sockets/network", Releases::Stable, sockets::define),
    ("wasi:sockets/tcp", Releases::Stable, sockets::define),
    ("wasi:sockets/tcp-create-socket", Releases::Stable, sockets::define),
    ("wasi:sockets/udp", Releases::Stable, sockets::define),
    ("wasi:sockets/udp-create-socket", Releases::Stable, sockets::define),
    ("wasi:config/store", CONFIG, config::define),
    ("wasi:config/runtime", CONFIG, config::define),
    ("wasi:keyvalue/store", Releases::Drafts(&["0.2.0-draft"]), keyvalue::define_store_draft),
    ("wasi:keyvalue/store", Releases::Drafts(&["0.2.0-draft2"]), keyvalue::define_store_draft2),
    ("wasi:keyvalue/batch", Releases::Drafts(&["0.2.0-draft"]), keyvalue::define_batch_draft),
    ("wasi:keyvalue/batch", Releases::Drafts(&["0.2.0-draft2"]), keyvalue::define_batch_draft2),
    ("wasi:keyvalue/atomics", Releases::Drafts(&["0.2.0-draft"]), keyvalue::define_atomics_draft),
    ("wasi:keyvalue/atomics", Releases::Drafts(&["0.2.0-draft2"]), keyvalue::define_atomics_draft2),
    ("wasi:logging/logging", Releases::Drafts(&["", "0.1.0-draft"]), logging::define),
    ("skerry:edge/client", EDGE, edge::define_client),
    ("skerry:edge/device", EDGE, edge::define_device),
    ("skerry:edge/geo", EDGE, edge::define_geo),
    ("skerry:edge/secrets", EDGE, edge::define_secrets),
];

/// `wasi:http/types` is one interface in several files.
fn http(at: &mut At<'_>, name: &str) -> Result<bool> {
    Ok(fields::define(at, name)?
        || incoming::define(at, name)?
        || outgoing::define(at, name)?
        || outgoing_request::define(at, name)?
        || outgoing_handler::define(at, name)?
        || http_types::define(at, name)?)
}

impl Releases {
    fn include(&self, version: &str) -> bool {
        match self {
            Releases::Stable => version
                .strip_prefix("0.2.")
                .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|digit| digit.is_ascii_digit())),
            Releases::Drafts(drafts) => drafts.contains(&version),
        }
    }
}

/// A linker that defines what `component` imports.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for (import, item) in component.component_type().imports(engine) {
        // The names of types stand beside the interfaces they come from.
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        let known = INTERFACES.iter().find(|(name, releases, _)| *name == path && releases.include(version));
        let Some((_, _, define)) = known else {
            bail!("the component imports {import}, which this node does not offer");
        };
        let mut at = linker.instance(import)?;
        for (name, item) in interface.exports(engine) {
            let defined = match item.ty {
                ComponentItem::ComponentFunc(_) => define(&mut at, name),
                ComponentItem::Resource(_) => define_resource(&mut at, name),
                _ => Ok(true), // types, which functions carry with them
            };
            if !defined.with_context(|| format!("linking {name} of {import}"))? {
                bail!("the component imports {name} of {import}, which this node does not offer");
            }
        }
    }
    Ok(linker)
}

/// The kinds of handles by their names, which are the same wherever one interface uses another's.
fn define_resource(at: &mut At<'_>, name: &str) -> Result<bool> {
    let kind = match name {
        "error" | "io-error" => ResourceType::host::<error::IoError>(),
        "pollable" => ResourceType::host::<poll::Pollable>(),
        "input-stream" => ResourceType::host::<streams::InputStream>(),
        "output-stream" => ResourceType::host::<streams::OutputStream>(),
        "fields" | "headers" | "trailers" => ResourceType::host::<fields::Fields>(),
        "incoming-request" => ResourceType::host::<incoming::IncomingRequest>(),
        "incoming-body" => ResourceType::host::<incoming::IncomingBody>(),
        "future-trailers" => ResourceType::host::<incoming::FutureTrailers>(),
        "outgoing-response" => ResourceType::host::<outgoing::OutgoingResponse>(),
        "outgoing-body" => ResourceType::host::<outgoing::OutgoingBody>(),
        "response-outparam" => ResourceType::host::<outgoing::ResponseOutparam>(),
        "outgoing-request" => ResourceType::host::<outgoing_request::OutgoingRequest>(),
        "request-options" => ResourceType::host::<outgoing_request::RequestOptions>(),
        "future-incoming-response" => ResourceType::host::<outgoing_handler::FutureIncomingResponse>(),
        "incoming-response" => ResourceType::host::<outgoing_handler::IncomingResponse>(),
        "bucket" => ResourceType::host::<keyvalue::Bucket>(),
        "cas" => ResourceType::host::<keyvalue::Cas>(),
        "terminal-input" => ResourceType::host::<cli::TerminalInput>(),
        "terminal-output" => ResourceType::host::<cli::TerminalOutput>(),
        "descriptor" => ResourceType::host::<filesystem::Descriptor>(),
        "directory-entry-stream" => ResourceType::host::<filesystem::DirectoryEntryStream>(),
        "network" => ResourceType::host::<sockets::Network>(),
        "tcp-socket" => ResourceType::host::<sockets::TcpSocket>(),
        "udp-socket" => ResourceType::host::<sockets::UdpSocket>(),
        "incoming-datagram-stream" => ResourceType::host::<sockets::IncomingDatagramStream>(),
        "outgoing-datagram-stream" => ResourceType::host::<sockets::OutgoingDatagramStream>(),
        "resolve-address-stream" => ResourceType::host::<sockets::ResolveAddressStream>(),
        _ => return Ok(false),
    };
    at.resource(name, kind, |mut cx: Cx<'_>, handle| Ok(cx.data_mut().handles.drop(handle)?))?;
    Ok(true)
}

/// A method of a kind that no function here makes: linked by the component's own type, and never called, because the
/// component runtime refuses a handle that was never given out.
pub(super) fn of_nothing(at: &mut At<'_>, name: &str, kinds: &[&str]) -> Result<bool> {
    let kind = name.strip_prefix("[method]").and_then(|method| method.split('.').next());
    if !kind.is_some_and(|kind| kinds.contains(&kind)) {
        return Ok(false);
    }
    let called = name.to_owned();
    at.func_new(name, move |_, _, _, _| bail!("{called} was called on something that does not exist"))?;
    Ok(true)
}

/// The compiler service's table as it stands there: the node has no other use for that crate.
#[cfg(test)]
#[allow(dead_code)] // the other lane's half of it
#[path = "../../../../aot-compiler/src/intake/offers.rs"]
mod offers;

#[cfg(test)]
mod tests {
    use super::{offers::PACKAGES, *};

    fn is_linked(path: &str, version: &str) -> bool {
        INTERFACES.iter().any(|(name, releases, _)| *name == path && releases.include(version))
    }

    #[test]
    fn releases_are_those_of_0_2_and_drafts_are_named() {
        assert!(Releases::Stable.include("0.2.0") && Releases::Stable.include("0.2.12"));
        for other in ["", "0.2", "0.2.", "0.2.0-rc-2023-12-05", "0.3.0", "0.20.1", "1.0.0"] {
            assert!(!Releases::Stable.include(other), "{other:?}");
        }
        let drafts = Releases::Drafts(&["", "0.1.0-draft"]);
        assert!(drafts.include("") && drafts.include("0.1.0-draft") && !drafts.include("0.2.0"));
    }

    /// A component that imports all that may be imported, as the compiler service makes it.
    fn of_everything() -> Vec<u8> {
        let mut resolve = wit_parser::Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../aot-compiler/wit");
        let (package, _) = resolve.push_dir(wit).unwrap();
        let world = resolve.select_world(&[package], Some("offered")).unwrap();
        let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
        let utf8 = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
        wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
    }

    #[test]
    fn every_function_an_upload_may_import_is_linked_and_with_its_type() {
        let target = *engine::levels::of_this_machine().last().unwrap();
        let engine = engine::compiler::engine(target, artifact::Profile::Serve).unwrap();
        let component = Component::new(&engine, of_everything()).unwrap();
        link(&engine, &component).unwrap().instantiate_pre(&component).unwrap();
    }

    #[test]
    fn what_an_upload_may_import_is_linked_and_nothing_else() {
        let mut offered = Vec::new();
        for package in PACKAGES {
            for interface in package.interfaces {
                let path = format!("{}/{interface}", package.name);
                let versions = match package.releases {
                    offers::Releases::Stable => &["0.2.0", "0.2.3", "0.2.12"][..],
                    offers::Releases::Drafts(drafts) => drafts,
                };
                for version in versions {
                    assert!(is_linked(&path, version), "{path}@{version} is admitted and not linked");
                }
                assert!(!is_linked(&path, "0.3.0"));
                offered.push((path, package.releases));
            }
        }
        for (name, releases, _) in INTERFACES {
            let admitted = offered.iter().find(|(path, _)| path == name);
            let Some((_, admitted)) = admitted else { panic!("{name} is linked and not admitted") };
            let agree = match (releases, admitted) {
                (Releases::Stable, offers::Releases::Stable) => true,
                (Releases::Drafts(linked), offers::Releases::Drafts(admitted)) => {
                    linked.iter().all(|draft| admitted.contains(draft))
                }
                _ => false,
            };
            assert!(agree, "{name}: its versions differ");
        }
    }
}
