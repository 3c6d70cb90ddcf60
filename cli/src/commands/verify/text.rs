//! `skerry verify` for people.

use artifact::visible::for_people;

use super::check::{Artifact, Node, Prepared, Program, Report, Standing};
use crate::{build::size, output::table};

/// Digits of a digest that tell it from others at sight; all of them are in the JSON form.
const DIGITS: usize = 12;

/// Version and program, then the artifacts, then the nodes.
pub fn of(report: &Report) -> String {
    let mut text =
        format!("{} v{} (rev {}), {}", for_people(&report.app), report.version, report.rev, report.lane);
    match &report.program {
        Some(program) => text.push_str(&of_program(program)),
        None => text.push_str("\n  static files alone"),
    }
    if !report.artifacts.is_empty() {
        let head = ["TARGET", "CODE", "BYTES", "COMPILER", "FINGERPRINT", "SIGNED BY", "STATEMENT"];
        text.push_str(&format!("\n{}", rows(&head, report.artifacts.iter().map(of_artifact))));
        if !report.signatures_checked {
            text.push_str("\nsignatures were not checked: name the compiler's public key with --key FILE");
        }
    }
    if !report.nodes.is_empty() {
        let head = ["NODE", "POP", "VERSION", "CODE", "TARGET", "STATE"];
        text.push_str(&format!("\n{}", rows(&head, report.nodes.iter().map(of_node))));
    }
    text
}

fn of_program(program: &Program) -> String {
    let Program { wasm, bytes, local } = program;
    let uploaded = format!("\n  program {wasm}, {}", size(*bytes));
    let Some(local) = local else { return uploaded };
    let said = match local.prepared {
        _ if local.digest == *wasm => "is the same program",
        Prepared::Yes => "cannot be compared: the program was prepared at its deploy",
        Prepared::No | Prepared::Unknown => "is ANOTHER program",
    };
    format!("{uploaded}\n  {} {said}", for_people(&local.file))
}

fn of_artifact(artifact: &Artifact) -> Vec<String> {
    let signers: Vec<String> = artifact.signers.iter().map(|id| short(id)).collect();
    let standing = match artifact.standing {
        _ if artifact.replaced => "replaced",
        Standing::Verified => "verified",
        Standing::Unchecked => "not checked",
        Standing::Wrong => "WRONG",
        Standing::Missing => "missing",
    };
    vec![
        artifact.target.clone(),
        artifact.code.map_or_else(dash, |code| short(&code.to_string())),
        artifact.bytes.map_or_else(dash, |bytes| bytes.to_string()),
        artifact.compiler.clone().unwrap_or_else(dash),
        short(&artifact.fingerprint),
        if signers.is_empty() { dash() } else { signers.join(" ") },
        standing.to_owned(),
    ]
}

fn of_node(node: &Node) -> Vec<String> {
    vec![
        node.node.clone(),
        node.pop.clone(),
        node.version.map_or_else(dash, |version| format!("v{version}")),
        node.code.map_or_else(dash, |code| short(&code.to_string())),
        node.target.clone().unwrap_or_else(dash),
        node.state.words().to_owned(),
    ]
}

fn rows(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head = head.iter().map(|&word| word.to_owned()).collect();
    // Names, targets and the compiler's word are what others wrote.
    let rows = rows.map(|row| row.iter().map(|cell| for_people(cell).into_owned()).collect());
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn short(hex: &str) -> String {
    hex.chars().take(DIGITS).collect()
}

fn dash() -> String {
    "-".to_owned()
}
