//! A program made with our SDKs that uses HTTP alone is no program of ours only: `wasmtime serve` runs it unchanged. Where
//! `wasmtime` is installed; it is no part of what CI installs, since it takes half an hour to build.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use whole_flow::{guest, has_guest};

struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `wasmtime serve` on a guest; its URL.
fn serve(name: &str, options: &[&str]) -> Option<(Served, String)> {
    let wasmtime = std::env::var_os("SKERRY_WASMTIME").unwrap_or_else(|| "wasmtime".into());
    let child = Command::new(wasmtime)
        .args(["serve", "--addr", "127.0.0.1:0"])
        .args(options)
        .arg(guest(name))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        let said =
            "NOT TRIED: programs of the SDKs on `wasmtime serve`: it is not in PATH nor in SKERRY_WASMTIME\n";
        let _ = std::io::stderr().write_all(said.as_bytes());
        return None;
    };
    let said = BufReader::new(child.stderr.take().unwrap());
    let mut served = Served(child);
    for line in said.lines().map_while(Result::ok) {
        if let Some((_, url)) = line.split_once("http://") {
            return Some((served, format!("http://{}", url.trim_end_matches('/'))));
        }
    }
    panic!("`wasmtime serve {name}` ended: {:?}", served.0.wait());
}

fn answers(name: &str, options: &[&str], text: &str) {
    if !has_guest(name) {
        return whole_flow::skipped(&format!("{name} on `wasmtime serve`: not built (fixtures/build --all)"));
    }
    let Some((_served, url)) = serve(name, options) else { return };
    let said = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30", &url])
        .output();
    let said = said.unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), text, "{said:?}");
}

#[test]
fn hello_in_rust_runs_on_wasmtime_serve() {
    // Rust's standard library imports `wasi:cli`, whatever a program calls; `wasmtime serve` has it when asked.
    answers("hello", &["-S", "cli"], "Hello from Skerry!\n");
}

#[test]
fn hello_in_assemblyscript_runs_on_wasmtime_serve() {
    answers("hello-as", &[], "hello\n");
}
