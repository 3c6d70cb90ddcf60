//! {{name}}: fetches an image, or takes the one that is sent, and answers with it smaller or grey.

mod filter;

use filter::{Filter, Unfit};
use skerry::{
    BodyError, Bytes, Error, Query, Request, Response, Result, Router, StatusCode, config,
    fetch::{self, FetchError},
    log,
};

/// Bytes of an image as it comes.
const IMAGE_BYTES_MAX: usize = 8 << 20;

/// How long clients may keep what came from the backend, in seconds.
const KEPT: &str = "max-age=3600";

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    let app = Router::new()
        .get("/", |_: Request| "{{name}}: GET /path/of/an/image.png?w=200&h=100&gray=1, or POST one to /\n")
        .get("/{*path}", of_backend)
        .post("/", of_client);
    app.handle(req).await
}

/// `GET /PATH?w=…`: the backend's image of that path.
async fn of_backend(req: Request) -> Result<Response> {
    let Some(filter) = asked(&req.query()) else {
        return no_filter();
    };
    let images = config::get("images")?.ok_or_else(|| Error::new("no images in [config]"))?;
    let found = match fetch::fetch(Request::get(format!("{images}{}", req.path()))?).await {
        Ok(found) => found,
        Err(error) if error.cause::<FetchError>().is_some() => {
            log::error(&error);
            return refused(StatusCode::BAD_GATEWAY, "the images are not within reach");
        }
        Err(error) => return Err(error),
    };
    match found.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return refused(StatusCode::NOT_FOUND, "no such image"),
        _ => return refused(StatusCode::BAD_GATEWAY, "the image cannot be had"),
    }
    let read = found.into_body().bytes_up_to(IMAGE_BYTES_MAX).await;
    filtered(read, &filter)?.with_header("cache-control", KEPT)
}

/// `POST /?w=…`: the image that is sent.
async fn of_client(mut req: Request) -> Result<Response> {
    let Some(filter) = asked(&req.query()) else {
        return no_filter();
    };
    filtered(req.take_body().bytes_up_to(IMAGE_BYTES_MAX).await, &filter)
}

fn filtered(read: Result<Bytes>, filter: &Filter) -> Result<Response> {
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.cause(), Some(BodyError::TooLarge { .. })) => {
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the image has too many bytes",
            );
        }
        Err(error) => return Err(error),
    };
    match filter.apply(&bytes) {
        Ok((bytes, kind)) => Response::new(bytes).with_header("content-type", kind),
        Err(Unfit::Kind) => refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "neither PNG nor JPEG"),
        Err(Unfit::Size) => refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the image has too many pixels",
        ),
        Err(Unfit::Broken(why)) => refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            &format!("the image is broken: {why}"),
        ),
    }
}

/// The filter of a query; `None` if it is none.
fn asked(query: &Query<'_>) -> Option<Filter> {
    let side = |name| match query.get(name) {
        None => Some(None),
        Some(text) => text
            .parse()
            .ok()
            .filter(|side| (1..=filter::SIDE_MAX).contains(side))
            .map(Some),
    };
    let gray = match query.get("gray").as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return None,
    };
    Some(Filter {
        width: side("w")?,
        height: side("h")?,
        gray,
    })
}

fn no_filter() -> Result<Response> {
    refused(
        StatusCode::BAD_REQUEST,
        &format!("w and h are 1 to {}, gray is 0 or 1", filter::SIDE_MAX),
    )
}

fn refused(status: StatusCode, why: &str) -> Result<Response> {
    Ok(Response::text(format!("{why}\n")).with_status(status))
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, GenericImageView, ImageFormat};
    use skerry::{
        Request, Response, StatusCode,
        testing::{self, Answer, World},
    };

    use super::{
        filter::tests::{picture, read},
        handle,
    };

    fn world() -> World {
        let world = World::new();
        world.config("images", "https://images.example");
        world.backend("https://images.example", |req: Request| match req.path() {
            "/a/red.png" => Response::new(picture(40, 20, ImageFormat::Png)),
            _ => Response::empty(StatusCode::NOT_FOUND),
        });
        world
    }

    fn get(path: &str) -> Answer {
        testing::answer(handle, Request::get(path).unwrap())
    }

    fn post(query: &str, body: Vec<u8>) -> Answer {
        testing::answer(
            handle,
            Request::post(format!("/{query}")).unwrap().with_body(body),
        )
    }

    #[test]
    fn an_image_of_the_backend_is_made_smaller() {
        let _world = world();
        let said = get("/a/red.png?w=10");
        assert_eq!(
            (said.status.as_u16(), said.header("content-type")),
            (200, Some("image/png"))
        );
        assert_eq!(read(&said.body).dimensions(), (10, 5));
        assert_eq!(get("/a/blue.png?w=10").status, 404);
    }

    #[test]
    fn an_image_that_is_sent_comes_back_grey() {
        let said = post("?gray=1", picture(8, 8, ImageFormat::Jpeg));
        assert_eq!(said.header("content-type"), Some("image/jpeg"));
        assert!(matches!(read(&said.body), DynamicImage::ImageLuma8(_)));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for query in ["?w=0", "?w=x", "?h=5000", "?gray=2"] {
            assert_eq!(
                post(query, picture(8, 8, ImageFormat::Png)).status,
                400,
                "{query}"
            );
        }
        assert_eq!(post("", b"GIF89a".to_vec()).status, 415);
        assert_eq!(post("", vec![0; 9 << 20]).status, 413);
        let mut cut = picture(8, 8, ImageFormat::Png);
        cut.truncate(60);
        assert_eq!(post("?w=4", cut).status, 422);
    }

    #[test]
    fn a_backend_that_is_away_is_said_to_be() {
        let world = World::new();
        world.config("images", "https://gone.example");
        assert_eq!(get("/a/red.png").status, 502);
    }
}
