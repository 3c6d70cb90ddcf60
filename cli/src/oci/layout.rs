//! How a program lies in a registry: the CNCF's Wasm OCI artifact layout.
//!
//! A manifest of the OCI image format with a configuration of its own kind and one layer, the program as it is. Read are also
//! images of `oras push` (any configuration) and of older tools (the layer's older names). Relied on: nothing; every text here is
//! a stranger's until it was held against its digest.

use artifact::{Digest, visible};
use serde::{Deserialize, Serialize};
use wasmparser::{Encoding, Parser, Payload};

/// Media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a list of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's names for the two: registries answer them where an image was pushed by `docker`, and people are to be told so.
const DOCKER: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Media type of the configuration.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Media type of a program.
pub const LAYER: &str = "application/wasm";
/// What it was called before: by wasm-to-oci and those who followed, and by what Envoy and Istio read.
const LAYERS_OLD: [&str; 2] =
    ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.module.wasm.content.layer.v1+wasm"];
/// Platform of a program in a list of manifests.
const ARCHITECTURE: &str = "wasm";
/// Names of a stranger's media types that are repeated to people.
const NAMED_MAX: usize = 4;

/// What may be asked for, for `Accept`.
pub fn accepted() -> String {
    [MANIFEST, INDEX].into_iter().chain(DOCKER).collect::<Vec<_>>().join(", ")
}

/// A blob, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    /// `sha256:` and 64 hex characters, if it is one that is read here.
    pub digest: String,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

/// A manifest or a list of them, as far as it is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// What a manifest leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A program.
    Program(Descriptor),
    /// Another manifest: this was a list.
    Manifest(Descriptor),
}

/// Reads a manifest; an error says what it is instead. `as_type`: what the registry called it.
pub fn read(manifest: &[u8], as_type: Option<&str>) -> Result<Found, String> {
    let read: Read = serde_json::from_slice(manifest)
        .map_err(|error| format!("its manifest is not understood: {error}"))?;
    let config = read.config.as_ref().map(|config| config.media_type.clone());
    match (read.layers, read.manifests) {
        (Some(layers), _) => program_of(layers, config.as_deref()).map(Found::Program),
        (None, Some(manifests)) => wasm_of(manifests).map(Found::Manifest),
        (None, None) => {
            let called = read.media_type.as_deref().or(as_type).unwrap_or("no media type");
            Err(format!("it is no image of a program but {}", shown(called)))
        }
    }
}

fn program_of(layers: Vec<Descriptor>, config: Option<&str>) -> Result<Descriptor, String> {
    let is_program =
        |layer: &&Descriptor| layer.media_type == LAYER || LAYERS_OLD.contains(&layer.media_type.as_str());
    let mut programs = layers.iter().filter(is_program);
    match (programs.next(), programs.next()) {
        (Some(program), None) => Ok(program.clone()),
        (Some(_), Some(_)) => Err("it has several programs; an app is one".into()),
        (None, _) => {
            let types = named(layers.iter().map(|layer| layer.media_type.as_str()));
            let config =
                config.map(|config| format!(", configuration {}", shown(config))).unwrap_or_default();
            Err(format!("it is no wasm: a layer of {LAYER} is wanted, it has {types}{config}"))
        }
    }
}

/// Of a list the entry for wasm, or its only one.
fn wasm_of(manifests: Vec<Descriptor>) -> Result<Descriptor, String> {
    let is_wasm = |manifest: &&Descriptor| {
        manifest.platform.as_ref().is_some_and(|platform| platform.architecture == ARCHITECTURE)
    };
    let mut wasm = manifests.iter().filter(is_wasm);
    match (wasm.next(), wasm.next(), &manifests[..]) {
        (Some(one), None, _) | (None, None, [one]) => Ok(one.clone()),
        (Some(_), Some(_), _) => Err("it is a list with several programs; name one by its digest".into()),
        _ => {
            let of = manifests.iter().filter_map(|manifest| manifest.platform.as_ref());
            let platforms = named(of.map(|platform| platform.architecture.as_str()));
            Err(format!("it is no wasm but a list of images for {platforms}"))
        }
    }
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let more = if names.len() > NAMED_MAX { " and more" } else { "" };
    match names.is_empty() {
        true => "none".into(),
        false => names.iter().take(NAMED_MAX).map(|name| shown(name)).collect::<Vec<_>>().join(", ") + more,
    }
}

/// A stranger's word, for people.
fn shown(word: &str) -> String {
    let word: String = word.chars().take(120).collect();
    if word.is_empty() { "a nameless one".into() } else { visible::for_people(&word).into_owned() }
}

impl Descriptor {
    /// Of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = format!("sha256:{}", Digest::of(bytes));
        Descriptor { media_type: media_type.into(), digest, size: bytes.len() as u64, platform: None }
    }

    /// Its digest, if it is a sha-256.
    pub fn sha256(&self) -> Result<Digest, String> {
        let digest = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.ok_or_else(|| format!("its digest {} is no sha-256", shown(&self.digest)))
    }
}

/// The configuration. `layer_digests` makes it another one for each program, as registries need it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Component>,
}

/// What of a component can be said without running it.
#[derive(Debug, PartialEq, Serialize)]
struct Component {
    exports: Vec<String>,
    imports: Vec<String>,
    target: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'a str,
    config: Descriptor,
    layers: [Descriptor; 1],
}

/// A program as it is pushed.
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

