use super::*;

const SHOP: &str = r#"
spin_manifest_version = 2

[application]
name = "My Shop"
version = "0.1.0"
authors = ["A <a@example.com>"]

[application.trigger.http]
base = "/shop"

[variables]
api_host = { default = "api.example" }
token = { required = true, secret = true }
pin = { default = "1234", secret = true }
region = { required = true }

[[trigger.http]]
route = "/cart/..."
component = "cart"

[component.cart]
source = "target/cart.wasm"
description = "the cart"
allowed_outbound_hosts = ["https://{{ api_host }}", "redis://cache.example:6379", "http://self", "https://{{ region }}.example"]
key_value_stores = ["default"]
files = ["assets/**/*"]
environment = { MODE = "fast" }
sqlite_databases = ["default"]
[component.cart.variables]
api = "https://{{ api_host }}/v1"
api_token = "{{ token }}"
api_pin = "pin-{{ pin }}"
where = "{{ region }}"
[component.cart.build]
command = "cargo build --target wasm32-wasip2 --release"
workdir = "cart's"
watch = ["src/**/*.rs", "Cargo.toml", "*.wit"]
"#;

fn shown(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    match read(text, None, None) {
        Err(Refused::Mistakes(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_component_asks_for_becomes_what_an_app_does() {
    let spin = read(SHOP, None, None).unwrap();
    assert_eq!(spin.name.unwrap().as_str(), "my-shop");
    assert_eq!(spin.source, "target/cart.wasm");
    assert_eq!(spin.config.path_prefix, "/shop/cart");
    assert_eq!(spin.config.outbound, ["api.example"]);
    assert_eq!(spin.config.kv_stores, ["default"]);
    assert_eq!(spin.config.config, BTreeMap::from([("api".to_owned(), "https://api.example/v1".to_owned())]));
    assert_eq!(spin.config.secrets, ["api_pin", "api_token"]);
    assert_eq!(spin.items.secrets.len(), 1, "{:?}", spin.items);
    assert_eq!(
        (spin.items.secrets[0].key.as_str(), spin.items.secrets[0].value.as_slice()),
        ("api_pin", &b"pin-1234"[..])
    );
    let build = spin.build.unwrap();
    assert_eq!(build.command, r"cd 'cart'\''s' && cargo build --target wasm32-wasip2 --release");
    assert_eq!(build.watch.unwrap(), ["cart's", "cart's/Cargo.toml", "cart's/src"]);
    assert!(spin.config.mistakes().is_empty());
    assert_eq!(
        shown(&spin.notes),
        [
            "outbound api.example (from \"https://{{ api_host }}\")",
            "warning: spin.toml: component.cart.allowed_outbound_hosts: \"redis://cache.example:6379\" is ignored: programs fetch by HTTP only",
            "warning: spin.toml: component.cart.allowed_outbound_hosts: \"http://self\" is ignored: a program does not call others of its app; each is an app with a host name of its own",
            "warning: spin.toml: component.cart.allowed_outbound_hosts: \"https://{{ region }}.example\" is ignored: it is made of a variable that has no value here",
            "warning: spin.toml:28: component.cart.environment is ignored: programs have no environment variables; see `config`",
            "warning: spin.toml:27: component.cart.files is ignored: nothing of it is carried over: programs read no files. To have a folder served without the program, write [assets] folder = \"...\"; what the program reads itself, build into it",
            "KV store default (from key_value_stores)",
            "warning: spin.toml:29: component.cart.sqlite_databases is ignored: databases are not offered",
            "config api (from component.cart.variables.api)",
            "secret api_pin (from component.cart.variables.api_pin): read with skerry:edge/secrets, not with the configuration",
            "secret api_token (from component.cart.variables.api_token): read with skerry:edge/secrets, not with the configuration",
            "warning: secret api_token: the file has no value; set it with `skerry secrets set`",
            "warning: spin.toml:34: component.cart.variables.where is ignored: a variable in it has no value; add it to `config`",
            "name \"My Shop\": the app is called my-shop here",
        ]
    );
}

#[test]
fn values_come_from_the_environment_as_they_do_in_spin() {
    let environment = |name: &str| (name == "SPIN_VARIABLE_REGION").then(|| "eu".to_owned());
    let spin = read(SHOP, None, Some(&environment)).unwrap();
    assert_eq!(spin.config.config["where"], "eu");
    assert_eq!(spin.config.outbound, ["api.example", "eu.example"]);
    let notes = shown(&spin.notes);
    assert!(
        notes.contains(
            &"spin.toml:16: variables.region reads the environment variable SPIN_VARIABLE_REGION".into()
        ),
        "{notes:?}"
    );
}

const TWO: &str = r#"
spin_manifest_version = 2
[application]
name = "two"
[[trigger.http]]
route = "/a/:id"
component = "one"
[[trigger.http]]
route = { private = true }
component = "hidden"
[[trigger.http]]
route = "/b/..."
component = { source = "b.wasm" }
[[trigger.redis]]
channel = "x"
component = "one"
[component.one]
source = "one.wasm"
build = { command = ["npm install", "npm run build"] }
[component.hidden]
source = { url = "https://a.example/x.wasm", digest = "sha256:00" }
"#;

#[test]
fn of_several_components_one_is_chosen() {
    let Err(Refused::Which(listed)) = read(TWO, None, None) else { panic!("which?") };
    assert_eq!(listed, ["(in trigger.http[2].component) (/b/...)", "hidden ()", "one (/a/:id)"]);
    assert!(matches!(read(TWO, Some("three"), None), Err(Refused::Which(_))));
    let one = read(TWO, Some("one"), None).unwrap();
    assert_eq!((one.source.as_str(), one.config.path_prefix.as_str()), ("one.wasm", "/a"));
    assert_eq!(one.build.unwrap().command, "(npm install) && (npm run build)");
    let notes = shown(&one.notes);
    assert!(
        notes[0]
            .ends_with("trigger.http[1].route is ignored: a private route is asked by other components only"),
        "{notes:?}"
    );
    assert!(
        notes[1].ends_with("trigger.redis is ignored: only HTTP requests run programs here"),
        "{notes:?}"
    );
    assert_eq!(notes[2], "routes /a/:id: the app gets every path under /a and tells them apart itself");
    let inline = read(TWO, Some("(in trigger.http[2].component)"), None).unwrap();
    assert_eq!(inline.source, "b.wasm");
    let Err(Refused::Mistakes(remote)) = read(TWO, Some("hidden"), None) else { panic!("remote") };
    assert_eq!(
        remote[0].to_string(),
        "line 21: component.hidden.source: is not a file: fetch the program and name its file"
    );
}

#[test]
fn a_program_that_spin_puts_together_is_told_of() {
    let spin = read(&SHOP.replace("target/cart", "target/wasm32-wasip1/release/cart"), None, None).unwrap();
    let notes = shown(&spin.notes);
    assert!(notes.iter().any(|note| note.ends_with("build for wasm32-wasip2")), "{notes:?}");
}

#[test]
fn the_file_servers_folder_becomes_static_files_without_a_program() {
    let site = r#"
spin_manifest_version = 2
[application]
name = "site"
[[trigger.http]]
route = "/static/..."
component = "files"
[component.files]
source = { url = "https://github.com/spinframework/spin-fileserver/releases/download/v0.3.0/spin_static_fs.wasm", digest = "sha256:ab" }
files = [{ source = "assets/", destination = "/" }]
environment = { CUSTOM_404_PATH = "/404.html", FALLBACK_PATH = "index.html" }
"#;
    let spin = read(site, None, None).unwrap();
    assert_eq!((spin.source.as_str(), spin.assets.as_deref()), ("", Some("assets")));
    assert_eq!(spin.config.path_prefix, "/static");
    assert_eq!(spin.config.assets.unwrap().not_found.as_deref(), Some("404.html"));
    assert_eq!(
        shown(&spin.notes),
        [
            "warning: spin.toml:11: component.files.environment.FALLBACK_PATH is ignored: static files have no such setting here",
            "static files of the folder assets (from component.files)",
        ]
    );
    let several = site.replace("destination = \"/\" }]", "destination = \"/\" }, \"more/*\"]");
    assert!(mistakes(&several)[0].contains("must be one whole folder"), "{:?}", mistakes(&several));
    let none = site.replace("files = [{ source = \"assets/\", destination = \"/\" }]", "");
    assert!(mistakes(&none)[0].contains("files: is missing"), "{:?}", mistakes(&none));
}

#[test]
fn mistakes_name_the_cure() {
    let old = "spin_manifest_version = \"1\"\nname = \"a\"\ntrigger = { type = \"http\" }\n[[component]]\nid = \"a\"\n";
    assert!(
        mistakes(old).contains(
            &"line 1: spin_manifest_version: is 1; `spin doctor` makes a manifest of version 2 of it".into()
        ),
        "{:?}",
        mistakes(old)
    );
    assert_eq!(mistakes("spin_manifest_version = 3\n"), ["line 1: spin_manifest_version: must be 2"]);
    assert_eq!(mistakes("")[0], "spin_manifest_version: is missing");
    let head = "spin_manifest_version = 2\n";
    assert_eq!(
        mistakes(&format!("{head}[[trigger.redis]]\ncomponent = \"a\"\n")),
        ["trigger.http: has no HTTP trigger with a component: nothing would answer requests"]
    );
    let http = format!("{head}[[trigger.http]]\nroute = \"/...\"\ncomponent = \"a\"\n");
    assert_eq!(mistakes(&http), ["component.a: is missing: a trigger names it"]);
    assert_eq!(
        mistakes(&format!("{http}[component.a]\n")),
        ["component.a.source: is missing: the program's file"]
    );
    assert_eq!(
        mistakes(&format!("{http}executor = {{ type = \"wagi\" }}\n")),
        [
            "line 5: trigger.http[0].executor: only programs that answer with wasi:http are run, no CGI ones: use the http executor"
        ]
    );
    assert_eq!(
        mistakes(&format!("{http}[component.a]\nsource = 3\nkey_value_stores = [\"a/b\"]\n")),
        [
            "line 6: component.a.source: must be a string, not integer",
            "line 7: component.a.key_value_stores: store name \"a/b\" has a character other than letters, digits, '_', '-' and '.'",
        ]
    );
}

#[test]
fn the_file_server_serves_no_folder_outside_the_project() {
    for source in ["/etc", "..", "a/../../b", ".", ""] {
        let text = format!(
            "spin_manifest_version = 2\n[application]\nname = \"site\"\n[[trigger.http]]\nroute = \"/...\"\ncomponent = \"files\"\n\
             [component.files]\nsource = \"spin_static_fs.wasm\"\nfiles = [{{ source = \"{source}\", destination = \"/\" }}]\n"
        );
        let said = format!("{:?}", mistakes(&text));
        assert!(said.contains("within the project"), "{source:?}: {said}");
    }
}
