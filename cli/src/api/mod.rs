//! The client of the deploy API: one method for each call a command makes.
//!
//! Relied on: `call.rs`, which sends, retries and turns refusals into errors. Deliberately absent: any knowledge of
//! commands.

mod call;
mod logs;
mod stores;
mod types;

use std::time::{Duration, Instant};

use artifact::{AppName, Digest, NodeName, TenantName};
use serde_json::{Value, json};
use ureq::http::StatusCode;

pub use call::{Api, system_tls};
pub use types::*;

use self::call::Call;
use crate::error::{Error, Result};

/// Longest wait for a deploy's answer: a 40 MB program for all targets, on a busy machine.
const COMPILE_ANSWER_S_MAX: u64 = 600;

/// Longest wait for where a program waits: who asks has an answer to wait for already.
const QUEUE_ANSWER_S_MAX: u64 = 5;

impl Api {
    /// Has this tenant uploaded the program before?
    pub fn has_wasm(&self, digest: &Digest, name: &str) -> Result<bool> {
        let call = Call::new(format!("uploading {name}"), "HEAD", format!("/v1/wasm/{digest}"));
        let response = self.send(&call)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            // HEAD has no body to say why: the upload that follows will.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            _ => Err(self.refusal(&call, response)),
        }
    }

    /// Uploads a program; while the control plane says when to come back, it is tried again until `deadline`.
    pub fn put_wasm(&self, digest: &Digest, wasm: &[u8], name: &str, deadline: Instant) -> Result<()> {
        let call = Call::new(format!("uploading {name}"), "PUT", format!("/v1/wasm/{digest}")).bytes(wasm);
        self.answer::<Value>(call.until(deadline)).map(drop)
    }

    /// Those of these blobs of static files that the tenant has to send.
    pub fn missing_assets(&self, digests: &[Digest]) -> Result<Vec<Digest>> {
        let call = Call::new("asking which static files are missing", "POST", "/v1/assets/missing");
        let body = json!({ "digests": digests });
        self.answer::<Missing>(call.json(&body).repeatable()).map(|answer| answer.missing)
    }

    /// Uploads a blob of static files, of the file `name`; while the control plane says when to come back, it is tried again
    /// until `deadline`.
    pub fn put_asset(&self, digest: &Digest, bytes: &[u8], name: &str, deadline: Instant) -> Result<()> {
        let call = Call::new(format!("uploading {name}"), "PUT", format!("/v1/assets/{digest}")).value(bytes);
        self.answer::<Value>(call.until(deadline)).map(drop)
    }

    /// Where the program waits to be compiled: which in the compiler's queue it is. `None` where it does not wait, or where nobody says.
    pub fn place_in_queue(&self, digest: &Digest) -> Result<Option<u32>> {
        let path = format!("/v1/wasm/{digest}/queue");
        self.answer::<Queued>(
            Call::new("asking where the program waits", "GET", path).wait_s(QUEUE_ANSWER_S_MAX),
        )
        .map(|queued| queued.position)
    }

    /// Makes a version and its release. The same key never makes a second one. While the control plane says when to
    /// come back, it is tried again until `deadline`.
    pub fn deploy(
        &self,
        app: &AppName,
        body: &NewVersion<'_>,
        key: &str,
        deadline: Instant,
    ) -> Result<Deployed> {
        let path = format!("/v1/apps/{app}/versions");
        let call = Call::new(format!("deploying {app}"), "POST", path).json(body).key(key);
        self.answer(call.wait_s(COMPILE_ANSWER_S_MAX).until(deadline))
    }

    /// Where a rev is active, refused or not yet arrived; waits up to `wait` for the answer to be complete.
    pub fn convergence(&self, app: &AppName, rev: u64, wait: Duration) -> Result<Convergence> {
        let path = format!("/v1/apps/{app}/convergence?rev={rev}&wait_ms={}", wait.as_millis());
        self.answer(Call::new(format!("asking where {app} is live"), "GET", path))
    }

    /// What of an app runs where. Asks its nodes, which takes seconds where one does not answer.
    pub fn running(&self, app: &AppName) -> Result<Running> {
        let path = format!("/v1/apps/{app}/running");
        self.answer(Call::new(format!("asking what of {app} runs where"), "GET", path))
    }

    /// All apps of the tenant.
    pub fn apps(&self) -> Result<Vec<AppSummary>> {
        self.answer(Call::new("listing apps", "GET", "/v1/apps"))
    }

    /// One app.
    pub fn app(&self, app: &AppName) -> Result<AppDetail> {
        self.answer(Call::new(format!("reading app {app}"), "GET", format!("/v1/apps/{app}")))
    }

    /// One version with what it pins.
    pub fn version(&self, app: &AppName, number: u64) -> Result<VersionDetail> {
        let path = format!("/v1/apps/{app}/versions/{number}");
        self.answer(Call::new(format!("reading version {number} of {app}"), "GET", path))
    }

    /// Makes another version active.
    pub fn rollback(&self, app: &AppName, to: Option<u64>, key: &str) -> Result<Changed> {
        let body = json!({ "to": to });
        let path = format!("/v1/apps/{app}/rollback");
        self.answer(Call::new(format!("rolling back {app}"), "POST", path).json(&body).key(key))
    }

    /// Asks for kept versions to be compiled anew. The same key asks once.
    pub fn recompile(&self, body: &AskRecompile<'_>, key: &str) -> Result<Recompiling> {
        let what = body.app.map_or_else(|| "the fleet".to_owned(), ToString::to_string);
        let call = Call::new(format!("recompiling {what}"), "POST", "/v1/recompiles");
        self.answer(call.json(body).key(key))
    }

    /// How far that is.
    pub fn recompiling(&self, id: u64) -> Result<Recompiling> {
        let doing = format!("looking at recompilation {id}");
        self.answer(Call::new(doing, "GET", format!("/v1/recompiles/{id}")))
    }

    /// Ends it.
    pub fn cancel_recompile(&self, id: u64) -> Result<Recompiling> {
        let doing = format!("cancelling recompilation {id}");
        self.answer(Call::new(doing, "DELETE", format!("/v1/recompiles/{id}")))
    }

    /// Deletes an app.
    pub fn delete_app(&self, app: &AppName, key: &str) -> Result<Changed> {
        self.answer(Call::new(format!("deleting app {app}"), "DELETE", format!("/v1/apps/{app}")).key(key))
    }

    /// Makes a tenant.
    pub fn create_tenant(&self, tenant: &TenantName) -> Result<Value> {
        let body = json!({ "tenant": tenant });
        self.answer(Call::new(format!("creating tenant {tenant}"), "POST", "/v1/tenants").json(&body))
    }

    /// All tenants.
    pub fn tenants(&self) -> Result<Vec<Value>> {
        let call = Call::new("listing tenants", "GET", "/v1/tenants");
        self.answer(call)
    }

    /// Makes an API token.
    pub fn create_token(&self, body: &NewToken) -> Result<CreatedToken> {
        self.answer(Call::new("creating an API token", "POST", "/v1/tokens").json(body))
    }

    /// All tokens, without secrets.
    pub fn tokens(&self) -> Result<Vec<Value>> {
        let call = Call::new("listing API tokens", "GET", "/v1/tokens");
        self.answer(call)
    }

    /// Revokes a token. The id goes into a path, so only the characters ids have are let through.
    pub fn revoke_token(&self, id: &str) -> Result<()> {
        if id.is_empty() || !id.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)) {
            return Err(Error::Usage(format!("{id:?} is no token id; see `skerry token list`")));
        }
        self.acknowledged(Call::new(format!("revoking API token {id}"), "DELETE", format!("/v1/tokens/{id}")))
    }

    /// Makes a join token.
    pub fn create_node_token(&self, pop: &str, ttl: Duration) -> Result<CreatedNodeToken> {
        let body = json!({ "pop": pop, "ttl_s": ttl.as_secs() });
        self.answer(
            Call::new(format!("creating a join token for POP {pop}"), "POST", "/v1/node-tokens").json(&body),
        )
    }

    /// All nodes.
    pub fn nodes(&self) -> Result<Vec<NodeSummary>> {
        self.answer(Call::new("listing nodes", "GET", "/v1/nodes"))
    }

    /// Revokes a node's identity.
    pub fn revoke_node(&self, node: &NodeName) -> Result<()> {
        self.acknowledged(Call::new(format!("revoking node {node}"), "DELETE", format!("/v1/nodes/{node}")))
    }

    /// All compiler keys.
    pub fn compiler_keys(&self) -> Result<Vec<CompilerKeySummary>> {
        self.answer(Call::new("listing compiler keys", "GET", "/v1/compiler-keys"))
    }

    /// Publishes what one compiler key says of another. The same again changes nothing.
    pub fn add_key_change(&self, change: &str) -> Result<AddedKeyChange> {
        let call = Call::new("changing the fleet's compiler keys", "POST", "/v1/compiler-keys");
        self.answer(call.json(&json!({ "change": change })).repeatable())
    }
}

#[cfg(test)]
mod tests;
