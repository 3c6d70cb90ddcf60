//! Several origins of one backend.

use std::sync::atomic::Ordering::SeqCst;

use artifact::manifest::HealthCheck;

use super::{
    super::{Peer, Plan, health, limits, origins::Health},
    servers::{Server, Then, nobody},
    *,
};

fn two(first: String, second: &Server) -> Backend {
    Backend { failover: vec![second.url()], ..backend(first) }
}

#[test]
fn when_the_first_cannot_be_reached_the_second_is_asked() {
    testing::local(async {
        let second = Server::plain().await;
        let outbound = dev();
        let mut exchange = exchange(&outbound, config(two(nobody(), &second)));
        for number in 1..=limits::FAILURES_TO_DOWN as usize + 2 {
            assert_eq!(get(&mut exchange, "/hello").await.unwrap().text(), "hello");
            assert_eq!(second.asked(), number);
        }
        // Nothing of it was sent: even what may not be repeated and a stream go on to the second.
        let mut fresh = self::exchange(&dev(), config(two(nobody(), &second)));
        let (write, body) = streamed();
        write.send(data("once")).unwrap();
        drop(write);
        assert_eq!(ask(&mut fresh, Request::post("/echo").body(body).unwrap()).await.unwrap().text(), "once");
    });
}

#[test]
fn an_origin_that_fails_again_and_again_is_left_alone() {
    testing::local(async {
        let first = Server::raw("", Then::Close).await;
        let second = Server::plain().await;
        let mut exchange = exchange(&dev(), config(two(first.url(), &second)));
        for _ in 0..limits::FAILURES_TO_DOWN + 3 {
            get(&mut exchange, "/hello").await.unwrap();
        }
        assert_eq!(first.asked(), limits::FAILURES_TO_DOWN as usize);
        assert_eq!(health(&exchange, "origin"), Some(Health::Well));
        assert_eq!(health(&exchange, "other"), None);
    });
}

#[test]
fn what_may_have_had_an_effect_is_not_sent_twice() {
    testing::local(async {
        let first = Server::raw("", Then::Close).await;
        let second = Server::plain().await;
        let mut exchange = exchange(&dev(), config(two(first.url(), &second)));
        let post = Request::post("/hello").body(RequestBody::Full(Bytes::from_static(b"once"))).unwrap();
        assert_eq!(ask(&mut exchange, post).await.err(), Some(FetchError::ConnectionTerminated));
        let (write, body) = streamed();
        write.send(data("gone")).unwrap();
        let put = Request::put("/hello").body(body).unwrap();
        assert_eq!(
            ask(&mut exchange, put).await.err(),
            Some(FetchError::ConnectionTerminated),
            "its body is gone"
        );
        drop(write);
        assert_eq!((first.asked(), second.asked()), (2, 0));
        get(&mut exchange, "/hello").await.unwrap();
        assert_eq!(second.asked(), 1, "a GET is asked of the second");
    });
}

#[test]
fn retries_are_a_part_of_requests() {
    testing::local(async {
        // Both are down: without a budget every request would be sent twice.
        let (first, second) = (Server::raw("", Then::Close).await, Server::raw("", Then::Close).await);
        let outbound = dev();
        let config = config(two(first.url(), &second));
        let requests = 60;
        for _ in 0..requests {
            let mut exchange = exchange(&outbound, config.clone());
            assert_eq!(get(&mut exchange, "/").await.err(), Some(FetchError::ConnectionTerminated));
        }
        let sent = (first.asked() + second.asked()) as u32;
        let most = requests + limits::RETRIES_SAVED_MAX + requests * limits::RETRY_PERCENT / 100;
        assert!(sent > requests && sent <= most, "{sent} of at most {most}");
    });
}

#[test]
fn probes_find_an_origin_down_and_well_again() {
    testing::local(async {
        let (first, second) = (Server::plain().await, Server::plain().await);
        first.counts.is_down.store(true, SeqCst);
        let probed = Backend {
            health: Some(HealthCheck { path: "/up".into(), interval_ms: 10 }),
            ..two(first.url(), &second)
        };
        let outbound = dev();
        let config = config(probed);
        let serving = async || {
            let mut exchange = exchange(&outbound, config.clone());
            let seen = get(&mut exchange, "/hello").await.unwrap();
            (exchange, seen.head.extensions.get().copied())
        };
        let (exchange, _) = serving().await;
        let known = |exchange: &Exchange| {
            let shared = &exchange.host.outbound.0;
            let request = Request::get("/").body(()).unwrap().into_parts().0;
            let target = Target::Backend("origin");
            let plan = Plan::find(shared, exchange, &target, &request, Options::default()).unwrap();
            shared.groups.known(&plan.group_key().unwrap()).unwrap()
        };
        let group = known(&exchange);
        until("the first is found down", || group.health(0) == Health::Down).await;
        assert_eq!((group.health(1), group.begin()), (Health::Well, vec![1, 0]));
        assert_eq!(serving().await.1, Some(Peer(second.address)));
        first.counts.is_down.store(false, SeqCst);
        until("the first is found well", || group.health(0) == Health::Well).await;
        assert_eq!(serving().await.1, Some(Peer(first.address)));
    });
}
