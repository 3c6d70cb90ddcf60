//! {{name}}: answers requests at the edge.

use skerry::{Request, Response, StatusCode};

#[skerry::handler]
fn handle(req: Request) -> Response {
    match req.path() {
        "/" => Response::text("Hello from {{name}}!\n"),
        _ => Response::text("not found\n").with_status(StatusCode::NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use skerry::{Request, testing};

    use super::handle;

    #[test]
    fn it_says_hello() {
        let answer = testing::answer(handle, Request::get("/").unwrap());
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, "Hello from {{name}}!\n")
        );
    }

    #[test]
    fn it_knows_no_other_path() {
        let answer = testing::answer(handle, Request::get("/elsewhere").unwrap());
        assert_eq!(answer.status, 404);
    }
}
