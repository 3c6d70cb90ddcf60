//! Static files on their way in.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use artifact::{
    Digest,
    assets::{AssetBlob, AssetFile, AssetIndex, FILE_BYTES_MAX},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Plane};

fn file(bytes: &[u8]) -> AssetFile {
    AssetFile { content_type: "text/css".into(), plain: AssetBlob::of(bytes), br: None, gzip: None }
}

fn index(files: impl IntoIterator<Item = (&'static str, AssetFile)>) -> Vec<u8> {
    let files: BTreeMap<_, _> = files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
    AssetIndex::new(files).unwrap().encode().unwrap()
}

async fn put(plane: &Plane, token: &str, bytes: &[u8]) -> Answer {
    let path = format!("/v1/assets/{}", Digest::of(bytes));
    plane.ask_as(token, Method::PUT, &path).bytes(bytes.to_vec()).send().await
}

async fn missing(plane: &Plane, token: &str, blobs: &[&[u8]]) -> Value {
    let digests: Vec<Digest> = blobs.iter().map(|bytes| Digest::of(bytes)).collect();
    let ask = plane.ask_as(token, Method::POST, "/v1/assets/missing").json(json!({ "digests": digests }));
    ask.send().await.ok()["missing"].clone()
}

async fn deploy(plane: &Plane, token: &str, index: &[u8], assets: Value) -> Answer {
    let body = json!({ "assets": Digest::of(index), "config": { "assets": assets } });
    plane.ask_as(token, Method::POST, "/v1/apps/site/versions").json(body).send().await
}

#[tokio::test]
async fn a_site_without_a_program_is_deployed_when_all_its_files_are_there_and_not_before() {
    let plane = Plane::without_compiler().await;
    let token = plane.tenant("a").await;
    let mut page = file(b"page");
    page.br = Some(AssetBlob::of(b"br"));
    let index = index([("a.css", file(b"css")), ("b.html", page)]);
    put(&plane, &token, b"css").await.ok();
    let refused = deploy(&plane, &token, &index, json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "assets_missing"));
    put(&plane, &token, &index).await.ok();
    let refused = deploy(&plane, &token, &index, json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "assets_missing"));
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("b.html") && message.contains("b.html (br)") && !message.contains("a.css"),
        "{message}"
    );

    put(&plane, &token, b"page").await.ok();
    put(&plane, &token, b"br").await.ok();
    let deployed = deploy(&plane, &token, &index, json!({})).await.ok();
    assert_eq!((&deployed["version"], &deployed["targets"]), (&json!(1), &json!([])));
    let app = plane.ask_as(&token, Method::GET, "/v1/apps/site").send().await.ok();
    assert_eq!(app["versions"][0]["assets"], json!(Digest::of(&index)));
    assert_eq!(app["versions"][0]["wasm_bytes"], 0);

    // Other settings for the same files need no upload, and keep them.
    let change = json!({ "set": { "greeting": "hi" } });
    plane.ask_as(&token, Method::POST, "/v1/apps/site/config").json(change).send().await.ok();
    let app = plane.ask_as(&token, Method::GET, "/v1/apps/site").send().await.ok();
    assert_eq!(app["versions"][0]["version"], 2);
    assert_eq!(app["versions"][0]["assets"], json!(Digest::of(&index)));
}

#[tokio::test]
async fn what_another_tenant_has_is_not_told_and_not_given() {
    let plane = Plane::without_compiler().await;
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    let index = index([("secret.css", file(b"secret"))]);
    put(&plane, &a, b"secret").await.ok();
    put(&plane, &a, &index).await.ok();
    let all: [&[u8]; 3] = [b"secret", b"nobody's", &index];
    assert_eq!(missing(&plane, &a, &all).await, json!([Digest::of(b"nobody's")]));
    assert_eq!(missing(&plane, &b, &all).await, json!(all.map(Digest::of)));
    let refused = deploy(&plane, &b, &index, json!({})).await;
    assert_eq!(refused.code(), "assets_missing");
    put(&plane, &b, &index).await.ok();
    let refused = deploy(&plane, &b, &index, json!({})).await;
    assert_eq!(refused.code(), "assets_missing", "to name a digest is not to have it");
    put(&plane, &b, b"secret").await.ok();
    deploy(&plane, &b, &index, json!({})).await.ok();
}

