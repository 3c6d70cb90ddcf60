//! Connections of a node that has few.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    super::pool::Pool,
    servers::{Authority, Server},
    *,
};

/// A node with so many connections.
fn small(connections_max: usize) -> Outbound {
    let mut outbound = dev();
    Arc::get_mut(&mut outbound.0).unwrap().pool = Pool::of(connections_max);
    outbound
}

async fn visit(outbound: &Outbound, tenant: &str, server: &Server) -> Result<Seen, FetchError> {
    get(&mut exchange_of(tenant, outbound, config(backend(server.url()))), "/hello").await
}

async fn plain<const N: usize>() -> [Server; N] {
    let mut servers = Vec::new();
    for _ in 0..N {
        servers.push(Server::plain().await);
    }
    servers.try_into().ok().unwrap()
}

#[test]
fn an_idle_connection_makes_room_for_another_of_its_tenant_the_oldest_first() {
    testing::local(async {
        let (outbound, [one, two, three]) = (small(8), plain().await);
        for server in [&one, &two, &one, &three, &one] {
            visit(&outbound, "a", server).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await; // idle times are told apart by the ms
        }
        assert_eq!(outbound.connections(), 2, "a quarter of eight");
        until("the oldest is closed", || two.counts.closed.load(SeqCst) == 1).await;
        assert_eq!((one.accepted(), two.accepted(), three.accepted()), (1, 1, 1));
        assert_eq!(one.counts.closed.load(SeqCst), 0, "it was used between");
    });
}

#[test]
fn who_has_less_gets_the_idle_connection_of_who_has_most() {
    testing::local(async {
        let (outbound, [one, two]) = (small(12), plain().await);
        for server in [&one, &two] {
            visit(&outbound, "a", server).await.unwrap();
        }
        let taken: Vec<_> =
            (0..10).filter_map(|n| outbound.0.pool.room(&format!("t{n}").parse().unwrap()).ok()).collect();
        assert_eq!((taken.len(), outbound.connections()), (10, 12));
        visit(&outbound, "late", &two).await.unwrap();
        until("the oldest of a is closed", || one.counts.closed.load(SeqCst) == 1).await;
        assert_eq!((two.counts.closed.load(SeqCst), outbound.connections()), (0, 12));
        // Now nobody with more than one has an idle one.
        assert!(outbound.0.pool.room(&"t0".parse().unwrap()).is_err());
    });
}

#[test]
fn a_connection_in_use_is_closed_for_nobody() {
    testing::local(async {
        let (outbound, authority) = (small(8), Authority::new());
        // HTTP/2: in the pool also while it is used.
        let hold = async || {
            let server = Server::secure(&authority, &[b"h2"], None).await;
            let trusting = Backend { ca_pem: Some(authority.pem()), ..backend(server.https()) };
            let mut exchange = exchange_of("a", &outbound, config(trusting));
            let request = Request::get("/endless").body(RequestBody::Empty).unwrap();
            let mut fetch = send(&mut exchange, Target::Backend("origin"), request, Options::default())?;
            head(&mut fetch).await.map(|response| (server, response))
        };
        let (_one, first) = hold().await.unwrap();
        let (two, second) = hold().await.unwrap();
        assert_eq!(hold().await.err(), Some(FetchError::ConnectionLimit));
        drop(second);
        let (_three, _third) = hold().await.unwrap();
        until("the one that was let go is closed", || two.counts.closed.load(SeqCst) == 1).await;
        assert_eq!(outbound.connections(), 2);
        drop(first);
    });
}
