//! `POST /v1/prepare`: receive → queue → job → answer. Nothing is signed: what comes out is a program that is yet to be compiled.

use std::{sync::Arc, time::Instant};

use artifact::{
    compile::{PREPARE_HEADER, RefusalCode, TENANT_HEADER},
    manifest::Prepare,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};

use super::{LABEL_BYTES_MAX, Shared, busy, digest, label, receive, respond, stated_bytes};
use crate::intake::{self, refuse};

pub(super) async fn prepare(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let tenant = label(&head.headers, TENANT_HEADER, LABEL_BYTES_MAX);
    let started = Instant::now();
    match shared.prepare(&head.headers, body, tenant).await {
        Ok(wasm) => {
            tracing::info!(tenant, bytes = wasm.len(), ms = started.elapsed().as_millis() as u64, "prepared");
            respond::program(wasm)
        }
        Err(failed) => {
            let (code, message) = (failed.refusal.code, failed.refusal.message.as_str());
            tracing::info!(tenant, ?code, message, ms = started.elapsed().as_millis() as u64, "not prepared");
            respond::refusal(failed)
        }
    }
}

impl Shared {
    async fn prepare(
        &self,
        headers: &HeaderMap,
        body: Body,
        tenant: &str,
    ) -> Result<Vec<u8>, respond::Failed> {
        let wish = wish(headers)?;
        let bytes = stated_bytes(headers)?;
        let _held =
            self.held.reserve(tenant, bytes).ok_or_else(|| busy("too many programs are being compiled"))?;
        let wasm = receive(body).await?;
        intake::lane_of(&wasm)?;
        let mut slot = self.slot(tenant, digest(&wasm).await?).await?;
        let threads = self.threads(&slot);
        Ok(self.service.runner.prepare(wasm, &wish, threads, || slot.lengthen()).await?)
    }
}

fn wish(headers: &HeaderMap) -> Result<Prepare, respond::Failed> {
    let said = headers.get(PREPARE_HEADER).map_or(&b""[..], |value| value.as_bytes());
    serde_json::from_slice(said).map_err(|error| {
        let message = format!("the header {PREPARE_HEADER} does not say how to prepare the program: {error}");
        respond::Failed::bad_request(refuse(RefusalCode::Internal, message))
    })
}
