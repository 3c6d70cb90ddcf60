//! Stored tokens: by hash, never by text.

use std::collections::BTreeSet;

use artifact::{Digest, TenantName};
use rusqlite::{OptionalExtension as _, Row};
use subtle::ConstantTimeEq as _;

use super::{Admin, AdminError, Failure, parsed};
use crate::tokens::{Action, Grant, Scope};

/// Live tokens of one tenant, and of the operators: a deploy key for every app of a large tenant, twice over.
pub const TOKENS_PER_TENANT_MAX: u32 = 20_000;

/// How long a dead token stays in lists, so that audit rows about it can be understood: 90 days.
const DEAD_KEEP_MS: u64 = 90 * 24 * 3600 * 1000;

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its public name.
    pub id: String,
    /// What it allows.
    pub grant: Grant,
    /// When it was made.
    pub created_ms: u64,
    /// By which token; `system` for the first.
    pub created_by: String,
    /// From then on it is worthless.
    pub expires_ms: Option<u64>,
    /// Since then it is worthless.
    pub revoked_ms: Option<u64>,
}

/// A token was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTokenError {
    /// No such tenant.
    #[error("there is no tenant {0}: create it first")]
    NoTenant(TenantName),
    /// [`TOKENS_PER_TENANT_MAX`].
    #[error("{TOKENS_PER_TENANT_MAX} live tokens are in use: revoke some first")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

const COLUMNS: &str = "id, tenant, app, actions, created_ms, created_by, expires_ms, revoked_ms, hash";

impl Admin {
    /// Stores a token by the hash of its text.
    pub async fn create_token(&self, hash: Digest, token: StoredToken) -> Result<(), CreateTokenError> {
        self.run("creating a token", move |store| {
            let (tenant, app) = match &token.grant.scope {
                Scope::Operator => (None, None),
                Scope::Tenant { tenant, app } => (Some(tenant), app.as_ref().map(|app| app.as_str())),
            };
            if let Some(tenant) = tenant {
                let known: Option<i64> = store
                    .query_row("SELECT 1 FROM tenants WHERE name = ?1", [tenant.as_str()], |row| row.get(0))
                    .optional()?;
                if known.is_none() {
                    return Err(Failure::Refused(CreateTokenError::NoTenant(tenant.clone())));
                }
            }
            let tenant = tenant.map(|tenant| tenant.as_str());
            let forgotten_ms = token.created_ms.saturating_sub(DEAD_KEEP_MS) as i64;
            store.execute(
                "DELETE FROM tokens WHERE min(ifnull(expires_ms, ?2), ifnull(revoked_ms, ?2)) < ?1",
                (forgotten_ms, i64::MAX),
            )?;
            let live: u32 = store.query_row(
                "SELECT count(*) FROM tokens WHERE tenant IS ?1 AND revoked_ms IS NULL
                 AND (expires_ms IS NULL OR expires_ms > ?2)",
                (tenant, token.created_ms as i64),
                |row| row.get(0),
            )?;
            if live >= TOKENS_PER_TENANT_MAX {
                return Err(Failure::Refused(CreateTokenError::TooMany));
            }
            let actions: Vec<&str> = token.grant.actions.iter().map(|action| action.name()).collect();
            store.execute(
                "INSERT INTO tokens(id, hash, tenant, app, actions, created_ms, created_by, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    &token.id,
                    hash.as_bytes().as_slice(),
                    tenant,
                    app,
                    actions.join(","),
                    token.created_ms as i64,
                    &token.created_by,
                    token.expires_ms.map(|ms| ms as i64),
                ),
            )?;
            Ok(())
        })
        .await
    }

    /// The token with this hash, if it is neither revoked nor expired. The index narrows to a hash that only the
    /// token's holder can make; the comparison itself takes the same time wherever the bytes differ.
    pub async fn live_token(&self, hash: Digest, now_ms: u64) -> Result<Option<StoredToken>, AdminError> {
        self.run("checking a token", move |store| {
            let found = store
                .query_row(
                    &format!("SELECT {COLUMNS} FROM tokens WHERE hash = ?1"),
                    [hash.as_bytes().as_slice()],
                    |row| Ok((stored(row)?, row.get::<_, Vec<u8>>(8)?)),
                )
                .optional()?;
            let Some((columns, stored_hash)) = found else { return Ok(None) };
            let token = columns.read()?;
            let same: bool = stored_hash.ct_eq(hash.as_bytes()).into();
            let live = token.revoked_ms.is_none() && token.expires_ms.is_none_or(|expires| expires > now_ms);
            Ok((same && live).then_some(token))
        })
        .await
    }

    /// Tokens of a tenant, or all, newest first; revoked and expired ones too.
    pub async fn tokens(&self, tenant: Option<TenantName>) -> Result<Vec<StoredToken>, AdminError> {
        self.run("listing tokens", move |store| {
            let mut query = store.prepare(&format!(
                "SELECT {COLUMNS} FROM tokens WHERE ?1 IS NULL OR tenant = ?1 ORDER BY created_ms DESC, id LIMIT ?2"
            ))?;
            let mut rows = query.query((tenant.as_ref().map(|name| name.as_str()), TOKENS_PER_TENANT_MAX))?;
            let mut tokens = Vec::new();
            while let Some(row) = rows.next()? {
                tokens.push(stored(row)?.read()?);
            }
            Ok(tokens)
        })
        .await
    }

    /// One token by its id.
    pub async fn token(&self, id: String) -> Result<Option<StoredToken>, AdminError> {
        self.run("looking up a token", move |store| {
            let columns = store
                .query_row(&format!("SELECT {COLUMNS} FROM tokens WHERE id = ?1"), [&id], stored)
                .optional()?;
            columns.map(Columns::read).transpose()
        })
        .await
    }

    /// Makes a token worthless from the next request on. Doing so twice changes nothing.
    pub async fn revoke_token(&self, id: String, now_ms: u64) -> Result<(), AdminError> {
        self.run("revoking a token", move |store| {
            store.execute(
                "UPDATE tokens SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL",
                (&id, now_ms as i64),
            )?;
            Ok(())
        })
        .await
    }
}

