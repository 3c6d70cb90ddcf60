//! What the Rust SDK does, for the table that both SDKs must pass (`sdk/conformance/cases.toml`).

#![forbid(unsafe_code)] // the attribute's expansion must not need it

mod bodies;
mod fetches;
mod messages;
mod paths;
mod stores;
mod surroundings;

use skerry::{Request, Response, Result, Router};

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    app().handle(req).await
}

fn app() -> Router {
    Router::new()
        .get("/hello", messages::hello)
        .any("/method", messages::method)
        .get("/headers", messages::headers)
        .get("/status/{status}", messages::status)
        .get("/redirect", messages::redirect)
        .get("/error", messages::error)
        .get("/panic", messages::panic)
        .nest("/mw", messages::behind_middleware())
        .get("/where", paths::asked)
        .get("/query", paths::query)
        .get("/url", paths::url)
        .get("/users/{user}/posts/{post}", paths::post)
        .get("/files/{*path}", paths::file)
        .post("/echo", bodies::echo)
        .post("/upper", bodies::upper)
        .get("/stream", bodies::stream)
        .get("/json", bodies::json)
        .post("/json", bodies::sum)
        .get("/fetch", fetches::get)
        .post("/fetch", fetches::post)
        .get("/both", fetches::both)
        .get("/config", stores::settings)
        .get("/secret", stores::secret)
        .get("/kv", stores::keys)
        .get("/kv/{name}", stores::read)
        .put("/kv/{name}", stores::write)
        .delete("/kv/{name}", stores::remove)
        .get("/client", surroundings::address)
        .get("/env", surroundings::variable)
        .get("/log", surroundings::log)
        .get("/random", surroundings::random)
        .get("/time", surroundings::time)
}
