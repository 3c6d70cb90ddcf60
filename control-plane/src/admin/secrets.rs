//! Secrets of apps as they were set last, sealed to the fleet's secrets key. A version pins copies of those it declares;
//! these are what the next version will pin.

use artifact::{
    AppId,
    manifest::bounds::ENTRIES_MAX,
    seal::Sealed,
    secrets::{SECRETS_BYTES_MAX, SecretAt},
};

use super::{Admin, AdminError, Failure, parsed};

/// Secrets of one tenant. About 300 bytes and the value each; apps that were never deployed count too.
pub const SECRETS_PER_TENANT_MAX: u64 = 20_000;

/// A secret as it was set last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret {
    /// Where it is.
    pub at: SecretAt,
    /// Its value, sealed for that place.
    pub sealed: Sealed,
    /// When it was set.
    pub set_ms: u64,
    /// By which token.
    pub set_by: String,
}

/// A secret was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetSecretError {
    /// Number or bytes of an app's secrets.
    #[error(
        "the app's secrets would be {secrets} with {bytes} bytes in all, at most {ENTRIES_MAX} with {SECRETS_BYTES_MAX}: unset one, or keep it elsewhere"
    )]
    AppFull {
        /// How many there would be.
        secrets: u64,
        /// How large they would be.
        bytes: u64,
    },
    /// [`SECRETS_PER_TENANT_MAX`].
    #[error("the tenant has its {SECRETS_PER_TENANT_MAX} secrets: unset some")]
    TenantFull,
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

impl Admin {
    /// Keeps sealed values, each of so many bytes when it was not sealed, in the places of those before them: all of them
    /// or none.
    pub async fn set_secrets(
        &self,
        id: AppId,
        secrets: Vec<(KeptSecret, u64)>,
    ) -> Result<(), SetSecretError> {
        self.run("keeping secrets", move |store| {
            let (tenant, app) = (id.tenant.as_str(), id.app.as_str());
            for (secret, bytes) in &secrets {
                let sealed = serde_json::to_string(&secret.sealed).map_err(|_| Failure::Corrupt("secret"))?;
                store.execute(
                    "INSERT OR REPLACE INTO secrets(tenant, app, store, name, sealed, bytes, set_ms, set_by)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    (
                        tenant,
                        app,
                        store_text(&secret.at),
                        secret.at.name.as_str(),
                        sealed,
                        *bytes as i64,
                        secret.set_ms as i64,
                        &secret.set_by,
                    ),
                )?;
            }
            let of_app = "SELECT count(*), sum(bytes) FROM secrets WHERE tenant = ?1 AND app = ?2";
            let (secrets, bytes) = store
                .query_row(of_app, (tenant, app), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
            let (secrets, bytes) = (secrets as u64, bytes as u64);
            if secrets > ENTRIES_MAX as u64 || bytes > SECRETS_BYTES_MAX as u64 {
                return Err(Failure::Refused(SetSecretError::AppFull { secrets, bytes }));
            }
            let of_tenant: i64 =
                store.query_row("SELECT count(*) FROM secrets WHERE tenant = ?1", [tenant], |row| {
                    row.get(0)
                })?;
            if of_tenant as u64 > SECRETS_PER_TENANT_MAX {
                return Err(Failure::Refused(SetSecretError::TenantFull));
            }
            Ok(())
        })
        .await
    }

