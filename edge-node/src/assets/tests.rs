//! Requests of an app with files, from head to bytes, with the shelf in a folder and no control plane.

use std::collections::BTreeMap;

use artifact::manifest::AppConfig;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;

use super::*;
use crate::{
    front::{Handler as _, InboundBody},
    serve::Server,
    testing::{ServingNode, bare_host, connection, local, put_blob},
};

const PAGE: &[u8] = b"<p>hello</p>";
const BR: &[u8] = b"as if compressed";
const SOON: std::time::Duration = std::time::Duration::from_secs(20);
/// Traps: 500 says that it ran.
const PROGRAM: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

fn large() -> Vec<u8> {
    (0..3 * PIECE_BYTES + 5).map(|n| (n % 251) as u8).collect()
}

struct Given {
    node: ServingNode,
    server: Server,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    /// Nothing: it broke off.
    body: Option<Vec<u8>>,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone().unwrap()).unwrap()
    }
}

fn site(program: Option<&str>, settings: Assets) -> Given {
    let file = |bytes: &[u8], br: Option<&[u8]>| AssetFile {
        content_type: "text/html; charset=utf-8".into(),
        plain: AssetBlob::of(bytes),
        br: br.map(AssetBlob::of),
        gzip: None,
    };
    let large = large();
    let files: BTreeMap<String, AssetFile> = [
        ("index.html", file(PAGE, Some(BR))),
        ("dir/index.html", file(b"dir", None)),
        ("large.bin", file(&large, None)),
        ("empty.txt", file(b"", None)),
        ("404.html", file(b"not here", None)),
    ]
    .into_iter()
    .map(|(path, file)| (path.to_owned(), file))
    .collect();
    let index = AssetIndex::new(files).unwrap();
    let config = AppConfig {
        hosts: vec!["site.localhost".parse().unwrap()],
        assets: Some(settings),
        ..AppConfig::default()
    };
    let node = ServingNode::with_files(bare_host(), config, program, Some(&index));
    for bytes in [PAGE, BR, b"dir", &large, b"", b"not here"] {
        put_blob(&node.shelf, bytes);
    }
    Given { server: Server::new(node.node.clone(), 0, None), node }
}

fn plain_site() -> Given {
    site(None, Assets::default())
}

impl Given {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(path).header("host", "site.localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(InboundBody::Empty).unwrap();
        let response = self.server.handle(request, &connection()).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
        Got { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[]).await
    }

    fn spoil(&self, bytes: &[u8], with: &[u8]) {
        std::fs::write(self.node.shelf.path(Digest::of(bytes)), with).unwrap();
    }

    fn remove(&self, bytes: &[u8]) {
        std::fs::remove_file(self.node.shelf.path(Digest::of(bytes))).unwrap();
    }
}

#[test]
fn a_file_is_answered_whole_with_what_a_client_needs_to_keep_it() {
    local(async {
        let site = plain_site();
        let page = site.get("/").await;
        assert_eq!((page.status, page.text().as_bytes()), (200, PAGE));
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", "12"),
            ("cache-control", "public, max-age=0, must-revalidate"),
            ("vary", "accept-encoding"),
            ("accept-ranges", "bytes"),
            ("x-content-type-options", "nosniff"),
            ("content-encoding", ""),
        ] {
            assert_eq!(page.header(name), value, "{name}");
        }
        let head = site.ask("HEAD", "/", &[]).await;
        assert_eq!((head.status, head.text().as_str(), head.header("content-length")), (200, "", "12"));
        assert_eq!(head.header("etag"), page.header("etag"));

        let br = site.ask("GET", "/", &[("accept-encoding", "gzip, br")]).await;
        assert_eq!((br.text().as_bytes(), br.header("content-encoding")), (BR, "br"));
        assert_ne!(br.header("etag"), page.header("etag"), "a strong tag is of these bytes");
        let empty = site.get("/empty.txt").await;
        assert_eq!((empty.status, empty.text().as_str(), empty.header("vary")), (200, "", ""));
        let large = site.get("/large.bin").await;
        assert_eq!((large.status, large.body), (200, Some(self::large())));
    });
}

