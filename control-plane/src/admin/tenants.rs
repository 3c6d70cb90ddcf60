//! Tenants: who owns apps, hosts and tokens.

use artifact::TenantName;
use rusqlite::OptionalExtension as _;

use super::{Admin, AdminError, Failure, parsed};

/// Most tenants of a fleet: bounds the list answer to a few megabytes.
pub const TENANTS_MAX: u32 = 100_000;

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// When it was made.
    pub created_ms: u64,
}

/// A tenant was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTenantError {
    /// The name is taken.
    #[error("a tenant {0} exists already: choose another name")]
    Exists(TenantName),
    /// [`TENANTS_MAX`].
    #[error("the fleet has its {TENANTS_MAX} tenants: start a second fleet")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

impl Admin {
    /// Makes a tenant.
    pub async fn create_tenant(&self, name: TenantName, now_ms: u64) -> Result<(), CreateTenantError> {
        self.run("creating a tenant", move |store| {
            let count: u32 = store.query_row("SELECT count(*) FROM tenants", [], |row| row.get(0))?;
            if count >= TENANTS_MAX {
                return Err(Failure::Refused(CreateTenantError::TooMany));
            }
            let made = store.execute(
                "INSERT INTO tenants(name, created_ms) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                (name.as_str(), now_ms as i64),
            )?;
            if made == 0 { Err(Failure::Refused(CreateTenantError::Exists(name))) } else { Ok(()) }
        })
        .await
    }

    /// Is there such a tenant?
    pub async fn has_tenant(&self, name: TenantName) -> Result<bool, AdminError> {
        self.run("looking up a tenant", move |store| {
            let found: Option<i64> = store
                .query_row("SELECT 1 FROM tenants WHERE name = ?1", [name.as_str()], |row| row.get(0))
                .optional()?;
            Ok(found.is_some())
        })
        .await
    }

    /// Every tenant, by name.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, AdminError> {
        self.run("listing tenants", |store| {
            let mut query = store.prepare("SELECT name, created_ms FROM tenants ORDER BY name")?;
            let mut rows = query.query([])?;
            let mut tenants = Vec::new();
            while let Some(row) = rows.next()? {
                let name = parsed(&row.get::<_, String>(0)?, "tenant name")?;
                tenants.push(Tenant { name, created_ms: row.get::<_, i64>(1)? as u64 });
            }
            Ok(tenants)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_is_made_once_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let name: TenantName = "acme".parse().unwrap();
        let admin = Admin::open(&path).unwrap();
        admin.create_tenant(name.clone(), 7).await.unwrap();
        let again = admin.create_tenant(name.clone(), 8).await.unwrap_err();
        assert!(matches!(again, CreateTenantError::Exists(_)));
        drop(admin);
        let admin = Admin::open(&path).unwrap();
        assert!(admin.has_tenant(name.clone()).await.unwrap());
        assert_eq!(admin.tenants().await.unwrap(), [Tenant { name, created_ms: 7 }]);
        assert!(!admin.has_tenant("other".parse().unwrap()).await.unwrap());
    }
}
