//! Who is compared, who is left out and why.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Places, Wire, bare::Library};

/// A server that can be started.
#[derive(Debug, Clone)]
pub struct Server {
    /// As `--only` takes it.
    pub name: &'static str,
    /// For a person, with its version.
    pub what: String,
    pub(super) kind: Kind,
}

/// How it is started.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A fleet of the shipped binaries with this guest.
    Node {
        guest: PathBuf,
    },
    Bare(Library),
    Wasmtime {
        program: PathBuf,
        guest: PathBuf,
        tuned: bool,
    },
    Viceroy {
        program: PathBuf,
        guest: PathBuf,
    },
    Workerd {
        program: PathBuf,
    },
    Deno {
        program: PathBuf,
    },
}

/// A server that is not compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    pub name: &'static str,
    pub why: String,
    /// A command that helps, if one does.
    pub cure: Option<String>,
}

impl LeftOut {
    /// For a person.
    pub fn text(&self) -> String {
        let cure = self.cure.as_ref().map_or_else(String::new, |cure| format!("; {cure}"));
        format!("{}: {}{cure}", self.name, self.why)
    }
}

/// All servers there are, in the order they are measured.
pub const NAMES: [&str; 10] = [
    "hyper",
    "quinn",
    "fastly-hello",
    "wasi-hello",
    "as-hello",
    "wasmtime",
    "wasmtime-tuned",
    "viceroy",
    "workerd",
    "deno",
];

/// Those that speak `wire` and are on this machine, and the rest.
pub fn lineup(wire: Wire, only: &[String], places: &Places) -> (Vec<Server>, Vec<LeftOut>) {
    let (mut here, mut left_out) = (Vec::new(), Vec::new());
    for name in NAMES {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        match server(name, wire, places) {
            Ok(server) => here.push(server),
            Err(why) => left_out.push(why),
        }
    }
    (here, left_out)
}

/// Exactly these, in this order, or why not.
pub fn all_of(wire: Wire, names: &[&'static str], places: &Places) -> anyhow::Result<Vec<Server>> {
    let one = |name: &&'static str| {
        server(name, wire, places).map_err(|why| anyhow::anyhow!("this needs {}", why.text()))
    };
    names.iter().map(one).collect()
}

fn server(name: &'static str, wire: Wire, places: &Places) -> Result<Server, LeftOut> {
    let bare = |library, what: &str| Ok((Kind::Bare(library), what.to_owned()));
    let (kind, what) = match (name, wire) {
        ("hyper", Wire::H1) => bare(Library::Hyper, "bare hyper"),
        ("hyper", Wire::H1Tls | Wire::H2) => bare(Library::HyperTls, "bare hyper with rustls"),
        ("quinn", Wire::H3) => bare(Library::Quinn, "bare quinn with h3"),
        ("fastly-hello" | "wasi-hello" | "as-hello" | "wstd-hello", _) => node(name, places),
        ("wasmtime" | "wasmtime-tuned", Wire::H1) => wasmtime(name, places),
        ("viceroy", Wire::H1) => {
            let (program, what) = peer(name, "viceroy", VICEROY, places)?;
            Ok((Kind::Viceroy { program, guest: guest(name, "fastly-hello", places)? }, what))
        }
        ("workerd", Wire::H1) => {
            let (program, what) = peer(name, "workerd", "npm i -g workerd", places)?;
            Ok((Kind::Workerd { program }, what))
        }
        ("deno", Wire::H1 | Wire::H1Tls | Wire::H2) => {
            let (program, what) = peer(name, "deno", "npm i -g deno", places)?;
            Ok((Kind::Deno { program }, what))
        }
        _ => Err(LeftOut { name, why: format!("does not speak {}", wire.text()), cure: None }),
    }?;
    Ok(Server { name, what, kind })
}

impl Server {
    /// What a node serves.
    pub fn guest(&self) -> anyhow::Result<&Path> {
        match &self.kind {
            Kind::Node { guest } => Ok(guest),
            _ => anyhow::bail!("{} is no node", self.name),
        }
    }
}

#[cfg(test)]
impl Server {
    /// A bare one under any name: what is told of it matters, not what it is.
    pub fn called(name: &'static str) -> Server {
        Server { name, what: format!("the server {name}"), kind: Kind::Bare(Library::Hyper) }
    }
}

const WASMTIME: &str = "cargo install wasmtime-cli --version 48.* --locked";
const VICEROY: &str = "cargo install viceroy --version 0.22.0 --locked";
const SKERRY: &str = "cargo build --release -p aot-compiler -p control-plane -p edge-node -p skerry-cli";

