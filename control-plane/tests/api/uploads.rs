//! Programs on their way in.

use std::os::unix::fs::PermissionsExt as _;

use artifact::Digest;
use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::harness::Plane;

const LIMIT: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn an_upload_is_kept_for_its_tenant_alone() {
    let plane = Plane::without_compiler().await;
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    let digest = plane.upload(&a, b"program").await;
    let path = format!("/v1/wasm/{digest}");
    assert_eq!(plane.ask_as(&a, Method::HEAD, &path).send().await.status, StatusCode::OK);
    assert_eq!(plane.ask_as(&b, Method::HEAD, &path).send().await.status, StatusCode::NOT_FOUND);
    plane.upload(&b, b"program").await;
    assert_eq!(plane.ask_as(&b, Method::HEAD, &path).send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_altered_upload_is_refused() {
    let plane = Plane::without_compiler().await;
    let path = format!("/v1/wasm/{}", Digest::of(b"program"));
    let answer = plane.ask(Method::PUT, &path).bytes(b"programme".to_vec()).send().await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "digest_mismatch"));
    assert_eq!(plane.ask(Method::HEAD, &path).send().await.status, StatusCode::NOT_FOUND);
}

/// `total` bytes in pieces: chunked, unless the request states a length.
fn zeroes(total: usize) -> Body {
    let piece = Bytes::from(vec![0_u8; 1 << 20]);
    let pieces = (0..total >> 20).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    Body::from_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn two_hundred_megabytes_are_refused_stated_or_chunked() {
    let plane = Plane::without_compiler().await;
    let path = format!("/v1/wasm/{}", Digest::of(b"whatever"));
    let total = 200 << 20;
    let stated = plane.ask(Method::PUT, &path).header("content-length", &total.to_string());
    let stated = stated.body(zeroes(total)).send().await;
    assert_eq!((stated.status.as_u16(), stated.code()), (413, "too_large"));
    let chunked = plane.ask(Method::PUT, &path).body(zeroes(total)).send().await;
    assert_eq!((chunked.status.as_u16(), chunked.code()), (413, "too_large"));
    assert_eq!(plane.ask(Method::GET, "/healthz").send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_too_large_upload_is_refused_before_a_byte_of_it_is_sent() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let plane = Plane::without_compiler().await;
    let mut socket = tokio::net::TcpStream::connect(plane.running().api).await.unwrap();
    let head = format!(
        "PUT /v1/wasm/{} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        Digest::of(b"x"),
        plane.operator,
        LIMIT + 1,
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn the_largest_upload_is_taken_and_one_byte_more_is_not() {
    let plane = Plane::without_compiler().await;
    let largest = vec![0; LIMIT];
    plane.upload(&plane.operator, &largest).await;
    let over = vec![0; LIMIT + 1];
    let path = format!("/v1/wasm/{}", Digest::of(&over));
    assert_eq!(plane.ask(Method::PUT, &path).bytes(over).send().await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn secrets_on_disk_are_for_the_owner_only() {
    let plane = Plane::without_compiler().await;
    for name in ["operator.token", "release.key", "secrets.key", "local-ca.key"] {
        let mode = plane.data_dir().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(
        std::fs::read_to_string(plane.data_dir().join("local-ca.pem")).unwrap().contains("BEGIN CERTIFICATE")
    );
    let ready = std::fs::read_to_string(plane.folder.path().join("ready")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["api"], plane.running().api.to_string());
    assert_eq!(ready["sync"], plane.running().sync.to_string());
    assert_eq!(ready["pid"], std::process::id());
}
