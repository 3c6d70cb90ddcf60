//! Secrets of an app: set, list by name, unset. A value comes in as a body and is sealed before anything else is done with
//! it; it is in no answer, no audit row and no log line.

use std::{collections::BTreeMap, sync::Arc};

use artifact::{
    AppId, AppName, Digest,
    manifest::bounds::ENTRIES_MAX,
    names::{SecretName, StoreName},
    secrets::{SECRET_VALUE_BYTES_MAX, SecretAt, SecretValue},
};
use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::StatusCode;

use super::{
    body::{Asked, JSON_BYTES_MAX, Named, NamedTwo, Raw, RequestKey},
    error::{ApiError, ErrorBody},
    types::{InStore, SecretSet, SecretSummary, SecretToSet, SecretsSet, SetSecrets},
    write::{audited, log_key, once},
};
use crate::{
    admin::KeptSecret,
    clock::now_ms,
    plane::Plane,
    random,
    tokens::{Action, Caller},
    upload::{Change, DeployError, Edit, change},
};

/// Bytes of the names in the audit row of several secrets: all 512 that can be set at once when they have 30 characters
/// each. Longer ones than that are 256 KiB in all, more than a row should be.
const AUDITED_BYTES_MAX: usize = 16 << 10;

/// The app's secrets by name: those that are set, and those the active version declares.
#[utoipa::path(
    get, path = "/v1/apps/{app}/secrets", tag = "secrets", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, body = Vec<SecretSummary>))
)]
pub async fn list_secrets(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
) -> Result<Json<Vec<SecretSummary>>, ApiError> {
    caller.allow_app(&[Action::Read, Action::Deploy], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    let empty = |at: &SecretAt, declared| SecretSummary {
        store: at.store.clone(),
        name: at.name.clone(),
        set_ms: None,
        set_by: None,
        declared,
    };
    let mut all: BTreeMap<SecretAt, SecretSummary> =
        declared(&plane, &id).into_iter().map(|at| (at.clone(), empty(&at, true))).collect();
    for kept in plane.admin.secrets(id).await? {
        let shown = all.entry(kept.at.clone()).or_insert_with(|| empty(&kept.at, false));
        (shown.set_ms, shown.set_by) = (Some(kept.set_ms), Some(kept.set_by));
    }
    Ok(Json(all.into_values().collect()))
}

/// Set a secret: the body is its value, 1 byte to 64 KiB. If the active version declares it, a new version of the same
/// program that pins the value is released at once; otherwise the next version that declares it will. The app need not
/// be there yet.
#[utoipa::path(
    put, path = "/v1/apps/{app}/secrets/{name}", tag = "secrets", security(("token" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(
        ("app" = String, Path, description = "The app's name"), ("name" = String, Path, description = "The secret's name"),
        InStore,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one version")
    ),
    responses(
        (status = 200, body = SecretSet), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)
    )
)]
pub async fn set_secret(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(app, name): NamedTwo<AppName, SecretName>,
    Asked(InStore { store }): Asked<InStore>,
    RequestKey(key): RequestKey,
    Raw(value): Raw<SECRET_VALUE_BYTES_MAX>,
) -> Result<Json<SecretSet>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    if value.is_empty() {
        let message = "a secret's value is empty: send it as the body";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "empty_secret", message));
    }
    let (id, at) = place(&caller, app, name, store);
    let value = SecretValue::new(value.into());
    // Under our own key: a plain digest of a short secret would tell it to whoever tries them all.
    let print = Digest::of_parts(&[plane.secrets.to_text().as_bytes(), value.expose()]);
    let object = format!("{}/{at}", id.app);
    let (work_plane, set_by, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let work = async move {
        let request = ("secret", id.clone(), at.clone(), print);
        let log_key = log_key(&tenant, key.as_ref());
        let set = async {
            let (set_ms, released) = keep(&work_plane, id, set_by, &[(at.clone(), value)], log_key).await?;
            Ok(SecretSet { store: at.store, name: at.name, set_ms, released })
        };
        once(&work_plane, &tenant, key.as_ref(), &request, set).await
    };
    Ok(Json(audited(&plane, &caller, "secret.set", object, work).await?))
}

