//! Tests of handlers without wasm: `cargo test` compiles the same program for this machine, over a world in memory.
//!
//! ```
//! use skerry::{Request, Response, Result, config, fetch, testing};
//!
//! async fn handle(_: Request) -> Result<Response> {
//!     let place = config::get("place")?.unwrap_or_default();
//!     let weather = fetch(Request::get(format!("https://weather.example/{place}"))?).await?.into_text().await?;
//!     Ok(Response::text(format!("{place}: {weather}\n")))
//! }
//!
//! let world = testing::World::new();
//! world.config("place", "Bonn");
//! world.backend("https://weather.example", |req: Request| format!("rain in {}", &req.path()[1..]));
//!
//! let answer = testing::answer(handle, Request::get("/")?);
//! assert_eq!((answer.status.as_u16(), answer.text()), (200, "Bonn: rain in Bonn\n"));
//! # Ok::<(), skerry::Error>(())
//! ```

use std::{marker::PhantomData, net::IpAddr, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use crate::{Body, Error, Handler, Request, Response, block_on, headers, log, sys};

/// What a program finds on this thread, until it is dropped: backends, settings, stores, variables, a clock, random
/// numbers and a log. Tests that run at the same time have threads, so worlds, of their own; without a `World` there is an
/// empty one.
#[must_use = "the world ends when it is dropped"]
pub struct World {
    /// It is this thread's.
    _thread: PhantomData<Rc<()>>,
}

impl World {
    /// An empty world instead of what this thread had.
    #[allow(clippy::new_without_default)] // it does more than make a value
    pub fn new() -> World {
        sys::world(|world| *world = sys::World::default());
        World { _thread: PhantomData }
    }

    /// Answers what is fetched from an origin (`https://api.example`, with the port if it is not the scheme's own).
    /// One that fails returns a [`FetchError`](crate::fetch::FetchError).
    ///
    /// ```
    /// use skerry::{Request, block_on, fetch, fetch::{Cause, FetchError}, testing::World};
    ///
    /// let world = World::new();
    /// world.backend("https://api.example", |_| Err::<&str, _>(FetchError::new(Cause::TimedOut, "slow")));
    /// assert!(block_on(fetch(Request::get("https://api.example/")?)).is_err());
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn backend<K: 'static>(&self, origin: &str, handler: impl Handler<K> + 'static) {
        let handler = Rc::new(handler);
        let backend: sys::Backend = Rc::new(move |request| {
            let handler = handler.clone();
            Box::pin(async move { handler.call(request).await })
        });
        sys::world(|world| world.backends.insert(origin.to_owned(), backend));
    }

    /// Sets a key of [`config`](crate::config).
    pub fn config(&self, key: &str, value: &str) {
        sys::world(|world| world.config.insert(key.to_owned(), value.to_owned()));
    }

    /// Sets a variable of [`env`](crate::env). The test's own variables are not seen.
    pub fn env(&self, name: &str, value: &str) {
        sys::world(|world| world.env.insert(name.to_owned(), value.to_owned()));
    }

    /// Makes an empty store of [`kv`](crate::kv). It is filled by [`Store`](crate::kv::Store) itself.
    pub fn kv_store(&self, name: &str) {
        sys::world(|world| world.stores.insert(name.to_owned(), Default::default()));
    }

    /// Sets the address that requests come from; `127.0.0.1` in a new world.
    pub fn client(&self, address: IpAddr) {
        sys::world(|world| world.client = address);
    }

    /// Sets the JSON object that [`geo`](crate::geo) gives for an address.
    pub fn place(&self, address: IpAddr, json: &str) {
        sys::world(|world| world.places.insert(address, json.to_owned()));
    }

    /// Sets the JSON object that [`device`](crate::device) gives for a `User-Agent`.
    pub fn device(&self, user_agent: &str, json: &str) {
        sys::world(|world| world.devices.insert(user_agent.to_owned(), json.to_owned()));
    }

    /// Sets a secret of the default store.
    pub fn secret(&self, name: &str, value: &[u8]) {
        self.insert_secret(None, name, value);
    }

    /// Sets a secret of another store, which it makes.
    pub fn secret_in(&self, store: &str, name: &str, value: &[u8]) {
        self.insert_secret(Some(store.to_owned()), name, value);
    }

    fn insert_secret(&self, store: Option<String>, name: &str, value: &[u8]) {
        sys::world(|world| world.secrets.entry(store).or_default().insert(name.to_owned(), value.to_owned()));
    }

    /// Sets the clock, in milliseconds since 1970. It begins at the start of 2026 and goes on by what is slept.
    ///
    /// ```
    /// let world = skerry::testing::World::new();
    /// world.set_time_ms(1_000);
    /// assert_eq!(skerry::time::now_ms(), 1_000);
    /// ```
    pub fn set_time_ms(&self, ms: u64) {
        sys::world(|world| world.now = Duration::from_millis(ms));
    }

    /// Other random numbers.
    ///
    /// ```
    /// let world = skerry::testing::World::new();
    /// world.seed(7);
    /// let first = skerry::random::u64();
    /// world.seed(7);
    /// assert_eq!(skerry::random::u64(), first);
    /// ```
    pub fn seed(&self, seed: u64) {
        sys::world(|world| world.seed = seed);
    }

    /// The lines that were logged so far.
    pub fn logged(&self) -> Vec<String> {
        sys::world(|world| world.log.clone())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        sys::world(|world| *world = sys::World::default());
    }
}

