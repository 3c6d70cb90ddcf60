//! Every key of a `skerry.toml`, once. What the reader says is known, the [schema](super::schema) that editors use and
//! `docs/manifest.md` are made of this table; tests hold it against what the reader takes.

use std::ops::RangeInclusive;

use super::bounds;

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it is when it is not written.
    pub absent: Absent,
    /// One line for people, in Markdown.
    pub doc: &'static str,
    /// A value that is taken, in TOML.
    pub example: &'static str,
}

/// What a key that is not written means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// A mistake.
    Mistake,
    /// The same as this value, in JSON.
    Is(&'static str),
    /// This, in Markdown.
    Means(&'static str),
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    /// A string of so many bytes. The pattern, in ECMA 262, holds for every value that is taken, and maybe for others.
    Text {
        /// Bytes.
        bytes: RangeInclusive<usize>,
        /// For editors.
        pattern: Option<&'static str>,
    },
    /// A whole number within bounds.
    Number(RangeInclusive<u32>),
    /// An array with so many items.
    List {
        /// What each is.
        of: &'static Kind,
        /// How many.
        items: RangeInclusive<usize>,
    },
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose keys are names the app chooses.
    Named {
        /// What stands for such a name in the reference.
        name: &'static str,
        /// What each value is.
        of: &'static Kind,
        /// How many.
        max: usize,
    },
    /// A JSON object: a table, or a string with its text.
    Object,
}

/// A string of at most so many bytes, and at least one.
const fn text(bytes_max: usize) -> Kind {
    Kind::Text { bytes: 1..=bytes_max, pattern: None }
}

const fn form(bytes_max: usize, pattern: &'static str) -> Kind {
    Kind::Text { bytes: 1..=bytes_max, pattern: Some(pattern) }
}

const fn list(of: &'static Kind, max: usize) -> Kind {
    Kind::List { of, items: 0..=max }
}

/// Bytes of a string that has no bound of its own: what no manifest has.
const ANY: usize = super::parse::FILE_BYTES_MAX;

const STORE_NAME: Kind = text(crate::names::STORE_NAME_BYTES_MAX);
const SECRET_NAMES: Kind = list(&STORE_NAME, bounds::ENTRIES_MAX);
const VALUE: Kind = Kind::Text { bytes: 0..=bounds::CONFIG_VALUE_BYTES_MAX, pattern: None };
const ENTRIES: Kind = Kind::Named { name: "KEY", of: &VALUE, max: bounds::ENTRIES_MAX };
const ORIGIN: Kind = form(ANY, "^https?://[^/]+/?$");
const HOST: Kind = form(crate::names::HOST_BYTES_MAX, "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$");
const METHOD: Kind = form(bounds::METHOD_BYTES_MAX, "^[A-Z-]+$");
const PATTERN: Kind = text(ANY);
const WATCHED: Kind = form(bounds::WATCH_PATH_BYTES_MAX, "^[^/*?][^*?]*$");

/// The keys at the top.
pub const TOP: &[Key] = &[
    Key {
        name: "name",
        kind: form(crate::names::NAME_BYTES_MAX, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"),
        absent: Absent::Mistake,
        doc: "The app's name: lower-case letters, digits and `-`. Part of its host name unless `hosts` says otherwise.",
        example: "\"shop\"",
    },
    Key {
        name: "component",
        kind: text(ANY),
        absent: Absent::Means("**a mistake**, unless there are `assets`"),
        doc: "The program's file, relative to the manifest: a `wasi:http` component, or a core module built for Fastly Compute.",
        example: "\"target/wasm32-wasip2/release/shop.wasm\"",
    },
    Key {
        name: "build",
        kind: Kind::Table(BUILD),
        absent: Absent::Means("the file is made by other means"),
        doc: "How that file is made. It is never sent anywhere.",
        example: "{ command = \"cargo build --release --target wasm32-wasip2\" }",
    },
    Key {
        name: "prepare",
        kind: Kind::Table(PREPARE),
        absent: Absent::Means("the program is compiled as it is"),
        doc: "What is done to the program once, when it is deployed.",
        example: "{ initialize = \"wizer-initialize\" }",
    },
    Key {
        name: "hosts",
        kind: list(&HOST, bounds::HOSTS_MAX),
        absent: Absent::Means("`<name>.<the fleet's domain>`"),
        doc: "Host names the app answers for: lower case, no port, no address, IDN as `xn--`.",
        example: "[\"shop.example\", \"www.shop.example\"]",
    },
    Key {
        name: "path_prefix",
        kind: form(bounds::PATH_PREFIX_BYTES_MAX, "^/"),
        absent: Absent::Is("\"/\""),
        doc: "Only paths under it are the app's: `/api` has `/api` and `/api/x`, not `/apix`. The longest prefix of a host wins.",
        example: "\"/api\"",
    },
    Key {
        name: "methods",
        kind: Kind::List { of: &METHOD, items: 1..=bounds::METHODS_MAX },
        absent: Absent::Means("all"),
        doc: "Methods the app answers. Nodes answer another one 405 with `Allow`, without running the program. `HEAD` is not implied by `GET`, and a browser's preflight before a request of another origin (CORS) is an `OPTIONS`: list it where the program answers them.",
        example: "[\"GET\", \"HEAD\"]",
    },
    Key {
        name: "backends",
        kind: Kind::Named { name: "NAME", of: &Kind::Table(BACKEND), max: bounds::BACKENDS_MAX },
        absent: Absent::Means("none"),
        doc: "Origins the program may fetch from, by name.",
        example: "{ origin = { url = \"https://origin.example\" } }",
    },
    Key {
        name: "outbound",
        kind: list(&PATTERN, bounds::OUTBOUND_MAX),
        absent: Absent::Means("none"),
        doc: "Hosts the program may fetch from beside its backends: `host`, `*.host` or `*`, each with an optional `:port`.",
        example: "[\"api.example\", \"*.cdn.example:8443\"]",
    },
    Key {
        name: "config",
        kind: ENTRIES,
        absent: Absent::Means("empty"),
        doc: "Plain configuration the program reads. Not for secrets: whoever may see the app sees it.",
        example: "{ greeting = \"hi\" }",
    },
    Key {
        name: "config_stores",
        kind: Kind::Named { name: "STORE", of: &ENTRIES, max: bounds::STORES_MAX },
        absent: Absent::Means("none"),
        doc: "Further stores of plain configuration, by name.",
        example: "{ prices = { apple = \"1\" } }",
    },
    Key {
        name: "secrets",
        kind: SECRET_NAMES,
        absent: Absent::Means("none"),
        doc: "Names of the secrets the program reads. Their values are set with `skerry secrets set` and never stand here.",
        example: "[\"API_KEY\"]",
    },
    Key {
        name: "secret_stores",
        kind: Kind::Named { name: "STORE", of: &SECRET_NAMES, max: bounds::STORES_MAX },
        absent: Absent::Means("none"),
        doc: "Further stores of secrets: the names of the secrets in each.",
        example: "{ vault = [\"PIN\"] }",
    },
    Key {
        name: "kv_stores",
        kind: list(&STORE_NAME, bounds::STORES_MAX),
        absent: Absent::Means("none"),
        doc: "Key-value stores of the tenant that the program uses.",
        example: "[\"carts\"]",
    },
    Key {
        name: "geo",
        kind: Kind::Named { name: "ADDRESS", of: &Kind::Object, max: bounds::LOOKUPS_MAX },
        absent: Absent::Means("none"),
        doc: "What the program is told of single IP addresses, before the operator's database is asked.",
        example: "{ \"192.0.2.1\" = { city = \"Bonn\", country_code = \"DE\" } }",
    },
    Key {
        name: "devices",
        kind: Kind::Named { name: "USER-AGENT", of: &Kind::Object, max: bounds::LOOKUPS_MAX },
        absent: Absent::Means("none"),
        doc: "What the program is told of devices, by their exact `User-Agent`.",
        example: "{ \"Agent/1.0\" = { device = { is_mobile = true } } }",
    },
    Key {
        name: "assets",
        kind: Kind::Table(ASSETS),
        absent: Absent::Means("none"),
        doc: "Static files that nodes answer with, without running the program. With them `component` may be left out.",
        example: "{ folder = \"public\" }",
    },
    Key {
        name: "limits",
        kind: Kind::Table(LIMITS),
        absent: Absent::Means("the defaults below"),
        doc: "Limits of one execution.",
        example: "{ cpu_ms = 20 }",
    },
];

/// `[assets]`
pub const ASSETS: &[Key] = &[
    Key {
        name: "folder",
        kind: form(ANY, "^[^/]"),
        absent: Absent::Mistake,
        doc: "The folder with the files, relative to the manifest. Hidden files and links are left out.",
        example: "\"public\"",
    },
    Key {
        name: "index",
        kind: form(ANY, "^[^/]+$"),
        absent: Absent::Is("\"index.html\""),
        doc: "The file that answers for a path that ends in `/`.",
        example: "\"index.html\"",
    },
    Key {
        name: "not_found",
        kind: text(ANY),
        absent: Absent::Means("a line of text"),
        doc: "The file that goes with a 404, of an app without a program.",
        example: "\"404.html\"",
    },
    Key {
        name: "cache_control",
        kind: text(super::CACHE_CONTROL_BYTES_MAX),
        absent: Absent::Is("\"public, max-age=0, must-revalidate\""),
        doc: "`Cache-Control` of every file.",
        example: "\"public, max-age=3600\"",
    },
];

/// `[build]`
pub const BUILD: &[Key] = &[
    Key {
        name: "command",
        kind: text(bounds::COMMAND_BYTES_MAX),
        absent: Absent::Mistake,
        doc: "Makes the program: a line for `sh -c`, run in the manifest's folder.",
        example: "\"cargo build --release --target wasm32-wasip2\"",
    },
    Key {
        name: "watch",
        kind: list(&WATCHED, bounds::WATCH_MAX),
        absent: Absent::Means("left to the tool that watches"),
        doc: "Files and folders whose change means another build, relative to the manifest; a folder stands for all in it.",
        example: "[\"src\", \"Cargo.toml\"]",
    },
    Key {
        name: "test",
        kind: text(bounds::COMMAND_BYTES_MAX),
        absent: Absent::Means("there are no tests"),
        doc: "Tests the program: a line for `sh -c`, run in the manifest's folder.",
        example: "\"cargo test\"",
    },
];

/// `[prepare]`
pub const PREPARE: &[Key] = &[
    Key {
        name: "initialize",
        kind: form(bounds::FUNCTION_NAME_BYTES_MAX, "^[!-~]+$"),
        absent: Absent::Means("nothing is run"),
        doc: "An exported function without parameters and results that runs once, by Wizer: requests begin where it ended. It can call no import.",
        example: "\"wizer-initialize\"",
    },
    Key {
        name: "initial_memory_mib",
        kind: Kind::Number(bounds::MEMORY_MIB),
        absent: Absent::Means("the program's own"),
        doc: "Linear memory at the start of each request, MiB, where the program has less. At most `limits.memory_mib`.",
        example: "16",
    },
];

/// `[backends.NAME]`
pub const BACKEND: &[Key] = &[
    Key {
        name: "url",
        kind: ORIGIN,
        absent: Absent::Mistake,
        doc: "`http://` or `https://`, host and optional port, no path. The origin asked first.",
        example: "\"https://origin.example:8443\"",
    },
    Key {
        name: "failover",
        kind: list(&ORIGIN, bounds::FAILOVER_MAX),
        absent: Absent::Means("none"),
        doc: "Further origins of the same form, asked in their order when those before cannot be reached.",
        example: "[\"https://second.example\"]",
    },
    Key {
        name: "override_host",
        kind: text(ANY),
        absent: Absent::Means("the request's own"),
        doc: "What the backend gets as `Host`.",
        example: "\"www.origin.example\"",
    },
    Key {
        name: "cert_host",
        kind: text(ANY),
        absent: Absent::Means("the URL's host"),
        doc: "The name its certificate must have, and that is sent as SNI.",
        example: "\"cert.origin.example\"",
    },
    Key {
        name: "ca_pem",
        kind: text(bounds::PEM_BYTES_MAX),
        absent: Absent::Means("the platform's"),
        doc: "Authorities its certificate may come from, PEM.",
        example: "\"-----BEGIN CERTIFICATE-----\"",
    },
    Key {
        name: "client_cert_pem",
        kind: text(bounds::PEM_BYTES_MAX),
        absent: Absent::Means("none is shown"),
        doc: "Certificate chain the node shows, PEM. Needs `client_key_secret`.",
        example: "\"-----BEGIN CERTIFICATE-----\"",
    },
    Key {
        name: "client_key_secret",
        kind: STORE_NAME,
        absent: Absent::Means("none is shown"),
        doc: "Name of the secret with the key of `client_cert_pem`, PEM.",
        example: "\"ORIGIN_KEY\"",
    },
    Key {
        name: "connect_timeout_ms",
        kind: Kind::Number(bounds::TIMEOUT_MS),
        absent: Absent::Means("the node's"),
        doc: "Time to connect, TLS included, ms.",
        example: "1000",
    },
    Key {
        name: "first_byte_timeout_ms",
        kind: Kind::Number(bounds::TIMEOUT_MS),
        absent: Absent::Means("the node's"),
        doc: "Time from the request's end to the response's head, ms.",
        example: "15000",
    },
    Key {
        name: "between_bytes_timeout_ms",
        kind: Kind::Number(bounds::TIMEOUT_MS),
        absent: Absent::Means("the node's"),
        doc: "Time between two pieces of the response's body, ms.",
        example: "10000",
    },
    Key {
        name: "health",
        kind: Kind::Table(HEALTH),
        absent: Absent::Means("found out by requests alone"),
        doc: "A probe of each origin, sent by every node that uses the backend.",
        example: "{ path = \"/healthz\" }",
    },
];

/// `[backends.NAME.health]`
pub const HEALTH: &[Key] = &[
    Key {
        name: "path",
        kind: form(bounds::PATH_PREFIX_BYTES_MAX, "^/"),
        absent: Absent::Mistake,
        doc: "Path of the GET that a well origin answers with 2xx.",
        example: "\"/healthz\"",
    },
    Key {
        name: "interval_ms",
        kind: Kind::Number(bounds::HEALTH_INTERVAL_MS),
        absent: Absent::Is("10000"),
        doc: "Time between two probes, ms.",
        example: "30000",
    },
];

/// `[limits]`
pub const LIMITS: &[Key] = &[
    Key {
        name: "cpu_ms",
        kind: Kind::Number(bounds::CPU_MS),
        absent: Absent::Is("50"),
        doc: "CPU time of the program and its host calls, ms. Over it: 504.",
        example: "20",
    },
    Key {
        name: "wall_ms",
        kind: Kind::Number(bounds::WALL_MS),
        absent: Absent::Is("120000"),
        doc: "Time from the request's head to the response's end, ms. Over it: 504.",
        example: "30000",
    },
    Key {
        name: "memory_mib",
        kind: Kind::Number(bounds::MEMORY_MIB),
        absent: Absent::Is("128"),
        doc: "Linear memory, MiB. `memory.grow` beyond it fails.",
        example: "64",
    },
];

/// The known key that a wrong one was most likely meant to be.
pub fn nearest(wrong: &str, known: &[Key]) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    // Nobody means a key by something far longer; and the distance takes the product of both lengths.
    let wrong = plain(&wrong.chars().take(64).collect::<String>());
    let near = known.iter().filter_map(|key| {
        let distance = strsim::osa_distance(&wrong, key.name);
        let begins = wrong.len() >= 2 && (key.name.starts_with(&wrong) || wrong.starts_with(key.name));
        let ends = wrong.len() >= 4 && key.name.ends_with(&wrong);
        // One slip in four letters.
        (begins || ends || distance <= key.name.len().max(4) / 4).then_some((distance, key.name))
    });
    near.min().map(|(_, name)| name)
}

/// Where else a key of this name is known: at the top, or in the first table below it that has one.
pub fn elsewhere(wrong: &str, known: &[Key]) -> Option<String> {
    let has = |keys: &[Key]| keys.iter().any(|key| key.name == wrong);
    if !std::ptr::eq(known, TOP) && has(TOP) {
        return Some("is a key of the top: it belongs before the first [table]".into());
    }
    let tables = [
        ("build", BUILD),
        ("prepare", PREPARE),
        ("assets", ASSETS),
        ("limits", LIMITS),
        ("backends.NAME", BACKEND),
    ];
    let (table, _) = tables.into_iter().find(|(_, keys)| !std::ptr::eq(known, *keys) && has(keys))?;
    Some(format!("is not a known key here: it belongs into [{table}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{AppConfig, HealthCheck, Project};

    /// A line that sets a key by its example, and what it needs beside it.
    fn manifest(table: &str, key: &Key) -> String {
        let line = format!("{} = {}\n", key.name, key.example);
        let with = |name: &str, other: &str| if key.name == name { "" } else { other }.to_owned();
        let head = with("name", "name = \"a\"\n") + &with("component", "component = \"a.wasm\"\n");
        let beside = match (table, key.name) {
            ("", _) => String::new(),
            ("build", "command") => "[build]\n".into(),
            ("build", _) => "[build]\ncommand = \"make\"\n".into(),
            ("prepare", _) => "[prepare]\n".into(),
            ("limits", _) => "[limits]\n".into(),
            ("assets", _) => "[assets]\n".to_owned() + &with("folder", "folder = \"public\"\n"),
            ("health", _) => {
                "[backends.a]\nurl = \"https://a.example\"\n[backends.a.health]\n".to_owned()
                    + &with("path", "path = \"/\"\n")
            }
            (_, "client_key_secret") => {
                "[backends.a]\nclient_cert_pem = \"-----BEGIN CERTIFICATE-----\"\n".into()
            }
            (_, "client_cert_pem") => "[backends.a]\nclient_key_secret = \"KEY\"\n".into(),
            _ => "[backends.a]\n".into(),
        };
        let url =
            if table == "backend" { with("url", "url = \"https://a.example\"\n") } else { String::new() };
        if table.is_empty() { head + &line } else { head + &beside + &url + &line }
    }

    const TABLES: [(&str, &[Key]); 7] = [
        ("", TOP),
        ("build", BUILD),
        ("prepare", PREPARE),
        ("backend", BACKEND),
        ("health", HEALTH),
        ("assets", ASSETS),
        ("limits", LIMITS),
    ];

    #[test]
    fn every_key_of_the_table_is_taken_with_its_example_and_none_other() {
        for (table, keys) in TABLES {
            for key in keys {
                let text = manifest(table, key);
                Project::parse(&text)
                    .unwrap_or_else(|mistakes| panic!("{table} {}: {mistakes:?}\n{text}", key.name));
                let text = text.replacen(&format!("{} =", key.name), "zzz =", 1);
                let mistakes = Project::parse(&text).unwrap_err();
                assert!(
                    mistakes.iter().any(|one| one.message.contains("not a known key")),
                    "{table}: {mistakes:?}"
                );
            }
        }
    }

    /// The reader has an arm for each key; the list of those it knows is this table. Here the other way round: whatever
    /// a version pins has a row.
    #[test]
    fn every_field_of_a_config_has_a_row() {
        let text = include_str!("../../tests/whole.toml");
        let project = Project::parse(text).unwrap();
        let rows = |keys: &[Key]| keys.iter().map(|key| key.name).collect::<std::collections::BTreeSet<_>>();
        let config = serde_json::to_value(&project.config).unwrap();
        let object =
            |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let beside = ["name", "component", "build", "prepare"];
        let pinned = object(&config);
        assert_eq!(
            rows(TOP),
            beside.into_iter().chain(pinned.iter().map(String::as_str)).collect(),
            "tests/whole.toml has every key"
        );
        let backend = object(&config["backends"]["origin"]);
        assert_eq!(rows(BACKEND), backend.iter().map(String::as_str).collect());
        let health = object(&config["backends"]["origin"]["health"]);
        assert_eq!(rows(HEALTH), health.iter().map(String::as_str).collect());
        let assets = object(&config["assets"]);
        assert_eq!(rows(ASSETS), assets.iter().map(String::as_str).chain(["folder"]).collect());
        assert_eq!(rows(LIMITS), object(&config["limits"]).iter().map(String::as_str).collect());
    }

    #[test]
    fn defaults_are_those_a_version_gets() {
        let config = serde_json::to_value(AppConfig::default()).unwrap();
        let health: HealthCheck = serde_json::from_str(r#"{"path":"/"}"#).unwrap();
        let health = serde_json::to_value(health).unwrap();
        let assets = serde_json::to_value(crate::manifest::Assets::default()).unwrap();
        for (keys, values) in
            [(TOP, &config), (LIMITS, &config["limits"]), (HEALTH, &health), (ASSETS, &assets)]
        {
            for key in keys {
                let Absent::Is(json) = key.absent else { continue };
                assert_eq!(values[key.name].to_string(), json, "{}", key.name);
            }
        }
    }

    #[test]
    fn a_slip_is_known_by_its_neighbour() {
        for (wrong, keys, meant) in [
            ("host", TOP, Some("hosts")),
            ("Hosts", TOP, Some("hosts")),
            ("path-prefix", TOP, Some("path_prefix")),
            ("kv_store", TOP, Some("kv_stores")),
            ("backend", TOP, Some("backends")),
            ("prefix", TOP, Some("path_prefix")),
            ("componnet", TOP, Some("component")),
            ("cpu", LIMITS, Some("cpu_ms")),
            ("memory", LIMITS, Some("memory_mib")),
            ("cmd", BUILD, None),
            ("colour", TOP, None),
            ("x", TOP, None),
        ] {
            assert_eq!(nearest(wrong, keys), meant, "{wrong}");
        }
        assert_eq!(nearest(&"host".repeat(1_000_000), TOP), None);
        assert_eq!(elsewhere("cpu_ms", TOP).unwrap(), "is not a known key here: it belongs into [limits]");
        assert_eq!(
            elsewhere("hosts", LIMITS).unwrap(),
            "is a key of the top: it belongs before the first [table]"
        );
        assert_eq!(elsewhere("colour", TOP), None);
    }
}