/// Set several secrets: all of them or none, and one new version at most. Otherwise as for one.
#[utoipa::path(
    post, path = "/v1/apps/{app}/secrets", tag = "secrets", security(("token" = [])),
    request_body = SetSecrets,
    params(
        ("app" = String, Path, description = "The app's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one version")
    ),
    responses(
        (status = 200, body = SecretsSet), (status = 409, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 422, body = ErrorBody)
    )
)]
pub async fn set_secrets(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    RequestKey(key): RequestKey,
    Raw(body): Raw<JSON_BYTES_MAX>,
) -> Result<Json<SecretsSet>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    // Not in the decoder's words, which quote what they did not expect.
    let SetSecrets { secrets } = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the body does not read at line {} column {}", error.line(), error.column());
        ApiError::bad_request("bad_json", message)
    })?;
    let values = values(secrets)?;
    let id = AppId { tenant: caller.tenant.clone(), app };
    // As for one, with the places, so that it is known which value is whose.
    let places: Vec<SecretAt> = values.iter().map(|(at, _)| at.clone()).collect();
    let print = print_of(&plane.secrets.to_text(), &values);
    let object = format!("{}/{}", id.app, audited_places(&places));
    let (work_plane, set_by, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let work = async move {
        let request = ("secrets", id.clone(), places, print);
        let log_key = log_key(&tenant, key.as_ref());
        let set = async {
            let (set_ms, released) = keep(&work_plane, id, set_by, &values, log_key).await?;
            Ok(SecretsSet { set: values.len(), set_ms, released })
        };
        once(&work_plane, &tenant, key.as_ref(), &request, set).await
    };
    Ok(Json(audited(&plane, &caller, "secrets.set", object, work).await?))
}

/// The digest of values under our own key. Each has its length before it: where one ends and the next begins is part of
/// what is asked for.
fn print_of(seal_key: &str, values: &[(SecretAt, SecretValue)]) -> Digest {
    let lengths: Vec<[u8; 8]> =
        values.iter().map(|(_, value)| (value.expose().len() as u64).to_le_bytes()).collect();
    let mut parts = vec![seal_key.as_bytes()];
    for ((_, value), length) in values.iter().zip(&lengths) {
        parts.extend([length.as_slice(), value.expose()]);
    }
    Digest::of_parts(&parts)
}

/// The places by name, as many as an audit row holds.
fn audited_places(places: &[SecretAt]) -> String {
    let mut named = String::new();
    for (n, at) in places.iter().enumerate() {
        let at = at.to_string();
        if named.len() + at.len() > AUDITED_BYTES_MAX {
            return format!("{named} and {} more", places.len() - n);
        }
        named.push_str(if n > 0 { ", " } else { "" });
        named.push_str(&at);
    }
    named
}

/// What a request holds, checked. A refusal names the secret and says nothing of its value.
fn values(secrets: Vec<SecretToSet>) -> Result<Vec<(SecretAt, SecretValue)>, ApiError> {
    let refused = |code, message| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message));
    if secrets.is_empty() || secrets.len() > ENTRIES_MAX {
        return refused("bad_value", format!("1 to {ENTRIES_MAX} secrets are set at once"));
    }
    let mut values: BTreeMap<SecretAt, SecretValue> = BTreeMap::new();
    for SecretToSet { store, name, value_base64 } in secrets {
        let at = SecretAt { store, name };
        let Ok(value) = BASE64.decode(&value_base64) else {
            return refused("bad_value", format!("the value of {at} is not base64"));
        };
        let value = SecretValue::new(value);
        match value.expose().len() {
            0 => return refused("empty_secret", format!("the value of {at} is empty")),
            bytes if bytes > SECRET_VALUE_BYTES_MAX => {
                return refused(
                    "bad_value",
                    format!("the value of {at} has more than {SECRET_VALUE_BYTES_MAX} bytes"),
                );
            }
            _ => {}
        }
        if values.contains_key(&at) {
            return refused("bad_value", format!("{at} is there twice"));
        }
        values.insert(at, value);
    }
    Ok(values.into_iter().collect())
}

/// Seals and keeps values, and releases the one version that pins those of them the active version declares.
async fn keep(
    plane: &Plane,
    id: AppId,
    set_by: String,
    values: &[(SecretAt, SecretValue)],
    request: Option<String>,
) -> Result<(u64, Option<super::types::Deployed>), ApiError> {
    let set_ms = now_ms();
    let kept = values.iter().map(|(at, value)| {
        let sealed = at.seal(&plane.secrets, &id, random::bytes(), value);
        let bytes = value.expose().len() as u64;
        (KeptSecret { at: at.clone(), sealed, set_ms, set_by: set_by.clone() }, bytes)
    });
    let kept = kept.collect();
    let is_declared = {
        // A version made meanwhile either pins these values or is seen here to declare them.
        let _turn = plane.version_turn(&id).await;
        plane.admin.set_secrets(id.clone(), kept).await?;
        let declared = declared(plane, &id);
        values.iter().any(|(at, _)| declared.contains(at))
    };
    let released = if is_declared { repinned(plane, id, set_by, request).await? } else { None };
    Ok((set_ms, released))
}