/// What a client gets.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The fields; with `content-length` where the length was known before the body was made.
    pub headers: HeaderMap,
    /// The body, or what there was of it.
    pub body: Bytes,
    /// Is the body at its end? Not if making it failed.
    pub complete: bool,
}

/// Runs a handler as a host does: an error is answered with its status and logged, the body is made to its end, and the
/// answer to `HEAD` has none.
///
/// ```
/// use skerry::{Error, Request, testing};
///
/// let world = testing::World::new();
/// let answer = testing::answer(|_: Request| Err::<&str, _>(Error::new("no tea")), Request::get("/")?);
/// assert_eq!((answer.status.as_u16(), answer.text()), (500, "internal error\n"));
/// assert_eq!(world.logged(), ["error: no tea"]);
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn answer<K>(handler: impl Handler<K>, request: Request) -> Answer {
    let is_head = request.method() == Method::HEAD;
    block_on(async {
        let response = handler.call(request).await.unwrap_or_else(Error::answer);
        let (status, mut headers, body) = Response::into_parts(response);
        if let Some(length @ 1..) = body.len()
            && !headers.contains_key(http::header::CONTENT_LENGTH)
        {
            headers.insert(http::header::CONTENT_LENGTH, length.into());
        }
        let (body, complete) = collect(body).await;
        Answer { status, headers, body: if is_head { Bytes::new() } else { body }, complete }
    })
}

/// As much as there is, and whether that is all.
async fn collect(mut body: Body) -> (Bytes, bool) {
    let mut all = BytesMut::new();
    loop {
        match body.chunk().await {
            Ok(Some(piece)) => all.extend_from_slice(&piece),
            Ok(None) => return (all.freeze(), true),
            Err(error) => {
                log::error(format_args!("the body of the answer broke off: {error:#}"));
                return (all.freeze(), false);
            }
        }
    }
}

impl Answer {
    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is no UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The first value of a field, by its name in any case; `None` also if it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        headers::text(&self.headers, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, env};

    #[test]
    fn a_world_ends_with_its_test() {
        let world = World::new();
        world.config("a", "1");
        world.env("b", "2");
        assert_eq!(
            (config::get("a").unwrap().unwrap(), env::var("b").unwrap()),
            ("1".to_owned(), "2".to_owned())
        );
        drop(world);
        assert_eq!((config::get("a").unwrap(), env::var("b"), env::var("PATH")), (None, None, None));
    }

    #[test]
    fn an_answer_is_what_a_client_gets() {
        let world = World::new();
        let head = Request::new(Method::HEAD, "/").unwrap();
        let answer = super::answer(|_: Request| "text", head);
        assert_eq!((answer.header("content-length"), answer.text()), (Some("4"), ""));

        let broken = |_: Request| {
            Response::stream(async |out| {
                out.write("a").await;
                Err(Error::new("no more"))
            })
        };
        let answer = super::answer(broken, Request::get("/").unwrap());
        assert_eq!((answer.text(), answer.complete, answer.header("content-length")), ("a", false, None));
        assert_eq!(world.logged(), ["error: the body of the answer broke off: no more"]);
    }
}
