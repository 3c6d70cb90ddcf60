//! HTTP/1.1 and HTTP/2 over TCP: accept → handshake → ALPN → requests.
//!
//! Relies on hyper for both protocols; ALPN alone decides which, so nothing is sniffed. One task per connection
//! and, in h2, one per stream, all on the worker's thread. Deliberately absent: h2 without TLS, upgrades.

use std::{
    convert::Infallible,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use artifact::HostName;
use http::{HeaderValue, Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{JoinSet, spawn_local},
    time::{sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Connection, Draining, Handler, Protocol, TlsInfo,
    answer::answer,
    connection::{Activity, CountedBody, HeadTimer},
    limits::{self, GOODBYE_TIMEOUT, HANDSHAKE_TIMEOUT},
    stalled::{self, Reader},
    tls::ALPN_H2,
    unread,
    watched::Watched,
};

/// What the connections of one listener share.
struct Listener<H> {
    handler: Rc<H>,
    /// `None`: plaintext.
    tls: Option<TlsAcceptor>,
    alt_svc: Option<HeaderValue>,
    local: SocketAddr,
}

/// Serves TLS connections until drained. `quic_port` is announced by Alt-Svc; `None` when h3 is not served.
/// Runs as a local task of a worker.
pub async fn serve_tls<H: Handler>(
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    quic_port: Option<u16>,
    handler: Rc<H>,
    draining: Draining,
) -> io::Result<()> {
    let alt_svc = quic_port.map(|port| {
        let text = format!("h3=\":{port}\"; ma={}", limits::ALT_SVC_AGE_S);
        HeaderValue::try_from(text).expect("digits and ASCII punctuation are a field value")
    });
    serve(listener, Some(TlsAcceptor::from(tls)), alt_svc, handler, draining).await
}

/// Serves plaintext HTTP/1.1 until drained. Runs as a local task of a worker.
pub async fn serve_plain<H: Handler>(
    listener: std::net::TcpListener,
    handler: Rc<H>,
    draining: Draining,
) -> io::Result<()> {
    serve(listener, None, None, handler, draining).await
}

async fn serve<H: Handler>(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    alt_svc: Option<HeaderValue>,
    handler: Rc<H>,
    mut draining: Draining,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let shared = Rc::new(Listener { handler, tls, alt_svc, local: listener.local_addr()? });
    let mut connections = JoinSet::new();
    let deadline = loop {
        tokio::select! {
            biased;
            deadline = draining.started() => break deadline,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits::CONNECTIONS_PER_WORKER_MAX => {
                match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn_local(connection(stream, peer, Rc::clone(&shared), draining.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accepting a connection; raise the limit of open files if it says so");
                        sleep(limits::ACCEPT_RETRY_PAUSE).await;
                    }
                }
            }
        }
    };
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // Over the deadline the set is dropped, and what is left of it with it.
    let _ = timeout_at(deadline, all_ended).await;
    Ok(())
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Rc<Listener<H>>,
    draining: Draining,
) {
    // A small response must not wait for the client's delayed ACK.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &shared.tls else {
        let connection = Connection { peer, local: shared.local, protocol: Protocol::H1, tls: None };
        return h1(stream, connection, shared, draining).await;
    };
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
    };
    let session = stream.get_ref().1;
    let protocol = if session.alpn_protocol() == Some(ALPN_H2) { Protocol::H2 } else { Protocol::H1 };
    let connection = Connection { peer, local: shared.local, protocol, tls: Some(tls_info(session)) };
    match protocol {
        Protocol::H2 => h2(stream, connection, shared, draining).await,
        Protocol::H1 | Protocol::H3 => h1(stream, connection, shared, draining).await,
    }
}

fn tls_info(session: &rustls::ServerConnection) -> TlsInfo {
    TlsInfo {
        server_name: session.server_name().and_then(|name| HostName::from_authority_host(name).ok()),
        version: session.protocol_version().unwrap_or(rustls::ProtocolVersion::TLSv1_2),
        cipher: session.negotiated_cipher_suite().map(|suite| suite.suite()),
    }
}