/// A version with the values of now. `None` when it cannot be made because other secrets it declares have no value: an
/// app of before there were values goes on as it is until all of them are set.
async fn repinned(
    plane: &Plane,
    id: AppId,
    actor: String,
    request: Option<String>,
) -> Result<Option<super::types::Deployed>, ApiError> {
    match change(plane, Change { id, edit: Edit::Secrets, actor, request }).await {
        Ok(released) => Ok(Some(released)),
        Err(DeployError::SecretsMissing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Forget a secret. Refused while the active version declares it. Versions that pin it keep their copies, so that a
/// rollback still works; they go with the app.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/secrets/{name}", tag = "secrets", security(("token" = [])),
    params(
        ("app" = String, Path, description = "The app's name"), ("name" = String, Path, description = "The secret's name"),
        InStore
    ),
    responses((status = 200, body = SecretSummary), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub async fn unset_secret(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(app, name): NamedTwo<AppName, SecretName>,
    Asked(InStore { store }): Asked<InStore>,
) -> Result<Json<SecretSummary>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    let (id, at) = place(&caller, app, name, store);
    let object = format!("{}/{at}", id.app);
    let work_plane = Arc::clone(&plane);
    let work = async move {
        let _turn = work_plane.version_turn(&id).await;
        if declared(&work_plane, &id).contains(&at) {
            let message = format!(
                "the active version of {} declares the secret {at}: deploy one that does not, then unset it",
                id.app
            );
            return Err(ApiError::new(StatusCode::CONFLICT, "secret_in_use", message));
        }
        if !work_plane.admin.unset_secret(id.clone(), at.clone()).await? {
            let message = format!("the app {} has no secret {at}", id.app);
            return Err(ApiError::not_found("no_such_secret", message));
        }
        let SecretAt { store, name } = at;
        Ok(SecretSummary { store, name, set_ms: None, set_by: None, declared: false })
    };
    Ok(Json(audited(&plane, &caller, "secret.unset", object, work).await?))
}

fn place(caller: &Caller, app: AppName, name: SecretName, store: Option<StoreName>) -> (AppId, SecretAt) {
    (AppId { tenant: caller.tenant.clone(), app }, SecretAt { store, name })
}

/// What the active version declares.
fn declared(plane: &Plane, id: &AppId) -> std::collections::BTreeSet<SecretAt> {
    plane.fleet.view().active(id).map(|active| active.version.config.secrets_needed()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_row_names_the_secrets_until_it_is_full() {
        let at = |store: Option<&str>, name: String| SecretAt {
            store: store.map(|store| store.parse().unwrap()),
            name: name.parse().unwrap(),
        };
        let few = [at(None, "A".into()), at(None, "B".into()), at(Some("my vault"), "A".into())];
        assert_eq!(audited_places(&few), "A, B, A (store my vault)");
        let longest: Vec<SecretAt> = (0..ENTRIES_MAX).map(|n| at(None, format!("{n:0>255}"))).collect();
        let row = audited_places(&longest);
        assert!(row.ends_with(" and 449 more"), "{}", &row[row.len() - 40..]);
        assert!(row.len() < AUDITED_BYTES_MAX + 300, "{}", row.len());
        let usual: Vec<SecretAt> = (0..ENTRIES_MAX).map(|n| at(None, format!("{n:0>30}"))).collect();
        assert!(audited_places(&usual).ends_with("511"));
    }

    #[test]
    fn the_digest_of_values_tells_where_one_ends_and_the_next_begins() {
        let values = |a: &str, b: &str| {
            let at = |name: &str| SecretAt { store: None, name: name.parse().unwrap() };
            [("A", a), ("B", b)].map(|(name, value)| (at(name), SecretValue::new(value.into())))
        };
        let print = |key: &str, a: &str, b: &str| print_of(key, &values(a, b));
        assert_eq!(print("key", "ab", "c"), print("key", "ab", "c"));
        assert_ne!(print("key", "ab", "c"), print("key", "a", "bc"));
        assert_ne!(print("key", "ab", "c"), print("other", "ab", "c"));
    }
}