    /// An app's secrets, by store and name.
    pub async fn secrets(&self, id: AppId) -> Result<Vec<KeptSecret>, AdminError> {
        self.run("reading secrets", move |store| {
            let mut query = store.prepare(
                "SELECT store, name, sealed, set_ms, set_by FROM secrets WHERE tenant = ?1 AND app = ?2
                 ORDER BY store, name",
            )?;
            let mut rows = query.query((id.tenant.as_str(), id.app.as_str()))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let in_store: String = row.get(0)?;
                let in_store = (!in_store.is_empty()).then(|| parsed(&in_store, "store name")).transpose()?;
                let name = parsed(&row.get::<_, String>(1)?, "secret name")?;
                let sealed = serde_json::from_str(&row.get::<_, String>(2)?);
                found.push(KeptSecret {
                    at: SecretAt { store: in_store, name },
                    sealed: sealed.map_err(|_| Failure::Corrupt("secret"))?,
                    set_ms: row.get::<_, i64>(3)? as u64,
                    set_by: row.get(4)?,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Forgets a secret; versions that pin it keep their copies. Was there one?
    pub async fn unset_secret(&self, id: AppId, at: SecretAt) -> Result<bool, AdminError> {
        self.run("forgetting a secret", move |store| {
            let gone = store.execute(
                "DELETE FROM secrets WHERE tenant = ?1 AND app = ?2 AND store = ?3 AND name = ?4",
                (id.tenant.as_str(), id.app.as_str(), store_text(&at), at.name.as_str()),
            )?;
            Ok(gone > 0)
        })
        .await
    }

    /// Forgets all secrets of an app that is gone.
    pub async fn forget_secrets(&self, id: AppId) -> Result<(), AdminError> {
        self.run("forgetting an app's secrets", move |store| {
            let sql = "DELETE FROM secrets WHERE tenant = ?1 AND app = ?2";
            store.execute(sql, (id.tenant.as_str(), id.app.as_str()))?;
            Ok(())
        })
        .await
    }
}

fn store_text(at: &SecretAt) -> &str {
    at.store.as_ref().map_or("", |store| store.as_str())
}

#[cfg(test)]
mod tests {
    use artifact::secrets::SECRET_VALUE_BYTES_MAX;

    use super::*;

    fn kept(store: Option<&str>, name: &str, text: &str) -> KeptSecret {
        let at = SecretAt { store: store.map(|store| store.parse().unwrap()), name: name.parse().unwrap() };
        let sealed = serde_json::from_value(text.into()).unwrap();
        KeptSecret { at, sealed, set_ms: 7, set_by: "tok_1".into() }
    }

    #[tokio::test]
    async fn the_last_value_of_each_place_is_kept_for_its_app_alone_until_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        admin.create_tenant("a".parse().unwrap(), 1).await.unwrap();
        let id = |app: &str| AppId { tenant: "a".parse().unwrap(), app: app.parse().unwrap() };
        admin.set_secrets(id("shop"), vec![(kept(None, "K", "b2xk"), 3)]).await.unwrap();
        let (plain, vaulted) = (kept(None, "K", "bmV3"), kept(Some("vault"), "K", "dmF1bHQ="));
        admin.set_secrets(id("shop"), vec![(plain.clone(), 3)]).await.unwrap();
        admin.set_secrets(id("shop"), vec![(vaulted.clone(), 5)]).await.unwrap();
        assert_eq!(admin.secrets(id("shop")).await.unwrap(), [plain.clone(), vaulted.clone()]);
        assert_eq!(admin.secrets(id("blog")).await.unwrap(), []);
        assert!(admin.unset_secret(id("shop"), plain.at.clone()).await.unwrap());
        assert!(!admin.unset_secret(id("shop"), plain.at).await.unwrap());
        assert_eq!(admin.secrets(id("shop")).await.unwrap(), [vaulted]);
        admin.forget_secrets(id("shop")).await.unwrap();
        assert_eq!(admin.secrets(id("shop")).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_would_not_fit_a_version_is_refused_and_the_value_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        admin.create_tenant("a".parse().unwrap(), 1).await.unwrap();
        let id = AppId { tenant: "a".parse().unwrap(), app: "shop".parse().unwrap() };
        let large = SECRET_VALUE_BYTES_MAX as u64;
        admin.set_secrets(id.clone(), vec![(kept(None, "A", "QQ=="), large)]).await.unwrap();
        admin.set_secrets(id.clone(), vec![(kept(None, "B", "Qg=="), 1)]).await.unwrap();
        let refused = admin.set_secrets(id.clone(), vec![(kept(None, "B", "Qg=="), large)]).await;
        assert!(matches!(refused, Err(SetSecretError::AppFull { secrets: 2, .. })), "{refused:?}");
        let together = ["C", "D"].map(|name| (kept(None, name, "Qw=="), large));
        let together = [vec![(kept(None, "A", "bmV3"), 1)], together.to_vec()].concat();
        let refused = admin.set_secrets(id.clone(), together).await;
        assert!(matches!(refused, Err(SetSecretError::AppFull { secrets: 4, .. })), "{refused:?}");
        let left = admin.secrets(id).await.unwrap();
        assert_eq!(left, [kept(None, "A", "QQ=="), kept(None, "B", "Qg==")], "all or none");
    }
}