#[tokio::test]
async fn altered_and_oversize_blobs_are_refused() {
    let plane = Plane::without_compiler().await;
    let path = format!("/v1/assets/{}", Digest::of(b"file"));
    let altered = plane.ask(Method::PUT, &path).bytes(b"Bile".to_vec()).send().await;
    assert_eq!((altered.status.as_u16(), altered.code()), (422, "digest_mismatch"));
    assert_eq!(missing(&plane, &plane.operator, &[b"file"]).await, json!([Digest::of(b"file")]));
    let over = vec![0; FILE_BYTES_MAX as usize + 1];
    assert_eq!(put(&plane, &plane.operator, &over).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    put(&plane, &plane.operator, &over[1..]).await.ok();
    let many = json!({ "digests": vec![Digest::ZERO; 4097] });
    let refused = plane.ask(Method::POST, "/v1/assets/missing").json(many).send().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "too_many"));
}

#[tokio::test]
async fn an_index_that_is_wrong_in_itself_or_of_its_files_is_refused() {
    let plane = Plane::without_compiler().await;
    let token = plane.tenant("a").await;
    let code = |answer: Answer| (answer.status.as_u16(), answer.code().to_owned());
    let escape = br#"{"form":1,"files":{"../x":{"type":"a","plain":{"digest":"0000000000000000000000000000000000000000000000000000000000000000","bytes":0}}}}"#;
    put(&plane, &token, escape).await.ok();
    let refused = deploy(&plane, &token, escape, json!({})).await;
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("'..' segment"), "{refused:?}");
    assert_eq!(code(refused), (422, "bad_assets".into()));

    let large = vec![7; 100_000];
    let mut lying = file(&large);
    lying.plain.pieces[1] = Digest::ZERO;
    let index = index([("large.css", lying)]);
    put(&plane, &token, &large).await.ok();
    put(&plane, &token, &index).await.ok();
    assert_eq!(code(deploy(&plane, &token, &index, json!({})).await), (422, "bad_assets".into()));

    let index = self::index([("a.css", file(&large))]);
    put(&plane, &token, &index).await.ok();
    let no_such = deploy(&plane, &token, &index, json!({ "not_found": "404.html" })).await;
    assert_eq!(code(no_such), (422, "bad_config".into()));
    deploy(&plane, &token, &index, json!({ "not_found": "a.css" })).await.ok();

    let settings_alone = json!({ "config": { "assets": {} } });
    let neither =
        plane.ask_as(&token, Method::POST, "/v1/apps/site/versions").json(settings_alone).send().await;
    assert_eq!(code(neither), (422, "bad_config".into()));
    let nothing = plane.ask_as(&token, Method::POST, "/v1/apps/site/versions").json(json!({})).send().await;
    assert_eq!(code(nothing), (422, "bad_config".into()));
}

#[tokio::test]
async fn a_stored_file_that_rots_is_asked_for_again() {
    let plane = Plane::without_compiler().await;
    let token = plane.tenant("a").await;
    let index = index([("a.css", file(b"css"))]);
    put(&plane, &token, b"css").await.ok();
    put(&plane, &token, &index).await.ok();
    let hex = Digest::of(b"css").to_string();
    let stored = plane.data_dir().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(&stored, b"rot").unwrap();
    let refused = deploy(&plane, &token, &index, json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "assets_missing"));
    assert_eq!(missing(&plane, &token, &[b"css"]).await, json!([Digest::of(b"css")]));
    put(&plane, &token, b"css").await.ok();
    deploy(&plane, &token, &index, json!({})).await.ok();
}

