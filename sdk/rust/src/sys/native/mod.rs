//! The host of a test: one world in memory for each thread, which [`World`](crate::testing::World) sets up.

pub(crate) mod config;
pub(crate) mod edge;
pub(crate) mod kv;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use http::{HeaderMap, Method, Uri};

use crate::{
    Body, Request, Response, Result,
    fetch::{Cause, FetchError, Timeouts},
};

/// Where the clock stands in a new world: 2026-01-01 00:00 UTC.
const START: Duration = Duration::from_secs(1_767_225_600);

/// A backend of a test.
pub(crate) type Backend = Rc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Result<Response>>>>>;

/// What a world holds.
pub(crate) struct World {
    /// Since 1970.
    pub(crate) now: Duration,
    /// Of the random numbers.
    pub(crate) seed: u64,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) stores: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// By origin, `scheme://authority`.
    pub(crate) backends: BTreeMap<String, Backend>,
    pub(crate) client: IpAddr,
    /// JSON objects.
    pub(crate) places: BTreeMap<IpAddr, String>,
    pub(crate) devices: BTreeMap<String, String>,
    /// By store; the default one has no name.
    pub(crate) secrets: BTreeMap<Option<String>, BTreeMap<String, Vec<u8>>>,
    /// Lines without their ends.
    pub(crate) log: Vec<String>,
}

impl Default for World {
    fn default() -> World {
        World {
            now: START,
            seed: 0,
            env: BTreeMap::new(),
            config: BTreeMap::new(),
            stores: BTreeMap::new(),
            backends: BTreeMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            places: BTreeMap::new(),
            devices: BTreeMap::new(),
            secrets: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// Looks at this thread's world, or changes it.
pub(crate) fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(look)
}

/// A point in time.
pub(crate) struct Pollable {
    due: Duration,
}

/// Nothing but time passes in a world, so the clock jumps to the first that is due.
pub(crate) fn poll(pollables: &[&Pollable]) -> Vec<u32> {
    let first = pollables.iter().map(|pollable| pollable.due).min().unwrap_or_default();
    let now = world(|world| {
        world.now = world.now.max(first);
        world.now
    });
    let due = |(index, pollable): (u32, &&Pollable)| (pollable.due <= now).then_some(index);
    (0..).zip(pollables).filter_map(due).collect()
}

pub(crate) fn after(time: Duration) -> Pollable {
    Pollable { due: since_1970().saturating_add(time) }
}

pub(crate) fn since_1970() -> Duration {
    world(|world| world.now)
}

/// splitmix64: the same numbers from the same seed.
pub(crate) fn random(bytes: &mut [u8]) {
    world(|world| {
        for eight in bytes.chunks_mut(8) {
            world.seed = world.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = world.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            eight.copy_from_slice(&z.to_le_bytes()[..eight.len()]);
        }
    });
}

pub(crate) fn env(name: &str) -> Option<String> {
    world(|world| world.env.get(name).cloned())
}

/// Also to standard error, which the test runner shows of a test that fails.
pub(crate) fn log(line: String) {
    eprint!("{line}");
    world(|world| world.log.extend(line.lines().map(str::to_owned)));
}

pub(crate) async fn fetch(request: Request, _: Timeouts) -> Result<Response> {
    let uri = request.uri();
    let origin =
        format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()));
    match world(|world| world.backends.get(&origin).cloned()) {
        Some(backend) => backend(request).await,
        None => {
            let detail = format!("the test has no backend {origin}: World::backend");
            Err(FetchError::new(Cause::NotFound, detail).into())
        }
    }
}

/// A request of a host: there is none here.
pub(crate) enum ClientRequest {}

impl ClientRequest {
    pub(crate) fn method(&self) -> Method {
        match *self {}
    }

    pub(crate) fn target(&self) -> String {
        match *self {}
    }

    pub(crate) fn uri(&self, _target: &str) -> Uri {
        match *self {}
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        match *self {}
    }

    pub(crate) fn body(&self) -> Body {
        match *self {}
    }
}
