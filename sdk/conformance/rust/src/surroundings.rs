//! What a program learns beside its request, and its log.

use skerry::{Request, client, env, random, time};

pub fn address(_: Request) -> String {
    format!("{}\n", client::address())
}

pub fn variable(_: Request) -> String {
    env::app().unwrap_or_else(|| "none".to_owned()) + "\n"
}

pub fn log(_: Request) -> &'static str {
    skerry::log::info("a line");
    skerry::log::error("another");
    "logged\n"
}

pub fn random(_: Request) -> String {
    let bytes = random::bytes::<16>();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n"
}

pub fn time(_: Request) -> String {
    format!("{}\n", time::now_ms())
}
