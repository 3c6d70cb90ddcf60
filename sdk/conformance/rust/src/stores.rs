//! Settings, secrets and key-value data.

use skerry::{Request, Response, Result, StatusCode, config, kv::Store, secrets};

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_owned())
}

pub fn settings(_: Request) -> Result<String> {
    Ok(format!("{}\n{}\n", or_none(config::get("greeting")?), or_none(config::get("absent")?)))
}

pub fn secret(_: Request) -> String {
    let length = secrets::get("API_KEY").map(|secret| secret.bytes().len().to_string());
    or_none(length) + "\n"
}

fn things() -> Result<Store> {
    Ok(Store::open("things")?)
}

fn name(req: &Request) -> &str {
    req.param("name").unwrap_or_default()
}

pub fn keys(_: Request) -> Result<String> {
    Ok(things()?.all_keys()?.into_iter().map(|key| key + "\n").collect())
}

pub fn read(req: Request) -> Result<Response> {
    Ok(match things()?.get(name(&req))? {
        Some(value) => Response::new(value),
        None => Response::text("not found\n").with_status(StatusCode::NOT_FOUND),
    })
}

pub async fn write(mut req: Request) -> Result<StatusCode> {
    let value = req.bytes().await?;
    things()?.set(name(&req), &value)?;
    Ok(StatusCode::NO_CONTENT)
}

pub fn remove(req: Request) -> Result<StatusCode> {
    things()?.delete(name(&req))?;
    Ok(StatusCode::NO_CONTENT)
}
