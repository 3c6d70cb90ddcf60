//! Getting and renewing an identity: key → request → answer, over TLS.

use std::path::Path;

use artifact::Digest;
use bytes::Bytes;
use fleet_sync_proto::enrol::{
    ENROL_BYTES_MAX, ENROL_PATH, EnrolAnswer, EnrolRequest, JoinToken, JoinTokenError, RENEW_PATH, Refusal,
    RenewAnswer, RenewRequest,
};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    dial::{self, Connection, DialError},
    files,
    identity::{Identity, IdentityError},
};

/// Time for the origin's answer.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// The node got no identity, or no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Neither an identity nor a token.
    #[error("this node has no identity yet: give it a join token (`skerry node token create --pop NAME`)")]
    NoToken,
    /// The token's text.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// The origin was not reached. Worth trying again.
    #[error("reaching the control plane")]
    Dial(#[from] DialError),
    /// The request or its answer was lost. Worth trying again, with the same token.
    #[error("talking to the control plane: {0}")]
    Lost(String),
    /// The origin said no.
    #[error("the control plane refused ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The answer is unusable.
    #[error("the control plane's answer is unusable: {0}")]
    Answer(String),
    /// Making a key or request.
    #[error("making this node's key")]
    Key(#[source] rcgen::Error),
    /// Keeping the identity.
    #[error("keeping this node's identity")]
    Identity(#[from] IdentityError),
}

impl EnrolError {
    /// May the same attempt succeed later?
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            EnrolError::Dial(DialError::Connect(..) | DialError::Timeout(_) | DialError::Http(..)) => true,
            EnrolError::Lost(_) => true,
            EnrolError::Refused { status, .. } => *status >= 500,
            EnrolError::NoToken
            | EnrolError::Token(_)
            | EnrolError::Dial(DialError::Address(_) | DialError::Tls(..) | DialError::Identity(_))
            | EnrolError::Answer(_)
            | EnrolError::Key(_)
            | EnrolError::Identity(_) => false,
        }
    }
}

/// Enrols and keeps the identity in `directory`. The key is on disk before the token is spent, so that an attempt cut
/// short can be repeated with the same token.
pub(crate) async fn enrol(control: &str, token: &str, directory: &Path) -> Result<Identity, EnrolError> {
    let token: JoinToken = token.parse()?;
    let key = pending_key(directory)?;
    let mut connection = dial::dial(control, dial::as_stranger(token.ca())?).await?;
    let request = EnrolRequest { token: token.to_text(), csr_pem: csr(&key)? };
    let answer: EnrolAnswer = post(&mut connection, ENROL_PATH, &request).await?;
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes());
    let ca = ca.map_err(|_| EnrolError::Answer("the fleet CA does not read".into()))?;
    if Digest::of(&ca) != token.ca() {
        return Err(EnrolError::Answer("it names another fleet CA than the join token".into()));
    }
    let identity = Identity::new(answer, key.serialize_pem()).map_err(EnrolError::Answer)?;
    identity.save(directory)?;
    let _ = std::fs::remove_file(pending_file(directory)); // the key is in the identity now
    Ok(identity)
}

/// A new certificate for the identity, over its present one, which may have expired.
pub(crate) async fn renew(control: &str, identity: &Identity) -> Result<Identity, EnrolError> {
    let key = KeyPair::from_pem(&identity.key_pem).map_err(EnrolError::Key)?;
    let mut connection = dial::dial(control, dial::as_node(identity)?).await?;
    let answer: RenewAnswer =
        post(&mut connection, RENEW_PATH, &RenewRequest { csr_pem: csr(&key)? }).await?;
    let renewed = Identity { certificate_pem: answer.certificate_pem, ..identity.clone() };
    match renewed.life() {
        Some(_) => Ok(renewed),
        None => Err(EnrolError::Answer("the certificate does not read".into())),
    }
}

async fn post<T: DeserializeOwned>(
    connection: &mut Connection,
    path: &'static str,
    body: &impl Serialize,
) -> Result<T, EnrolError> {
    let json = serde_json::to_vec(body).expect("the requests of this module have only string keys");
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let request =
        request.body(Full::new(Bytes::from(json)).boxed_unsync()).expect("a constant path and header");
    let answered = async {
        let response = connection.sender.send_request(request).await.map_err(|error| lost(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ENROL_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| lost(error.as_ref()))?.to_bytes();
        Ok::<_, EnrolError>((status, bytes))
    };
    let answered = tokio::time::timeout(ANSWER_MAX, answered).await;
    let (status, bytes) = answered.map_err(|_| EnrolError::Lost("no answer within 20 s".into()))??;
    if status != StatusCode::OK {
        let refusal: Option<Refusal> = serde_json::from_slice(&bytes).ok();
        let message = refusal.map_or_else(|| "no reason given".to_owned(), |refusal| refusal.error);
        return Err(EnrolError::Refused { status: status.as_u16(), message });
    }
    serde_json::from_slice(&bytes).map_err(|error| EnrolError::Answer(error.to_string()))
}

fn lost(error: &dyn std::error::Error) -> EnrolError {
    EnrolError::Lost(error.to_string())
}

fn csr(key: &KeyPair) -> Result<String, EnrolError> {
    let request = CertificateParams::default().serialize_request(key).map_err(EnrolError::Key)?;
    request.pem().map_err(EnrolError::Key)
}

fn pending_file(directory: &Path) -> std::path::PathBuf {
    directory.join("enrolling.key")
}

fn pending_key(directory: &Path) -> Result<KeyPair, EnrolError> {
    let path = pending_file(directory);
    if let Some(key) = std::fs::read_to_string(&path).ok().and_then(|pem| KeyPair::from_pem(&pem).ok()) {
        return Ok(key);
    }
    let key = KeyPair::generate().map_err(EnrolError::Key)?;
    files::write_atomically(&path, "new", files::SECRET, key.serialize_pem().as_bytes())
        .map_err(|source| IdentityError::File { doing: "writing", path, source })?;
    Ok(key)
}
