//! HTTP/2 connections after their last request, with backends that mean no good.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    super::{limits, pool::Pool},
    servers::{Authority, Server},
    *,
};

/// A request whose body the backend does not take. The guest ends with its answer.
async fn upload_in_vain(outbound: &Outbound, authority: &Authority, server: &Server) {
    let trusting = Backend { ca_pem: Some(authority.pem()), ..backend(server.https()) };
    let mut exchange = exchange(outbound, config(trusting));
    let (write, body) = streamed();
    // More than what may be sent before the backend has said that there is no window.
    write.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 2 * 65_535])))).unwrap();
    let seen = ask(&mut exchange, Request::post("/").body(body).unwrap()).await.unwrap();
    assert_eq!(seen.head.status, 200);
}

#[test]
fn an_upload_that_nobody_takes_does_not_hold_its_connection_beyond_its_time() {
    testing::local(async {
        let (authority, outbound) = (Authority::new(), dev());
        let server = Server::unwilling(&authority, b"").await;
        upload_in_vain(&outbound, &authority, &server).await;
        assert_eq!(outbound.connections(), 1);
        tokio::time::pause();
        tokio::time::advance(limits::IDLE_TIMEOUT).await;
        tokio::time::resume();
        until("the socket is closed", || server.counts.closed.load(SeqCst) == 1).await;
        until("its place is free", || outbound.connections() == 0).await;
    });
}

#[test]
fn an_upload_that_nobody_takes_does_not_hold_its_connection_when_another_gets_its_place() {
    testing::local(async {
        let (authority, mut outbound) = (Authority::new(), dev());
        Arc::get_mut(&mut outbound.0).unwrap().pool = Pool::of(4); // one of a tenant
        let servers = [Server::unwilling(&authority, b"").await, Server::unwilling(&authority, b"").await];
        for server in &servers {
            upload_in_vain(&outbound, &authority, server).await;
        }
        until("the first is closed", || servers[0].counts.closed.load(SeqCst) == 1).await;
        assert_eq!((outbound.connections(), servers[1].counts.closed.load(SeqCst)), (1, 0));
    });
}

#[test]
fn a_backend_that_goes_away_finishes_what_it_has_begun() {
    testing::local(async {
        let (authority, outbound) = (Authority::new(), dev());
        let server = Server::leaving(&authority).await;
        let trusting = Backend { ca_pem: Some(authority.pem()), ..backend(server.https()) };
        let mut exchange = exchange(&outbound, config(trusting));
        assert_eq!(get(&mut exchange, "/halves").await.unwrap().text(), "halfhalf");
        until("the socket is closed", || server.counts.closed.load(SeqCst) == 1).await;
        until("its place is free", || outbound.connections() == 0).await;
    });
}

#[test]
fn a_backend_that_floods_a_connection_that_nobody_uses_loses_it() {
    const PINGS: [u8; 17 * 100] = {
        let (mut pings, mut at) = ([0; 17 * 100], 0);
        while at < pings.len() {
            (pings[at + 2], pings[at + 3]) = (8, 6);
            at += 17;
        }
        pings
    };
    testing::local(async {
        let (authority, outbound) = (Authority::new(), dev());
        let server = Server::unwilling(&authority, &PINGS).await;
        upload_in_vain(&outbound, &authority, &server).await;
        until("the socket is closed", || server.counts.closed.load(SeqCst) == 1).await;
        assert!(server.counts.produced.load(SeqCst) > limits::UNUSED_BYTES_MAX);
        until("its place is free", || outbound.connections() == 0).await;
    });
}
