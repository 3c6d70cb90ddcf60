//! Live logs of an app as a stream of JSON lines (docs/design/0017-live-logs.md): what nodes remember, then, if asked for,
//! what comes. Where a line is from is what the node's certificate says, whatever the node says.
//!
//! Deliberately absent: nodes of other control planes. Each has the lines of the nodes that are connected to it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use artifact::{AppId, AppName, NodeName, names::PopName, record::UnixMs, visible};
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fleet_sync_origin::{ListenError, Listening};
use fleet_sync_proto::logs::{LogLine, RequestLine, Said, listener::Heard};
use futures_util::stream;
use http::{StatusCode, header};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    apps::no_such_app,
    body::{Asked, Named},
    error::{ApiError, ErrorBody},
    types::LogsQuery,
};
use crate::{
    clock::now_ms,
    plane::Plane,
    tokens::{Action, Caller},
};

/// A stream ends after this and is to be asked for anew: so long may a token that was revoked still listen.
const STREAM_MAX: Duration = Duration::from_secs(300);
/// An empty line after so much silence tells both sides that the other is there.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Longest wait for nodes to tell what they remember: a round trip around the world, and 100 ms until they look.
const PAST_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether all have.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes of lines that are sent at once when there are as many.
const CHUNK_BYTES: usize = 64 * 1024;

/// The last lines of an app, and, with `follow`, what comes: one JSON object a line, `kind` says which.
///
/// `stdout`, `stderr`, `log`: what the program said. `request`: a request has ended, and what it cost. `cut`: an execution
/// said more than one may. `dropped`: so many lines are missing here, and `by` whom. `from`: a node begins to tell, with the
/// number `seq`; what is before its `since` and was not heard earlier is lost. `listening` is the first;
/// `end` the last, without `follow`, and names nodes that did not answer. Otherwise the last is `again`: ask anew, and
/// leave out what `node`, `run` and `seq` say you have. Empty lines mean nothing.
#[utoipa::path(
    get, path = "/v1/apps/{app}/logs", tag = "apps", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name"), LogsQuery),
    responses(
        (status = 200, content_type = "application/x-ndjson"), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)
    )
)]
pub async fn get_logs(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    Asked(query): Asked<LogsQuery>,
) -> Result<Response, ApiError> {
    caller.allow_app(&[Action::Read], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    if plane.fleet.view().app(&id).is_none() {
        return Err(no_such_app(&id.app));
    }
    let since_ms = query.past_ms.map_or(0, |past_ms| now_ms().saturating_sub(past_ms));
    let listening = plane.fleet.listen(&id, since_ms)?;
    let nodes = listening.awaited().len();
    let told = Telling {
        listening,
        follows: query.follow,
        ready: VecDeque::from([Told::Listening { time_ms: now_ms(), nodes }]),
        until: Instant::now() + if query.follow { STREAM_MAX } else { PAST_WAIT_MAX },
        ended: false,
    };
    let chunks = stream::unfold(told, |mut told| async move {
        let chunk = told.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), told))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

impl From<ListenError> for ApiError {
    fn from(error: ListenError) -> ApiError {
        match error {
            ListenError::Tenant => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_listeners", error.to_string())
            }
            ListenError::All => ApiError::unavailable("busy", error.to_string()),
            ListenError::Stopping => ApiError::unavailable("stopping", error.to_string()),
        }
    }
}

/// Where lines come from: a place among the origin's listeners.
trait Source {
    /// As soon as there is something; `None` when listening has ended.
    async fn next(&self) -> Option<Heard>;
    /// What is there already. The outer `None`: listening has ended.
    fn now(&self) -> Option<Option<Heard>>;
    /// Nodes that have not told yet what they remember.
    fn awaited(&self) -> Vec<(NodeName, PopName)>;
    /// Nothing comes any more beside what waits already.
    fn hear_no_more(&self);
}

impl Source for Listening {
    async fn next(&self) -> Option<Heard> {
        Listening::next(self).await
    }

    fn now(&self) -> Option<Option<Heard>> {
        Listening::now(self)
    }

    fn awaited(&self) -> Vec<(NodeName, PopName)> {
        Listening::awaited(self)
    }

    fn hear_no_more(&self) {
        Listening::hear_no_more(self);
    }
}

/// One answer under way.
struct Telling<S> {
    listening: S,
    follows: bool,
    ready: VecDeque<Told>,
    until: Instant,
    ended: bool,
}

