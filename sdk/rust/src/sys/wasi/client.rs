//! The client's request, asked for part by part.

use http::{HeaderMap, Method, Uri};
use wasip2::http::types::{IncomingRequest, Method as WasiMethod, Scheme};

use super::{fields, streams::IncomingBody};
use crate::Body;

/// The request as the host has it. Dropped after its body's streams, or before: they are no children of it.
pub(crate) struct ClientRequest(IncomingRequest);

impl ClientRequest {
    pub(super) fn new(request: IncomingRequest) -> ClientRequest {
        ClientRequest(request)
    }

    pub(crate) fn method(&self) -> Method {
        match self.0.method() {
            WasiMethod::Get => Method::GET,
            WasiMethod::Head => Method::HEAD,
            WasiMethod::Post => Method::POST,
            WasiMethod::Put => Method::PUT,
            WasiMethod::Delete => Method::DELETE,
            WasiMethod::Connect => Method::CONNECT,
            WasiMethod::Options => Method::OPTIONS,
            WasiMethod::Trace => Method::TRACE,
            WasiMethod::Patch => Method::PATCH,
            // A host that lets through what is no token would be broken.
            WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or_default(),
        }
    }

    /// Path and query.
    pub(crate) fn target(&self) -> String {
        match self.0.path_with_query() {
            None => "/".to_owned(),
            Some(target) if target.is_empty() || target.starts_with('?') => format!("/{target}"),
            Some(target) => target,
        }
    }

    /// All of it, or what there is of it.
    pub(crate) fn uri(&self, target: &str) -> Uri {
        let mut uri = Uri::builder().path_and_query(target);
        if let Some(authority) = self.0.authority() {
            uri = uri.authority(authority);
            uri = match self.0.scheme() {
                Some(Scheme::Http) | None => uri.scheme("http"),
                Some(Scheme::Https) => uri.scheme("https"),
                Some(Scheme::Other(scheme)) => uri.scheme(scheme.as_str()),
            };
        }
        uri.build().or_else(|_| target.parse()).unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        fields::read(&self.0.headers())
    }

    /// Its body, the first time; then an empty one.
    pub(crate) fn body(&self) -> Body {
        let body = self.0.consume().ok().and_then(IncomingBody::of);
        body.map_or_else(Body::empty, |body| Body::streamed(Box::new(body)))
    }
}
