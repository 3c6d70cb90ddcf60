//! `POST /v1/enrol` and `POST /v1/renew`.

use std::time::Duration;

use artifact::NodeName;
use fleet_sync_proto::enrol::{
    ENROL_BYTES_MAX, EnrolAnswer, EnrolRequest, JoinToken, RenewAnswer, RenewRequest,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{Body, Refused, json};
use crate::{clock::now_ms, origin::Origin, roster::RosterError};

/// Time for a client to send its body.
const BODY_MAX: Duration = Duration::from_secs(10);

pub(super) async fn enrol(origin: &Origin, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
    let EnrolRequest { token, csr_pem } = body(request).await?;
    let bad_token = || Refused::new(StatusCode::FORBIDDEN, RosterError::BadToken.to_string());
    let token: JoinToken = token.parse().map_err(|_| bad_token())?;
    // Read the request before the token is spent: a bad request must not cost one.
    let probe: NodeName = "probe".parse().expect("a plain label is a node name");
    let (_, key) = origin.ca.certify_node(&probe, &csr_pem, now_ms()).map_err(|_| bad_request())?;
    let (node, pop) = match origin.roster.enrol(&token, key).await {
        Ok(named) => named,
        Err(RosterError::BadToken) => return Err(bad_token()),
        Err(full @ RosterError::Full(_)) => {
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, full.to_string()));
        }
        Err(error @ (RosterError::Store(_) | RosterError::Worker(_))) => {
            return Err(Refused::internal("enrolling a node", &error));
        }
    };
    if origin.is_revoked(&node) {
        return Err(bad_token());
    }
    let (certificate_pem, _) =
        origin.ca.certify_node(&node, &csr_pem, now_ms()).map_err(|_| bad_request())?;
    origin.nodes.add(node.clone(), pop.clone());
    tracing::info!(%node, %pop, "a node enrolled");
    let compiler_keys = origin.view().compiler_keys; // once: keys and past are of one moment
    Ok(json(&EnrolAnswer {
        node,
        pop,
        certificate_pem,
        ca_pem: origin.ca.pem().to_owned(),
        release_keys: vec![origin.release_key()],
        compiler_keys: compiler_keys.ring().trusted().to_vec(),
        compiler_keys_past: compiler_keys.ring().past(),
        secrets_key: origin.secrets_key.to_text(),
    }))
}

pub(super) async fn renew(
    origin: &Origin,
    node: &NodeName,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let RenewRequest { csr_pem } = body(request).await?;
    let (certificate_pem, _) = origin.ca.certify_node(node, &csr_pem, now_ms()).map_err(|_| bad_request())?;
    tracing::info!(%node, "a node renewed its certificate");
    Ok(json(&RenewAnswer { certificate_pem }))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let limited = Limited::new(request.into_body(), ENROL_BYTES_MAX).collect();
    let collected = tokio::time::timeout(BODY_MAX, limited).await;
    let bytes = collected.ok().and_then(Result::ok).ok_or_else(bad_request)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| bad_request())
}

fn bad_request() -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "not a request of this protocol: use a node of the same release")
}
