//! A backend on loopback, on a thread of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use artifact::manifest::{AppConfig, Backend};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    exchange::Exchange,
    host::outbound::{Outbound, Settings},
    testing,
};

/// See the module. Stops when it is dropped.
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    pub fn start() -> Origin {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).unwrap(), &counted) => {}
                    _ = stopped => {}
                }
            });
        });
        Origin { address, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// Connections it has taken.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// An exchange of an app that has it as the backends `origin` and `other`, may make backends that lead to it, and has
    /// one more that nobody answers at. What programs want beside it: stores of every kind.
    pub fn exchange(&self) -> Exchange {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let backend = |address| Backend { url: format!("http://{address}"), ..Backend::default() };
        let config = AppConfig {
            backends: [
                ("origin".to_owned(), backend(self.address)),
                ("other".to_owned(), backend(self.address)),
                ("nobody".to_owned(), backend(nobody)),
            ]
            .into(),
            outbound: vec![self.address.to_string()],
            config_stores: [("settings".to_owned(), [("greeting".to_owned(), "hello".to_owned())].into())]
                .into(),
            secret_stores: [("vault".to_owned(), vec!["token".to_owned()])].into(),
            kv_stores: vec!["kv".to_owned()],
            ..super::config()
        };
        self.exchange_of(config)
    }

    /// One of an app with this configuration, and a secret if it has the store.
    pub fn exchange_of(&self, config: AppConfig) -> Exchange {
        let mut deployment = testing::deployment("test", 1, config);
        super::stores::pin(&mut deployment, "vault", "token", "secret of the vault");
        let mut host = testing::host();
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        Arc::get_mut(&mut host).expect("a host of its own").outbound =
            Outbound::new(Settings { allow, ..Settings::default() });
        Exchange::begin(Arc::new(deployment), testing::connection(), host)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, connections: &AtomicUsize) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Relaxed);
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

/// `/hello` greets; `/echo` gives back what came; `/gzip` compresses; `/slow` takes 300 ms; `/gone` hangs up; `/length` tells how the body was framed; any other path
/// tells what came.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let host = head.headers.get("host").cloned();
    let mut response = Response::new(Full::from("hello from the origin"));
    response.headers_mut().insert("x-method", head.method.as_str().parse().unwrap());
    response.headers_mut().insert("x-host", host.unwrap_or_else(|| "none".parse().unwrap()));
    match head.uri.path() {
        "/hello" => {}
        "/slow" => tokio::time::sleep(Duration::from_millis(300)).await,
        "/echo" => match body.collect().await {
            Ok(body) => *response.body_mut() = Full::new(body.to_bytes()),
            Err(error) => return Err(std::io::Error::other(error)),
        },
        "/gzip" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut packed, b"unpacked").unwrap();
            *response.body_mut() = Full::from(packed.finish().unwrap());
            response.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        }
        "/length" => {
            let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
            let framed =
                field("content-length").or(field("transfer-encoding")).unwrap_or_default().to_owned();
            let read = body.collect().await.map_err(std::io::Error::other)?.to_bytes().len();
            *response.body_mut() = Full::from(format!("{framed}, {read} bytes"));
        }
        "/gone" => return Err(std::io::Error::other("hangs up")),
        path => {
            let said = format!("{} {path}", head.method);
            let read = body.collect().await.map_err(std::io::Error::other)?.to_bytes().len();
            *response.body_mut() = Full::from(format!("{said} with {read} bytes\n"));
        }
    }
    Ok(response)
}
