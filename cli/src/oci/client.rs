//! Talking to one registry about one repository: the calls of the OCI distribution specification that push and pull need.
//!
//! Credentials go to the registry itself, and to the place where it says that tokens are to be had; never along a redirect to
//! another host. Everything a registry sends is bounded before it is kept, and held against its digest by who reads it. A
//! registry that was reached by TLS cannot lead away from it. Deliberately absent: uploads in pieces, mounts of other
//! repositories' blobs, and trying again.

use std::{io::Read as _, time::Duration};

use artifact::{Digest, visible};
use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode, Uri, header},
};

use super::{
    Plain,
    challenge::Challenge,
    layout,
    login::{Login, Logins},
    reference::{Reference, is_loopback},
};
use crate::{
    api,
    build::size,
    error::{Error, Result},
    output::Progress,
};

/// Largest manifest: what registries take, by the specification's advice.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest refusal or token answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Longest part of a refusal that is repeated to people.
const SAID_CHARS_MAX: usize = 300;
/// Places a blob's address may lead on to: the registry's own storage, and what stands before that.
const REDIRECTS_MAX: usize = 5;
const CONNECT_S_MAX: u64 = 10;
/// Longest wait for an answer.
const ANSWER_S_MAX: u64 = 60;
/// Longest time for a program, either way: 64 MiB at 2 Mbit/s.
const BYTES_S_MAX: u64 = 300;
/// Bytes read at once, between two looks of who waits.
const PIECE_BYTES: usize = 64 << 10;

/// What is to be done with the repository, as token servers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Pull,
    Push,
}

/// One repository of a registry, from outside.
pub struct Client<'a> {
    agent: Agent,
    reference: &'a Reference,
    logins: &'a Logins,
    access: Access,
    /// What is being done: the start of every error.
    doing: String,
    /// `https://host`, or what plain HTTP has.
    base: String,
    /// `Authorization`, once the registry has asked for it.
    authorization: Option<String>,
}

/// One call.
struct Ask<'a> {
    method: &'static str,
    /// Absolute.
    url: String,
    accept: Option<String>,
    body: Option<(&'a [u8], &'a str)>,
}

/// What a registry says when it refuses.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<RefusalOf>,
}

#[derive(Deserialize)]
struct RefusalOf {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a token server answers: the one or the other name.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Client<'a> {
    /// Prepares; nothing is sent yet.
    pub fn new(
        reference: &'a Reference,
        logins: &'a Logins,
        access: Access,
        plain: Plain,
        doing: String,
    ) -> Result<Client<'a>> {
        let is_plain = plain == Plain::Allowed || reference.is_loopback();
        let scheme = if is_plain { "http" } else { "https" };
        // Docker's own registry is asked under another name than it is called by.
        let host = if reference.host == "docker.io" { "registry-1.docker.io" } else { &reference.host };
        let base = format!("{scheme}://{host}");
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // followed here, without credentials
            .user_agent(concat!("skerry/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(CONNECT_S_MAX)))
            .timeout_send_body(Some(Duration::from_secs(BYTES_S_MAX)))
            .timeout_recv_response(Some(Duration::from_secs(ANSWER_S_MAX)))
            .timeout_recv_body(Some(Duration::from_secs(BYTES_S_MAX)));
        if reference.is_loopback() {
            config = config.proxy(None);
        }
        // Of a plain registry too: it may lead on to a place that has TLS.
        match api::system_tls() {
            Ok(tls) => config = config.tls_config(tls),
            Err(_) if is_plain => {}
            Err(error) => return Err(error),
        }
        let agent = config.build().new_agent();
        Ok(Client { agent, reference, logins, access, doing, base, authorization: None })
    }

    /// The manifest under a name, and what the registry calls it.
    pub fn manifest(&mut self, name: &str) -> Result<(Vec<u8>, Option<String>)> {
        let url = self.url(&format!("manifests/{name}"));
        let ask = Ask { method: "GET", url, accept: Some(layout::accepted()), body: None };
        let response = self.ask(&ask)?;
        match response.status() {
            StatusCode::NOT_FOUND => Err(self.rejected("oci_not_found", self.no_such_image())),
            status if !status.is_success() => Err(self.refused(response)),
            _ => {
                let called = response.headers().get(header::CONTENT_TYPE);
                let called = called.and_then(|value| value.to_str().ok()).map(str::to_owned);
                Ok((self.bytes(response, "manifest", MANIFEST_BYTES_MAX)?, called))
            }
        }
    }

    /// A blob of so many bytes, as it is sent. Where its address leads elsewhere, it is asked for there, by nobody's name.
    pub fn blob(&mut self, digest: Digest, bytes: u64, progress: &Progress) -> Result<Vec<u8>> {
        let url = self.url(&format!("blobs/sha256:{digest}"));
        let mut response = self.ask(&Ask { method: "GET", url: url.clone(), accept: None, body: None })?;
        let mut at = url;
        for _ in 0..REDIRECTS_MAX {
            if !response.status().is_redirection() {
                break;
            }
            at = self.led_to(&at, response.headers())?;
            response = self.ask(&Ask { method: "GET", url: at.clone(), accept: None, body: None })?;
        }
        if !response.status().is_success() {
            return Err(self.refused(response));
        }
        let what = format!("layer sha256:{digest}");
        let mut body = response.into_body().into_with_config().limit(bytes + 1).reader();
        let (mut held, mut piece) = (Vec::with_capacity(bytes as usize), vec![0; PIECE_BYTES]);
        loop {
            match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => held.extend_from_slice(&piece[..read]),
                Err(error) => return Err(self.failed(format!("{what} broke off: {error}"))),
            }
            if held.len() as u64 > bytes {
                let message = format!("{what} is longer than the {bytes} bytes that its manifest says");
                return Err(self.rejected("oci_digest", message));
            }
            progress.now(format!("{}: {} of {}", self.doing, size(held.len() as u64), size(bytes)));
        }
        Ok(held)
    }

