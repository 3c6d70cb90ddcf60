//! A whole app: build it with `cargo build --release --target wasm32-wasip2`, test it with `cargo test`.

use skerry::{Request, Response, StatusCode};

#[skerry::handler]
fn handle(req: Request) -> Response {
    match req.path() {
        "/" => Response::text("Hello from Skerry!\n"),
        _ => Response::text("Not found\n").with_status(StatusCode::NOT_FOUND),
    }
}

#[cfg(test)]
mod tests {
    use skerry::testing;

    use super::*;

    #[test]
    fn it_says_hello_and_knows_no_other_path() {
        let answer = |path| testing::answer(handle, Request::get(path).unwrap());
        assert_eq!((answer("/").status.as_u16(), answer("/").text()), (200, "Hello from Skerry!\n"));
        assert_eq!(answer("/x").status, 404);
    }
}