impl<S: Source> Telling<S> {
    /// The next bytes to send, as soon as there are some; `None` after the last.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut chunk = Vec::new();
        self.ready.drain(..).for_each(|told| told.write_to(&mut chunk));
        while chunk.is_empty() {
            let look = if self.follows { SILENCE_MAX } else { LOOK_EVERY };
            let heard = timeout_at(self.until.min(Instant::now() + look), self.listening.next()).await;
            let is_late = Instant::now() >= self.until;
            let last = match heard {
                // Not all was told: our place is gone.
                Ok(None) => Some(self.again()),
                // Whatever waits still: there is more for as long as the app speaks, and nodes tell it again.
                _ if is_late && self.follows => Some(self.again()),
                Ok(Some(_)) | Err(_) if self.follows => None,
                // Before what waits is taken: a node that has told everything has done so before this.
                Ok(Some(_)) | Err(_) => self.end(is_late),
            };
            let is_all = self.take(heard.ok().flatten(), &mut chunk);
            match last {
                Some(last) if is_all || self.follows => {
                    self.ended = true;
                    last.write_to(&mut chunk);
                }
                _ if chunk.is_empty() && self.follows => chunk.push(b'\n'),
                _ => {}
            }
        }
        Some(chunk.into())
    }

    /// Writes what waits, at most a chunk. Is that all?
    fn take(&self, first: Option<Heard>, chunk: &mut Vec<u8>) -> bool {
        let mut next = first;
        while chunk.len() < CHUNK_BYTES {
            let Some(heard) = next.take().or_else(|| self.listening.now().flatten()) else { return true };
            Told::of(heard).into_iter().for_each(|told| told.write_to(chunk));
        }
        false
    }

    fn again(&self) -> Told {
        Told::Again { time_ms: now_ms() }
    }

    /// The last line without `follow`, once nothing more is waited for: from then on only what waits is taken, which is
    /// bounded however loud the app is.
    fn end(&self, is_late: bool) -> Option<Told> {
        let awaited = self.listening.awaited();
        if !is_late && !awaited.is_empty() {
            return None;
        }
        self.listening.hear_no_more();
        let unheard = awaited.into_iter().map(|(node, pop)| Place { node, pop }).collect();
        Some(Told::End { time_ms: now_ms(), unheard })
    }
}

/// One line of the answer. Field names are the API's: `skerry logs --json` passes them through.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Told {
    Listening {
        time_ms: UnixMs,
        /// Nodes that are connected.
        nodes: usize,
    },
    From {
        time_ms: UnixMs,
        #[serde(flatten)]
        place: Place,
        run: u64,
        /// Number of the first line that comes.
        seq: u64,
        /// Of the first line that the node had: what is between was not asked for.
        since: u64,
    },
    Stdout {
        #[serde(flatten)]
        at: At,
        text: String,
    },
    Stderr {
        #[serde(flatten)]
        at: At,
        text: String,
    },
    Log {
        #[serde(flatten)]
        at: At,
        name: String,
        text: String,
    },
    Request {
        #[serde(flatten)]
        at: At,
        #[serde(flatten)]
        line: RequestLine,
    },
    Cut {
        #[serde(flatten)]
        at: At,
        bytes: u64,
    },
    Dropped {
        time_ms: UnixMs,
        #[serde(flatten)]
        place: Option<Place>,
        /// Its number, where it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        run: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        lines: u64,
        /// `node`: there were too many for it. `reader`: for whoever reads this.
        by: &'static str,
    },
    Again {
        time_ms: UnixMs,
    },
    End {
        time_ms: UnixMs,
        /// Connected nodes that did not answer in time.
        unheard: Vec<Place>,
    },
}

#[derive(Serialize)]
struct Place {
    node: NodeName,
    pop: PopName,
}

/// Where a line is from.
#[derive(Serialize)]
struct At {
    time_ms: UnixMs,
    #[serde(flatten)]
    place: Place,
    version: u64,
    request: String,
    /// Names the node's numbering of this app's lines.
    run: u64,
    /// The line's number there.
    seq: u64,
}

impl Told {
    /// `None`: of a newer node, not understood.
    fn of(heard: Heard) -> Option<Told> {
        let (node, pop, run, seq, line) = match heard {
            Heard::Line { node, pop, run, seq, line } => (node, pop, run, seq, line),
            Heard::From { node, pop, run, seq, since } => {
                let place = Place { node, pop };
                return Some(Told::From { time_ms: now_ms(), place, run, seq, since });
            }
            Heard::Lost { node, pop, at, lines } => {
                return Some(Told::missing(Some(Place { node, pop }), at, lines, "node"));
            }
            Heard::Slow { lines } => return Some(Told::missing(None, None, lines, "reader")),
        };
        let time_ms = line.time_ms();
        let LogLine { version, request, said, .. } = Arc::unwrap_or_clone(line);
        let place = Place { node, pop };
        let at = |place| At { time_ms, place, version, request, run, seq };
        Some(match said {
            Said::Stdout { text } => Told::Stdout { at: at(place), text },
            Said::Stderr { text } => Told::Stderr { at: at(place), text },
            Said::Log { name, text } => Told::Log { at: at(place), name, text },
            Said::Request(line) => Told::Request { at: at(place), line },
            Said::Cut { bytes } => Told::Cut { at: at(place), bytes },
            Said::Dropped { lines } => {
                let (run, seq) = (Some(run), Some(seq));
                Told::Dropped { time_ms, place: Some(place), run, seq, lines, by: "node" }
            }
            Said::Unknown => return None,
        })
    }

    fn missing(place: Option<Place>, at: Option<(u64, u64)>, lines: u64, by: &'static str) -> Told {
        let (run, seq) = at.unzip();
        Told::Dropped { time_ms: now_ms(), place, run, seq, lines, by }
    }