    /// Sends a blob, unless it is there.
    pub fn put_blob(&mut self, bytes: &[u8]) -> Result<()> {
        let digest = Digest::of(bytes);
        let url = self.url(&format!("blobs/sha256:{digest}"));
        let there = self.ask(&Ask { method: "HEAD", url, accept: None, body: None })?;
        if there.status().is_success() {
            return Ok(());
        }
        let start =
            Ask { method: "POST", url: self.url("blobs/uploads/"), accept: None, body: Some((b"", "")) };
        let (url, started) = (start.url.clone(), self.ask(&start)?);
        if !started.status().is_success() {
            return Err(self.refused(started));
        }
        let place = self.led_to(&url, started.headers())?;
        let mark = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{mark}digest=sha256:{digest}");
        let body = Some((bytes, "application/octet-stream"));
        let sent = self.ask(&Ask { method: "PUT", url, accept: None, body })?;
        if sent.status().is_success() { Ok(()) } else { Err(self.refused(sent)) }
    }

    /// Sends a manifest under a tag.
    pub fn put_manifest(&mut self, tag: &str, manifest: &[u8]) -> Result<()> {
        let url = self.url(&format!("manifests/{tag}"));
        let body = Some((manifest, layout::MANIFEST));
        let sent = self.ask(&Ask { method: "PUT", url, accept: None, body })?;
        if sent.status().is_success() { Ok(()) } else { Err(self.refused(sent)) }
    }

    fn url(&self, path: &str) -> String {
        let repository = &self.reference.repository;
        match (self.reference.host.as_str(), repository.contains('/')) {
            ("docker.io", false) => format!("{}/v2/library/{repository}/{path}", self.base),
            _ => format!("{}/v2/{repository}/{path}", self.base),
        }
    }

    /// Makes the call; once more as somebody, if the registry wants to know who asks.
    fn ask(&mut self, ask: &Ask<'_>) -> Result<Response<Body>> {
        let response = self.attempt(ask, self.authorization.as_deref())?;
        let is_own = self.is_own(&ask.url);
        if response.status() != StatusCode::UNAUTHORIZED || !is_own || self.authorization.is_some() {
            return Ok(response);
        }
        let values = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenge = Challenge::find(values.filter_map(|value| value.to_str().ok()));
        let login = self.logins.of(&self.reference.host)?;
        self.authorization = match (challenge, login) {
            (Some(Challenge::Basic), Some(login)) => Some(login.basic()),
            (Some(Challenge::Bearer { realm, service }), login) => {
                Some(self.token(&realm, service.as_deref(), login.as_ref())?)
            }
            (Some(Challenge::Basic), None) | (None, _) => return Ok(response),
        };
        self.attempt(ask, self.authorization.as_deref())
    }