/// What one client's headers made fail is nothing that others are to get under this name.
fn is_kept_by_nobody(got: &Got) {
    let headers = ["cache-control", "content-type", "content-encoding"].map(|name| got.header(name));
    assert_eq!((headers, got.text().as_str()), (["no-store", "", ""], ""));
}

#[test]
fn conditions_and_ranges_are_answered_by_the_representation_chosen() {
    local(async {
        let site = plain_site();
        let tag = site.get("/").await.header("etag").to_owned();
        let same = site.ask("GET", "/", &[("if-none-match", &tag)]).await;
        assert_eq!((same.status, same.text().as_str(), same.header("etag")), (304, "", tag.as_str()));
        assert_eq!(same.header("vary"), "accept-encoding");
        let other = site.ask("GET", "/", &[("if-none-match", &tag), ("accept-encoding", "br")]).await;
        assert_eq!(other.status, 200, "it has the plain one, and would get the other");
        let failed = site.ask("GET", "/", &[("if-match", "\"x\""), ("accept-encoding", "br")]).await;
        assert_eq!(failed.status, 412);
        is_kept_by_nobody(&failed);

        let large = self::large();
        let end = large.len() as u64 - 1;
        for (first, last) in
            [(0, 0), (65_535, 65_536), (65_536, 131_071), (10, end), (end, end), (70_000, 70_001)]
        {
            let part = site.ask("GET", "/large.bin", &[("range", &format!("bytes={first}-{last}"))]).await;
            assert_eq!(part.status, 206);
            assert_eq!(part.header("content-range"), format!("bytes {first}-{last}/{}", large.len()));
            assert_eq!(part.header("content-length"), (last - first + 1).to_string());
            assert_eq!(part.body.as_deref(), Some(&large[first as usize..=last as usize]), "{first}-{last}");
        }
        let beyond = site.ask("GET", "/", &[("range", "bytes=12-")]).await;
        assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */12"));
        assert_eq!(beyond.header("etag"), "");
        is_kept_by_nobody(&beyond);
        let part = site.ask("GET", "/", &[("range", "bytes=3-7"), ("if-range", &tag)]).await;
        assert_eq!((part.status, part.text().as_str()), (206, "hello"));
        assert_eq!(
            site.ask("GET", "/", &[("range", "bytes=3-7"), ("if-range", "\"old\"")]).await.status,
            200
        );
        assert_eq!(site.ask("HEAD", "/", &[("range", "bytes=3-7")]).await.status, 200);
    });
}

#[test]
fn what_names_no_file_is_the_programs_if_there_is_one() {
    local(async {
        let with_program =
            site(Some(PROGRAM), Assets { not_found: Some("404.html".into()), ..Assets::default() });
        for (method, path) in
            [("GET", "/nothing"), ("POST", "/"), ("OPTIONS", "/large.bin"), ("GET", "/dir%2Findex.html")]
        {
            let ran = with_program.ask(method, path, &[]).await;
            assert_eq!(ran.status, 500, "{method} {path}: {}", ran.text());
        }
        assert_eq!(with_program.get("/").await.status, 200);

        let alone = plain_site();
        assert_eq!(alone.get("/nothing").await.status, 404);
        let post = alone.ask("POST", "/", &[]).await;
        assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
        assert_eq!(alone.ask("POST", "/nothing", &[]).await.status, 404);

        let with_page = site(None, Assets { not_found: Some("404.html".into()), ..Assets::default() });
        let missing =
            with_page.ask("GET", "/nothing", &[("range", "bytes=0-1"), ("if-none-match", "*")]).await;
        assert_eq!((missing.status, missing.text().as_str()), (404, "not here"));
        assert_eq!((missing.header("cache-control"), missing.header("etag")), ("no-store", ""));
        assert_eq!(with_page.get("/404.html").await.status, 200);
    });
}

#[test]
fn a_folder_is_moved_to_its_slash_and_the_query_stays() {
    local(async {
        let site = plain_site();
        let moved = site.get("/dir?a=b/c").await;
        assert_eq!((moved.status, moved.header("location")), (308, "/dir/?a=b/c"));
        assert_eq!(moved.header("cache-control"), "no-cache", "there may be a file of that name tomorrow");
        assert_eq!(site.get("/dir/").await.text(), "dir");
        assert_eq!(site.get("//dir").await.status, 404, "never to another host");
    });
}

