use std::collections::BTreeMap;

use super::{items::Put, *};
use crate::exit::Exit;

/// What a `fastly.toml` becomes.
fn read(text: &str, purpose: Purpose) -> Manifest {
    let shown = |mistakes: Vec<Mistake>| -> Manifest { panic!("{}", lines(&mistakes).join("\n")) };
    try_read(text, purpose).unwrap_or_else(shown)
}

fn try_read(text: &str, purpose: Purpose) -> std::result::Result<Manifest, Vec<Mistake>> {
    let files = BTreeMap::from([
        ("conf.json".to_owned(), br#"{"mode":"fast","n":"1"}"#.to_vec()),
        (
            "kv.json".to_owned(),
            br#"{"a":"1","b":{"data":"2","metadata":"m"},"c":{"file":"conf.json"}}"#.to_vec(),
        ),
        ("secrets.json".to_owned(), br#"{"token":"s3"}"#.to_vec()),
        ("geo.json".to_owned(), br#"{"192.0.2.1":{"city":"Bonn"}}"#.to_vec()),
        ("ca.pem".to_owned(), PEM.as_bytes().to_vec()),
        ("bad.json".to_owned(), b"{\n\"a\": }".to_vec()),
        ("list.json".to_owned(), b"[]".to_vec()),
        ("number.json".to_owned(), b"{\"a\":1}".to_vec()),
    ]);
    let variables = |name: &str| (name == "TOKEN").then(|| "from-env".to_owned());
    manifest::read("fastly.toml", text, &Files::Package(&files), Some(&variables), purpose)
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----";

fn lines(mistakes: &[Mistake]) -> Vec<String> {
    mistakes.iter().map(Mistake::to_string).collect()
}

fn said(manifest: &Manifest) -> Vec<String> {
    manifest.notes.iter().map(Note::to_string).collect()
}

#[test]
fn a_complete_local_server() {
    let manifest = read(
        r#"
        manifest_version = 3
        name = "My_Shop"
        description = "d"
        authors = ["a@b.example"]
        language = "rust"
        service_id = "x"
        [scripts]
        build = "make"
        [local_server.backends.origin]
        url = "https://origin.example:8443/"
        override_host = "shop.example"
        cert_host = "cert.example"
        use_sni = true
        connect_timeout_ms = 1
        first_byte_timeout_ms = 2
        between_bytes_timeout_ms = 3
        ca_certificate = [{ file = "ca.pem" }, "-----BEGIN CERTIFICATE-----\nMBB=\n-----END CERTIFICATE-----"]
        [local_server.config_stores.settings]
        format = "inline-toml"
        [local_server.config_stores.settings.contents]
        greeting = "hi"
        [local_server.dictionaries.old]
        format = "json"
        file = "conf.json"
        [[local_server.kv_stores.data]]
        key = "a"
        data = "1"
        metadata = "meta"
        [[local_server.kv_stores.data]]
        key = "b"
        path = "conf.json"
        [local_server.object_stores.from_file]
        file = "kv.json"
        format = "json"
        [local_server.secret_stores]
        keys = [{ key = "one", data = "s1" }, { key = "two", env = "TOKEN" }, { key = "three", file = "conf.json" }]
        filed = { file = "secrets.json", format = "json" }
        [local_server.geolocation]
        use_default_loopback = false
        format = "inline-toml"
        [local_server.geolocation.addresses."127.0.0.1"]
        city = "Here"
        latitude = 1.5
        [local_server.device_detection]
        format = "inline-toml"
        [local_server.device_detection.user_agents."Phone/1.0"]
        device = { name = "Phone", is_mobile = true }
        "#,
        Purpose::Up,
    );
    assert_eq!(
        (manifest.name.as_ref().unwrap().as_str(), manifest.build.as_deref()),
        ("my-shop", Some("make"))
    );
    let config = &manifest.config;
    let origin = &config.backends["origin"];
    assert_eq!(origin.url, "https://origin.example:8443");
    assert_eq!(origin.override_host.as_deref(), Some("shop.example"));
    assert_eq!(origin.cert_host.as_deref(), Some("cert.example"));
    let timeouts = (origin.connect_timeout_ms, origin.first_byte_timeout_ms, origin.between_bytes_timeout_ms);
    assert_eq!(timeouts, (Some(1), Some(2), Some(3)));
    let ca = origin.ca_pem.as_ref().unwrap();
    assert!(ca.starts_with(PEM) && ca.contains("MBB=") && ca.matches("BEGIN").count() == 2, "{ca}");
    assert_eq!(config.config_stores["settings"]["greeting"], "hi");
    assert_eq!(config.config_stores["old"]["mode"], "fast");
    assert_eq!(config.kv_stores, ["data", "from_file"]);
    assert_eq!(config.secret_stores["keys"], ["one", "three", "two"]);
    assert_eq!(config.secret_stores["filed"], ["token"]);
    assert_eq!(config.geo.values().collect::<Vec<_>>(), [r#"{"city":"Here","latitude":1.5}"#]);
    assert_eq!(config.devices["Phone/1.0"], r#"{"device":{"is_mobile":true,"name":"Phone"}}"#);

    let kv: Vec<_> = manifest.items.kv.iter().map(|item| (item.store.as_str(), item.key.as_str())).collect();
    assert_eq!(
        kv,
        [("data", "a"), ("data", "b"), ("from_file", "a"), ("from_file", "b"), ("from_file", "c")]
    );
    assert_eq!(manifest.items.kv[0].metadata.as_deref(), Some("meta"));
    assert_eq!(manifest.items.kv[1].value, br#"{"mode":"fast","n":"1"}"#);
    assert_eq!(
        (manifest.items.kv[3].value.as_slice(), manifest.items.kv[3].metadata.as_deref()),
        (&b"2"[..], Some("m"))
    );
    assert_eq!(manifest.items.kv[4].value, br#"{"mode":"fast","n":"1"}"#);
    let secrets: Vec<_> =
        manifest.items.secrets.iter().map(|item| (item.key.as_str(), item.value.as_slice())).collect();
    assert_eq!(
        secrets[..3],
        [("token", &b"s3"[..]), ("one", b"s1"), ("three", br#"{"mode":"fast","n":"1"}"#)]
    );
    assert_eq!(secrets[3], ("two", &b"from-env"[..]));
    assert!(manifest.items.kv.iter().all(|item| item.put == Put::Always), "up puts what the file says");
    assert!(!format!("{:?}", manifest.items).contains("from-env"), "secrets are not printed");
    assert_eq!(
        said(&manifest),
        [
            "device detection: 1 user agents",
            "geolocation: 1 addresses",
            "fastly.toml:37: local_server.secret_stores.keys[1].env reads the environment variable TOKEN",
            "name \"My_Shop\": the app is called my-shop here",
            "backend origin: https://origin.example:8443 (from local_server)",
            "config store old: 2 items (from local_server)",
            "config store settings: 1 item (from local_server)",
            "secret store filed: 1 secret (from local_server)",
            "secret store keys: 3 secrets (from local_server)",
            "KV store data: 2 items (from local_server)",
            "KV store from_file: 3 items (from local_server)",
        ]
    );
}

const BOTH: &str = r#"
    manifest_version = 2
    name = "app"
    [local_server.backends]
    a = { url = "http://127.0.0.1:8080" }
    local = { url = "http://localhost:1" }
    [local_server.config_stores.c]
    contents = { where = "local" }
    [[local_server.kv_stores.k]]
    key = "local"
    data = "1"
    [[local_server.secret_stores.s]]
    key = "local"
    data = "1"
    [setup.backends.a]
    address = "origin.example"
    [setup.backends.v4]
    address = "192.0.2.7"
    port = 80
    [setup.backends.v6]
    address = "2001:db8::7"
    port = 8080
    [setup.backends.empty]
    description = "asked for"
    [setup.config_stores.c.items.where]
    value = "setup"
    description = "d"
    [setup.config_stores.c.items.asked]
    description = "d"
    [setup.kv_stores.k.items]
    one = { value = "1" }
    two = { file = "conf.json" }
    [setup.secret_stores.s.entries.password]
    description = "d"
    [setup.log_endpoints.logs]
    provider = "s3"
    [setup.products.websockets]
    enable = true
"#;

#[test]
fn a_deploy_takes_setup_first_and_overwrites_no_value() {
    let manifest = read(BOTH, Purpose::Deploy);
    let config = &manifest.config;
    let url = |name: &str| config.backends[name].url.as_str();
    assert_eq!(
        [url("a"), url("v4"), url("v6")],
        ["https://origin.example", "http://192.0.2.7", "http://[2001:db8::7]:8080"]
    );
    assert_eq!(config.backends["a"].override_host.as_deref(), Some("origin.example"));
    assert_eq!(config.backends["v4"].override_host, None);
    assert_eq!(config.config_stores["c"], BTreeMap::from([("where".to_owned(), "setup".to_owned())]));
    assert_eq!(config.secret_stores["s"], ["password"]);
    assert!(manifest.items.secrets.is_empty());
    let kv: Vec<_> = manifest.items.kv.iter().map(|item| (item.key.as_str(), item.put)).collect();
    assert_eq!(kv, [("one", Put::IfAbsent), ("two", Put::IfAbsent)]);
    assert!(config.geo.is_empty(), "no sample place in production");
    assert_eq!(
        said(&manifest),
        [
            "warning: fastly.toml:23: setup.backends.empty is ignored: it has no address",
            "warning: fastly.toml:28: setup.config_stores.c.items.asked is ignored: it has no value; the program does not find it",
            "log endpoint logs: its lines go to the app's log, to no provider",
            "warning: fastly.toml:37: setup.products.websockets is ignored: products are Fastly's own",
            "backend a: https://origin.example (from setup, not local_server)",
            "backend local: http://localhost:1 (from local_server)",
            "warning: backend local: http://localhost:1 is the node's own machine there",
            "backend v4: http://192.0.2.7 (from setup)",
            "backend v6: http://[2001:db8::7]:8080 (from setup)",
            "config store c: 1 item (from setup, not local_server)",
            "secret store s: 1 secret (from setup, not local_server)",
            "warning: secret store s: the file has no value for password; set it with `skerry secrets set`",
            "KV store k: 2 items (from setup, not local_server)",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn up_takes_the_local_server_first_and_has_a_sample_place() {
    let manifest = read(BOTH, Purpose::Up);
    let config = &manifest.config;
    assert_eq!(config.backends["a"].url, "http://127.0.0.1:8080");
    assert_eq!(config.backends["v4"].url, "http://192.0.2.7", "what only setup names is there too");
    assert_eq!(config.config_stores["c"]["where"], "local");
    assert_eq!(manifest.items.secrets.len(), 1);
    assert!(manifest.items.kv.iter().all(|item| item.key == "local" && item.put == Put::Always));
    let addresses: Vec<String> = config.geo.keys().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1", "::1"]);
    assert!(config.mistakes().is_empty());
}

#[test]
fn a_client_certificate_becomes_a_secret_of_the_app() {
    let manifest = read(
        r#"
        manifest_version = 3
        name = "app"
        [local_server.backends."my origin"]
        url = "https://o.example"
        [local_server.backends."my origin".client_certificate]
        certificate_file = "ca.pem"
        key = "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n"
        "#,
        Purpose::Deploy,
    );
    let backend = &manifest.config.backends["my origin"];
    assert_eq!(backend.client_cert_pem.as_deref(), Some(PEM));
    assert_eq!(backend.client_key_secret.as_deref(), Some("backend-my-origin-client-key"));
    assert!(manifest.config.secrets.is_empty(), "the program cannot read it");
    let needed: Vec<String> =
        manifest.config.secrets_needed().iter().map(|at| at.name.as_str().to_owned()).collect();
    assert_eq!(needed, ["backend-my-origin-client-key"], "but it is pinned");
    let [key] = manifest.items.secrets.as_slice() else { panic!("{:?}", manifest.items) };
    assert_eq!(
        (key.store.as_deref(), key.key.as_str(), key.put),
        (None, "backend-my-origin-client-key", Put::Always)
    );
    assert!(key.value.starts_with(b"-----BEGIN PRIVATE KEY"));
}

/// Every environment has a `PATH`.
#[test]
fn a_package_reads_no_environment_and_a_folder_says_what_it_reads() {
    let text = "manifest_version = 3\nname = \"app\"\n[local_server.secret_stores]\n\
                s = [{ key = \"k\", env = \"PATH\" }]\n";
    let of =
        |files: &Files<'_>| read_manifest(text, files, Path::new("p/fastly.toml"), Purpose::Deploy).unwrap();
    let package = of(&Files::Package(&BTreeMap::new()));
    assert!(package.items.secrets.is_empty(), "nothing of the user's");
    assert_eq!(package.config.secret_stores["s"], ["k"]);
    let without = "warning: secret store s: the file has no value for k; set it with `skerry secrets set`";
    assert!(said(&package).iter().any(|note| note == without), "{:?}", said(&package));

    let folder = of(&Files::Folder(Path::new(".")));
    let [secret] = folder.items.secrets.as_slice() else { panic!("{:?}", folder.items) };
    assert_eq!(Some(secret.value.clone()), std::env::var("PATH").ok().map(String::into_bytes));
    let reads = "fastly.toml:4: local_server.secret_stores.s[0].env reads the environment variable PATH";
    assert!(said(&folder).iter().any(|note| note == reads), "{:?}", said(&folder));
}

#[test]
fn items_are_counted_before_any_is_read() {
    let mut text = "manifest_version = 3\nname = \"app\"\n".to_owned();
    for n in 0..=stores::ITEMS_MAX {
        text += &format!("[setup.kv_stores.a.items.k{n}]\nfile = \"gone\"\n");
    }
    for n in 0..=stores::ITEMS_MAX {
        text += &format!("[[local_server.kv_stores.b]]\nkey = \"k{n}\"\nfile = \"gone\"\n");
    }
    let mistakes = lines(&try_read(&text, Purpose::Deploy).unwrap_err());
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(mistakes.iter().all(|mistake| mistake.contains("1001 items, at most 1000")), "{mistakes:#?}");
}

#[test]
fn all_files_together_are_bounded() {
    let files = BTreeMap::from([("big".to_owned(), vec![b'x'; stores::KV_VALUE_BYTES_MAX as usize])]);
    let fit = manifest::FILES_BYTES_MAX / stores::KV_VALUE_BYTES_MAX;
    let of = |count: u64| {
        let item = |n| format!("[[local_server.kv_stores.b]]\nkey = \"k{n}\"\nfile = \"big\"\n");
        let items: String = (0..count).map(item).collect();
        let text = format!("manifest_version = 3\nname = \"app\"\n{items}");
        manifest::read("fastly.toml", &text, &Files::Package(&files), None, Purpose::Deploy)
    };
    assert_eq!(of(fit).unwrap().items.kv.len() as u64, fit);
    let mistakes = lines(&of(fit + 1).unwrap_err());
    assert!(mistakes.len() == 1 && mistakes[0].contains("all files of a manifest together"), "{mistakes:?}");
}

#[test]
fn what_has_no_effect_here_is_said_with_its_line() {
    let manifest = read(
        r#"manifest_version = 3
name = "app"
colour = "red"
[local_server]
viceroy_version = "0.1"
pushpin = { enable = true }
[local_server.acls]
a = "acl.json"
[local_server.backends.b]
url = "http://o.example/base?x"
use_sni = false
grpc = true
health = "unhealthy"
new_key = 1
[local_server.geolocation]
use_default_loopback = false
[setup.unknown]
"#,
        Purpose::Up,
    );
    let warnings: Vec<String> =
        said(&manifest).into_iter().filter(|note| note.starts_with("warning")).collect();
    let expected = [
        (3, "colour is ignored: it is not known here"),
        (6, "local_server.pushpin is ignored: only Fastly's own local server has it"),
        (7, "local_server.acls is ignored: access lists are not supported; the program finds none"),
        (
            10,
            "local_server.backends.b.url is ignored: its path \"/base?x\"; a backend is a host, the request has the path",
        ),
        (11, "local_server.backends.b.use_sni is ignored: the name of the certificate is always sent"),
        (12, "local_server.backends.b.grpc is ignored: HTTP/2 is used whenever an https origin offers it"),
        (13, "local_server.backends.b.health is ignored: whether an origin is well is found out, not set"),
        (14, "local_server.backends.b.new_key is ignored: it is not known here"),
        (17, "setup.unknown is ignored: it is not known here"),
    ];
    for (line, text) in expected {
        let wanted = format!("warning: fastly.toml:{line}: {text}");
        assert!(warnings.contains(&wanted), "{wanted}\nnot in\n{}", warnings.join("\n"));
    }
    assert_eq!(warnings.len(), expected.len());
    assert_eq!(manifest.config.backends["b"].url, "http://o.example");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let mistakes = try_read(
        r#"manifest_version = 1
name = 3
[local_server.backends.a]
override_host = ""
connect_timeout_ms = "1s"
ca_certificate = "ca.pem"
[local_server.backends.b]
url = "ftp://x"
client_certificate = { certificate_file = "gone.pem" }
[local_server.config_stores.c]
format = "xml"
[local_server.config_stores.d]
format = "json"
[local_server.config_stores.e]
format = "json"
file = "bad.json"
[local_server.config_stores.f]
format = "json"
file = "number.json"
[[local_server.kv_stores.k]]
data = "no key"
[[local_server.kv_stores.k]]
key = "a"
data = "x"
file = "conf.json"
[[local_server.kv_stores.k]]
key = "a"
[local_server.secret_stores]
s = [{ key = "x", env = "NOT_SET" }]
t = "no"
[local_server.geolocation.addresses]
here = {}
[local_server.device_detection]
file = "list.json"
[setup.backends.p]
address = "x.example"
port = 99999
[setup.config_stores.c2.items.k]
value = 1
[local_server.dictionaries.e]
contents = {}
"#,
        Purpose::Deploy,
    )
    .unwrap_err();
    assert_eq!(
        lines(&mistakes),
        [
            "line 1: manifest_version: must be 2 or 3; update the manifest with Fastly's tools",
            "line 2: name: must be a string, not integer",
            "line 3: local_server.backends.a: needs a url of the form http[s]://host[:port]",
            "line 4: local_server.backends.a.override_host: is empty",
            "line 5: local_server.backends.a.connect_timeout_ms: must be a whole number from 0 to 4294967295",
            "line 6: local_server.backends.a.ca_certificate: has no certificate in PEM form",
            "line 7: local_server.backends.b.url: \"ftp://x\" is not of the form http[s]://host[:port]",
            "line 9: local_server.backends.b.client_certificate: needs key or key_file",
            "line 9: local_server.backends.b.client_certificate.certificate_file: cannot be read: \"gone.pem\" is not in the package",
            "line 11: local_server.config_stores.c.format: \"xml\" is not a format: json or inline-toml",
            "line 12: local_server.config_stores.d: needs file, as its format says",
            "line 16: local_server.config_stores.e.file: is not JSON: expected value at line 2 column 6",
            "line 19: local_server.config_stores.f.file: \"a\" in it is not a string",
            "line 20: local_server.kv_stores.k[0]: needs a key",
            "line 22: local_server.kv_stores.k[1]: needs exactly one of data, file, path",
            "line 26: local_server.kv_stores.k[2]: needs exactly one of data, file, path",
            "line 29: local_server.secret_stores.s[0].env: the environment variable NOT_SET is not set",
            "line 30: local_server.secret_stores.t: must be an array of items, or a table with file and format, not string",
            "line 32: local_server.geolocation.addresses.here: is not an IP address",
            "line 34: local_server.device_detection.file: its JSON is not an object",
            "line 37: setup.backends.p.port: 99999 is not a port: 1 to 65535",
            "line 39: setup.config_stores.c2.items.k.value: must be a string, not integer",
            "line 40: local_server.dictionaries.e: is there twice, also as local_server.config_stores.e",
        ]
    );
    assert_eq!(lines(&try_read("name = \n", Purpose::Up).unwrap_err()).len(), 1);
}

#[test]
fn bounds_of_the_configuration_have_the_files_lines() {
    let long = "x".repeat(artifact::manifest::bounds::LOOKUP_JSON_BYTES_MAX);
    let text = format!(
        "name = \"a\"\nmanifest_version = 3\n[local_server.geolocation.addresses]\n\"192.0.2.9\" = {{ city = \"{long}\" }}\n"
    );
    let mistakes = try_read(&text, Purpose::Deploy).unwrap_err();
    assert_eq!(
        (mistakes[0].line, mistakes[0].key.as_str()),
        (Some(4), "local_server.geolocation.addresses.192.0.2.9")
    );
}

#[test]
fn a_name_no_store_can_have_has_its_line() {
    let text = "name = \"a\"\nmanifest_version = 3\n[local_server.kv_stores]\ngood = []\n\"a/b\" = []\n";
    let mistakes = lines(&try_read(text, Purpose::Deploy).unwrap_err());
    assert!(
        mistakes[0].starts_with("line 5: local_server.kv_stores.a/b: store name \"a/b\""),
        "{mistakes:?}"
    );
}

#[test]
fn what_a_store_would_refuse_is_a_mistake_of_the_file() {
    let text = "name = \"a\"\nmanifest_version = 3\n[local_server.kv_stores]\nk = [{ key = \"a\\nb\", data = \"\" }]\n\
                [local_server.secret_stores]\ns = [{ key = \"empty\", data = \"\" }]\n";
    assert_eq!(
        lines(&try_read(text, Purpose::Deploy).unwrap_err()),
        [
            "line 4: local_server.kv_stores.k: key \"a\\nb\" has a control character",
            "line 6: local_server.secret_stores.s: the secret empty is empty",
        ]
    );
}

#[test]
fn names_become_names_of_hosts() {
    let name = |raw: &str| {
        read(&format!("manifest_version = 3\nname = {raw:?}\n"), Purpose::Deploy)
            .name
            .map(|name| name.to_string())
    };
    for (raw, clean) in [("app", "app"), ("My App!", "my-app"), ("--a__b--", "a-b"), ("Größe 2", "gr-e-2")]
    {
        assert_eq!(name(raw).as_deref(), Some(clean), "{raw}");
    }
    assert_eq!(name(&"ab-".repeat(40)).unwrap().len(), 62, "cut, and not at a dash");
    assert_eq!(name("_"), None);
}

#[test]
fn a_folder_has_its_program_in_bin_or_in_its_package() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("fastly.toml"), "manifest_version = 3\nname = \"app\"\n[scripts]\nbuild = \"make it\"\n")
        .unwrap();
    fs::write(path("fastly.test.toml"), "manifest_version = 3\nname = \"test\"\n").unwrap();
    let read = |env: Option<&str>| folder(dir.path(), env, Purpose::Deploy).unwrap();
    let Program::File { cure, .. } = read(None).program else { panic!("a file") };
    assert!(cure.ends_with("make it"), "{cure}");
    assert_eq!(read(Some("test")).name.unwrap().as_str(), "test");
    assert!(is_project(dir.path(), None) && !is_project(dir.path(), Some("other")));

    fs::create_dir(path("pkg")).unwrap();
    fs::write(path("pkg/app.tar.gz"), packed("app", b"\0asm packed")).unwrap();
    fs::write(path("pkg/zzz.tar.gz"), b"another").unwrap();
    assert!(matches!(read(None).program, Program::Bytes(wasm) if wasm == b"\0asm packed"));
    fs::create_dir(path("bin")).unwrap();
    fs::write(path("bin/main.wasm"), b"\0asm newer").unwrap();
    assert!(matches!(read(None).program, Program::File { .. }));
    assert_eq!(read(None).file, path("bin/main.wasm"));
}

#[test]
fn a_package_and_a_folder_that_has_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.tar.gz");
    fs::write(&file, packed("app", b"\0asm\x01\0\0\0")).unwrap();
    for read in [package(&file, None, Purpose::Deploy), folder(dir.path(), None, Purpose::Deploy)] {
        let read = read.unwrap();
        assert_eq!(read.name.unwrap().as_str(), "app");
        assert!(matches!(read.program, Program::Bytes(wasm) if wasm == b"\0asm\x01\0\0\0"));
    }
    let error = package(&file, Some("test"), Purpose::Deploy).unwrap_err();
    assert!(error.to_string().contains("has no app/fastly.test.toml"), "{error}");

    fs::write(dir.path().join("two.tar.gz"), b"x").unwrap();
    let error = folder(dir.path(), None, Purpose::Deploy).unwrap_err();
    assert!(error.to_string().contains("2 packages"), "{error}");
    let error = package(&dir.path().join("two.tar.gz"), None, Purpose::Deploy).unwrap_err();
    assert_eq!(error.exit(), Exit::Rejected);
    fs::write(&file, packed("app", b"\x1f\x8b not a program")).unwrap();
    let error = package(&file, None, Purpose::Deploy).unwrap_err();
    assert!(error.to_string().contains("app/bin/main.wasm is not a WebAssembly program"), "{error}");
}

/// A package of an app of this name.
fn packed(name: &str, program: &[u8]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(encoder);
    let manifest = format!("manifest_version = 3\nname = \"{name}\"\n");
    for (path, contents) in [("fastly.toml", manifest.as_bytes()), ("bin/main.wasm", program)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        tar.append_data(&mut header, format!("{name}/{path}"), contents).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}
