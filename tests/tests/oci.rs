//! Programs from a real registry: pushed, deployed, answering; and what must not be.

use std::fs;

use artifact::Digest;
use whole_flow::{Asks, Fleet, Proto, Registry, guest, skerry, skerry_with};

const CONTAINER: &str = "application/vnd.oci.image.config.v1+json";

fn wasm() -> (String, Digest) {
    let file = guest("wasi-hello");
    (file.display().to_string(), Digest::of(&fs::read(&file).unwrap()))
}

#[test]
fn what_was_pushed_is_deployed_by_its_tag_or_digest_and_answers() {
    let Some(registry) = Registry::start(Asks::Anybody) else { return };
    let fleet = Fleet::up().start();
    let (file, digest) = wasm();
    let image = registry.image("acme/shop:1.2");
    let pushed = skerry(&["push", &image, &file, "--json"]).ok().json();
    assert_eq!((&pushed["image"], &pushed["wasm"]), (&image.clone().into(), &digest.to_string().into()));
    let by_digest = pushed["digest"].as_str().unwrap();
    assert!(by_digest.starts_with(&registry.image("acme/shop@sha256:")), "{pushed}");

    let deployed = fleet.skerry(&["deploy", &image, "--json"]).ok();
    assert!(deployed.err.contains(&format!("pulled {by_digest}")), "{deployed}");
    let deployed = deployed.json();
    assert_eq!((&deployed["app"], &deployed["wasm"]), (&"shop".into(), &digest.to_string().into()));
    assert_eq!(fleet.get(Proto::H2, "shop", "/").expect(200).text, "Hello from wasi:http!\n");
    fleet.skerry(&["verify", "shop", "--wasm", &file]).ok();

    // By its digest it is the same, whatever the tag names by now.
    let other = guest("wstd-hello").display().to_string();
    skerry(&["push", &image, &other]).ok();
    let again = fleet.skerry(&["deploy", by_digest, "--app", "again", "--json"]).ok().json();
    assert_eq!(again["wasm"], digest.to_string());

    // A project's folder is pushed as it was built, and its settings go with the image where they are named.
    let folder = fleet.scratch().join("project");
    fs::create_dir(&folder).unwrap();
    fs::copy(&file, folder.join("app.wasm")).unwrap();
    let manifest = folder.join("skerry.toml");
    fs::write(
        &manifest,
        "name = \"cart\"\ncomponent = \"app.wasm\"\nhosts = [\"cart.localhost\", \"basket.localhost\"]\n",
    )
    .unwrap();
    let image = registry.image("cart");
    skerry(&["push", &image, &folder.display().to_string()]).ok();
    let manifest = manifest.display().to_string();
    let deployed = fleet.skerry(&["deploy", &image, "--manifest", &manifest, "--json"]).ok().json();
    assert_eq!((&deployed["app"], deployed["hosts"].as_array().unwrap().len()), (&"cart".into(), 2));
    assert_eq!(fleet.get(Proto::H2, "basket", "/").expect(200).text, "Hello from wasi:http!\n");
}

#[test]
fn images_of_other_tools_are_taken_and_what_is_no_program_is_said() {
    let Some(registry) = Registry::start(Asks::Anybody) else { return };
    let fleet = Fleet::up().start();
    let bytes = fs::read(guest("wasi-hello")).unwrap();
    let (oras, old) = ("application/vnd.oci.empty.v1+json", "application/vnd.wasm.content.layer.v1+wasm");
    registry.put("oras", "1", oras, "application/wasm", &bytes);
    registry.put("old", "1", "application/vnd.wasm.config.v1+json", old, &bytes);
    for app in ["oras", "old"] {
        fleet.skerry(&["deploy", &registry.image(&format!("{app}:1"))]).ok();
        assert_eq!(fleet.get(Proto::H2, app, "/").expect(200).text, "Hello from wasi:http!\n");
    }

    let tar = "application/vnd.oci.image.layer.v1.tar";
    registry.put("container", "1", CONTAINER, tar, b"not a program");
    let said = format!(
        "it is no wasm: a layer of application/wasm is wanted, it has {tar}, configuration {CONTAINER}"
    );
    fleet.skerry(&["deploy", &registry.image("container:1")]).failed_with(3, &said);
    registry.put("liar", "1", CONTAINER, "application/wasm", b"text");
    fleet.skerry(&["deploy", &registry.image("liar:1")]).failed_with(3, "it begins with \"text\"");
    fleet.skerry(&["deploy", &registry.image("oras:2")]).failed_with(3, "no such image: is the tag right?");
    fleet.skerry(&["deploy", &registry.image("nothing")]).failed_with(3, "no such image");
    let file = fleet.scratch().join("text.wasm");
    fs::write(&file, b"text").unwrap();
    skerry(&["push", &registry.image("text"), &file.display().to_string()])
        .failed_with(3, "does not read as WebAssembly");
}

#[test]
fn a_blob_that_was_changed_in_the_registry_is_not_deployed() {
    let Some(registry) = Registry::start(Asks::Anybody) else { return };
    let fleet = Fleet::shared();
    let (file, digest) = wasm();
    let image = registry.image("acme/changed:1");
    let pushed = skerry(&["push", &image, &file, "--json"]).ok().json();
    let blob = registry.blob(digest);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fleet.skerry(&["deploy", &image]).failed_with(3, &format!("layer sha256:{digest} came as sha256:"));

    // Nor is a manifest that is not the one whose digest was named.
    let by_digest = pushed["digest"].as_str().unwrap();
    let manifest = by_digest.rsplit(':').next().unwrap().parse().unwrap();
    let text = fs::read_to_string(registry.blob(manifest)).unwrap();
    fs::write(registry.blob(manifest), format!("{text} ")).unwrap();
    fleet.skerry(&["deploy", by_digest]).failed_with(3, "the registry sent other bytes");
    fleet.skerry(&["status", "changed"]).failed_with(3, "no app changed");
}

#[test]
fn a_registry_that_wants_a_password_gets_the_right_one_and_says_when_it_is_wrong() {
    let Some(registry) = Registry::start(Asks::Me) else { return };
    let fleet = Fleet::shared();
    let (file, _) = wasm();
    let image = registry.image("acme/private:1");
    let home = tempfile::tempdir().unwrap();
    let docker = home.path().display().to_string();
    let nobody = [("DOCKER_CONFIG", docker.as_str())];
    let log_in = |auth: &str| {
        // base64 of `me:word` and `me:wrong`.
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host());
        fs::write(home.path().join("config.json"), config).unwrap();
    };
    skerry_with(&nobody, &["push", &image, &file], b"").failed_with(3, "does not allow it");
    log_in("bWU6d3Jvbmc=");
    skerry_with(&nobody, &["push", &image, &file], b"").failed_with(3, "docker login");
    let with_name = ["push", image.as_str(), file.as_str(), "--username", "me", "--password-stdin"];
    skerry_with(&nobody, &with_name, b"wrong\n").failed_with(3, "does not allow it");
    skerry_with(&nobody, &with_name, b"word\n").ok();

    let deploy = ["deploy", image.as_str(), "--app", "private"];
    fleet.skerry_in(&nobody, &deploy).failed_with(3, "--password-stdin");
    log_in("bWU6d29yZA==");
    fleet.skerry_in(&nobody, &deploy).ok();
    assert_eq!(fleet.get(Proto::H2, "private", "/").expect(200).text, "Hello from wasi:http!\n");
}
