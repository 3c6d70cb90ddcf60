//! A connection to the origin that is opened when it is needed and kept while it works.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::{
    dial::{self, Connection, DialError},
    identity::Identity,
};

/// See the module. One of its kind for each purpose, so that none delays another.
pub(crate) struct Kept {
    control: String,
    identity: Arc<RwLock<Option<Identity>>>,
    connection: tokio::sync::Mutex<Option<Dialled>>,
}

/// An open connection and the certificate it was opened with.
struct Dialled {
    connection: Arc<Connection>,
    certificate_pem: String,
}

impl Kept {
    pub(crate) fn new(control: String, identity: Arc<RwLock<Option<Identity>>>) -> Kept {
        Kept { control, identity, connection: tokio::sync::Mutex::new(None) }
    }

    /// The connection, opened anew if it has ended or shows an old certificate.
    pub(crate) async fn get(&self) -> Result<Arc<Connection>, DialError> {
        let mut held = self.connection.lock().await;
        let identity = self.identity.read().clone();
        let none = || DialError::Identity(rustls::Error::General("not enrolled".into()));
        let identity = identity.ok_or_else(none)?;
        // A renewed certificate is shown at once: the origin looks at the one the connection was opened with.
        let fits = |open: &&Dialled| {
            !open.connection.sender.is_closed() && open.certificate_pem == identity.certificate_pem
        };
        if let Some(open) = held.as_ref().filter(fits) {
            return Ok(open.connection.clone());
        }
        let tls = dial::as_node(&identity)?;
        let open = Arc::new(dial::dial(&self.control, tls).await?);
        *held = Some(Dialled { connection: open.clone(), certificate_pem: identity.certificate_pem.clone() });
        Ok(open)
    }

    /// After a failure the next use opens a new connection; those that still use the old one keep it.
    pub(crate) async fn forget(&self) {
        *self.connection.lock().await = None;
    }

    /// Forgets this connection, unless another has taken its place already.
    pub(crate) async fn forget_this(&self, failed: &Arc<Connection>) {
        let mut held = self.connection.lock().await;
        if held.as_ref().is_some_and(|open| Arc::ptr_eq(&open.connection, failed)) {
            *held = None;
        }
    }
}
