//! {{name}}: DNS over HTTPS (RFC 8484). Checks what is asked, asks a resolver, and says how long the answer may be kept.

mod base64url;
mod message;

use message::{Answer, Question, Record};
use serde_json::{Value, json};
use skerry::{
    BodyError, Error, Request, Response, Result, Router, StatusCode, config,
    fetch::{self, FetchError},
    log,
};

/// Queries have one question and at most a few options.
const QUERY_BYTES_MAX: usize = 1024;
/// What a message of DNS can have.
const ANSWER_BYTES_MAX: usize = 65_535;

const MESSAGE: &str = "application/dns-message";

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    let app = Router::new()
        .get("/", looked_up)
        .get("/dns-query", by_get)
        .post("/dns-query", by_post);
    app.handle(req).await
}

/// `GET /dns-query?dns=…`: the message in base64url.
async fn by_get(req: Request) -> Result<Response> {
    let Some(text) = req.query().get("dns") else {
        return refused(
            StatusCode::BAD_REQUEST,
            "send ?dns= and a message in base64url",
        );
    };
    match base64url::decode(&text) {
        Some(query) => answer(query).await,
        None => refused(StatusCode::BAD_REQUEST, "dns is not base64url"),
    }
}

/// `POST /dns-query`: the message as it is.
async fn by_post(mut req: Request) -> Result<Response> {
    if req.header("content-type") != Some(MESSAGE) {
        return refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send application/dns-message",
        );
    }
    match req.take_body().bytes_up_to(QUERY_BYTES_MAX).await {
        Ok(query) => answer(query.into()).await,
        Err(error) if matches!(error.cause(), Some(BodyError::TooLarge { .. })) => {
            refused(StatusCode::PAYLOAD_TOO_LARGE, "the message is too long")
        }
        Err(error) => Err(error),
    }
}

async fn answer(query: Vec<u8>) -> Result<Response> {
    if query.len() > QUERY_BYTES_MAX {
        return refused(StatusCode::PAYLOAD_TOO_LARGE, "the message is too long");
    }
    if let Err(why) = Question::of(&query) {
        return refused(StatusCode::BAD_REQUEST, why);
    }
    match ask(query).await? {
        Ok((bytes, answer)) => Response::new(bytes)
            .with_header("content-type", MESSAGE)?
            .with_header("cache-control", format!("max-age={}", answer.ttl)),
        Err(why) => refused(StatusCode::BAD_GATEWAY, why),
    }
}

/// `GET /?name=example.com&type=A`: the same for people, as JSON.
async fn looked_up(req: Request) -> Result<Response> {
    let query = req.query();
    let Some(name) = query.get("name") else {
        return Ok(Response::text(
            "{{name}}: /?name=example.com&type=A, or /dns-query as of RFC 8484\n",
        ));
    };
    let kind = query.get("type").unwrap_or("A".into());
    let Some(message) = message::query(&name, &kind) else {
        return refused(StatusCode::BAD_REQUEST, "no such name or type");
    };
    match ask(message).await? {
        Ok((_, answer)) => {
            let records: Vec<_> = answer.records.iter().map(as_json).collect();
            let found =
                json!({ "name": name, "type": kind, "status": answer.status, "answers": records });
            Response::json(&found)?.with_header("cache-control", format!("max-age={}", answer.ttl))
        }
        Err(why) => refused(StatusCode::BAD_GATEWAY, why),
    }
}

fn as_json(record: &Record) -> Value {
    json!({ "name": record.name, "type": record.kind, "ttl": record.ttl, "data": record.data })
}

