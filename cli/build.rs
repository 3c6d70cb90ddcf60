//! Embeds what `skerry new` writes: the SDKs' sources, which are on no registry yet, and the templates. The program
//! carries them, so that a project starts offline, from a release binary alone.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// What builds make.
const MADE: &[&str] = &["target", "node_modules", "build"];
/// The same, and what only the SDKs' own makers need.
const LEFT_OUT_OF_SDKS: &[&str] =
    &["target", "node_modules", "build", "Cargo.lock", "tests", "wit", "regenerate"];

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("carried.rs");
    let mut out = io::BufWriter::new(fs::File::create(out)?);
    let sdks = here.parent().expect("the repository").join("sdk");
    for (name, root, left_out) in [
        ("SDK_RUST", sdks.join("rust"), LEFT_OUT_OF_SDKS),
        ("SDK_AS", sdks.join("as"), LEFT_OUT_OF_SDKS),
        ("TEMPLATES", here.join("templates"), MADE),
    ] {
        let mut files = Vec::new();
        walk(&root, left_out, &mut files)?;
        files.sort();
        writeln!(out, "pub static {name}: &[(&str, &[u8])] = &[")?;
        for file in files {
            let inside = file.strip_prefix(&root).expect("found below it");
            writeln!(out, "    ({:?}, include_bytes!({:?})),", inside.display().to_string(), file)?;
        }
        writeln!(out, "];")?;
    }
    out.flush()
}

fn walk(folder: &Path, left_out: &[&str], files: &mut Vec<PathBuf>) -> io::Result<()> {
    // A folder's own time changes when a file comes or goes; a file's with its content.
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || left_out.contains(&name) {
            continue;
        }
        if path.is_dir() {
            walk(&path, left_out, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
