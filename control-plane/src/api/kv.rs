//! Key-value stores of the tenant: what its programs see, from outside. Values are bodies as they are; what stands beside
//! them is in headers.
//!
//! A token of one app reaches the stores that the app's active version declares.

use std::{collections::BTreeSet, sync::Arc};

use artifact::{
    AppId, Digest, TenantName,
    names::{KvKey, StoreName},
};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use fleet_sync_origin::{Once, OnceError};
use fleet_sync_proto::kv::{
    Ask, At, ListAsk, METADATA_BYTES_MAX, Message, PAGE_KEYS_MAX, PutAsk, Said, Space, VALUE_BYTES_MAX,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    body::{Asked, Named, NamedTwo, Raw, RequestKey},
    error::{ApiError, ErrorBody},
    types::{KvDeleteQuery, KvDeleted, KvKeys, KvListQuery, KvPutQuery, KvStored, KvStores},
    write::{answered, audited, key_reused},
};
use crate::{
    admin::IdempotencyKey,
    plane::{self, Plane},
    tokens::{Action, Caller, Forbidden},
};

/// The entry's generation, in answers.
const GENERATION: &str = "skerry-generation";
/// Its remaining life, ms, in answers.
const TTL_MS: &str = "skerry-ttl-ms";
/// Base64 of what is stored beside the value, both ways.
const METADATA: &str = "skerry-metadata";
/// Characters of a key in an audit row: enough to know it again, and a row stays small.
const AUDITED_KEY_CHARS: usize = 128;

/// The tenant's stores: those that hold something, and those that active versions declare.
#[utoipa::path(
    get, path = "/v1/kv", tag = "kv", security(("token" = [])), responses((status = 200, body = KvStores))
)]
pub async fn list_stores(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
) -> Result<Json<KvStores>, ApiError> {
    caller.allow_somewhere(&[Action::Read])?;
    let mut stores: BTreeSet<String> = BTreeSet::new();
    // A token of one app reaches what that app declares.
    if caller.only_app().is_none() {
        let held = plane.fleet.kv_stores(&caller.tenant).await?;
        stores.extend(held.iter().map(ToString::to_string));
    }
    let view = plane.fleet.view();
    let reachable = |id: &AppId| caller.only_app().is_none_or(|only| *only == id.app);
    for (_, app) in plane::apps_of(&view, &caller.tenant).filter(|(id, _)| reachable(id)) {
        stores.extend(app.active_version().iter().flat_map(|active| active.version.config.kv_stores.clone()));
    }
    Ok(Json(KvStores { stores: stores.into_iter().collect() }))
}

/// One page of a store's keys, in the order of their bytes. A store that does not exist has none.
#[utoipa::path(
    get, path = "/v1/kv/{store}", tag = "kv", security(("token" = [])),
    params(("store" = String, Path, description = "The store's name"), KvListQuery),
    responses((status = 200, body = KvKeys), (status = 422, body = ErrorBody))
)]
pub async fn list_keys(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(store): Named<StoreName>,
    Asked(query): Asked<KvListQuery>,
) -> Result<Json<KvKeys>, ApiError> {
    let space = reached(&plane, &caller, Action::Read, store)?;
    let KvListQuery { prefix, limit, cursor } = query;
    let limit = limit.unwrap_or(PAGE_KEYS_MAX);
    let ask = Message::bare(Ask::List(ListAsk { space, prefix, limit, cursor }));
    match plane.fleet.kv(ask).await??.head {
        Said::Page { keys, next } => Ok(Json(KvKeys { keys, next })),
        other => Err(strange(other)),
    }
}

