//! Requests that a guest makes: `outgoing-request`, `request-options`.

use std::time::Duration;

use http::{Uri, uri};
use wasmtime::{
    Result,
    component::{Resource, WasmStr},
};

use super::{
    At, Cx, State,
    fields::Fields,
    handles::Holds,
    http_types::{Method, SaidMethod, SaidScheme, Scheme},
    outgoing::{Message, OutgoingBody},
};
use crate::{
    front::limits::METHOD_BYTES_MAX,
    host::{outbound::Options, pipe::Reader},
};

/// Bytes of an authority: a host name has 253, a port 6.
const AUTHORITY_BYTES_MAX: usize = 300;

/// A request while it is made.
pub struct OutgoingRequest(pub Box<Draft>);

/// What [`OutgoingRequest`] stands for.
pub struct Draft {
    pub method: Method,
    pub path_with_query: Option<String>,
    pub scheme: Option<Scheme>,
    pub authority: Option<String>,
    pub fields: Fields,
    /// The other end of the body that the guest asked for.
    pub body: Option<Reader>,
}

impl Holds for OutgoingRequest {
    fn held_bytes(&self) -> usize {
        let Draft { method, path_with_query, scheme, authority, fields, body } = &*self.0;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let method = if let Method::Other(name) = method { name.len() } else { 0 };
        let scheme = if let Some(Scheme::Other(name)) = scheme { name.len() } else { 0 };
        let left = body.as_ref().map_or(0, Reader::left_bytes);
        size_of::<Draft>()
            + text(path_with_query)
            + text(authority)
            + method
            + scheme
            + fields.held_bytes()
            + left
    }
}

