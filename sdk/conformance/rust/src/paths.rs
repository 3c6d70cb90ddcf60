//! Targets: path, query, parameters, URLs.

use skerry::{Request, Result, Url};

pub fn asked(req: Request) -> String {
    format!("path {}\nquery {}\n", req.path(), req.query_string().unwrap_or("-"))
}

pub fn query(req: Request) -> String {
    let names: Vec<_> = req.query().all("name").collect();
    if names.is_empty() { "none\n".into() } else { names.join(",") + "\n" }
}

pub fn post(req: Request) -> String {
    let param = |name| req.param(name).unwrap_or_default();
    format!("user {} post {}\n", param("user"), param("post"))
}

pub fn file(req: Request) -> String {
    format!("{}\n", req.param("path").unwrap_or_default())
}

pub fn url(_: Request) -> Result<String> {
    let url: Url = "https://u@a.example:8443/p/q?x=1&x=2#f".parse()?;
    let port = url.port().map_or(String::new(), |port| port.to_string());
    let parts = [
        url.scheme(),
        url.host(),
        &port,
        url.path(),
        url.query().unwrap_or(""),
        url.fragment().unwrap_or(""),
    ];
    Ok(parts.join("|") + "\n")
}
