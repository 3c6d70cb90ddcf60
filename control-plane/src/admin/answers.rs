//! Answers already given to writes with an `Idempotency-Key`, so that a repeated request gets the first answer's bytes.
//!
//! The release log itself refuses a second record for a key, also after a crash between publishing and remembering; this
//! table only saves the words. Key-value writes are not here: their store keeps what it said. Only successes are kept: a refusal changed nothing and may be tried again.

use std::{fmt, str::FromStr};

use artifact::{Digest, TenantName};
use rusqlite::OptionalExtension as _;

use super::{Admin, AdminError};

/// Bytes of a key: a UUID has 36, a CI job's name with its run fits.
const KEY_BYTES_MAX: usize = 128;
/// How long an answer is kept: a client that tries again after a week has other worries.
const ANSWER_KEEP_MS: u64 = 7 * 24 * 3600 * 1000;

/// A client's name for one write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// The header is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters: send a UUID")]
pub struct IdempotencyKeyError;

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<IdempotencyKey, IdempotencyKeyError> {
        let visible = !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
        if !visible || text.len() > KEY_BYTES_MAX {
            return Err(IdempotencyKeyError);
        }
        Ok(IdempotencyKey(text.to_owned()))
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A remembered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Digest of the request it answered: the same key with another request is the client's mistake.
    pub request: Digest,
    /// The JSON body.
    pub body: String,
}

impl Admin {
    /// The answer given to this key.
    pub async fn answer(
        &self,
        tenant: TenantName,
        key: IdempotencyKey,
    ) -> Result<Option<Answer>, AdminError> {
        self.run("looking up an answer", move |store| {
            let found: Option<(String, String)> = store
                .query_row(
                    "SELECT request, body FROM answers WHERE tenant = ?1 AND key = ?2",
                    (tenant.as_str(), &key.0),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            let Some((request, body)) = found else { return Ok(None) };
            Ok(Some(Answer { request: super::parsed(&request, "request digest")?, body }))
        })
        .await
    }

    /// Remembers an answer, and forgets those that are too old.
    pub async fn remember_answer(
        &self,
        tenant: TenantName,
        key: IdempotencyKey,
        answer: Answer,
        now_ms: u64,
    ) -> Result<(), AdminError> {
        self.run("remembering an answer", move |store| {
            store.execute(
                "DELETE FROM answers WHERE time_ms < ?1",
                [now_ms.saturating_sub(ANSWER_KEEP_MS) as i64],
            )?;
            store.execute(
                "INSERT INTO answers(tenant, key, request, body, time_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO NOTHING",
                (tenant.as_str(), &key.0, answer.request.to_string(), &answer.body, now_ms as i64),
            )?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_answer_stays_until_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let (tenant, key): (TenantName, IdempotencyKey) = ("a".parse().unwrap(), "k-1".parse().unwrap());
        let first = Answer { request: Digest::of(b"1"), body: "{}".into() };
        admin.remember_answer(tenant.clone(), key.clone(), first.clone(), 1_000).await.unwrap();
        let second = Answer { request: Digest::of(b"2"), body: "[]".into() };
        admin.remember_answer(tenant.clone(), key.clone(), second.clone(), 2_000).await.unwrap();
        assert_eq!(admin.answer(tenant.clone(), key.clone()).await.unwrap(), Some(first));
        assert_eq!(admin.answer("b".parse().unwrap(), key.clone()).await.unwrap(), None, "another tenant's");
        let later = 1_001 + ANSWER_KEEP_MS;
        admin.remember_answer(tenant.clone(), key.clone(), second.clone(), later).await.unwrap();
        assert_eq!(admin.answer(tenant, key).await.unwrap(), Some(second));
    }

    #[test]
    fn keys_are_short_visible_text() {
        assert!("3f2a-…".parse::<IdempotencyKey>().is_err());
        assert!("".parse::<IdempotencyKey>().is_err());
        assert!("a b".parse::<IdempotencyKey>().is_err());
        assert!("x".repeat(129).parse::<IdempotencyKey>().is_err());
        assert!("x".repeat(128).parse::<IdempotencyKey>().is_ok());
    }
}
