//! Requests to backends that the client names.

use skerry::{Error, Request, Response, Result, StatusCode, fetch, header, join_all, log};

fn failed(error: Error) -> Response {
    log::warn(error);
    Response::text("fetch failed\n").with_status(StatusCode::BAD_GATEWAY)
}

/// `GET`, with the mark.
async fn ask(url: &str) -> Result<Response> {
    fetch(Request::get(url)?.with_header("x-from", "skerry")?).await
}

async fn ask_text(url: &str) -> Result<String> {
    ask(url).await?.into_text().await
}

pub async fn get(req: Request) -> Response {
    let url = req.query().get("url").unwrap_or_default();
    let got = async {
        let response = ask(&url).await?;
        let status = response.status().as_u16();
        Ok::<_, skerry::Error>(format!("{status} {}\n", response.into_text().await?))
    };
    got.await.map_or_else(failed, Response::text)
}

pub async fn post(mut req: Request) -> Response {
    let body = req.take_body();
    let url = req.query().get("url").unwrap_or_default();
    let sent = async {
        let mut on = Request::post(&*url)?.with_body(body);
        if let Some(content_type) = req.headers().get(header::CONTENT_TYPE) {
            on.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
        }
        fetch(on).await
    };
    sent.await.unwrap_or_else(failed)
}

pub async fn both(req: Request) -> Response {
    let urls: Vec<_> = req.query().all("url").collect();
    let texts = join_all(urls.iter().map(|url| ask_text(url))).await;
    let all: Result<Vec<String>> = texts.into_iter().collect();
    all.map_or_else(failed, |texts| Response::text(texts.concat()))
}
