//! {{name}}: stands before a GraphQL server, passes on what skerry.toml allows, and adds the authorization that clients
//! are not to have.

mod query;

use query::{Document, Rules};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skerry::{
    BodyError, Error, Request, Response, Result, Router, StatusCode, config,
    fetch::{self, FetchError},
    log, secrets,
};

/// Queries are a few KiB; what is longer is not read.
const BODY_BYTES_MAX: usize = 64 << 10;

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    Router::new()
        .post("/", proxy)
        .post("/graphql", proxy)
        .handle(req)
        .await
}

/// What is sent on is written anew from what was read, so that the server cannot read it in another way.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    query: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variables: Option<Map<String, Value>>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)] // what clients send for their own use; it goes no further
    extensions: Option<Value>,
}

async fn proxy(mut req: Request) -> Result<Response> {
    let is_json = req
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    if !is_json {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json");
    }
    let body = match req.take_body().bytes_up_to(BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) if matches!(error.cause(), Some(BodyError::TooLarge { .. })) => {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "the query is too long");
        }
        Err(error) => return Err(error),
    };
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => {
            return refused(
                StatusCode::BAD_REQUEST,
                format!("not a GraphQL request: {error}"),
            );
        }
    };
    let document = match Document::parse(&asked.query) {
        Ok(document) => document,
        Err(error) => return refused(StatusCode::BAD_REQUEST, error),
    };
    match document.check(asked.operation_name.as_deref(), &rules()?) {
        Ok(()) => forward(&asked).await,
        Err(error) => refused(StatusCode::FORBIDDEN, error),
    }
}

fn rules() -> Result<Rules> {
    let allow = config::get("allow")?.unwrap_or_default();
    let depth = config::get("depth")?.and_then(|depth| depth.parse().ok());
    Ok(Rules {
        allow: allow.split_whitespace().map(str::to_owned).collect(),
        depth_max: depth.ok_or_else(|| Error::new("[config] depth: not a number"))?,
    })
}

async fn forward(asked: &Asked) -> Result<Response> {
    let endpoint = config::get("endpoint")?.ok_or_else(|| Error::new("no endpoint in [config]"))?;
    let mut to = Request::post(endpoint)?
        .with_json(asked)?
        .with_header("accept", "application/json")?;
    // Without a value the server is asked as anybody may ask it.
    if let Some(token) = secrets::get("GRAPHQL_TOKEN")
        .as_ref()
        .and_then(|token| token.text())
    {
        to = to.with_header("authorization", format!("Bearer {}", token.trim_end()))?;
    }
    match fetch::fetch(to).await {
        Ok(answer) => {
            let kind = answer
                .header("content-type")
                .unwrap_or("application/json")
                .to_owned();
            let status = answer.status();
            Response::new(answer.into_body())
                .with_status(status)
                .with_header("content-type", kind)
        }
        Err(error) if error.cause::<FetchError>().is_some() => {
            log::error(&error);
            refused(
                StatusCode::BAD_GATEWAY,
                "the GraphQL server does not answer",
            )
        }
        Err(error) => Err(error),
    }
}

/// As GraphQL says it, so that clients show it.
fn refused(status: StatusCode, message: impl Into<String>) -> Result<Response> {
    let errors = serde_json::json!({ "errors": [{ "message": message.into() }] });
    Ok(Response::json(&errors)?.with_status(status))
}

#[cfg(test)]
mod tests {
    use skerry::{
        Request,
        testing::{Answer, World, answer},
    };

    use super::handle;

    fn world() -> World {
        let world = World::new();
        world.config("endpoint", "https://graphql.example/graphql");
        world.config("allow", "query.countries query.country");
        world.config("depth", "3");
        world.secret("GRAPHQL_TOKEN", b"hunter2\n");
        world.backend("https://graphql.example", async |mut req: Request| {
            let token = req.header("authorization").unwrap_or_default().to_owned();
            Ok::<_, skerry::Error>(format!("{token} {}", req.text().await?))
        });
        world
    }

    fn ask(body: &'static str) -> Answer {
        let request = Request::post("/graphql").unwrap().with_body(body);
        answer(
            handle,
            request
                .with_header("content-type", "application/json")
                .unwrap(),
        )
    }

    #[test]
    fn what_is_allowed_is_passed_on_with_the_authorization() {
        let _world = world();
        let said = ask(
            r#"{"query":"query Q { countries { code } }","operationName":"Q","extensions":{}}"#,
        );
        assert_eq!(
            said.text(),
            r#"Bearer hunter2 {"query":"query Q { countries { code } }","operationName":"Q"}"#
        );
    }

    #[test]
    fn what_is_not_allowed_stays_here_and_says_why() {
        let _world = world();
        for (body, why) in [
            (
                r#"{"query":"mutation { drop }"}"#,
                "mutation.drop is not allowed",
            ),
            (
                r#"{"query":"{ __schema { types { name } } }"}"#,
                "query.__schema is not allowed",
            ),
            (
                r#"{"query":"{ countries { a { b { c } } } }"}"#,
                "deeper than 3",
            ),
        ] {
            let said = ask(body);
            assert!(
                said.status == 403 && said.text().contains(why),
                "{} {}",
                said.status,
                said.text()
            );
        }
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let _world = world();
        for body in [
            "",
            "[]",
            r#"{"query":"{"}"#,
            r#"{"query":"{a}","query":"{b}"}"#,
            r#"{"query":1}"#,
        ] {
            assert_eq!(ask(body).status, 400, "{body}");
        }
        assert_eq!(
            answer(handle, Request::post("/graphql").unwrap().with_body("{}")).status,
            415
        );
        assert_eq!(
            answer(handle, Request::get("/graphql").unwrap()).status,
            405
        );
        let long = Request::post("/")
            .unwrap()
            .with_header("content-type", "application/json")
            .unwrap();
        assert_eq!(
            answer(handle, long.with_body(" ".repeat(100_000))).status,
            413
        );
    }
}
