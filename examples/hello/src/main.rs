//! A whole app: build it with `cargo build --release --target wasm32-wasip2`.

use wstd::http::{Body, Error, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let (status, text) = match request.uri().path() {
        "/" => (StatusCode::OK, "Hello from Skerry!\n"),
        _ => (StatusCode::NOT_FOUND, "Not found\n"),
    };
    Ok(Response::builder().status(status).header("content-type", "text/plain").body(text.into())?)
}
