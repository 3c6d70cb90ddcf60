//! What people read: help texts and errors, with their exit codes, as files in `tests/golden`.
//! `UPDATE=1 cargo test -p skerry-cli --test golden` writes them anew.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs `skerry` in `directory` and compares everything it said with the golden file `name`.
fn check(name: &str, directory: &Path, arguments: &[&str]) {
    check_binary(Path::new(env!("CARGO_BIN_EXE_skerry")), name, directory, arguments);
}

fn check_binary(binary: &Path, name: &str, directory: &Path, arguments: &[&str]) {
    let output = Command::new(binary)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let mut said = format!("$ skerry {}\n", arguments.join(" "));
    said.push_str(&String::from_utf8(output.stdout).unwrap());
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        writeln!(said, "2> {line}").unwrap();
    }
    writeln!(said, "exit {}", output.status.code().unwrap()).unwrap();
    held(name, &said.replace(&directory.display().to_string(), "HERE").replace("HERE/", ""));
}

/// Compares a text with the golden file `name`, or writes it.
fn held(name: &str, said: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, said).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        said == wanted,
        "{} differs; UPDATE=1 accepts it. It was:\n{wanted}\nIt is:\n{said}",
        path.display()
    );
}

#[test]
fn up_without_its_servers() {
    let folder = empty();
    let alone = folder.path().join("skerry");
    fs::copy(env!("CARGO_BIN_EXE_skerry"), &alone).unwrap();
    fs::write(folder.path().join("control-plane"), "").unwrap();
    check_binary(&alone, "up-without-servers", folder.path(), &["up", "--data", "d"]);
}

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_component_of_what_is_none() {
    let here = empty();
    fs::write(here.path().join("text.core.wasm"), "text").unwrap();
    fs::write(here.path().join("empty.core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    check("component-of-text", here.path(), &["component", "text.core.wasm", "--out", "made.wasm"]);
    check("component-of-nothing", here.path(), &["component", "empty.core.wasm", "--out", "made.wasm"]);
    assert!(!here.path().join("made.wasm").exists());
}

#[test]
fn help_texts() {
    let here = empty();
    for command in [
        "",
        "new",
        "dev",
        "build",
        "test",
        "publish",
        "versions",
        "diff",
        "completions",
        "man",
        "up",
        "deploy",
        "push",
        "status",
        "verify",
        "logs",
        "apps",
        "rollback",
        "recompile",
        "app",
        "app delete",
        "config",
        "config set",
        "config list",
        "config unset",
        "secrets",
        "secrets set",
        "secrets import",
        "secrets list",
        "secrets unset",
        "kv",
        "kv put",
        "kv get",
        "kv list",
        "kv delete",
        "tenant",
        "tenant create",
        "tenant list",
        "token",
        "token create",
        "token list",
        "token revoke",
        "node",
        "node token create",
        "node list",
        "node revoke",
        "compiler-key",
        "compiler-key list",
        "compiler-key add",
        "component",
        "init",
        "schema",
    ] {
        let mut arguments: Vec<&str> = command.split_whitespace().collect();
        arguments.push("--help");
        check(
            &format!("help-{}", command.replace(' ', "-")).replace("help-.", "help"),
            here.path(),
            &arguments,
        );
    }
}

#[test]
fn a_project_that_cannot_be_made_or_built() {
    let here = empty();
    check("new-without-lang", here.path(), &["new", "shop"]);
    check("new-no-such-template", here.path(), &["new", "shop", "--lang", "rust", "--template", "blog"]);
    check("new-bad-name", here.path(), &["new", "My Shop", "--lang", "rust"]);
    check("new-list", here.path(), &["new", "--list"]);
    check("new-no-crate-name", here.path(), &["new", "404", "--lang", "rust"]);
    fs::create_dir(here.path().join("shop")).unwrap();
    fs::write(here.path().join("shop/mine"), "").unwrap();
    check("new-over-what-is-there", here.path(), &["new", "shop", "--lang", "rust"]);

    check("build-nothing", here.path(), &["build"]);
    check("dev-nothing", here.path(), &["dev"]);
    let manifest = |build: &str| {
        let text = format!("name = \"shop\"\ncomponent = \"shop.wasm\"\n{build}\n");
        fs::write(here.path().join("skerry.toml"), text).unwrap();
    };
    manifest("[build]\ncommand = \"echo compiling; echo broken >&2; exit 3\"");
    check("build-fails", here.path(), &["build"]);
    manifest("[build]\ncommand = \"npm run build\"");
    check("build-without-its-tool", here.path(), &["build"]);
    manifest("[build]\ncommand = \"true\"");
    check("build-leaves-nothing", here.path(), &["build"]);
    check("test-of-nothing", here.path(), &["test"]);
    manifest("");
    check("build-without-command", here.path(), &["build"]);
}

#[test]
fn without_credentials() {
    check("no-credentials", empty().path(), &["apps"]);
    check("no-token", empty().path(), &["apps", "--api", "http://127.0.0.1:1"]);
    check("no-fleet-in-data", empty().path(), &["apps", "--data", "elsewhere"]);
}

#[test]
fn usage() {
    let api = ["--api", "http://127.0.0.1:1", "--token", "skt_x"];
    let with = |arguments: &[&'static str]| [arguments, &api].concat();
    check("nothing-to-deploy", empty().path(), &with(&["deploy"]));
    check("no-such-file", empty().path(), &with(&["deploy", "gone.wasm"]));
    check("bad-host", empty().path(), &with(&["deploy", "--host", "127.0.0.1"]));
    check("bad-url", empty().path(), &["apps", "--api", "127.0.0.1:1", "--token", "skt_x"]);
    check("bad-time", empty().path(), &with(&["deploy", "--timeout", "5"]));
    check("no-such-command", empty().path(), &["deplyo"]);
    check("no-app-named", empty().path(), &with(&["logs"]));
    let folder = empty();
    fs::write(folder.path().join("skerry.toml"), "name = \"shop\"\n").unwrap();
    check("rollback-to-what", folder.path(), &with(&["rollback", "3"]));
    check("app-of-the-folder", folder.path(), &with(&["versions"]));
    check("config-set-nothing", folder.path(), &with(&["config", "set", "shop"]));
    check("recompile-what", folder.path(), &with(&["recompile"]));
    check("recompile-why", folder.path(), &with(&["recompile", "--all"]));
    check("diff-of-one", folder.path(), &with(&["diff", "3"]));
    check("diff-of-no-version", folder.path(), &with(&["diff", "3", "new"]));
}

#[test]
fn registries() {
    let api = ["--api", "http://127.0.0.1:1", "--token", "skt_x"];
    let with = |arguments: &[&'static str]| [arguments, &api].concat();
    let folder = empty();
    fs::write(folder.path().join("shop.wasm"), "\0asm\u{1}\0\0\0").unwrap();
    check("push-nowhere", folder.path(), &["push", "ghcr.io/acme/shop", "shop.wasm"]);
    check("push-nothing", folder.path(), &["push", "oci://ghcr.io/acme/shop"]);
    let by_digest =
        "oci://127.0.0.1:1/shop@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    check("push-to-a-digest", folder.path(), &["push", by_digest, "shop.wasm"]);
    check("push-name-without-password", folder.path(), &["push", "oci://ghcr.io/shop", "--username", "me"]);
    check("deploy-bad-image", folder.path(), &with(&["deploy", "oci://ghcr.io/Acme/shop:1"]));
    check("deploy-registry-unreachable", folder.path(), &with(&["deploy", "oci://127.0.0.1:1/shop:1"]));
    fs::write(folder.path().join("skerry.toml"), "name = \"shop\"\ncomponent = \"shop.wasm\"\n").unwrap();
    check("deploy-folder-with-manifest", folder.path(), &with(&["deploy", "--manifest", "other.toml"]));
}

/// A control plane that says this of its one recompilation, an answer a connection; the last for as long as it is asked.
fn recompiling(answers: Vec<&'static str>) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for number in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let rest = answers[number.min(answers.len() - 1)];
            let body = format!(
                r#"{{"id":7,"app":"shop","reason":"drill","by":"tok_1","asked_ms":1,"problem":null,"versions":2,"same":0,"gone":0,"from_tomorrow":1,{rest}}}"#
            );
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close", body.len());
            let _ = write!(stream, "{head}\r\n\r\n{body}"); // it may have been told to stop
        }
    });
    url
}

const GOES_ON: &str = r#""changed":0,"ended_ms":null,"done":0,"failed":0,"failures":[]"#;
const ENDED: &str = r#""changed":1,"ended_ms":2,"done":2,"failed":1,"failures":[{"tenant":"default","app":"shop","version":1,"why":"too large"}]"#;

fn watching(url: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skerry"));
    command.args(["recompile", "--watch", "7", "--token", "skt_x", "--api", url]).args(more).env_clear();
    command
}

fn said(output: std::process::Output) -> String {
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    format!("{out}2> {err}exit {}\n", output.status.code().unwrap())
}

/// What a script reads of `--json`, and the exit code.
#[test]
fn a_recompilation_that_ends_with_a_failure() {
    let url = recompiling(vec![GOES_ON, ENDED]);
    held("recompile-json", &said(watching(&url, &["--json"]).output().unwrap()));
}

#[test]
fn a_recompilation_goes_on_when_nobody_watches_it_any_more() {
    let url = recompiling(vec![GOES_ON]);
    let mut command = watching(&url, &[]);
    let piped = std::process::Stdio::piped;
    let child = command.stdout(piped()).stderr(piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    held("recompile-interrupted", &said(child.wait_with_output().unwrap()));
}

#[test]
fn a_manifest_with_mistakes() {
    let folder = empty();
    fs::write(
        folder.path().join("skerry.toml"),
        "name = \"Shop\"\ncomponent = \"shop.wasm\"\nhosts = [\"shop.example\", \"127.0.0.1\"]\ncolour = \"red\"\n\n\
         [limits]\ncpu_ms = 0\nmemory = 5\n",
    )
    .unwrap();
    let arguments = ["deploy", ".", "--api", "http://127.0.0.1:1", "--token", "skt_x"];
    check("manifest-mistakes", folder.path(), &arguments);
    check("manifest-mistakes-json", folder.path(), &[&arguments[..], &["--json"]].concat());
}

/// Every `manifests/NAME.toml` is a `skerry.toml` with mistakes; `NAME.txt` has what is said of them.
#[test]
fn broken_manifests() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifests");
    let mut names: Vec<String> = fs::read_dir(manifests.as_path())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 25, "{names:?}");
    for name in names {
        let folder = empty();
        fs::copy(manifests.join(format!("{name}.toml")), folder.path().join("skerry.toml")).unwrap();
        broken(&format!("manifests/{name}"), folder.path());
    }
}

