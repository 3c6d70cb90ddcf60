//! The audit table: every write that a token's scope allows, also those refused for another reason. What a scope does not
//! allow never begins and is only logged.
//!
//! A row is written before the work begins and completed after it, so a crash in between leaves a row that says `begun`
//! instead of none.

use super::{Admin, AdminError};

/// Rows kept; the oldest go first. About 200 bytes each: 200 MB.
const AUDIT_ROWS_MAX: i64 = 1_000_000;

/// Names a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditSeq(i64);

/// Who does what to which thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When it began.
    pub time_ms: u64,
    /// The token's id.
    pub token: String,
    /// The tenant whose things it is about.
    pub tenant: String,
    /// The verb, such as `deploy` or `token.revoke`.
    pub action: String,
    /// The thing, such as an app's name.
    pub object: String,
    /// `begun`, `ok …` or `refused <code>`.
    pub outcome: String,
}

impl Admin {
    /// Notes that work begins; the row's own `outcome` is not looked at.
    pub async fn audit_begin(&self, row: AuditRow) -> Result<AuditSeq, AdminError> {
        self.run("writing an audit row", move |store| {
            store.execute(
                "INSERT INTO audit(time_ms, token, tenant, action, object, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'begun')",
                (row.time_ms as i64, &row.token, &row.tenant, &row.action, &row.object),
            )?;
            let seq = store.last_insert_rowid();
            store.execute("DELETE FROM audit WHERE seq <= ?1", [seq - AUDIT_ROWS_MAX])?;
            Ok(AuditSeq(seq))
        })
        .await
    }

    /// Notes how it ended.
    pub async fn audit_end(&self, seq: AuditSeq, outcome: String) -> Result<(), AdminError> {
        self.run("completing an audit row", move |store| {
            store.execute("UPDATE audit SET outcome = ?2 WHERE seq = ?1", (seq.0, &outcome))?;
            Ok(())
        })
        .await
    }

    /// The newest rows, newest first.
    #[cfg(test)]
    pub async fn audit_rows(&self, rows_max: u32) -> Result<Vec<AuditRow>, AdminError> {
        self.run("reading the audit table", move |store| {
            let mut query = store.prepare(
                "SELECT time_ms, token, tenant, action, object, outcome FROM audit ORDER BY seq DESC LIMIT ?1",
            )?;
            let rows = query.query_map([rows_max], |row| {
                Ok(AuditRow {
                    time_ms: row.get::<_, i64>(0)? as u64,
                    token: row.get(1)?,
                    tenant: row.get(2)?,
                    action: row.get(3)?,
                    object: row.get(4)?,
                    outcome: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_row_says_begun_until_it_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let row = AuditRow {
            time_ms: 1,
            token: "tok_1".into(),
            tenant: "a".into(),
            action: "deploy".into(),
            object: "hello".into(),
            outcome: String::new(),
        };
        let first = admin.audit_begin(row.clone()).await.unwrap();
        admin.audit_begin(row).await.unwrap();
        admin.audit_end(first, "ok rev 3".into()).await.unwrap();
        let outcomes: Vec<String> =
            admin.audit_rows(10).await.unwrap().into_iter().map(|row| row.outcome).collect();
        assert_eq!(outcomes, ["begun", "ok rev 3"]);
    }
}