/// Lays a program out. `created`: when, as RFC 3339 has it. The same arguments give the same bytes.
pub fn write(wasm: &[u8], created: String) -> Result<Image, String> {
    let component =
        component_of(wasm).map_err(|error| format!("it does not read as WebAssembly: {error}"))?;
    let layer = Descriptor::of(LAYER, wasm);
    let config = Config {
        created,
        architecture: ARCHITECTURE,
        os: if component.is_some() { "wasip2" } else { "wasip1" },
        layer_digests: vec![layer.digest.clone()],
        component,
    };
    let config = serde_json::to_vec(&config).expect("it has only string keys");
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::of(CONFIG, &config),
        layers: [layer],
    };
    let manifest = serde_json::to_vec(&manifest).expect("it has only string keys");
    Ok(Image { config, manifest })
}

/// Imports and exports of a component; `None`: it is a core module.
fn component_of(wasm: &[u8]) -> wasmparser::Result<Option<Component>> {
    let mut component = Component { exports: vec![], imports: vec![], target: None };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Ok(None),
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    component.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    component.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(Some(component))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const OTHER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn layer(media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", Digest::of(b"x")), "size": 1 })
    }

    fn manifest(config: &str, layers: &[&str]) -> Vec<u8> {
        let layers: Vec<Value> = layers.iter().map(|name| layer(name)).collect();
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": layer(config), "layers": layers })
            .to_string()
            .into_bytes()
    }

    fn list(architectures: &[&str]) -> Vec<u8> {
        let entry = |name: &&str| {
            let mut entry = layer(MANIFEST);
            entry["platform"] = json!({ "architecture": name, "os": "linux" });
            entry
        };
        let manifests: Vec<Value> = architectures.iter().map(entry).collect();
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string().into_bytes()
    }

    fn is_program(manifest: &[u8]) -> bool {
        matches!(read(manifest, None), Ok(Found::Program(layer)) if layer.sha256() == Ok(Digest::of(b"x")))
    }

    #[test]
    fn programs_of_this_and_of_other_tools_are_found() {
        for (config, layers) in [
            (CONFIG, &[LAYER][..]),
            ("application/vnd.oci.empty.v1+json", &[LAYER]),
            ("application/vnd.wasm.config.v1+json", &[LAYERS_OLD[0]]),
            ("application/vnd.oci.image.config.v1+json", &[LAYERS_OLD[1]]),
            (CONFIG, &[LAYER, "text/markdown"]),
        ] {
            assert!(is_program(&manifest(config, layers)), "{config} {layers:?}");
        }
        for architectures in [&["amd64", "wasm"][..], &["amd64"]] {
            assert!(matches!(read(&list(architectures), None), Ok(Found::Manifest(_))), "{architectures:?}");
        }
    }

    #[test]
    fn what_is_no_program_is_said_with_what_it_is() {
        let said = |manifest: &[u8]| read(manifest, Some("text/plain")).unwrap_err();
        let container = said(&manifest("application/vnd.oci.image.config.v1+json", &[OTHER]));
        assert_eq!(
            container,
            format!(
                "it is no wasm: a layer of application/wasm is wanted, it has {OTHER}, \
                 configuration application/vnd.oci.image.config.v1+json"
            )
        );
        for (bytes, words) in [
            (manifest(CONFIG, &[]), "it has none"),
            (manifest(CONFIG, &[LAYER, LAYER]), "several programs"),
            (manifest(CONFIG, &["a\u{1b}[2J", "b", "c", "d", "e"]), "a\\u{1b}[2J, b, c, d and more"),
            (list(&["amd64", "arm64"]), "a list of images for amd64, arm64"),
            (list(&["wasm", "wasm"]), "by its digest"),
            (list(&[]), "a list of images for none"),
            (b"{}".to_vec(), "but text/plain"),
            (b"[]".to_vec(), "but text/plain"),
            (b"\x7fELF".to_vec(), "not understood"),
        ] {
            assert!(said(&bytes).contains(words), "{words}: {}", said(&bytes));
        }
        for digest in ["sha512:00", "sha256:00", "../../etc", ""] {
            assert!(Descriptor { digest: digest.into(), ..Descriptor::of(LAYER, b"") }.sha256().is_err());
        }
    }

    #[test]
    fn what_is_written_reads_back_and_is_the_same_each_time() {
        let wasm = wat::parse_str(
            r#"(component (component (import "inner" (instance))) (import "wasi:cli/environment@0.2.0" (instance))
                 (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
        )
        .unwrap();
        let image = write(&wasm, "2026-01-01T00:00:00Z".into()).unwrap();
        assert_eq!(read(&image.manifest, None), Ok(Found::Program(Descriptor::of(LAYER, &wasm))));
        let config: Value = serde_json::from_slice(&image.config).unwrap();
        assert_eq!(
            config,
            json!({
                "created": "2026-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
                "layerDigests": [format!("sha256:{}", Digest::of(&wasm))],
                "component": {
                    "exports": ["wasi:http/incoming-handler@0.2.0"], "imports": ["wasi:cli/environment@0.2.0"],
                    "target": null,
                },
            })
        );
        assert_eq!(write(&wasm, "2026-01-01T00:00:00Z".into()).unwrap().manifest, image.manifest);
        let module = write(b"\0asm\x01\0\0\0", "x".into()).unwrap();
        let config: Value = serde_json::from_slice(&module.config).unwrap();
        assert_eq!((&config["os"], config.get("component")), (&json!("wasip1"), None));
        assert!(write(b"text", String::new()).is_err());
    }
}