    fn attempt(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Response<Body>> {
        let mut request = ureq::http::Request::builder().method(ask.method).uri(&ask.url);
        if let Some(accept) = &ask.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = authorization.filter(|_| self.is_own(&ask.url)) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let sent = match ask.body {
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
            Some((bytes, called)) => {
                let request =
                    if called.is_empty() { request } else { request.header("content-type", called) };
                request.body(bytes).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
            }
        };
        sent.map_err(|cause| self.unreachable(&ask.url, cause))
    }

    /// A token for this repository, of the place that the registry named.
    fn token(&self, realm: &str, service: Option<&str>, login: Option<&Login>) -> Result<String> {
        if !self.may_lead_to(realm) {
            let message =
                format!("it wants tokens of {}, which is not to be trusted with a login", shown(realm));
            return Err(self.failed(message));
        }
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let repository = match (self.reference.host.as_str(), self.reference.repository.as_str()) {
            ("docker.io", name) if !name.contains('/') => format!("library/{name}"),
            (_, name) => name.to_owned(),
        };
        let mark = if realm.contains('?') { '&' } else { '?' };
        let scope = escaped(&format!("repository:{repository}:{actions}"));
        let service = service.map(|service| format!("&service={}", escaped(service))).unwrap_or_default();
        let url = format!("{realm}{mark}scope={scope}{service}");
        let mut request = ureq::http::Request::builder().uri(&url);
        if let Some(login) = login {
            request = request.header(header::AUTHORIZATION, login.basic());
        }
        let answer = request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request));
        let answer = answer.map_err(|cause| self.unreachable(&url, cause))?;
        if !answer.status().is_success() {
            return Err(self.refused(answer));
        }
        let bytes = self.bytes(answer, "token", ANSWER_BYTES_MAX)?;
        let token =
            serde_json::from_slice(&bytes).ok().and_then(|token: Token| token.token.or(token.access_token));
        let is_token = |token: &String| !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
        let token =
            token.filter(is_token).ok_or_else(|| self.failed("its token server gave no token".into()))?;
        Ok(format!("Bearer {token}"))
    }

    /// Where `Location` leads from `from`, if it may.
    fn led_to(&self, from: &str, headers: &HeaderMap) -> Result<String> {
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| self.failed("it leads on to nowhere".into()))?;
        let absolute = match location.starts_with('/') && !location.starts_with("//") {
            true => format!("{}{location}", origin(from).unwrap_or_default()),
            false => location.to_owned(),
        };
        match self.may_lead_to(&absolute) {
            true => Ok(absolute),
            false => Err(self.failed(format!("it leads on to {}, which is not asked", shown(location)))),
        }
    }

    /// May this registry name that place? One with TLS, or for a plain registry its own and this machine.
    fn may_lead_to(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<Uri>() else { return false };
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let is_plain = self.base.starts_with("http://");
        scheme == "https"
            || (scheme == "http"
                && is_plain
                && (self.is_own(url) || (self.reference.is_loopback() && is_loopback(authority.as_str()))))
    }

    /// Is it the registry itself, by the same scheme, host and port?
    fn is_own(&self, url: &str) -> bool {
        origin(url).is_some_and(|origin| origin.eq_ignore_ascii_case(&self.base))
    }

    fn bytes(&self, mut response: Response<Body>, what: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let read = response.body_mut().with_config().limit(bytes_max).read_to_vec();
        read.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                self.rejected("too_large", format!("its {what} has more than {bytes_max} bytes"))
            }
            error => self.failed(format!("its {what} broke off: {error}")),
        })
    }

    fn no_such_image(&self) -> String {
        format!("{} has no such image: is the tag right?", self.reference.host)
    }

    /// Why a call was not answered as it should have been.
    fn refused(&self, mut response: Response<Body>) -> Error {
        let status = response.status();
        let text =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let said: Refusal = serde_json::from_str(&text).unwrap_or_default();
        let said = said.errors.first().map(|error| shown(&format!("{} {}", error.code, error.message)));
        let said = said.map(|said| format!(": {}", said.trim())).unwrap_or_default();
        let host = &self.reference.host;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let cure =
                    format!("log in with `docker login {host}`, or give --username and --password-stdin");
                self.rejected("oci_unauthorized", format!("{host} does not allow it{said}; {cure}"))
            }
            StatusCode::NOT_FOUND => {
                self.rejected("oci_not_found", format!("{host} has no such repository or blob{said}"))
            }
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                self.rejected("oci_refused", format!("{host} answered {status}{said}"))
            }
            status => self.failed(format!("it answered {status}{said}")),
        }
    }

    /// Refused, and trying again will not help.
    pub fn rejected(&self, code: &str, message: String) -> Error {
        Error::Rejected { doing: self.doing.clone(), code: code.into(), message, mistakes: vec![] }
    }

    fn failed(&self, message: String) -> Error {
        let registry = self.reference.host.clone();
        Error::Registry { doing: self.doing.clone(), registry, message }
    }

    fn unreachable(&self, url: &str, cause: ureq::Error) -> Error {
        let place = origin(url).unwrap_or_else(|| self.base.clone());
        Error::RegistryUnreachable { doing: self.doing.clone(), place, cause: Box::new(cause) }
    }
}

/// `scheme://host:port` of a URL.
fn origin(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// A stranger's text, for people.
fn shown(text: &str) -> String {
    let text: String = text.chars().take(SAID_CHARS_MAX).collect();
    visible::for_people(&text).into_owned()
}

/// For a query: everything but letters, digits and `-._~` as `%XX`.
fn escaped(text: &str) -> String {
    let escape = |c: u8| match c.is_ascii_alphanumeric() || b"-._~".contains(&c) {
        true => char::from(c).to_string(),
        false => format!("%{c:02X}"),
    };
    text.bytes().map(escape).collect()
}