/// A row as SQLite gives it.
struct Columns {
    id: String,
    tenant: Option<String>,
    app: Option<String>,
    actions: String,
    created_ms: i64,
    created_by: String,
    expires_ms: Option<i64>,
    revoked_ms: Option<i64>,
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok(Columns {
        id: row.get(0)?,
        tenant: row.get(1)?,
        app: row.get(2)?,
        actions: row.get(3)?,
        created_ms: row.get(4)?,
        created_by: row.get(5)?,
        expires_ms: row.get(6)?,
        revoked_ms: row.get(7)?,
    })
}

impl Columns {
    fn read<E>(self) -> Result<StoredToken, Failure<E>> {
        let scope = match self.tenant {
            None => Scope::Operator,
            Some(tenant) => Scope::Tenant {
                tenant: parsed(&tenant, "tenant name")?,
                app: self.app.map(|app| parsed(&app, "app name")).transpose()?,
            },
        };
        let mut actions = BTreeSet::new();
        for word in self.actions.split(',').filter(|word| !word.is_empty()) {
            let action = Action::ALL.into_iter().find(|action| action.name() == word);
            actions.insert(action.ok_or(Failure::Corrupt("action"))?);
        }
        Ok(StoredToken {
            id: self.id,
            grant: Grant { scope, actions },
            created_ms: self.created_ms as u64,
            created_by: self.created_by,
            expires_ms: self.expires_ms.map(|ms| ms as u64),
            revoked_ms: self.revoked_ms.map(|ms| ms as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::TokenText;

    fn token(id: &str, scope: Scope, expires_ms: Option<u64>) -> StoredToken {
        StoredToken {
            id: id.into(),
            grant: Grant::all(scope),
            created_ms: 10,
            created_by: "system".into(),
            expires_ms,
            revoked_ms: None,
        }
    }

    #[tokio::test]
    async fn only_a_live_token_is_found_and_its_text_is_nowhere_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let admin = Admin::open(&path).unwrap();
        let (text, brief) = (TokenText::generate(), TokenText::generate());
        let made = token("tok_1", Scope::Operator, None);
        admin.create_token(text.hash(), made.clone()).await.unwrap();
        admin.create_token(brief.hash(), token("tok_2", Scope::Operator, Some(100))).await.unwrap();

        assert_eq!(admin.live_token(text.hash(), 50).await.unwrap(), Some(made));
        assert!(admin.live_token(brief.hash(), 99).await.unwrap().is_some());
        assert!(admin.live_token(brief.hash(), 100).await.unwrap().is_none(), "expired");
        assert!(admin.live_token(TokenText::generate().hash(), 50).await.unwrap().is_none(), "unknown");
        admin.revoke_token("tok_1".into(), 60).await.unwrap();
        assert!(admin.live_token(text.hash(), 61).await.unwrap().is_none(), "revoked");

        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let secret = text.expose().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }

    #[tokio::test]
    async fn a_dead_token_is_forgotten_after_a_while_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let made = |id: &str, expires_ms| token(id, Scope::Operator, expires_ms);
        admin.create_token(TokenText::generate().hash(), made("brief", Some(20))).await.unwrap();
        admin.create_token(TokenText::generate().hash(), made("lasting", None)).await.unwrap();
        let late = StoredToken { created_ms: DEAD_KEEP_MS + 21, ..made("late", None) };
        admin.create_token(TokenText::generate().hash(), late).await.unwrap();
        let left: Vec<String> = admin.tokens(None).await.unwrap().into_iter().map(|token| token.id).collect();
        assert_eq!(left, ["late", "lasting"]);
    }

    #[tokio::test]
    async fn a_token_needs_its_tenant() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let scope = Scope::Tenant { tenant: "ghost".parse().unwrap(), app: None };
        let error =
            admin.create_token(TokenText::generate().hash(), token("t", scope, None)).await.unwrap_err();
        assert!(matches!(error, CreateTokenError::NoTenant(_)));
    }
}
