//! Programs that builds of projects call and that are not part of Skerry: are they here, and how do they get here?

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// Not a program but the standard library of Rust for components; asked for as if it were one.
pub const WASM_TARGET: &str = "wasm32-wasip2";

/// What is missing and its cure, in one line. `None`: it is here, or nobody knows it. A folder may choose another
/// toolchain.
pub fn missing(tool: &str, folder: &Path) -> Option<String> {
    let cure = match tool {
        "cargo" | "rustc" => "install Rust: curl https://sh.rustup.rs -sSf | sh",
        WASM_TARGET => {
            // Without rustc the line about it says enough.
            return (on_path("rustc") && !has_wasm_target(folder)).then(|| {
                format!(
                    "the Rust target {WASM_TARGET} is missing; install it: rustup target add {WASM_TARGET}"
                )
            });
        }
        "node" | "npm" | "npx" => {
            "install Node.js 20 or newer: https://nodejs.org (Debian: apt install nodejs npm)"
        }
        "python3" => {
            "install Python 3.10 or newer: https://python.org (Debian: apt install python3 python3-venv)"
        }
        "pip" | "pip3" => "install pip (Debian: apt install python3-pip)",
        _ => return None,
    };
    (!on_path(tool)).then(|| format!("{tool} is not installed; {cure}"))
}

/// What the words of a command that failed need and this machine has not: likely the reason.
pub fn missing_for(command: &str, folder: &Path) -> Option<String> {
    let words = command.split(|c: char| c.is_whitespace() || ";&|()'\"".contains(c));
    words.filter(|word| !word.is_empty()).find_map(|word| missing(word, folder))
}

fn on_path(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| is_program(&folder.join(tool)))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn has_wasm_target(folder: &Path) -> bool {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .current_dir(folder)
        .stderr(Stdio::null())
        .output();
    // Who cannot be asked is believed: the build says more.
    asked.map_or(true, |output| {
        !output.status.success() || Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_are_looked_for_and_strangers_are_not() {
        assert_eq!(missing_for("sh -c 'echo hello' && true", Path::new(".")), None);
        assert_eq!(missing("no-such-tool-of-ours", Path::new(".")), None);
        assert!(on_path("sh") && !on_path("no-such-tool-of-ours"));
    }
}
