//! Requests over real sockets on loopback, against servers that behave and servers that do not.

mod billing;
mod failing;
mod failover;
mod guests;
mod http;
mod made;
mod safety;
mod secure;
pub(super) mod servers;
mod sharing;
mod unused;

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use ::http::{Request, Response, response::Parts};
use artifact::{
    HostName,
    manifest::{AppConfig, Backend, Limits},
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc;

use super::{
    Fetch, FetchError, Options, Outbound, RequestBody, Settings, Target, inherit,
    resolve::{Addresses, Lookup},
    send,
};
use crate::{exchange::Exchange, front::BodyError, generation::Deployment, host::body::Incoming, testing};

/// How often a condition is looked at, 5 ms apart, before a test gives up: two seconds of a machine that is not busy.
const LOOKS_MAX: usize = 2_000;

/// Looks until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..LOOKS_MAX {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain: {what}");
}

/// Answers every name with loopback.
struct Loopback;

impl Lookup for Loopback {
    fn lookup(&self, _: HostName) -> Pin<Box<dyn Future<Output = Result<Addresses, FetchError>> + Send>> {
        Box::pin(async { Ok(Addresses::from([[127, 0, 0, 1].into()])) })
    }
}

/// A node in dev mode.
fn dev() -> Outbound {
    Outbound::with_lookup(dev_settings(), Box::new(Loopback))
}

fn dev_settings() -> Settings {
    Settings { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Settings::default() }
}

/// A config with one backend, `origin`.
fn config(backend: Backend) -> AppConfig {
    AppConfig { backends: [("origin".to_owned(), backend)].into(), ..AppConfig::default() }
}

fn backend(url: impl ToString) -> Backend {
    Backend { url: url.to_string(), ..Backend::default() }
}

fn exchange(outbound: &Outbound, config: AppConfig) -> Exchange {
    exchange_of("default", outbound, config)
}

fn exchange_of(tenant: &str, outbound: &Outbound, config: AppConfig) -> Exchange {
    let mut deployment = testing::deployment("test", 1, config);
    deployment.id.tenant = tenant.parse().unwrap();
    exchange_for(deployment, outbound)
}

fn exchange_for(deployment: Deployment, outbound: &Outbound) -> Exchange {
    let mut host = testing::host();
    Arc::get_mut(&mut host).expect("a host of its own").outbound = outbound.clone();
    Exchange::begin(Arc::new(deployment), testing::connection(), host)
}

/// An exchange that has this long.
fn hurried(outbound: &Outbound, config: AppConfig, wall_ms: u32) -> Exchange {
    exchange(outbound, AppConfig { limits: Limits { wall_ms, ..Limits::default() }, ..config })
}

/// A response, read whole.
#[derive(Debug)]
struct Seen {
    head: Parts,
    body: Bytes,
    trailers: ::http::HeaderMap,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

async fn head(fetch: &mut Fetch) -> Result<Response<Incoming>, FetchError> {
    poll_fn(|cx| fetch.poll_head(cx)).await
}

async fn whole(response: Response<Incoming>) -> Result<Seen, BodyError> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Seen { head, body: collected.to_bytes(), trailers })
}

/// To the backend `origin`, read whole.
async fn ask(exchange: &mut Exchange, request: Request<RequestBody>) -> Result<Seen, FetchError> {
    let mut fetch = send(exchange, Target::Backend("origin"), request, Options::default())?;
    let response = head(&mut fetch).await?;
    Ok(whole(response).await.expect("the body is whole"))
}

async fn get(exchange: &mut Exchange, path: &str) -> Result<Seen, FetchError> {
    ask(exchange, Request::get(path).body(RequestBody::Empty).unwrap()).await
}

/// A request body that the test writes while it is sent.
fn streamed() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>, RequestBody) {
    let (write, mut read) = mpsc::unbounded_channel();
    let frames = futures_util::stream::poll_fn(move |cx| read.poll_recv(cx));
    (write, RequestBody::Stream(StreamBody::new(frames).boxed_unsync()))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}
