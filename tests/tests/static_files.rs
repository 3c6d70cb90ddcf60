//! A folder of static files, from `skerry deploy` to foreign clients.

use std::{fs, path::Path, thread, time::Duration};

use artifact::Digest;
use whole_flow::{Fleet, Process, Proto, Request, Response, Said, guest, random_bytes, wait_for};

const LARGE_BYTES: usize = 1_300_000;

fn page() -> String {
    format!("<!doctype html><title>hello</title>{}", "<p>hello, world</p>".repeat(300))
}

fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A project in the fleet's scratch folder: html, css, png, and a file of many pieces.
fn project(fleet: &Fleet, app: &str, more: &str) -> std::path::PathBuf {
    let folder = fleet.scratch().join(app);
    let manifest =
        format!("name = \"{app}\"\n{more}\n[assets]\nfolder = \"public\"\nnot_found = \"404.html\"\n");
    write(&folder, "skerry.toml", manifest.as_bytes());
    write(&folder, "public/index.html", page().as_bytes());
    write(&folder, "public/docs/index.html", b"docs");
    write(&folder, "public/style.css", "p { color: teal }\n".repeat(100).as_bytes());
    write(&folder, "public/logo.png", &random_bytes(1, 3_000));
    write(&folder, "public/large.bin", &random_bytes(2, LARGE_BYTES));
    write(&folder, "public/404.html", b"no such page");
    write(&folder, "public/.env", b"SECRET=1");
    folder
}

fn deploy(fleet: &Fleet, folder: &Path) -> Said {
    fleet.skerry(&["deploy", &folder.display().to_string(), "--json", "--timeout", "120s"])
}

fn head(fleet: &Fleet, proto: Proto, app: &str, path: &str) -> Response {
    let request: Request = fleet.request(proto, app).path(path);
    match proto {
        Proto::H3 => request.method("HEAD").send(),
        _ => request.with(&["--head"]).send(),
    }
}