/// Its times.
#[derive(Default)]
pub struct RequestOptions(pub Options);

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[constructor]outgoing-request" => at.func_wrap(name, new),
        "[method]outgoing-request.body" => at.func_wrap(name, body),
        "[method]outgoing-request.method" => at.func_wrap(name, method),
        "[method]outgoing-request.set-method" => at.func_wrap(name, set_method),
        "[method]outgoing-request.path-with-query" => at.func_wrap(name, path_with_query),
        "[method]outgoing-request.set-path-with-query" => at.func_wrap(name, set_path_with_query),
        "[method]outgoing-request.scheme" => at.func_wrap(name, scheme),
        "[method]outgoing-request.set-scheme" => at.func_wrap(name, set_scheme),
        "[method]outgoing-request.authority" => at.func_wrap(name, authority),
        "[method]outgoing-request.set-authority" => at.func_wrap(name, set_authority),
        "[method]outgoing-request.headers" => at.func_wrap(name, headers),
        "[constructor]request-options" => {
            at.func_wrap(name, |mut cx: Cx<'_>, (): ()| Ok((cx.data_mut().push(RequestOptions::default())?,)))
        }
        "[method]request-options.connect-timeout" => timeout(at, name, |options| &mut options.connect),
        "[method]request-options.set-connect-timeout" => {
            set_timeout(at, name, |options| &mut options.connect)
        }
        "[method]request-options.first-byte-timeout" => timeout(at, name, |options| &mut options.first_byte),
        "[method]request-options.set-first-byte-timeout" => {
            set_timeout(at, name, |options| &mut options.first_byte)
        }
        "[method]request-options.between-bytes-timeout" => {
            timeout(at, name, |options| &mut options.between_bytes)
        }
        "[method]request-options.set-between-bytes-timeout" => {
            set_timeout(at, name, |options| &mut options.between_bytes)
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

type Request = Resource<OutgoingRequest>;
/// What setters answer.
type Set = (Result<(), ()>,);

impl State {
    fn draft(&mut self, request: &Request) -> Result<&mut Draft> {
        Ok(&mut self.handles.get_mut(request)?.0)
    }

    /// Changes a draft, and counts by how much it grew.
    fn change_draft(&mut self, request: &Request, change: impl FnOnce(&mut Draft)) -> Result<Set> {
        let request = self.handles.get_mut(request)?;
        let before = request.held_bytes();
        change(&mut request.0);
        let more = request.held_bytes().saturating_sub(before);
        self.hold(more)?;
        Ok((Ok(()),))
    }
}

fn new(mut cx: Cx<'_>, (fields,): (Resource<Fields>,)) -> Result<(Request,)> {
    let state = cx.data_mut();
    let fields = state.handles.take(fields)?.fixed();
    let draft = Draft {
        method: Method::Get,
        path_with_query: None,
        scheme: None,
        authority: None,
        fields,
        body: None,
    };
    Ok((state.push(OutgoingRequest(Box::new(draft)))?,))
}

fn body(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Result<Resource<OutgoingBody>, ()>,)> {
    let state = cx.data_mut();
    let State { handles, exchange, streams, .. } = state;
    let draft = &mut handles.get_mut(&request)?.0;
    if draft.body.is_some() {
        return Ok((Err(()),));
    }
    *streams = streams.saturating_add(1); // far below its end: every one was a handle
    let (body, reader) = OutgoingBody::new(&exchange.door, *streams, Message::Request, &draft.fields);
    draft.body = Some(reader);
    Ok((Ok(state.push(body)?),))
}

fn method(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Method,)> {
    Ok((cx.data_mut().draft(&request)?.method.clone(),))
}

fn set_method(mut cx: Cx<'_>, (request, said): (Request, SaidMethod)) -> Result<Set> {
    let method = match said.known() {
        Ok(method) => method,
        Err(other) => {
            let name = other.to_str(&cx)?;
            if name.len() > METHOD_BYTES_MAX || http::Method::from_bytes(name.as_bytes()).is_err() {
                return Ok((Err(()),));
            }
            Method::Other(name.into_owned())
        }
    };
    cx.data_mut().change_draft(&request, |draft| draft.method = method)
}

fn path_with_query(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Option<String>,)> {
    Ok((cx.data_mut().draft(&request)?.path_with_query.clone(),))
}

fn set_path_with_query(mut cx: Cx<'_>, (request, path): (Request, Option<WasmStr>)) -> Result<Set> {
    match checked(&cx, path, |path| parse_path(path).is_some())? {
        Some(path) => cx.data_mut().change_draft(&request, |draft| draft.path_with_query = path),
        None => Ok((Err(()),)),
    }
}

/// Empty, or a path from its root, or only a query (RFC 3986 §3.3): anything else in a request line would name another
/// target than the request's.
pub fn parse_path(path: &str) -> Option<uri::PathAndQuery> {
    if !(path.is_empty() || path.starts_with(['/', '?'])) {
        return None;
    }
    Uri::builder().path_and_query(path).build().ok()?.path_and_query().cloned()
}

fn scheme(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Option<Scheme>,)> {
    Ok((cx.data_mut().draft(&request)?.scheme.clone(),))
}

fn set_scheme(mut cx: Cx<'_>, (request, said): (Request, Option<SaidScheme>)) -> Result<Set> {
    let scheme = match said {
        None => None,
        Some(SaidScheme::Http) => Some(Scheme::Http),
        Some(SaidScheme::Https) => Some(Scheme::Https),
        Some(SaidScheme::Other(name)) => {
            let name = name.to_str(&cx)?;
            if name.parse::<uri::Scheme>().is_err() {
                return Ok((Err(()),));
            }
            Some(Scheme::Other(name.into_owned()))
        }
    };
    cx.data_mut().change_draft(&request, |draft| draft.scheme = scheme)
}

fn authority(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Option<String>,)> {
    Ok((cx.data_mut().draft(&request)?.authority.clone(),))
}

fn set_authority(mut cx: Cx<'_>, (request, authority): (Request, Option<WasmStr>)) -> Result<Set> {
    let is_one = |authority: &str| {
        authority.len() <= AUTHORITY_BYTES_MAX && authority.parse::<uri::Authority>().is_ok()
    };
    match checked(&cx, authority, is_one)? {
        Some(authority) => cx.data_mut().change_draft(&request, |draft| draft.authority = authority),
        None => Ok((Err(()),)),
    }
}

/// A text as the draft keeps it, or `None` when it is not right. Looked at in the guest's memory: what is refused is not
/// copied.
fn checked(
    cx: &Cx<'_>,
    text: Option<WasmStr>,
    is_right: impl FnOnce(&str) -> bool,
) -> Result<Option<Option<String>>> {
    let Some(text) = text else { return Ok(Some(None)) };
    let text = text.to_str(cx)?;
    Ok(is_right(&text).then(|| Some(text.into_owned())))
}

fn headers(mut cx: Cx<'_>, (request,): (Request,)) -> Result<(Resource<Fields>,)> {
    let fields = cx.data_mut().draft(&request)?.fields.share();
    Ok((cx.data_mut().push(fields)?,))
}

type Of = fn(&mut Options) -> &mut Option<Duration>;

fn timeout(at: &mut At<'_>, name: &str, of: Of) -> Result<()> {
    at.func_wrap(name, move |mut cx: Cx<'_>, (options,): (Resource<RequestOptions>,)| {
        let time = *of(&mut cx.data_mut().handles.get_mut(&options)?.0);
        // Set in nanoseconds of 64 bits, so it is read as such.
        Ok((time.and_then(|time| u64::try_from(time.as_nanos()).ok()),))
    })
}

fn set_timeout(at: &mut At<'_>, name: &str, of: Of) -> Result<()> {
    at.func_wrap(name, move |mut cx: Cx<'_>, (options, ns): (Resource<RequestOptions>, Option<u64>)| {
        *of(&mut cx.data_mut().handles.get_mut(&options)?.0) = ns.map(Duration::from_nanos);
        Ok((Ok::<(), ()>(()),))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{door::Door, pipe::HELD_BYTES_MAX};

    #[test]
    fn what_was_written_to_a_request_that_is_not_sent_counts_until_it_is_gone() {
        let fields = Fields::received(http::HeaderMap::new());
        let (mut body, reader) = OutgoingBody::new(&Door::default(), 1, Message::Request, &fields);
        let mut draft = Draft {
            method: Method::Get,
            path_with_query: None,
            scheme: None,
            authority: None,
            fields,
            body: Some(reader),
        };
        assert_eq!(body.admit(1_000), Ok(1_000));
        body.put(&[b'x'; 1_000]);
        draft.path_with_query = Some("/".repeat(100));
        let request = OutgoingRequest(Box::new(draft));
        let draft_bytes = size_of::<Draft>() + 100;
        assert_eq!((body.held_bytes(), request.held_bytes()), (1_000, draft_bytes));
        // A program may let go of a body without finishing it: what it wrote stays with the request.
        drop(body);
        assert_eq!(request.held_bytes(), draft_bytes + 1_000);
    }

    #[test]
    fn a_body_that_streams_holds_a_pipe_and_no_more() {
        let fields = Fields::received(http::HeaderMap::new());
        let (mut body, _reader) = OutgoingBody::new(&Door::default(), 1, Message::Request, &fields);
        let held: Vec<_> = (0..4).map(|_| body.admit(HELD_BYTES_MAX / 2).unwrap()).collect();
        assert_eq!(held, [HELD_BYTES_MAX / 2, HELD_BYTES_MAX / 2, 0, 0]);
    }

    #[test]
    fn paths_stay_paths() {
        for path in ["", "/", "/a?b=c", "?b", "/%20", "//x"] {
            assert!(parse_path(path).is_some(), "{path:?}");
        }
        for path in ["x", "*", "http://elsewhere/", "/a b", "/\r\n", "x:1"] {
            assert!(parse_path(path).is_none(), "{path:?}");
        }
    }
}
