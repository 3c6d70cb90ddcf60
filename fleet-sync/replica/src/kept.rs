//! A connection to the origin that is opened when it is needed and kept while it works.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::{
    dial::{self, Connection, DialError},
    identity::Identity,
};

/// See the module. One of its kind for each purpose, so that none delays another.
pub(crate) struct Kept {
    control: String,
    identity: Arc<RwLock<Option<Identity>>>,
    connection: Mutex<Option<Dialled>>,
    /// One dial at a time. Nobody waits for it who only uses or forgets what is open.
    dialling: tokio::sync::Mutex<()>,
}

/// An open connection and the certificate it was opened with.
struct Dialled {
    connection: Arc<Connection>,
    certificate_pem: String,
}

impl Kept {
    pub(crate) fn new(control: String, identity: Arc<RwLock<Option<Identity>>>) -> Kept {
        Kept { control, identity, connection: Mutex::new(None), dialling: tokio::sync::Mutex::new(()) }
    }

    /// The connection, opened anew if it has ended or shows an old certificate.
    pub(crate) async fn get(&self) -> Result<Arc<Connection>, DialError> {
        let _turn = self.dialling.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let identity = self.identity.read().clone();
        let none = || DialError::Identity(rustls::Error::General("not enrolled".into()));
        let identity = identity.ok_or_else(none)?;
        let tls = dial::as_node(&identity)?;
        let open = Arc::new(dial::dial(&self.control, tls).await?);
        let dialled = Dialled { connection: open.clone(), certificate_pem: identity.certificate_pem };
        *self.connection.lock() = Some(dialled);
        Ok(open)
    }

    /// The connection, if one is open that shows the certificate of now.
    pub(crate) fn open(&self) -> Option<Arc<Connection>> {
        let held = self.connection.lock();
        let open = held.as_ref().filter(|open| !open.connection.sender.is_closed())?;
        // A renewed certificate is shown at once: the origin looks at the one the connection was opened with.
        let identity = self.identity.read();
        let is_of_now = identity.as_ref()?.certificate_pem == open.certificate_pem;
        is_of_now.then(|| open.connection.clone())
    }

    /// After a failure the next use opens a new connection; those that still use the old one keep it.
    pub(crate) fn forget(&self) {
        *self.connection.lock() = None;
    }

    /// Forgets this connection, unless another has taken its place already.
    pub(crate) fn forget_this(&self, failed: &Arc<Connection>) {
        let mut held = self.connection.lock();
        if held.as_ref().is_some_and(|open| Arc::ptr_eq(&open.connection, failed)) {
            *held = None;
        }
    }
}