fn serves(fleet: &Fleet, proto: Proto, app: &str) {
    let get = |path: &str, headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(fleet.request(proto, app).path(path), |ask, (name, value)| ask.header(name, value))
            .send()
    };
    let (page, large) = (page(), random_bytes(2, LARGE_BYTES));
    let plain = get("/", &[]).expect(200);
    assert!(plain.is_body(page.as_bytes()), "{proto:?}");
    assert_eq!(plain.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(plain.header("content-length"), Some(page.len().to_string().as_str()));
    assert_eq!(plain.header("x-content-type-options"), Some("nosniff"));
    let tag = plain.header("etag").unwrap().to_owned();
    let same = get("/index.html", &[("if-none-match", &tag)]).expect(304);
    assert_eq!(
        (same.body_len, same.header("etag"), same.complete),
        (0, Some(tag.as_str()), true),
        "{proto:?}"
    );

    let br = get("/", &[("accept-encoding", "gzip, br")]).expect(200);
    assert_eq!((br.header("content-encoding"), br.header("vary")), (Some("br"), Some("accept-encoding")));
    assert!(
        br.complete && br.body_len < page.len() / 10 && br.header("etag") != Some(&tag),
        "{proto:?}: {br:?}"
    );
    assert_eq!(get("/", &[("accept-encoding", "gzip")]).header("content-encoding"), Some("gzip"));

    assert!(get("/large.bin", &[]).expect(200).is_body(&large), "{proto:?}");
    let part = get("/large.bin", &[("range", "bytes=65530-200000")]).expect(206);
    assert!(part.is_body(&large[65_530..=200_000]), "{proto:?}");
    assert_eq!(part.header("content-range"), Some(format!("bytes 65530-200000/{LARGE_BYTES}").as_str()));
    let beyond = get("/large.bin", &[("range", "bytes=1300000-")]).expect(416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{LARGE_BYTES}").as_str()));

    let without_body = head(fleet, proto, app, "/large.bin").expect(200);
    assert!(without_body.complete, "{proto:?}: {without_body:?}");
    // curl writes the head in the body's place.
    assert!(proto != Proto::H3 || without_body.body_len == 0, "{without_body:?}");
    assert_eq!(without_body.header("content-length"), Some(LARGE_BYTES.to_string().as_str()));
    assert!(get("/logo.png", &[]).expect(200).is_body(&random_bytes(1, 3_000)));
    assert_eq!(get("/docs?a=b", &[]).expect(308).header("location"), Some("/docs/?a=b"));
    assert_eq!(get("/docs/", &[]).expect(200).text, "docs");
}

#[test]
fn a_site_without_a_program_is_served_on_every_protocol_and_a_second_deploy_sends_what_changed() {
    let fleet = Fleet::separate().start();
    let folder = project(&fleet, "site", "");
    let said = deploy(&fleet, &folder).ok();
    assert!(said.err.contains("static files: skipped, hidden: .env"), "{said}");
    let deployed = said.json();
    assert_eq!((&deployed["outcome"], &deployed["assets"]["files"]), (&"live".into(), &6.into()), "{said}");
    assert_eq!(deployed["assets"]["new"], 6, "{said}");
    for proto in Proto::secure() {
        serves(&fleet, proto, "site");
        let missing = fleet.get(proto, "site", "/nothing").expect(404);
        assert_eq!(
            (missing.text.as_str(), missing.header("cache-control")),
            ("no such page", Some("no-store"))
        );
        assert_eq!(fleet.get(proto, "site", "/.env").status, 404);
        assert_eq!(fleet.get(proto, "site", "/docs/../../../etc/passwd").status, 404);
        let post = fleet.request(proto, "site").method("POST").body(b"x").send().expect(405);
        assert_eq!(post.header("allow"), Some("GET, HEAD"));
    }
    // Counted and logged as the app's.
    assert!(fleet.metric("skerry_requests_total", &["app=\"site\"", "status=\"2xx\""]) > 10.0);
    let line = wait_for("the access log's line", 10, || {
        let log = fleet.log(Process::Node);
        log.lines()
            .find(|line| line.contains(r#""path":"/large.bin""#) && line.contains(r#""status":206"#))
            .map(str::to_owned)
    });
    assert!(line.contains(r#""app":"default/site","version":1,"cpu_us":0"#), "{line}");

    // Nothing changed: nothing is sent. One file changed: that is.
    let again = deploy(&fleet, &folder).ok().json();
    assert_eq!((&again["assets"]["new"], &again["assets"]["bytes"]), (&0.into(), &0.into()), "{again}");
    write(&folder, "public/docs/index.html", b"new docs");
    let changed = deploy(&fleet, &folder).ok().json();
    assert_eq!((&changed["assets"]["new"], &changed["assets"]["bytes"]), (&1.into(), &8.into()), "{changed}");
    assert_eq!(fleet.get(Proto::H2, "site", "/docs/").expect(200).text, "new docs");
    let text = fleet.skerry(&["deploy", &folder.display().to_string()]).ok();
    assert!(text.out.contains("\n  6 files (0 new, 0 KB)\n  https://site.localhost"), "{text}");
    fleet.skerry(&["rollback", "site", "--to", "1"]).ok();
    assert_eq!(fleet.get(Proto::H2, "site", "/docs/").expect(200).text, "docs");

    // Nobody to ask: what is on the node's disk is served.
    fleet.kill9(Process::ControlPlane);
    fleet.kill9(Process::Node);
    fleet.restart(Process::Node);
    for proto in Proto::secure() {
        serves(&fleet, proto, "site");
    }

    // A file that rots is an error until the control plane is back, and never other bytes.
    let large = random_bytes(2, LARGE_BYTES);
    let hex = Digest::of(&large).to_string();
    let stored = fleet.data_of(Process::Node).join("blobs/sha256").join(&hex[..2]).join(&hex);
    let mut rotten = large.clone();
    rotten[10] ^= 1;
    fs::write(&stored, rotten).unwrap();
    let refused = fleet.get(Proto::H2, "site", "/large.bin").expect(503);
    assert!(refused.text.contains("file_unavailable"), "{refused:?}");
    fleet.restart(Process::ControlPlane);
    fleet.wait_connected();
    wait_for("the node to mend the file", 60, || {
        let response = fleet.get(Proto::H2, "site", "/large.bin");
        assert!(response.status == 503 || response.is_body(&large), "{response:?}");
        (response.status == 200).then_some(())
    });
}

#[test]
fn a_program_answers_what_its_files_do_not_and_a_deploy_goes_on_when_the_control_plane_is_back() {
    let fleet = Fleet::separate().start();
    let folder = project(&fleet, "shop", "component = \"app.wasm\"");
    fs::copy(guest("wstd-hello"), folder.join("app.wasm")).unwrap();
    deploy(&fleet, &folder).ok();
    for proto in Proto::secure() {
        serves(&fleet, proto, "shop");
        assert_eq!(fleet.get(proto, "shop", "/nothing").expect(200).text, "Hello from wstd!\n");
        assert_eq!(fleet.request(proto, "shop").method("POST").send().expect(200).text, "Hello from wstd!\n");
    }

    // The line breaks before the files are sent.
    let site = project(&fleet, "later", "");
    write(&site, "public/late.txt", b"late");
    fleet.kill9(Process::ControlPlane);
    thread::scope(|scope| {
        let deploying = scope.spawn(|| deploy(&fleet, &site));
        thread::sleep(Duration::from_secs(4));
        fleet.restart(Process::ControlPlane);
        let said = deploying.join().unwrap().ok();
        // The others are those of the shop.
        let assets = &said.json()["assets"];
        assert_eq!((&assets["files"], &assets["new"]), (&7.into(), &1.into()), "{said}");
    });
    assert_eq!(fleet.get(Proto::H2, "later", "/docs/").expect(200).text, "docs");

    // What cannot be deployed leaves what is served.
    write(
        &site,
        "skerry.toml",
        b"name = \"later\"\n[assets]\nfolder = \"public\"\nnot_found = \"gone.html\"\n",
    );
    deploy(&fleet, &site).failed_with(3, "gone.html");
    write(&site, "skerry.toml", b"name = \"later\"\n[assets]\nfolder = \"nowhere\"\n");
    deploy(&fleet, &site).failed_with(2, "[assets]");
    assert_eq!(fleet.get(Proto::H2, "later", "/docs/").expect(200).text, "docs");
}