#[tokio::test]
async fn what_no_version_was_made_with_is_dropped_after_a_day_and_what_has_another_name_stays() {
    let mut plane = Plane::without_compiler().await;
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    let index = index([("kept.css", file(b"kept"))]);
    for bytes in [b"kept".as_slice(), &index, b"idle", b"shared", b"a program"] {
        put(&plane, &a, bytes).await.ok();
    }
    deploy(&plane, &a, &index, json!({})).await.ok();
    plane.upload(&b, b"a program").await;
    let stored = |bytes: &[u8]| {
        let hex = Digest::of(bytes).to_string();
        plane.data_dir().join("blobs/sha256").join(&hex[..2]).join(&hex)
    };
    let (kept, idle, shared, program) =
        (stored(b"kept"), stored(b"idle"), stored(b"shared"), stored(b"a program"));
    let store = rusqlite::Connection::open(plane.data_dir().join("admin.sqlite")).unwrap();
    assert_eq!(store.execute("UPDATE asset_blobs SET asked_ms = 1", []).unwrap(), 5);
    put(&plane, &b, b"shared").await.ok();

    plane.restart().await;
    // To ask which are missing would keep them for another day.
    let expired = || {
        let count = "SELECT count(*) FROM asset_blobs WHERE kept = 0 AND asked_ms = 1";
        store.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    for _ in 0..200 {
        if !idle.exists() && expired() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!idle.exists(), "dropped at the start");
    let gone = missing(&plane, &a, &[b"kept", b"idle", b"shared", b"a program", &index]).await;
    assert_eq!(gone, json!([b"idle".as_slice(), b"shared", b"a program"].map(Digest::of)));
    assert!(kept.exists() && shared.exists() && program.exists());
    assert_eq!(missing(&plane, &b, &[b"shared"]).await, json!([]));
}

/// The file of a blob, made such that who reads it waits until this is dropped.
struct Stuck {
    stored: PathBuf,
    pipe: PathBuf,
    bytes: Vec<u8>,
}

impl Stuck {
    fn new(plane: &Plane, bytes: &[u8]) -> Stuck {
        let stored = stored(plane, bytes);
        let pipe = stored.with_extension("pipe");
        std::fs::remove_file(&stored).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&stored).status().unwrap().success());
        std::fs::hard_link(&stored, &pipe).unwrap();
        Stuck { stored, pipe, bytes: bytes.to_vec() }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let whole = self.stored.with_extension("whole");
        std::fs::write(&whole, &self.bytes).unwrap();
        std::fs::rename(whole, &self.stored).unwrap();
        // Those who wait find its end. Whether anybody does is not known: opened for both, nobody waits for them here.
        drop(std::fs::File::options().read(true).write(true).open(&self.pipe).unwrap());
    }
}

fn stored(plane: &Plane, bytes: &[u8]) -> PathBuf {
    let hex = Digest::of(bytes).to_string();
    plane.data_dir().join("blobs/sha256").join(&hex[..2]).join(&hex)
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_deploy_that_reads_for_long_holds_up_neither_others_nor_what_is_dropped() {
    let plane = Plane::without_compiler().await;
    let (slow, other) = (plane.tenant("slow").await, plane.tenant("other").await);
    let (of_slow, of_other) = (index([("a", file(b"slow"))]), index([("a", file(b"damaged"))]));
    for (token, bytes) in
        [(&slow, b"slow".as_slice()), (&slow, &of_slow), (&other, b"damaged"), (&other, &of_other)]
    {
        put(&plane, token, bytes).await.ok();
    }
    let stuck = Stuck::new(&plane, b"slow");
    // More than all places there are.
    let deploys = (0..20).map(|n| {
        let body = json!({ "assets": Digest::of(&of_slow), "config": { "assets": {} } });
        plane.ask_as(&slow, Method::POST, &format!("/v1/apps/site{n}/versions")).json(body).send()
    });
    let mut deploys = Box::pin(futures_util::future::join_all(deploys));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut deploys).await.is_err());

    let deployed = tokio::time::timeout(SOON, deploy(&plane, &other, &of_other, json!({}))).await;
    deployed.expect("one tenant has not all places").ok();
    // To drop a damaged blob its deploy is alone for a moment, for which the others are not waited for.
    std::fs::write(stored(&plane, b"damaged"), b"rot").unwrap();
    let refused = tokio::time::timeout(SOON, deploy(&plane, &other, &of_other, json!({}))).await.unwrap();
    assert_eq!(refused.code(), "assets_missing");
    tokio::time::timeout(SOON, put(&plane, &other, b"damaged")).await.unwrap().ok();

    drop(stuck);
    let after = tokio::time::timeout(SOON, deploys).await.unwrap();
    assert!(after.iter().filter(|answer| answer.status == StatusCode::CREATED).count() >= 16);
}
