//! {{name}}: an HTTP API at the edge. Which function answers which path stands in `handle`.

use serde::{Deserialize, Serialize};
use skerry::{Next, Request, Response, Result, Router, StatusCode};

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    let app = Router::new()
        .get(
            "/",
            |_: Request| "{{name}}: GET /greetings/{name}?lang=de, POST /sum\n",
        )
        .get("/greetings/{name}", greet)
        .post("/sum", sum)
        .wrap(mark);
    app.handle(req).await
}

/// Stands around every route: sees each request first and each answer last.
async fn mark(req: Request, next: Next<'_>) -> Result<Response> {
    next.run(req).await?.with_header("x-served-by", "{{name}}")
}

#[derive(Serialize)]
struct Greeting<'a> {
    name: &'a str,
    greeting: String,
}

fn greet(req: Request) -> Result<Response> {
    let name = req.param("name").unwrap_or_default();
    let hello = match req.query().get("lang").as_deref() {
        None | Some("en") => "Hello",
        Some("de") => "Hallo",
        Some("fr") => "Bonjour",
        Some(_) => return refused(StatusCode::NOT_FOUND, "that language is not spoken here"),
    };
    Response::json(&Greeting {
        name,
        greeting: format!("{hello}, {name}!"),
    })
}

#[derive(Deserialize)]
struct Numbers {
    numbers: Vec<f64>,
}

#[derive(Serialize)]
struct Sum {
    count: usize,
    sum: f64,
}

async fn sum(mut req: Request) -> Result<Response> {
    let Ok(Numbers { numbers }) = req.json().await else {
        return refused(StatusCode::BAD_REQUEST, r#"send {"numbers": [1, 2]}"#);
    };
    Response::json(&Sum {
        count: numbers.len(),
        sum: numbers.iter().sum(),
    })
}

#[derive(Serialize)]
struct Refusal {
    error: &'static str,
}

fn refused(status: StatusCode, error: &'static str) -> Result<Response> {
    Ok(Response::json(&Refusal { error })?.with_status(status))
}

#[cfg(test)]
mod tests {
    use skerry::{
        Request,
        testing::{Answer, answer},
    };

    use super::handle;

    fn get(path: &str) -> Answer {
        answer(handle, Request::get(path).unwrap())
    }

    fn post(body: &'static str) -> Answer {
        answer(handle, Request::post("/sum").unwrap().with_body(body))
    }

    #[test]
    fn a_greeting_speaks_the_language_asked_for() {
        let said = get("/greetings/Zo%C3%AB?lang=fr");
        assert_eq!(said.text(), r#"{"name":"Zoë","greeting":"Bonjour, Zoë!"}"#);
        assert_eq!(get("/greetings/ana?lang=tlh").status, 404);
    }

    #[test]
    fn numbers_are_added_and_anything_else_is_refused() {
        assert_eq!(
            post(r#"{"numbers":[1,2.5]}"#).text(),
            r#"{"count":2,"sum":3.5}"#
        );
        assert_eq!(post("[1,2]").status, 400);
    }

    #[test]
    fn paths_and_methods_that_are_not_there_are_said_to_be() {
        assert_eq!(get("/elsewhere").status, 404);
        let refused = get("/sum");
        assert_eq!(
            (refused.status.as_u16(), refused.header("allow")),
            (405, Some("POST"))
        );
    }

    #[test]
    fn every_answer_is_marked() {
        for path in ["/", "/greetings/ana", "/elsewhere"] {
            assert_eq!(get(path).header("x-served-by"), Some("{{name}}"), "{path}");
        }
    }
}
