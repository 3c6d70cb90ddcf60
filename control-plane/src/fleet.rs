//! Our side of the fleet's origin: release log, blobs, nodes. Turns its types into the API's, and its errors into one.
//!
//! Deliberately absent: deciding what to publish. That is a closure of the caller's, run under the log's writer lock.

use std::{sync::Arc, time::Duration};

use artifact::{
    AppId, Digest, NodeName, TenantName, container,
    dsse::Envelope,
    names::{PopName, StoreName},
    record::{Body, Rev, UnixMs},
};
use bytes::Bytes;
use fleet_sync_origin::{
    Answers, BlobError, BlobStore, KvError, ListenError, Listening, NodeAnswer, NodeStatus, Once, OnceError,
    Origin, OriginError, PublishError, TooManyInspections,
};
use fleet_sync_proto::{
    CompilerKeys, FleetView,
    kv::{Ask, Message, Refusal, Said},
};

use crate::api::types::{ConvergenceAnswer, CreatedNodeToken, FailedNode, LaggingNode, NodeSummary};

/// A handle to the origin. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    origin: Arc<Origin>,
    blobs: Arc<dyn BlobStore>,
}

/// The origin failed. We or the machine are at fault.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The release log did not take the records.
    #[error("writing the release log")]
    Publish(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The release log or the list of nodes.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The blob store.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// Nothing was published.
#[derive(Debug)]
pub enum PublishFailure<E> {
    /// The closure's own refusal.
    Refused(E),
    /// The origin's.
    Fleet(FleetError),
}

/// A node was not revoked.
#[derive(Debug)]
pub enum RevokeFailure {
    /// No node of this name ever enrolled.
    NoSuchNode(NodeName),
    /// The origin failed.
    Fleet(FleetError),
}

impl Fleet {
    /// Over an open origin.
    pub fn new(origin: Arc<Origin>) -> Fleet {
        Fleet { blobs: origin.blobs(), origin }
    }

    /// What the log says now. Cheap.
    pub fn view(&self) -> FleetView {
        self.origin.view()
    }

    /// Which compiler keys the log knows, and which of them are trusted now.
    pub fn compiler_keys(&self) -> CompilerKeys {
        self.view().compiler_keys
    }

    /// Publishes what `decide` makes of the view, all or nothing, durable on return. The rev is the last record's; a
    /// `request` key that was used before gives its first rev without calling `decide`.
    pub async fn publish<E, F>(
        &self,
        actor: String,
        request: Option<String>,
        decide: F,
    ) -> Result<Rev, PublishFailure<E>>
    where
        E: std::error::Error + Send + Sync + 'static,
        F: FnOnce(&FleetView) -> Result<Vec<Body>, E> + Send,
    {
        match self.origin.publish(&actor, request, decide).await {
            Ok(published) => Ok(published.rev),
            Err(PublishError::Refused(refusal)) => Err(PublishFailure::Refused(refusal)),
            Err(error) => Err(PublishFailure::Fleet(FleetError::Publish(Box::new(error)))),
        }
    }

    /// What the record at a rev says.
    pub async fn record(&self, rev: Rev) -> Result<Option<Body>, FleetError> {
        Ok(self.origin.record(rev).await?.map(|record| record.body))
    }

    /// The bytes of a blob, as its digest names them.
    pub async fn blob(&self, digest: Digest) -> Result<Bytes, FleetError> {
        Ok(self.blobs.get(digest).await?)
    }

    /// The signed statement at the head of an artifact's blob, without reading the rest. Nothing of it is checked. `None`: the
    /// blob is not there, or is no artifact.
    pub async fn statement(&self, blob: Digest) -> Result<Option<Envelope>, FleetError> {
        match self.read_statement(blob).await {
            Err(FleetError::Blob(BlobError::Missing(_))) => Ok(None),
            other => other,
        }
    }

    async fn read_statement(&self, blob: Digest) -> Result<Option<Envelope>, FleetError> {
        let start = self.blobs.get_range(blob, 0..container::HEAD_START_BYTES as u64).await?;
        let Ok(head_bytes) = container::head_bytes(&start) else { return Ok(None) };
        let head = self.blobs.get_range(blob, 0..head_bytes as u64).await?;
        Ok(container::Container::decode(&head).ok().map(|container| container.envelope))
    }

    /// What each node serves of an app, of those that answer within `wait`.
    pub async fn inspect(&self, id: &AppId, wait: Duration) -> Result<Answers, TooManyInspections> {
        self.origin.inspect(id, wait).await
    }

    /// Every node that may connect, as it is known here.
    pub fn living_nodes(&self) -> Vec<NodeStatus> {
        self.origin.nodes().into_iter().filter(|node| !node.revoked).collect()
    }

    /// Keeps bytes, durable on return.
    pub async fn keep_blob(&self, bytes: Bytes) -> Result<Digest, FleetError> {
        Ok(self.blobs.put(bytes).await?)
    }

    /// Is there a blob of this name? Says nothing of its bytes.
    pub async fn has_blob(&self, digest: Digest) -> Result<bool, FleetError> {
        Ok(self.blobs.exists(digest).await?)
    }

    /// Takes a blob away. Nothing may name it any more.
    pub async fn drop_blob(&self, digest: Digest) -> Result<(), FleetError> {
        Ok(self.blobs.delete(digest).await?)
    }

    /// Does one operation on the tenants' key-value stores; a refusal is the tenant's or the caller's fault.
    pub async fn kv(&self, ask: Message<Ask>) -> Result<Result<Message<Said>, Refusal>, KvError> {
        Ok(decided(self.origin.kv().ask(ask).await?))
    }

    /// The names of a tenant's key-value stores that hold something.
    pub async fn kv_stores(&self, tenant: &TenantName) -> Result<Vec<StoreName>, KvError> {
        self.origin.kv().stores(tenant).await
    }

    /// The same for a write that a client may repeat under a name: it is done once.
    pub async fn kv_once(
        &self,
        ask: Message<Ask>,
        once: Once,
    ) -> Result<Result<Message<Said>, Refusal>, OnceError> {
        Ok(decided(self.origin.kv().ask_once(ask, once).await?))
    }

    /// How far a rev has come, as soon as every connected node has answered, or after `wait`.
    pub async fn convergence(&self, rev: Rev, wait: Duration) -> ConvergenceAnswer {
        let found = self.origin.wait_convergence(rev, wait).await;
        let failed = found.failed.into_iter().map(|node| FailedNode {
            node: node.node,
            pop: node.pop,
            code: node.code,
            detail: node.detail,
        });
        let lagging = found.lagging.into_iter().map(|node| LaggingNode {
            node: node.node,
            pop: node.pop,
            applied_rev: node.applied_rev,
            connected: node.connected,
        });
        ConvergenceAnswer {
            rev: found.rev,
            nodes: found.nodes,
            active: found.active,
            failed: failed.collect(),
            lagging: lagging.collect(),
        }
    }

    /// Listens to an app: what its nodes remember from `since_ms` on, and what comes.
    pub fn listen(&self, id: &AppId, since_ms: UnixMs) -> Result<Listening, ListenError> {
        self.origin.listen(id, since_ms)
    }

    /// What each node last said of the release at a rev; revoked nodes are left out.
    pub fn answers(&self, release: Rev) -> Vec<NodeAnswer> {
        self.origin.answers(release)
    }

    /// Counts what changes in answers.
    pub fn answer_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.origin.answer_changes()
    }

    /// Every node that ever enrolled.
    pub fn nodes(&self) -> Vec<NodeSummary> {
        self.origin.nodes().into_iter().map(summary).collect()
    }

    /// The port of a node's https listener: a connected node's, else one that was. On one machine it is the port;
    /// behind an anycast address an operator states `public_https_port`.
    pub fn https_port(&self) -> Option<u16> {
        let mut nodes = self.origin.nodes();
        nodes.sort_by_key(|node| (!node.connected, std::cmp::Reverse(node.last_seen_ms)));
        nodes.iter().filter(|node| !node.revoked).find_map(|node| {
            let (_, port) = node.serving.as_deref()?.rsplit_once(':')?;
            port.parse().ok()
        })
    }

    /// A single-use right to join, for a POP.
    pub async fn create_join_token(
        &self,
        pop: PopName,
        ttl: Duration,
    ) -> Result<CreatedNodeToken, FleetError> {
        let issued = self.origin.create_join_token(&pop, ttl).await?;
        Ok(CreatedNodeToken { token: issued.token.to_text(), expires_ms: issued.expires_ms })
    }

    /// Voids a node's identity.
    pub async fn revoke_node(&self, actor: String, node: NodeName) -> Result<Rev, RevokeFailure> {
        self.origin.revoke_node(&actor, &node).await.map_err(|error| match error {
            OriginError::NoSuchNode(node) => RevokeFailure::NoSuchNode(node),
            error => RevokeFailure::Fleet(error.into()),
        })
    }
}

fn decided(said: Message<Said>) -> Result<Message<Said>, Refusal> {
    match said.head {
        Said::Refused { refusal } => Err(refusal),
        _ => Ok(said),
    }
}

fn summary(node: NodeStatus) -> NodeSummary {
    NodeSummary {
        node: node.node,
        pop: node.pop,
        connected: node.connected,
        applied_rev: node.applied_rev,
        targets: node.targets.into_iter().map(|(target, _)| target).collect(),
        serving: node.serving,
        last_seen_ms: (node.last_seen_ms > 0).then_some(node.last_seen_ms),
        revoked: node.revoked,
    }
}