#[test]
fn a_manifest_that_is_too_large_or_no_file() {
    let folder = empty();
    let manifest = folder.path().join("skerry.toml");
    fs::write(&manifest, format!("# {}\n", "x".repeat(1024 * 1024))).unwrap();
    broken("manifests/huge", folder.path());
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    broken("manifests/folder", folder.path());
}

#[test]
fn a_program_that_is_not_built() {
    let folder = empty();
    let manifest = folder.path().join("skerry.toml");
    let head = "name = \"shop\"\ncomponent = \"shop.wasm\"\n";
    fs::write(&manifest, head).unwrap();
    broken("manifests/not-built", folder.path());
    fs::write(&manifest, format!("{head}build = {{ command = \"make shop.wasm\" }}\n")).unwrap();
    broken("manifests/not-built-by-its-command", folder.path());
}

/// A deploy that fails before anything is sent.
fn broken(name: &str, folder: &Path) {
    check(name, folder, &["deploy", "--api", "http://127.0.0.1:1", "--token", "skt_x"]);
}

const SPIN: &str = r#"
spin_manifest_version = 2

[application]
name = "shop"
version = "0.1.0"

[variables]
origin = { default = "api.example" }
token = { required = true, secret = true }

[[trigger.http]]
route = "/api/..."
component = "shop"

