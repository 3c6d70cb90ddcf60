//! Bodies, whole and in pieces, and JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skerry::{BodyError, Request, Response, Result, StatusCode, header, time};

pub fn echo(mut req: Request) -> Response {
    let mut response = Response::from(req.take_body());
    if let Some(content_type) = req.headers().get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    }
    response
}

pub async fn upper(mut req: Request) -> Result<Response> {
    match req.text().await {
        Ok(text) => Ok(Response::text(text.to_ascii_uppercase())),
        Err(error) if error.cause() == Some(&BodyError::NotText) => {
            Ok(Response::text("not text\n").with_status(StatusCode::BAD_REQUEST))
        }
        Err(error) => Err(error),
    }
}

/// Pieces that leave one by one: without a wait between them a host may send them together.
pub fn stream(_: Request) -> Response {
    Response::stream(async |out| {
        for piece in ["one\n", "two\n", "three\n"] {
            out.write(piece).await;
            time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    })
}

#[derive(Serialize)]
struct Shown {
    name: &'static str,
    n: u8,
    list: [u8; 2],
    nothing: Option<()>,
}

pub fn json(_: Request) -> Result<Response> {
    Response::json(&Shown { name: "skerry", n: 3, list: [1, 2], nothing: None })
}

#[derive(Deserialize)]
struct Added {
    a: i64,
    b: i64,
}

#[derive(Serialize)]
struct Sum {
    sum: i64,
}

pub async fn sum(mut req: Request) -> Result<Response> {
    let sum = req.json().await.ok().and_then(|Added { a, b }| a.checked_add(b));
    match sum {
        Some(sum) => Response::json(&Sum { sum }),
        None => Ok(Response::text("not what was asked for\n").with_status(StatusCode::BAD_REQUEST)),
    }
}