/// Asks the resolver; the inner error is for the client.
async fn ask(query: Vec<u8>) -> Result<Result<(Vec<u8>, Answer), &'static str>> {
    let resolver = config::get("resolver")?.ok_or_else(|| Error::new("no resolver in [config]"))?;
    let asked = Question::of(&query).ok();
    let to = Request::post(resolver)?
        .with_header("content-type", MESSAGE)?
        .with_header("accept", MESSAGE)?
        .with_body(query);
    let got = match fetch::fetch(to).await {
        Ok(got) => got,
        Err(error) if error.cause::<FetchError>().is_some() => {
            log::error(&error);
            return Ok(Err("the resolver does not answer"));
        }
        Err(error) => return Err(error),
    };
    if got.status() != StatusCode::OK {
        log::error(format_args!("the resolver says {}", got.status()));
        return Ok(Err("the resolver refuses"));
    }
    let bytes = got
        .into_body()
        .bytes_up_to(ANSWER_BYTES_MAX)
        .await
        .unwrap_or_default();
    match Answer::of(&bytes) {
        Some(answer) if Some(&answer.question) == asked.as_ref() => Ok(Ok((bytes.into(), answer))),
        _ => Ok(Err("what the resolver says is no answer")),
    }
}

fn refused(status: StatusCode, why: &'static str) -> Result<Response> {
    Ok(Response::text(format!("{why}\n")).with_status(status))
}

#[cfg(test)]
mod tests {
    use skerry::{
        Request,
        testing::{self, World},
    };

    use super::{handle, message};

    /// A resolver that knows one address.
    fn world() -> World {
        let world = World::new();
        world.config("resolver", "https://resolver.example/dns-query");
        world.backend("https://resolver.example", async |mut req: Request| {
            let mut message = req.bytes().await?.to_vec();
            (message[2], message[3], message[7]) = (0x81, 0x80, 1);
            message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 7]);
            Ok::<_, skerry::Error>(skerry::Response::new(message))
        });
        world
    }

    fn get(path: &str) -> testing::Answer {
        testing::answer(handle, Request::get(path).unwrap())
    }

    #[test]
    fn a_message_is_answered_and_may_be_kept_as_long_as_its_ttl() {
        let _world = world();
        // `example.com`, type A, in base64url.
        let said = get("/dns-query?dns=AAABAAABAAAAAAAAB2V4YW1wbGUDY29tAAABAAE");
        assert_eq!(
            (said.status.as_u16(), said.header("cache-control")),
            (200, Some("max-age=300"))
        );
        assert_eq!(said.header("content-type"), Some("application/dns-message"));
        assert!(said.body.ends_with(&[192, 0, 2, 7]));

        let post = Request::post("/dns-query")
            .unwrap()
            .with_header("content-type", "application/dns-message")
            .unwrap();
        let posted = testing::answer(
            handle,
            post.with_body(message::query("example.com", "A").unwrap()),
        );
        assert_eq!(posted.body, said.body);
    }

    #[test]
    fn people_get_json() {
        let _world = world();
        let said = get("/?name=example.com");
        let json: serde_json::Value = serde_json::from_slice(&said.body).unwrap();
        assert_eq!(json["status"], "NOERROR");
        assert_eq!(json["answers"][0]["data"], "192.0.2.7");
        assert_eq!(get("/?name=a..b").status, 400);
        assert_eq!(get("/").status, 200);
    }

    #[test]
    fn what_is_no_query_is_not_passed_on() {
        let _world = world();
        for path in [
            "/dns-query",
            "/dns-query?dns=AAAB",
            "/dns-query?dns=%2B",
            "/dns-query?dns=AACAAAABAAAAAAAAAAABAAE",
        ] {
            assert_eq!(get(path).status, 400, "{path}");
        }
        assert_eq!(
            testing::answer(handle, Request::post("/dns-query").unwrap().with_body("x")).status,
            415
        );
        assert_eq!(
            get(&format!("/dns-query?dns={}", "A".repeat(2000))).status,
            413
        );
    }

    #[test]
    fn a_resolver_that_fails_is_said_to() {
        let world = world();
        world.backend("https://resolver.example", |_: Request| "not DNS");
        assert_eq!(get("/?name=example.com").status, 502);
        world.config("resolver", "https://gone.example/");
        assert_eq!(get("/?name=example.com").status, 502);
    }
}