#[test]
fn a_file_that_rotted_or_vanished_is_an_error_and_never_other_bytes() {
    local(async {
        let site = plain_site();
        site.spoil(PAGE, b"<p>hullo</p>");
        let rotten = site.get("/").await;
        assert_eq!((rotten.status, rotten.header("retry-after")), (503, "1"));
        assert!(rotten.text().contains("file_unavailable"));
        site.remove(b"dir");
        assert_eq!(site.get("/dir/").await.status, 503);

        let mut large = self::large();
        let last = large.len() - 1;
        large[last] ^= 1;
        site.spoil(&self::large(), &large);
        let cut = site.get("/large.bin").await;
        assert_eq!((cut.status, cut.body), (200, None), "it breaks off before the piece that is wrong");
        assert_eq!(site.node.node.files.running(), 0);

        // The attempts to fetch them again have ended: nothing is taken away any more.
        while !site.node.node.files.mending.lock().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        site.spoil(PAGE, PAGE);
        assert_eq!(site.get("/").await.status, 200);
        site.remove(PAGE);
        assert_eq!(site.get("/").await.status, 200, "from memory");
    });
}

#[test]
fn requests_for_files_are_counted_and_give_back_their_room() {
    local(async {
        let site = plain_site();
        site.get("/large.bin").await;
        site.get("/nothing").await;
        site.get("/").await;
        let metrics = String::from_utf8(site.node.node.metrics.render()).unwrap();
        for line in [
            r#"skerry_requests_total{app="test",status="2xx",tenant="default",version="1"} 2"#,
            r#"skerry_requests_total{app="test",status="4xx",tenant="default",version="1"} 1"#,
            r#"skerry_failures_total{app="test",code="no_file",tenant="default",version="1"} 1"#,
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
        assert_eq!(site.node.node.files.running(), 0);

        let request =
            Request::get("/large.bin").header("host", "site.localhost").body(InboundBody::Empty).unwrap();
        let memory = site.node.node.files.budget.bytes();
        let response = site.server.handle(request, &connection()).await;
        assert_eq!(site.node.node.files.running(), 1, "as long as its body is there");
        assert_eq!(site.node.node.files.budget.bytes(), memory + PIECE_BYTES, "and a piece of it is held");
        drop(response);
        assert_eq!(site.node.node.files.running(), 0);
        assert_eq!(site.node.node.files.budget.bytes(), memory);
    });
}

#[test]
fn bytes_of_small_files_and_last_pieces_are_counted_until_their_reader_lets_go() {
    local(async {
        let site = plain_site();
        let ask = async |path: &str| {
            let request =
                Request::get(path).header("host", "site.localhost").body(InboundBody::Empty).unwrap();
            let response = site.server.handle(request, &connection()).await;
            http_body_util::BodyExt::collect(response.into_body()).await
        };
        let files = &site.node.node.files;
        for (path, counted) in [("/", PIECE_BYTES), ("/", PAGE.len() as u64), ("/large.bin", PIECE_BYTES)] {
            // As a connection has them in its buffers when the body itself is gone.
            let held = ask(path).await.unwrap();
            assert_eq!(files.running(), 0, "{path}");
            let before = files.budget.bytes();
            drop(held);
            assert_eq!(before - files.budget.bytes(), counted, "{path}");
        }
    });
}

#[test]
fn one_app_reads_a_quarter_of_what_a_worker_may() {
    local(async {
        let site = plain_site();
        let mut held = Vec::new();
        let busy = loop {
            let request =
                Request::get("/large.bin").header("host", "site.localhost").body(InboundBody::Empty).unwrap();
            let response = site.server.handle(request, &connection()).await;
            match response.status() {
                StatusCode::OK => held.push(response),
                status => break status,
            }
        };
        assert_eq!((busy, held.len()), (StatusCode::SERVICE_UNAVAILABLE, READS_AT_ONCE_MAX / 4));
        assert_eq!(site.get("/").await.status, 503);
        held.clear();
        assert_eq!(site.get("/").await.status, 200);
    });
}

#[test]
fn files_and_the_nodes_own_records_do_not_wait_for_one_disks_thread() {
    local(async {
        let site = plain_site();
        let side = &site.node.node.files.side;
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let stuck = side.spawn_blocking(move || held.recv().is_err());
        let read = tokio::time::timeout(SOON, site.get("/large.bin")).await.unwrap();
        assert_eq!(read.status, 200, "the side runtime has one thread, and that is taken");
        drop(hold);
        stuck.await.unwrap();

        let held = site.node.node.files.readers.keep_busy();
        tokio::time::timeout(SOON, side.spawn_blocking(|| ())).await.unwrap().unwrap();
        drop(held);
    });
}

/// Asks, and goes away when the node waits for the disk.
async fn ask_and_go(site: &Given, path: &str) {
    let asked = futures_util::poll!(std::pin::pin!(site.get(path)));
    assert!(asked.is_pending(), "{path}");
}

#[test]
fn a_request_that_goes_away_keeps_its_room_until_its_read_has_ended() {
    local(async {
        let site = plain_site();
        site.get("/nothing").await; // the index is here
        let files = &site.node.node.files;
        let memory = files.budget.bytes();
        let held = files.readers.keep_busy();
        for n in 1..=READS_AT_ONCE_MAX / 4 {
            ask_and_go(&site, "/large.bin").await;
            assert_eq!(files.running(), n, "what waits for a thread is counted");
        }
        assert_eq!(files.budget.bytes(), memory + READS_AT_ONCE_MAX as u64 / 4 * PIECE_BYTES);
        assert_eq!(site.get("/large.bin").await.status, 503);
        drop(held);
        while files.running() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert_eq!(files.budget.bytes(), memory);
        assert_eq!(site.get("/large.bin").await.status, 200);
    });
}

#[test]
fn a_body_that_goes_away_keeps_its_room_until_its_read_has_ended() {
    local(async {
        let site = plain_site();
        let files = &site.node.node.files;
        let request =
            Request::get("/large.bin").header("host", "site.localhost").body(InboundBody::Empty).unwrap();
        let mut body = site.server.handle(request, &connection()).await.into_body();
        body.frame().await.unwrap().unwrap();
        let held = files.readers.keep_busy();
        assert!(futures_util::poll!(body.frame()).is_pending());
        drop(body);
        assert_eq!(files.running(), 1);
        drop(held);
        while files.running() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn an_index_is_read_once_and_to_its_end_whoever_goes_away() {
    local(async {
        let site = plain_site();
        let files = &site.node.node.files;
        let held = files.readers.keep_busy();
        for _ in 0..3 {
            ask_and_go(&site, "/nothing").await;
            assert_eq!(files.running(), 1, "one read, which has the room of who began it");
        }
        drop(held);
        while files.running() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let generation = site.node.node.generation.load();
        let version = &generation.deployments().next().unwrap().state.version;
        std::fs::remove_file(site.node.shelf.path(version.assets.unwrap().index)).unwrap();
        assert_eq!(site.get("/").await.status, 200, "it is in memory");
    });
}

#[test]
fn an_index_that_somebody_has_is_not_read_again_where_there_is_no_room_to_keep_it() {
    local(async {
        let site = plain_site();
        let files = &site.node.node.files;
        let free = files.budget.bytes_max() - files.budget.bytes();
        assert!(files.budget.take(free));
        let held = files.readers.keep_busy();
        let asked = [site.get("/nothing"), site.get("/nothing"), site.get("/nothing")];
        let mut asked = std::pin::pin!(futures_util::future::join_all(asked));
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
        assert_eq!(files.readers.waiting(), 1, "one reads for all");
        drop(held);
        assert!(asked.await.iter().all(|got| got.status == 404));
        files.budget.give(free);
    });
}

#[test]
fn a_version_that_names_no_files_is_refused() {
    let site = plain_site();
    let deployments = site.node.node.generation.load();
    let mut version = deployments.deployments().next().unwrap().state.version.clone();
    version.assets = None;
    let refused = site.node.node.files.site(&version).err().unwrap();
    assert_eq!(refused.code, NackCode::LoadFail);
    version.config.assets = None;
    assert!(site.node.node.files.site(&version).unwrap().is_none());
}
