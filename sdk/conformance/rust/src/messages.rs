//! Heads: methods, fields, statuses, middleware, failures.

use skerry::{Error, Next, Request, Response, Result, Router, StatusCode};

pub fn hello(_: Request) -> &'static str {
    "hello\n"
}

pub fn method(req: Request) -> String {
    format!("{}\n", req.method())
}

pub fn headers(req: Request) -> Result<Response> {
    let ones: Vec<_> =
        req.headers().get_all("x-one").iter().map(|value| value.to_str()).collect::<Result<_, _>>()?;
    Response::text(ones.join("|") + "\n")
        .with_added_header("set-cookie", "a=1")?
        .with_added_header("set-cookie", "b=2")?
        .with_header("x-count", ones.len().to_string())
}

pub fn status(req: Request) -> Response {
    let status = req.param("status").and_then(|text| StatusCode::from_bytes(text.as_bytes()).ok());
    match status.filter(|status| (200..600).contains(&status.as_u16())) {
        Some(status) => Response::empty(status),
        None => Response::text("not a status\n").with_status(StatusCode::BAD_REQUEST),
    }
}

pub fn redirect(_: Request) -> Result<Response> {
    Response::redirect("/hello")
}

pub fn error(_: Request) -> Result<Response> {
    Err(Error::new("a handler failed"))
}

pub fn panic(_: Request) -> Result<Response> {
    panic!("a handler panicked")
}

pub fn behind_middleware() -> Router {
    let open = Router::new().get("/", marked).wrap(before).wrap(after);
    let closed = Router::new().get("/", |_: Request| "the handler ran\n").wrap(closes);
    Router::new().nest("/hello", open).nest("/closed", closed)
}

/// Tells the client what the middleware told it.
fn marked(req: Request) -> Result<Response> {
    Response::text("hello\n").with_header("x-before", req.header("x-before").unwrap_or("none"))
}

async fn before(req: Request, next: Next<'_>) -> Result<Response> {
    next.run(req.with_header("x-before", "1")?).await
}

async fn after(req: Request, next: Next<'_>) -> Result<Response> {
    let response = next.run(req).await?;
    let seen = response.status().as_str().to_owned();
    response.with_header("x-after", seen)
}

async fn closes(_: Request, _: Next<'_>) -> Result<Response> {
    Ok(Response::text("closed\n").with_status(StatusCode::FORBIDDEN))
}