async fn h1<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: Connection,
    shared: Rc<Listener<H>>,
    draining: Draining,
) {
    let activity = Activity::new();
    let reader = Rc::new(Reader::default());
    let io = TokioIo::new(Watched::new(stream, HeadTimer::new(Rc::clone(&activity), Rc::clone(&reader))));
    let of_answer = {
        let reader = Rc::clone(&reader);
        move || Rc::clone(&reader)
    };
    let requests = service_fn(requests(Arc::new(connection), shared, Rc::clone(&activity), of_answer));
    let serving = http1::Builder::new()
        // The head's clock is `HeadTimer`'s, the pause's `Activity`'s: hyper's own would be set anew for every request.
        .header_read_timeout(None)
        .max_buf_size(limits::HEAD_BYTES_HELD_MAX)
        .half_close(false)
        .serve_connection(io, requests);
    drive(serving, |serving| serving.graceful_shutdown(), &activity, reader.stalled(), draining).await;
}

async fn h2<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    connection: Connection,
    shared: Rc<Listener<H>>,
    draining: Draining,
) {
    let activity = Activity::new();
    let requests =
        service_fn(requests(Arc::new(connection), shared, Rc::clone(&activity), stalled::of_stream));
    let serving = http2::Builder::new(LocalTasks)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(limits::HEAD_BYTES_HELD_MAX as u32)
        .max_frame_size(limits::H2_FRAME_BYTES_MAX)
        .initial_stream_window_size(limits::H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(limits::H2_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::H2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(limits::H2_LOCAL_RESETS_MAX)
        .keep_alive_interval(limits::H2_PING_INTERVAL)
        .keep_alive_timeout(limits::H2_PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), requests);
    // Each stream has a reader of its own, and ends alone.
    drive(serving, |serving| serving.graceful_shutdown(), &activity, pending(), draining).await;
}

/// One request being answered, in the shape hyper wants: boxed, because an h1 connection must be `Unpin`.
type Answering = Pin<Box<dyn Future<Output = Result<Response<CountedBody>, Infallible>>>>;

/// The service of one connection.
fn requests<H: Handler>(
    connection: Arc<Connection>,
    shared: Rc<Listener<H>>,
    activity: Rc<Activity>,
    reader: impl Fn() -> Rc<Reader> + Clone + 'static,
) -> impl Fn(Request<Incoming>) -> Answering {
    move |request| {
        let in_flight = activity.begin();
        let request = unread::receive(request, &activity.discarding);
        let (connection, shared, reader) = (Arc::clone(&connection), Rc::clone(&shared), reader.clone());
        Box::pin(async move {
            // Of an h2 stream, in whose task this runs; the service itself is called in the connection's.
            let reader = reader();
            let response = answer(&*shared.handler, request, &connection, shared.alt_svc.as_ref()).await;
            Ok(response.map(|body| CountedBody::new(body, in_flight, reader)))
        })
    }
}

/// Runs a connection to its end, or until its reader has stalled; when idle for too long or draining, tells the client to
/// go and lets what is in flight finish.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    serving: C,
    say_goodbye: impl FnOnce(Pin<&mut C>),
    activity: &Activity,
    stalled: impl Future<Output = ()>,
    mut draining: Draining,
) {
    let mut serving = pin!(serving);
    tokio::select! {
        biased;
        ended = serving.as_mut() => return log_end(ended),
        () = stalled => return tracing::debug!("a connection's client took nothing of its answer for too long"),
        () = activity.idle() => {}
        _deadline = draining.started() => {}
    }
    say_goodbye(serving.as_mut());
    loop {
        match timeout(GOODBYE_TIMEOUT, serving.as_mut()).await {
            Ok(ended) => return log_end(ended),
            Err(_) if activity.in_flight() == 0 => return,
            Err(_) => {}
        }
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // Clients break off all the time; it is their log, not ours.
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

/// Runs h2 streams as tasks of this thread.
#[derive(Debug, Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalTasks {
    fn execute(&self, stream: F) {
        spawn_local(stalled::run_stream(stream));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;
    use crate::front::{Drain, InboundBody, OutboundBody};

    struct Hello;

    impl Handler for Hello {
        async fn handle(&self, request: Request<InboundBody>, _: &Arc<Connection>) -> Response<OutboundBody> {
            use http_body_util::BodyExt;
            let path = request.uri().path().to_owned();
            if path == "/deaf" {
                return Response::new("hello".into());
            }
            let _ = request.into_body().collect().await;
            match path.as_str() {
                "/endless" => Response::new(Endless::body(false)),
                "/silent" => Response::new(Endless::body(true)),
                _ => Response::new("hello".into()),
            }
        }
    }

    thread_local! {
        /// Bodies that are there.
        static BODIES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// Pieces as large as a file's without an end, or nothing at all.
    struct Endless {
        waits: bool,
    }

    impl Endless {
        fn body(waits: bool) -> OutboundBody {
            BODIES.set(BODIES.get() + 1);
            OutboundBody::stream(Endless { waits })
        }
    }

    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = crate::front::BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, crate::front::BodyError>>>
        {
            match self.waits {
                true => std::task::Poll::Pending,
                false => {
                    let piece = bytes::Bytes::from_static(&[0; 64 * 1024]);
                    std::task::Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
                }
            }
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            BODIES.set(BODIES.get() - 1);
        }
    }

    /// Runs `client` against one h1 connection in paused time, and returns how long the connection lived.
    fn lifetime<F: Future<Output = DuplexStream>>(client: impl FnOnce(DuplexStream) -> F) -> Duration {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let (ours, theirs) = duplex(64 * 1024);
            let address = "127.0.0.1:1".parse().unwrap();
            let connection = Connection { peer: address, local: address, protocol: Protocol::H1, tls: None };
            let shared =
                Rc::new(Listener { handler: Rc::new(Hello), tls: None, alt_svc: None, local: address });
            let (_drain, draining) = Drain::new();
            let began = Instant::now();
            let serving = spawn_local(async move {
                h1(theirs, connection, shared, draining).await;
                began.elapsed()
            });
            let _open = client(ours).await;
            serving.await.unwrap()
        })
    }

    async fn answered(client: &mut DuplexStream) {
        let mut answer = [0; 4096];
        let read = client.read(&mut answer).await.unwrap();
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 200"),
            "{:?}",
            String::from_utf8_lossy(&answer[..read])
        );
    }

    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    fn about(lived: Duration, expected: Duration) {
        assert!(
            lived >= expected && lived < expected + Duration::from_secs(3),
            "{lived:?}, not {expected:?}"
        );
    }

    #[test]
    fn a_silent_client_is_cut_at_the_head_timeout() {
        about(lifetime(async |client| client), limits::HEAD_TIMEOUT);
    }

    #[test]
    fn a_trickled_head_is_cut_at_the_head_timeout() {
        let lived = lifetime(async |mut client| {
            for byte in WHOLE {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
            client
        });
        about(lived, limits::HEAD_TIMEOUT);
    }

    #[test]
    fn the_second_head_has_its_own_clock() {
        let lived = lifetime(async |mut client| {
            client.write_all(WHOLE).await.unwrap();
            answered(&mut client).await;
            sleep(Duration::from_secs(30)).await;
            client.write_all(b"GET / HT").await.unwrap();
            client
        });
        about(lived, Duration::from_secs(30) + limits::HEAD_TIMEOUT);
    }

    #[test]
    fn a_head_that_began_with_the_request_before_is_cut_with_the_idle_connection() {
        let lived = lifetime(async |mut client| {
            client.write_all(&[WHOLE, b"GET / HT"].concat()).await.unwrap();
            answered(&mut client).await;
            client
        });
        about(lived, limits::IDLE_TIMEOUT);
    }

    #[test]
    fn such_a_head_has_the_heads_clock_once_more_of_it_comes() {
        let lived = lifetime(async |mut client| {
            client.write_all(&[WHOLE, b"GET / HT"].concat()).await.unwrap();
            answered(&mut client).await;
            sleep(Duration::from_secs(30)).await;
            client.write_all(b"TP").await.unwrap();
            client
        });
        about(lived, Duration::from_secs(30) + limits::HEAD_TIMEOUT);
    }

    #[test]
    fn an_idle_connection_is_kept_for_the_idle_timeout() {
        let lived = lifetime(async |mut client| {
            client.write_all(WHOLE).await.unwrap();
            answered(&mut client).await;
            client
        });
        about(lived, limits::IDLE_TIMEOUT);
    }

    #[test]
    fn a_body_that_comes_after_its_answer_is_no_head() {
        let lived = lifetime(async |mut client| {
            client.write_all(b"POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n").await.unwrap();
            answered(&mut client).await;
            for byte in [b"a", b"b", b"c"] {
                sleep(Duration::from_millis(300)).await;
                client.write_all(byte).await.unwrap();
            }
            client
        });
        about(lived, limits::IDLE_TIMEOUT);
    }

    #[test]
    fn a_body_is_not_on_the_heads_clock() {
        let lived = lifetime(async |mut client| {
            client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 30\r\n\r\n").await.unwrap();
            for _ in 0..30 {
                sleep(Duration::from_secs(1)).await;
                client.write_all(b"x").await.unwrap();
            }
            answered(&mut client).await;
            client
        });
        about(lived, Duration::from_secs(30) + limits::IDLE_TIMEOUT);
    }

    #[test]
    fn a_reader_that_stalls_is_cut_and_its_answer_dropped() {
        let lived = lifetime(async |mut client| {
            client.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            client.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
            client
        });
        assert!(lived >= limits::STALL_MAX && lived < 2 * limits::STALL_MAX, "{lived:?}");
        assert_eq!(BODIES.get(), 0);
    }

    #[test]
    fn a_reader_that_is_slow_and_an_answer_that_is_are_not() {
        let lived = lifetime(async |mut client| {
            client.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            for _ in 0..20 {
                sleep(Duration::from_secs(20)).await;
                // Less than a piece each time, and more than the pipe has to be empty for the next write.
                client.read_exact(&mut vec![0; 1024]).await.unwrap();
            }
            drop(client);
            duplex(1).0
        });
        about(lived, Duration::from_secs(400));
        let lived = lifetime(async |mut client| {
            client.write_all(b"GET /silent HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(300)).await;
            drop(client);
            duplex(1).0
        });
        about(lived, Duration::from_secs(300));
    }

    /// What a stream of a client whose window is this comes to, and when; `read` so many bytes first.
    fn h2_stream(window: u32, read: usize) -> (Option<h2::Reason>, Duration, u32) {
        use http_body_util::{BodyExt, Empty};
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
        runtime.block_on(async {
            let (ours, theirs) = duplex(64 * 1024);
            let address = "127.0.0.1:1".parse().unwrap();
            let connection = Connection { peer: address, local: address, protocol: Protocol::H2, tls: None };
            let shared =
                Rc::new(Listener { handler: Rc::new(Hello), tls: None, alt_svc: None, local: address });
            let (_drain, draining) = Drain::new();
            spawn_local(async move { h2(theirs, connection, shared, draining).await });
            let (mut sender, client) = hyper::client::conn::http2::Builder::new(LocalTasks)
                .initial_stream_window_size(window)
                .handshake::<_, Empty<bytes::Bytes>>(TokioIo::new(ours))
                .await
                .unwrap();
            spawn_local(client);
            let ask = |path: &str| Request::get(format!("http://a{path}")).body(Empty::new()).unwrap();
            let began = Instant::now();
            let mut answer = sender.send_request(ask("/endless")).await.unwrap().into_body();
            let mut bytes = 0;
            while bytes < read {
                bytes += answer.frame().await.unwrap().unwrap().data_ref().unwrap().len();
            }
            while BODIES.get() > 0 && began.elapsed() < 3 * limits::STALL_MAX {
                sleep(Duration::from_secs(1)).await;
            }
            let lived = began.elapsed();
            if window > 0 {
                let neighbour = sender.send_request(ask("/")).await.unwrap();
                assert_eq!(neighbour.into_body().collect().await.unwrap().to_bytes(), "hello");
            }
            let error = loop {
                match timeout(Duration::from_secs(300), answer.frame()).await.unwrap() {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error,
                    None => panic!("an endless answer has ended"),
                }
            };
            let cause = std::error::Error::source(&error).and_then(|error| error.downcast_ref::<h2::Error>());
            (cause.and_then(h2::Error::reason), lived, BODIES.get())
        })
    }

    #[test]
    fn an_h2_stream_whose_reader_stalls_is_reset_and_its_neighbours_go_on() {
        for (window, read) in [(64 * 1024, 200_000), (10, 10), (0, 0)] {
            let (reason, lived, bodies) = h2_stream(window, read);
            assert_eq!((reason, bodies), (Some(h2::Reason::CANCEL), 0), "{window}");
            about(lived, limits::STALL_MAX);
        }
    }
}