    /// Appends it, safe to be looked at in a terminal, and a line end.
    fn write_to(&self, chunk: &mut Vec<u8>) {
        let text = serde_json::to_string(self).expect("lines have only string keys");
        chunk.extend(visible::for_json(&text).as_bytes());
        chunk.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// An app that says 8 KiB whenever it is looked at, while it is heard, and then what waits.
    struct Loud {
        waiting: Cell<Option<usize>>,
        is_gone: bool,
    }

    impl Source for Loud {
        async fn next(&self) -> Option<Heard> {
            self.now()?
        }

        fn now(&self) -> Option<Option<Heard>> {
            if self.is_gone {
                return None;
            }
            let waiting = self.waiting.get();
            self.waiting.set(waiting.map(|lines| lines.saturating_sub(1)));
            let said = Said::Stdout { text: "x".repeat(8_192) };
            let line = Arc::new(LogLine { time_us: 1, version: 1, request: "a1".into(), said });
            let (node, pop) = ("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
            Some((waiting != Some(0)).then_some(Heard::Line { node, pop, run: 1, seq: 1, line }))
        }

        fn awaited(&self) -> Vec<(NodeName, PopName)> {
            vec![("ams1-1".parse().unwrap(), "ams1".parse().unwrap())]
        }

        fn hear_no_more(&self) {
            self.waiting.set(Some(self.waiting.get().unwrap_or(100)));
        }
    }

    /// The last line of an answer whose time is over, and how many came before it.
    async fn told_late(follows: bool, is_gone: bool) -> (String, usize) {
        let listening = Loud { waiting: Cell::new(None), is_gone };
        let mut told =
            Telling { listening, follows, ready: VecDeque::new(), until: Instant::now(), ended: false };
        let mut text = Vec::new();
        while let Some(chunk) = told.next().await {
            text.extend(chunk);
            assert!(text.len() < 2 << 20, "it never ends");
        }
        let text = String::from_utf8(text).unwrap();
        let (last, before) = text.lines().next_back().map(|last| (last, text.lines().count() - 1)).unwrap();
        (last.into(), before)
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_time_is_over_however_loud_the_app_is() {
        let (last, before) = told_late(true, false).await;
        assert!(last.contains(r#""kind":"again""#) && before < 20, "{before} {last}");
        let (last, before) = told_late(false, false).await;
        assert!(last.contains(r#""kind":"end""#) && last.contains("ams1-1"), "{last}");
        assert!((100..110).contains(&before), "what waited, and no more: {before}");
    }

    #[tokio::test]
    async fn who_lost_its_place_is_not_told_that_this_was_all() {
        for follows in [true, false] {
            assert!(told_late(follows, true).await.0.contains(r#""kind":"again""#), "{follows}");
        }
    }

    /// Every kind of line, as it is sent.
    fn every_kind() -> String {
        let (node, pop): (NodeName, PopName) = ("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
        let of = |said| Heard::Line {
            node: node.clone(),
            pop: pop.clone(),
            run: 1_795_232_820_809_168,
            seq: 7,
            line: Arc::new(LogLine {
                time_us: 1_795_232_821_013_999,
                version: 2,
                request: "68492523ef97f2cefedebe0000000000".into(),
                said,
            }),
        };
        let hostile = "\u{1b}[2J\r\n\u{202e}\u{9b}\u{e0041}".to_owned();
        let request = RequestLine {
            method: "GET".into(),
            path: "/a".into(),
            status: 504,
            error: Some("cpu_limit".into()),
            duration_us: 60_123,
            cpu_us: 51_234,
            instantiate_us: 90,
            memory_peak_kib: 1_664,
        };
        let heard = [
            of(Said::Stdout { text: hostile.clone() }),
            of(Said::Stderr { text: "plain".into() }),
            of(Said::Log { name: "access".into(), text: hostile }),
            of(Said::Request(request.clone())),
            of(Said::Request(RequestLine { status: 200, error: None, ..request })),
            of(Said::Cut { bytes: 9 }),
            of(Said::Dropped { lines: 3 }),
            of(Said::Unknown),
        ];
        let time_ms = 1_795_232_821_014;
        let mut told = vec![Told::Listening { time_ms, nodes: 2 }];
        let place = || Place { node: node.clone(), pop: pop.clone() };
        told.push(Told::From { time_ms, place: place(), run: 1_795_232_820_809_168, seq: 7, since: 5 });
        told.extend(heard.into_iter().filter_map(Told::of));
        told.push(Told::Dropped { time_ms, place: None, run: None, seq: None, lines: 4, by: "reader" });
        told.push(Told::Again { time_ms });
        told.push(Told::End { time_ms, unheard: vec![place()] });
        let mut text = Vec::new();
        told.iter().for_each(|told| told.write_to(&mut text));
        String::from_utf8(text).unwrap()
    }

    /// `UPDATE=1` writes it anew. `skerry logs` reads the same file in its tests.
    #[test]
    fn field_names_are_those_that_scripts_were_promised() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/logs.ndjson");
        let text = every_kind();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap_or_default());
        assert!(text.lines().all(|line| line.chars().all(visible::is_plain)));
    }
}
