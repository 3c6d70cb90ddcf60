//! `skerry component`: read → encode → write → say.

use std::{fs, path::PathBuf};

use serde::Serialize;

use crate::{
    args::Component,
    component,
    error::{Error, Result},
    output::Output,
};

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    bytes: usize,
    imports: Vec<String>,
}

/// `skerry component FILE.wasm --out FILE.wasm`.
pub fn run(args: &Component, output: Output) -> Result<()> {
    let core = fs::read(&args.module).map_err(Error::io(format!("reading {}", args.module.display())))?;
    let made = component::encode(&core).and_then(|made| Ok((component::imports(&made)?, made)));
    let (imports, made) = made.map_err(|fault| Error::Rejected {
        doing: format!("making a component of {}", args.module.display()),
        code: "bad_module".into(),
        message: fault.to_string(),
        mistakes: vec![],
    })?;
    fs::write(&args.out, &made).map_err(Error::io(format!("writing {}", args.out.display())))?;
    let report = Report { file: args.out.clone(), bytes: made.len(), imports };
    output.print(&report, || {
        let mut text = format!("{}: {} bytes, imports", report.file.display(), report.bytes);
        for name in &report.imports {
            text.push_str("\n  ");
            text.push_str(name);
        }
        text
    })
}
