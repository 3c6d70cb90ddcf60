//! What connections cost, and whom.

use std::sync::atomic::Ordering::SeqCst;

use super::{
    servers::{Authority, Server},
    *,
};
use crate::{exchange::Responder, failure::Failure, guest::drive::drive, limits::Limit};

/// Work on 4 MiB of TLS, at least: a machine that decrypts 8 GB/s needs as long.
const TLS_NS_MIN: u64 = 500_000;

fn trusting(server: &Server, authority: &Authority) -> AppConfig {
    config(Backend { ca_pem: Some(authority.pem()), ..backend(server.https()) })
}

fn limited(cpu_ms: u32, config: AppConfig) -> AppConfig {
    AppConfig { limits: Limits { cpu_ms, ..Limits::default() }, ..config }
}

async fn read(exchange: &mut Exchange, path: &str, bytes: usize) -> Result<usize, BodyError> {
    let request = Request::get(path).body(RequestBody::Empty).unwrap();
    let mut fetch = send(exchange, Target::Backend("origin"), request, Options::default()).unwrap();
    let mut body = head(&mut fetch).await.unwrap().into_body();
    let mut read = 0;
    while read < bytes {
        read += body.frame().await.expect("it is endless")?.data_ref().map_or(0, Bytes::len);
    }
    Ok(read)
}

#[test]
fn tls_and_http_towards_a_backend_are_on_the_bill_of_who_uses_them() {
    testing::local(async {
        let authority = Authority::new();
        for alpn in [&b"http/1.1"[..], b"h2"] {
            let (server, outbound) = (Server::secure(&authority, &[alpn], None).await, dev());
            let config = || limited(30_000, trusting(&server, &authority));
            let mut first = exchange(&outbound, config());
            get(&mut first, "/hello").await.unwrap();
            let cost_ns = first.bill.cpu_ns();
            assert!(cost_ns > 0 && first.bill.slices_ns() == 0, "nobody polled a guest");

            let mut second = exchange(&outbound, config());
            read(&mut second, "/endless", 4 << 20).await.unwrap();
            assert!(second.bill.cpu_ns() > TLS_NS_MIN, "{} ns", second.bill.cpu_ns());
            assert_eq!(first.bill.cpu_ns(), cost_ns, "it has given the connection back");
            assert_eq!(server.accepted(), 1, "the same connection");
        }
    });
}

#[test]
fn a_backend_that_keeps_the_node_busy_ends_the_guest_that_waits_for_it() {
    testing::local(async {
        let server = Server::babbling("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000)).await;
        let mut exchange = exchange(&dev(), limited(20, config(backend(server.url()))));
        let (bill, account) = (exchange.bill.clone(), testing::account(&exchange.deployment, &exchange.bill));
        let (responder, response) = Responder::new();
        let guest = async move {
            let _unsent = responder;
            let _ = get(&mut exchange, "/").await;
            Ok(())
        };
        let wall = Duration::from_secs(10);
        let ended = drive(Box::pin(guest), response, bill.clone(), wall, account, None).await;
        assert_eq!(ended.err(), Some(Failure::CpuLimit));
        assert!(bill.limits_met().has(Limit::Cpu) && bill.cpu_ns() < 200_000_000, "{} ns", bill.cpu_ns());
        until("the connection is closed", || server.counts.closed.load(SeqCst) == 1).await;
    });
}

#[test]
fn a_body_that_is_passed_on_ends_with_its_executions_cpu_time() {
    testing::local(async {
        let authority = Authority::new();
        let server = Server::secure(&authority, &[b"h2"], None).await;
        let mut exchange = exchange(&dev(), limited(50, trusting(&server, &authority)));
        let ended = read(&mut exchange, "/endless", usize::MAX).await;
        assert_eq!(ended, Err(BodyError::GuestLimit));
        assert!(exchange.bill.limits_met().has(Limit::Cpu));
    });
}
