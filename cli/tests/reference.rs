//! `docs/manifest.md` and `docs/skerry.schema.json`: both are made of the table of keys, and `reference.md` beside this.
//! `SKERRY_WRITE_DOCS=1 cargo test -p skerry-cli --test reference` writes them.

use artifact::manifest::{
    keys::{ASSETS, Absent, BACKEND, BUILD, HEALTH, Kind, LIMITS, PREPARE, TOP},
    parse::FILE_BYTES_MAX,
    schema::{FILE, schema},
};

/// Holds a file of `docs` against what the table says, or writes it.
fn held(name: &str, wanted: &str) {
    let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SKERRY_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/{name} is stale: SKERRY_WRITE_DOCS=1 writes it");
}

#[test]
fn the_schema_is_what_the_table_says() {
    held(FILE, &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
}

#[test]
fn the_manifest_page_is_what_the_table_says() {
    held("manifest.md", &page());
}

fn page() -> String {
    let mut page = include_str!("reference.md")
        .replace("{whole}", include_str!("../../artifact/tests/whole.toml").trim_end());
    let sections = [
        ("", TOP, ""),
        ("[build]", BUILD, BUILD_NOTE),
        ("[prepare]", PREPARE, PREPARE_NOTE),
        ("[backends.NAME]", BACKEND, BACKEND_NOTE),
        ("[backends.NAME.health]", HEALTH, ""),
        ("[assets]", ASSETS, ""),
        ("[limits]", LIMITS, LIMITS_NOTE),
    ];
    for (table, keys, note) in sections {
        let title = if table.is_empty() { "At the top".to_owned() } else { format!("`{table}`") };
        page += &format!("\n## {title}\n\n{note}| key | value | absent | |\n|---|---|---|---|\n");
        for key in keys {
            let absent = match key.absent {
                Absent::Mistake => "**a mistake**".to_owned(),
                Absent::Is(json) => format!("`{json}`"),
                Absent::Means(what) => what.to_owned(),
            };
            page += &format!("| `{}` | {} | {absent} | {} |\n", key.name, shape(&key.kind), key.doc);
        }
        page += "\n```toml\n";
        if !table.is_empty() {
            page += &format!("{}\n", table.replace("NAME", "origin"));
        }
        for key in keys {
            page += &format!("{} = {}\n", key.name, key.example);
        }
        page += "```\n";
    }
    page
}

const PREPARE_NOTE: &str = "The function runs interpreted, with a billion instructions and without a clock, random numbers or any other import, so that \
the same program gives the same one each time. What comes out is the version's program, under its own digest \
([design](design/0021-preparing.md)). Of a component it is a function of the world itself, beside the interfaces \
(`export wizer-initialize: func();`), and stays \
exported. Handles of resources that it makes are lost. It is refused if what comes out begins with more memory than \
`limits.memory_mib`.\n\n";

const BUILD_NOTE: &str = "`skerry` runs these lines when you ask it to build or test, never when it deploys a file that is \
     there. Whoever gives you a\nfolder gives you its lines: read them before you run them.\n\n";
const BACKEND_NOTE: &str = "A node connects to these origins and to what `outbound` allows, to nothing else. All origins of a \
     backend have the same\nsettings. `cert_host`, `ca_pem` and `client_cert_pem` are for `https://`.\n\n";
const LIMITS_NOTE: &str = "What an execution may not choose is the same for all: [limits](limits.md).\n\n";

/// A value's form, for people.
fn shape(kind: &Kind) -> String {
    let count = |n: usize, one: &str| format!("{} {one}", thousands(n));
    match kind {
        Kind::Text { bytes, .. } if *bytes.end() >= FILE_BYTES_MAX => "string".into(),
        Kind::Text { bytes, .. } => format!("string, at most {}", count(*bytes.end(), "bytes")),
        Kind::Number(range) => {
            format!("{} to {}", thousands(*range.start() as usize), thousands(*range.end() as usize))
        }
        Kind::List { of, items } => {
            format!("array, at most {}: {}", count(*items.end(), "items"), shape(of))
        }
        Kind::Table(_) => "table, below".into(),
        Kind::Named { name, of, max } => {
            format!("table, at most {}: `{name}` = {}", count(*max, "keys"), shape(of))
        }
        Kind::Object => "table, or string with a JSON object".into(),
    }
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}