[component.shop]
source = "target/wasm32-wasip2/release/shop.wasm"
allowed_outbound_hosts = ["https://{{ origin }}", "redis://cache.example:6379"]
key_value_stores = ["default"]
files = ["assets/**/*"]
[component.shop.variables]
origin = "https://{{ origin }}"
token = "{{ token }}"
[component.shop.build]
command = "cargo build --target wasm32-wasip2 --release"
watch = ["src/**/*.rs", "Cargo.toml"]
"#;

const FILE_SERVER: &str = r#"
spin_manifest_version = 2
[application]
name = "site"
[[trigger.http]]
route = "/..."
component = "files"
[component.files]
source = "modules/spin_static_fs.wasm"
files = [{ source = "assets", destination = "/" }]
"#;

const FASTLY: &str = r#"
manifest_version = 3
name = "shop"
language = "rust"
service_id = "abc"

[scripts]
build = "cargo build --bin main --release --target wasm32-wasip1"

[local_server.backends.origin]
url = "http://127.0.0.1:8000"

[setup.backends.origin]
address = "origin.example"
port = 443

[local_server.config_stores.settings]
format = "inline-toml"
contents = { greeting = "hi" }

[[local_server.kv_stores.carts]]
key = "first"
data = "a value"

[[local_server.secret_stores.vault]]
key = "TOKEN"
data = "s3cret"

[local_server]
acls = { blocked = "acl.json" }
"#;

