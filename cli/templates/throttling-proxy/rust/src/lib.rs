//! {{name}}: passes requests on to an origin, and no more of them from one client than skerry.toml says.

mod bucket;

use std::net::IpAddr;

use bucket::{Bucket, Taken};
use skerry::{
    Error, Method, Request, Response, Result, StatusCode, client, config,
    fetch::{self, Cause, FetchError},
    kv::{KvError, Store},
    log, time,
};

/// What a store keeps as a key, with room for the rest of the name.
const CLIENT_BYTES_MAX: usize = 256;

#[skerry::handler]
async fn handle(req: Request) -> Result<Response> {
    let bucket = Bucket::new(number("requests")?, number("seconds")? * 1000);
    let Some(client) = client_of(&req)? else {
        return Ok(Response::text("say who you are\n").with_status(StatusCode::UNAUTHORIZED));
    };
    match count(&bucket, &client) {
        Taken::Yes { left } => forward(req)
            .await?
            .with_header("x-ratelimit-remaining", left),
        Taken::No { wait_ms } => Response::text("too many requests\n")
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_header("retry-after", wait_ms.div_ceil(1000)),
    }
}

/// Takes one request out of the client's bucket. All nodes share the store, and a change that another made meanwhile is
/// not lost: it is looked at again. A store that cannot be reached must not stop the site, so everybody passes then.
/// Requests of one client that keep getting into each other's way are too many.
fn count(bucket: &Bucket, client: &str) -> Taken {
    let now = time::now_ms();
    let mut taken = Taken::Yes { left: 0 };
    let counted = Store::open("throttle-{{name}}").and_then(|store| {
        store.update(client, |entry| {
            let (state, verdict) = bucket.take(bucket::read(entry), now);
            taken = verdict;
            state.to_string().into_bytes()
        })
    });
    match counted {
        Ok(()) => taken,
        Err(KvError::Contended) => Taken::No { wait_ms: 1000 },
        Err(error) => {
            log::warn(format_args!("not counted: {error}"));
            Taken::Yes { left: 0 }
        }
    }
}

/// Who is counted; `None` if the client does not say.
fn client_of(req: &Request) -> Result<Option<String>> {
    match config::get("count_by")?.as_deref() {
        None | Some("address") => Ok(Some(network(client::address()))),
        Some(field) => {
            let said = req
                .header(field)
                .filter(|said| (1..=CLIENT_BYTES_MAX).contains(&said.len()));
            Ok(said.map(|said| format!("{field}: {said}")))
        }
    }
}

/// An address of IPv4, or what of one of IPv6 belongs to one customer: who has one address there has 2^64.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Bodies go through piece by piece, both ways at once.
async fn forward(mut req: Request) -> Result<Response> {
    let origin = config::get("origin")?.ok_or_else(|| Error::new("no origin in [config]"))?;
    let target = req
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut to = Request::new(req.method().clone(), format!("{origin}{target}"))?;
    *to.headers_mut() = req.headers().clone();
    to = to.with_header("x-forwarded-for", client::address().to_string())?;
    if !matches!(*req.method(), Method::GET | Method::HEAD) {
        to = to.with_body(req.take_body());
    }
    fetch::fetch(to).await.or_else(|error| {
        let status = match error.cause::<FetchError>() {
            Some(FetchError {
                cause: Cause::TimedOut,
                ..
            }) => StatusCode::GATEWAY_TIMEOUT,
            Some(_) => StatusCode::BAD_GATEWAY,
            None => return Err(error),
        };
        log::error(&error);
        Ok(Response::text("the origin does not answer\n").with_status(status))
    })
}

fn number(key: &str) -> Result<u64> {
    let value = config::get(key)?.unwrap_or_default();
    value
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Error::new(format!("[config] {key}: not a number above 0")))
}

#[cfg(test)]
mod tests {
    use skerry::{
        Request,
        testing::{Answer, World, answer},
    };

    use super::{handle, network};

    fn world() -> World {
        let world = World::new();
        for (key, value) in [
            ("origin", "https://origin.example"),
            ("requests", "2"),
            ("seconds", "10"),
        ] {
            world.config(key, value);
        }
        world.kv_store("throttle-{{name}}");
        world.backend("https://origin.example", async |mut req: Request| {
            let body = req.text().await?;
            Ok::<_, skerry::Error>(format!("{} {} {body}", req.method(), req.uri()))
        });
        world
    }

    fn get(path: &str) -> Answer {
        answer(handle, Request::get(path).unwrap())
    }

    #[test]
    fn requests_pass_until_there_were_too_many_and_again_later() {
        let world = world();
        world.set_time_ms(1_000_000);
        assert_eq!(get("/a?b").text(), "GET https://origin.example/a?b ");
        assert_eq!(get("/").header("x-ratelimit-remaining"), Some("0"));
        let refused = get("/");
        assert_eq!(
            (refused.status.as_u16(), refused.header("retry-after")),
            (429, Some("5"))
        );
        world.set_time_ms(1_005_000);
        assert_eq!(get("/").status, 200);
        assert_eq!(get("/").status, 429);
    }

    #[test]
    fn clients_are_counted_each_by_itself() {
        let world = world();
        get("/");
        get("/");
        world.client("192.0.2.7".parse().unwrap());
        assert_eq!(get("/").status, 200);
        assert_eq!(
            network("2001:db8:1:2:3::4".parse().unwrap()),
            "2001:db8:1:2::/64"
        );
    }

    #[test]
    fn a_key_may_stand_for_the_client() {
        let world = world();
        world.config("count_by", "x-api-key");
        assert_eq!(get("/").status, 401);
        let post = || {
            Request::post("/")
                .unwrap()
                .with_header("x-api-key", "ana")
                .unwrap()
                .with_body("hi")
        };
        assert_eq!(
            answer(handle, post()).text(),
            "POST https://origin.example/ hi"
        );
    }

    #[test]
    fn without_its_store_everybody_passes_and_without_its_origin_nobody() {
        let world = World::new();
        for (key, value) in [
            ("origin", "https://gone.example"),
            ("requests", "1"),
            ("seconds", "1"),
        ] {
            world.config(key, value);
        }
        assert_eq!(get("/").status, 502);
        assert!(
            world.logged()[0].contains("not counted"),
            "{:?}",
            world.logged()
        );
    }
}
