//! How each peer is started, at its best: a hello of the same size, on one address of this machine.
//!
//! `RUST_BACKTRACE=1` costs `wasmtime serve` 19 µs a request, so it is off for everybody.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::Wire;

/// What `wasmtime serve` gains from: memory stays, and only pages that were written are reset. More than any other
/// option of its own, 140 → 57 µs of CPU a request.
const TUNED: &str = "pooling-memory-keep-resident=2097152,pooling-table-keep-resident=65536,\
                     pooling-async-stack-keep-resident=65536,pooling-pagemap-scan=y";
/// As long as the hello of the fastly guest: 29 bytes.
const TEXT: &str = r"Hello from a JavaScript one!\n";

pub fn wasmtime(program: &Path, guest: &Path, tuned: bool, address: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "-S", "cli=y", "--addr", &address.to_string()]);
    if tuned {
        command.args(["-O", TUNED]);
    }
    command.arg(guest);
    command
}

pub fn viceroy(program: &Path, guest: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(program);
    command.args(["--addr", &address.to_string()]).arg(guest);
    command
}

/// Its files go to `folder`.
pub fn workerd(program: &Path, address: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
    let script = format!(
        "export default {{ fetch() {{ return new Response(\"{TEXT}\", {{ headers: {{ \"content-type\": \"text/plain\" }} }}); }} }};\n"
    );
    write(folder.join("hello.js"), &script)?;
    let config = format!(
        r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .hello)],
  sockets = [(name = "http", address = "{address}", http = (), service = "main")],
);
const hello :Workerd.Worker = (
  modules = [(name = "hello.js", esModule = embed "hello.js")],
  compatibilityDate = "2025-01-01",
);
"#
    );
    let config = write(folder.join("config.capnp"), &config)?;
    let mut command = Command::new(program);
    command.arg("serve").arg(config);
    Ok(command)
}

/// Its files go to `folder`. With TLS it takes `cert.pem` and `key.pem` there.
pub fn deno(program: &Path, wire: Wire, address: SocketAddr, folder: &Path) -> anyhow::Result<Command> {
    let (hostname, port) = (address.ip(), address.port());
    let tls = match wire {
        Wire::H1 => String::new(),
        Wire::H1Tls | Wire::H2 | Wire::H3 => {
            r#", cert: Deno.readTextFileSync("cert.pem"), key: Deno.readTextFileSync("key.pem")"#.to_owned()
        }
    };
    let script = format!(
        "Deno.serve({{ hostname: \"{hostname}\", port: {port}, onListen() {{}}{tls} }},\n  () => new Response(\"{TEXT}\", {{ headers: {{ \"content-type\": \"text/plain\" }} }}));\n"
    );
    write(folder.join("hello.js"), &script)?;
    let mut command = Command::new(program);
    command.args(["run", "--no-prompt", "--allow-net", "--allow-read", "hello.js"]).current_dir(folder);
    command.env("DENO_NO_UPDATE_CHECK", "1");
    Ok(command)
}

fn write(file: PathBuf, text: &str) -> anyhow::Result<PathBuf> {
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_javascript_says_as_much_as_the_guest() {
        assert_eq!(TEXT.replace(r"\n", "\n").len(), "Hello from the fastly crate!\n".len());
    }

    #[test]
    fn tuned_is_default_and_its_options() {
        let address = "127.0.0.1:7".parse().unwrap();
        let words = |tuned| {
            let command = wasmtime(Path::new("wasmtime"), Path::new("g.wasm"), tuned, address);
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(false), ["serve", "-S", "cli=y", "--addr", "127.0.0.1:7", "g.wasm"]);
        assert_eq!(words(true)[5..7], ["-O".to_owned(), TUNED.to_owned()]);
        assert!(!TUNED.contains(' '));
    }
}