/// What `skerry init` says, and what it writes.
fn initialised(name: &str, folder: &Path, arguments: &[&str], wrote: &str) {
    check(name, folder, &[&["init"], arguments].concat());
    held(&format!("{name}-wrote"), &fs::read_to_string(folder.join(wrote)).unwrap());
}

#[test]
fn a_project_of_another_platform_becomes_one_of_ours() {
    let folder = empty();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    };
    write("spin/spin.toml", SPIN);
    initialised("init-spin", folder.path(), &["--from", "spin/spin.toml"], "spin/skerry.toml");
    initialised(
        "init-elsewhere",
        folder.path(),
        &["--from", "spin", "apps/shop", "--json"],
        "apps/shop/skerry.toml",
    );
    write("site/spin.toml", FILE_SERVER);
    initialised("init-spin-files", folder.path(), &["--from", "site"], "site/skerry.toml");
    write("fastly/fastly.toml", FASTLY);
    initialised("init-fastly", folder.path(), &["--from", "fastly/fastly.toml"], "fastly/skerry.toml");
    // Deployed as it is: that there is no program is what is wrong.
    for name in ["spin", "fastly"] {
        fs::remove_file(folder.path().join(name).join("skerry.toml")).unwrap();
        let deploy = ["deploy", name, "--api", "http://127.0.0.1:1", "--token", "skt_x"];
        check(&format!("deploy-{name}-not-built"), folder.path(), &deploy);
    }
}

#[test]
fn a_package_becomes_a_folder() {
    let folder = empty();
    let packed = folder.path().join("packed/shop");
    fs::create_dir_all(packed.join("bin")).unwrap();
    fs::write(packed.join("bin/main.wasm"), b"\0asm\x01\0\0\0").unwrap();
    fs::write(packed.join("fastly.toml"), "manifest_version = 3\nname = \"shop\"\n").unwrap();
    let tar = |arguments: &[&str]| {
        let status = Command::new("tar").args(arguments).current_dir(folder.path()).status().unwrap();
        assert!(status.success());
    };
    tar(&["-czf", "shop.tar.gz", "-C", "packed", "shop/fastly.toml", "shop/bin/main.wasm"]);
    initialised("init-package", folder.path(), &["--from", "shop.tar.gz", "app"], "app/skerry.toml");
    assert_eq!(fs::read(folder.path().join("app/main.wasm")).unwrap(), b"\0asm\x01\0\0\0");
}

#[test]
fn what_init_will_not_do() {
    let folder = empty();
    let init = |name: &str, arguments: &[&str]| check(name, folder.path(), &[&["init"], arguments].concat());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    init("init-from-nothing", &["--from", "gone.toml"]);
    write("readme.md", "");
    init("init-from-text", &["--from", "readme.md"]);
    write("old.toml", "spin_manifest_version = \"1\"\nname = \"shop\"\ntrigger = { type = \"http\" }\n");
    init("init-spin-1", &["--from", "old.toml"]);
    let second = "[[trigger.http]]\nroute = \"/b\"\ncomponent = \"b\"\n[component.b]\nsource = \"b.wasm\"\n";
    write("spin.toml", &format!("{SPIN}{second}"));
    init("init-which-component", &["--from", "spin.toml"]);
    init("init-no-such-component", &["--from", "spin.toml", "--component", "c"]);
    write("nameless.toml", &SPIN.replace("name = \"shop\"", "name = \"!\""));
    init("init-nameless", &["--from", "nameless.toml"]);
    assert!(!folder.path().join("skerry.toml").exists(), "nothing was written");
    write("skerry.toml", "mine");
    init("init-there-already", &["--from", "spin.toml", "--component", "b"]);
    assert_eq!(fs::read_to_string(folder.path().join("skerry.toml")).unwrap(), "mine");
    init("init-by-force", &["--from", "spin.toml", "--component", "b", "--force"]);
    assert!(fs::read_to_string(folder.path().join("skerry.toml")).unwrap().starts_with("name = \"shop\""));
    let deploy = ["deploy", "--api", "http://127.0.0.1:1", "--token", "skt_x"];
    fs::remove_file(folder.path().join("skerry.toml")).unwrap();
    check("deploy-which-component", folder.path(), &deploy);
}

#[test]
fn nobody_there() {
    let folder = empty();
    fs::write(folder.path().join("hello.wasm"), b"\0asm").unwrap();
    let api = ["--api", "http://127.0.0.1:1", "--token", "skt_x"];
    check("unreachable", folder.path(), &[&["apps"], &api[..]].concat());
    check("unreachable-json", folder.path(), &[&["deploy", "hello.wasm", "--json"], &api[..]].concat());
}