/// The value of an entry, as it is. Its generation, remaining life and metadata are in headers.
#[utoipa::path(
    get, path = "/v1/kv/{store}/{key}", tag = "kv", security(("token" = [])),
    params(
        ("store" = String, Path, description = "The store's name"),
        ("key" = String, Path, description = "The key, percent-encoded")
    ),
    responses(
        (status = 200, content_type = "application/octet-stream", headers(
            ("skerry-generation" = u64), ("skerry-ttl-ms" = Option<u64>), ("skerry-metadata" = Option<String>)
        )),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)
    )
)]
pub async fn get_entry(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(store, key): NamedTwo<StoreName, KvKey>,
) -> Result<Response, ApiError> {
    let space = reached(&plane, &caller, Action::Read, store)?;
    let missing = format!("the store {} has no key {:?}", space.store, key.as_str());
    let place = Arc::clone(&plane.values).try_acquire_owned().map_err(|_| no_place())?;
    let said = plane.fleet.kv(Message::bare(Ask::Get(At { space, key }))).await??;
    let (generation, ttl_ms) = match said.head {
        Said::Found { generation, ttl_ms, .. } => (generation, ttl_ms),
        Said::Missing { .. } => return Err(ApiError::not_found("no_such_key", missing)),
        other => return Err(strange(other)),
    };
    let mut headers = HeaderMap::new();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(GENERATION, HeaderValue::from(generation));
    if let Some(ttl_ms) = ttl_ms {
        headers.insert(TTL_MS, HeaderValue::from(ttl_ms));
    }
    if !said.metadata.is_empty()
        && let Ok(metadata) = HeaderValue::try_from(BASE64.encode(&said.metadata))
    {
        headers.insert(METADATA, metadata);
    }
    Ok((headers, held(said.value, place)).into_response())
}

/// Write an entry: the body is its value. The answer comes when it is durable.
#[utoipa::path(
    put, path = "/v1/kv/{store}/{key}", tag = "kv", security(("token" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(
        ("store" = String, Path, description = "The store's name"),
        ("key" = String, Path, description = "The key, percent-encoded"), KvPutQuery,
        ("skerry-metadata" = Option<String>, Header, description = "Base64 of what is stored beside the value, 2 KiB at most"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one write")
    ),
    responses(
        (status = 200, body = KvStored), (status = 409, body = ErrorBody), (status = 412, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)
    )
)]
pub async fn put_entry(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(store, key): NamedTwo<StoreName, KvKey>,
    Asked(query): Asked<KvPutQuery>,
    RequestKey(request_key): RequestKey,
    headers: HeaderMap,
    Value { bytes, place }: Value,
) -> Result<Json<KvStored>, ApiError> {
    let space = reached(&plane, &caller, Action::Deploy, store)?;
    let metadata = metadata(&headers)?;
    let KvPutQuery { ttl_ms, if_generation, mode } = query;
    let object = object(&space, &key);
    let at = At { space, key };
    let put = PutAsk { at, mode, if_generation, ttl_ms, has_metadata: metadata.is_some() };
    let request = digest(&("kv.put", put.clone(), metadata.clone(), Digest::of(&bytes)))?;
    let ask = Message { head: Ask::Put(put), metadata: metadata.unwrap_or_default(), value: bytes.into() };
    let (work_plane, tenant) = (Arc::clone(&plane), caller.tenant.clone());
    let work = async move {
        let _place = place;
        write(&work_plane, &tenant, request_key, request, ask, |said| match said {
            Said::Stored { generation } => Ok(KvStored { generation }),
            other => Err(strange(other)),
        })
        .await
    };
    Ok(Json(audited(&plane, &caller, "kv.put", object, work).await?))
}

/// Delete an entry. The answer comes when that is durable, and says whether there was one.
#[utoipa::path(
    delete, path = "/v1/kv/{store}/{key}", tag = "kv", security(("token" = [])),
    params(
        ("store" = String, Path, description = "The store's name"),
        ("key" = String, Path, description = "The key, percent-encoded"), KvDeleteQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one deletion")
    ),
    responses((status = 200, body = KvDeleted), (status = 412, body = ErrorBody))
)]
pub async fn delete_entry(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(store, key): NamedTwo<StoreName, KvKey>,
    Asked(KvDeleteQuery { if_generation }): Asked<KvDeleteQuery>,
    RequestKey(request_key): RequestKey,
) -> Result<Json<KvDeleted>, ApiError> {
    let space = reached(&plane, &caller, Action::Deploy, store)?;
    let object = object(&space, &key);
    let head = Ask::Delete { at: At { space, key }, if_generation };
    let request = digest(&("kv.delete", head.clone()))?;
    let (work_plane, tenant) = (Arc::clone(&plane), caller.tenant.clone());
    let work = async move {
        write(&work_plane, &tenant, request_key, request, Message::bare(head), |said| match said {
            Said::Deleted { existed } => Ok(KvDeleted { existed }),
            other => Err(strange(other)),
        })
        .await
    };
    Ok(Json(audited(&plane, &caller, "kv.delete", object, work).await?))
}