fn node(name: &'static str, places: &Places) -> Result<(Kind, String), LeftOut> {
    for binary in ["skerry", "aot-compiler", "control-plane", "edge-node"] {
        let file = places.binaries.join(binary);
        if !file.is_file() {
            let why = format!("{} is missing", file.display());
            return Err(LeftOut { name, why, cure: Some(SKERRY.to_owned()) });
        }
    }
    Ok((Kind::Node { guest: guest(name, name, places)? }, format!("{}, {name}", build(places))))
}

/// What the node's binary calls itself: its version, and by which profile it was built.
pub fn build(places: &Places) -> String {
    version(places.binaries.join("edge-node").as_os_str()).unwrap_or_else(|| "edge-node".to_owned())
}

/// Why figures of a node of this build may say nothing.
pub fn doubt(build: &str) -> Option<String> {
    let debug = build.starts_with("edge-node ") && build.contains("(debug)");
    debug.then(|| "the node is a debug build: its times say nothing".to_owned())
}

fn wasmtime(name: &'static str, places: &Places) -> Result<(Kind, String), LeftOut> {
    let (program, what) = peer(name, "wasmtime", WASMTIME, places)?;
    let tuned = name == "wasmtime-tuned";
    let guest = guest(name, "wasi-hello", places)?;
    Ok((Kind::Wasmtime { program, guest, tuned }, what + if tuned { ", tuned" } else { "" }))
}

fn guest(name: &'static str, guest: &str, places: &Places) -> Result<PathBuf, LeftOut> {
    let file = places.guests.join(format!("{guest}.wasm"));
    match file.is_file() {
        true => Ok(file),
        false => Err(LeftOut {
            name,
            why: format!("{} is missing", file.display()),
            cure: Some(format!("fixtures/build {guest}")),
        }),
    }
}

/// A program of `PATH`, and what it calls itself.
fn peer(
    name: &'static str,
    program: &str,
    install: &str,
    places: &Places,
) -> Result<(PathBuf, String), LeftOut> {
    let found = places.path.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    let Some(file) = found else {
        let why = format!("{program} is not installed");
        return Err(LeftOut { name, why, cure: Some(install.to_owned()) });
    };
    let version = version(file.as_os_str()).unwrap_or_else(|| program.to_owned());
    Ok((file, version))
}

/// The first line of `--version`.
fn version(program: &OsStr) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line: String = text.lines().next()?.chars().take(60).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Places {
        let nowhere = PathBuf::from("/nonexistent");
        Places { guests: nowhere.clone(), binaries: nowhere.clone(), path: vec![nowhere] }
    }

    #[test]
    fn a_peer_that_is_not_installed_is_left_out_with_the_command_that_installs_it() {
        let (here, left_out) = lineup(Wire::H1, &[], &nowhere());
        assert_eq!(here.iter().map(|server| server.name).collect::<Vec<_>>(), ["hyper"]);
        let cure = |name| left_out.iter().find(|one| one.name == name).and_then(|one| one.cure.clone());
        assert_eq!(cure("wasmtime").unwrap(), "cargo install wasmtime-cli --version 48.* --locked");
        assert_eq!(cure("wasmtime-tuned"), cure("wasmtime"));
        assert_eq!(cure("viceroy").unwrap(), "cargo install viceroy --version 0.22.0 --locked");
        assert_eq!(cure("workerd").unwrap(), "npm i -g workerd");
        assert_eq!(cure("deno").unwrap(), "npm i -g deno");
        assert!(cure("as-hello").unwrap().contains("-p edge-node"));
    }

    #[test]
    fn a_debug_node_is_doubted_and_nobody_else() {
        assert!(doubt("edge-node 0.1.0 (debug), wasi-hello").is_some());
        for build in ["edge-node 0.1.0 (release), wasi-hello", "edge-node", "deno 2 (debug)"] {
            assert_eq!(doubt(build), None, "{build}");
        }
    }

    #[test]
    fn a_peer_that_does_not_speak_it_is_left_out_without_a_cure() {
        let (here, left_out) = lineup(Wire::H3, &["quinn".into(), "deno".into()], &nowhere());
        assert_eq!(here.iter().map(|server| server.name).collect::<Vec<_>>(), ["quinn"]);
        let deno = LeftOut { name: "deno", why: "does not speak HTTP/3".into(), cure: None };
        assert_eq!(left_out, [deno]);
    }
}