/// Does one write, under its key once. The key store itself keeps what was said, in the transaction of the write: between
/// the two there is no moment at which a process that ends makes a repeated append a second one.
async fn write<T: DeserializeOwned>(
    plane: &Plane,
    tenant: &TenantName,
    key: Option<IdempotencyKey>,
    request: Digest,
    ask: Message<Ask>,
    read: impl FnOnce(Said) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let Some(key) = key else { return read(plane.fleet.kv(ask).await??.head) };
    // A deploy may have used the key, and earlier releases kept these answers there too.
    if let Some(given) = answered(plane, tenant, &key, request).await? {
        return Ok(given);
    }
    match plane.fleet.kv_once(ask, Once { key: key.to_string(), request }).await {
        Ok(decided) => read(decided?.head),
        Err(OnceError::Reused) => Err(key_reused()),
        Err(OnceError::Kv(error)) => Err(error.into()),
        Err(error @ OnceError::Key) => Err(ApiError::internal(&error)),
    }
}

fn digest(request: &impl Serialize) -> Result<Digest, ApiError> {
    let text = serde_json::to_vec(request).map_err(|error| ApiError::internal(&error))?;
    Ok(Digest::of(&text))
}

/// The caller's store, if it may use it so.
fn reached(plane: &Plane, caller: &Caller, action: Action, store: StoreName) -> Result<Space, Forbidden> {
    caller.allow_somewhere(&[action])?;
    if let Some(app) = caller.only_app() {
        let id = AppId { tenant: caller.tenant.clone(), app: app.clone() };
        let view = plane.fleet.view();
        let declared = view.active(&id).map(|active| active.version.config.kv_stores.as_slice());
        if !declared.unwrap_or_default().iter().any(|declared| declared == store.as_str()) {
            return Err(Forbidden);
        }
    }
    Ok(Space { tenant: caller.tenant.clone(), store })
}

fn object(space: &Space, key: &KvKey) -> String {
    let key: String = key.as_str().chars().take(AUDITED_KEY_CHARS).collect();
    format!("{}/{key}", space.store)
}

fn metadata(headers: &HeaderMap) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(value) = headers.get(METADATA) else { return Ok(None) };
    let bad = || {
        let message = format!("the header {METADATA} is base64 of at most {METADATA_BYTES_MAX} bytes");
        ApiError::bad_request("bad_metadata", message)
    };
    let metadata = BASE64.decode(value.as_bytes()).map_err(|_| bad())?;
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(bad());
    }
    Ok(Some(metadata))
}

/// Values up to this size hold no place while they are sent: what many slow readers can hold is small.
const PLACELESS_BYTES_MAX: usize = 64 * 1024;

/// A value that keeps its place until the last of it was sent, however slowly the client reads.
fn held(value: Vec<u8>, place: OwnedSemaphorePermit) -> Bytes {
    struct Held {
        value: Vec<u8>,
        _place: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.value
        }
    }
    match value.len() {
        0..=PLACELESS_BYTES_MAX => Bytes::from(value),
        _ => Bytes::from_owner(Held { value, _place: place }),
    }
}

fn no_place() -> ApiError {
    let message = "as many values as fit are being sent or written: try again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
}

/// The store answered another question: our bug.
fn strange(said: Said) -> ApiError {
    tracing::error!(?said, "the key-value store answered something else than was asked");
    let message = "the key-value store answered something else than was asked; see the log";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

/// A value, read once there is room for it.
pub struct Value {
    bytes: Bytes,
    place: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Plane>> for Value {
    type Rejection = ApiError;

    async fn from_request(request: Request, plane: &Arc<Plane>) -> Result<Value, ApiError> {
        let place = Arc::clone(&plane.values).acquire_owned().await.expect("this semaphore is never closed");
        let Raw(bytes) = Raw::<VALUE_BYTES_MAX>::from_request(request, plane).await?;
        Ok(Value { bytes, place })
    }
}
