//! The release log: dense, hash-chained records, ordered by (epoch, rev).
//!
//! A record travels and is stored as its exact JSON text ([`RawRecord`]); the chain is over those bytes, so no
//! canonical JSON is needed and a node keeps fields it does not know. The writer's form is fixed by the field
//! order of the types here and pinned by a golden test. Rules (docs/design/0003-release-log.md):
//!
//! 1. `rev` starts at 1 and grows by one; `epoch` never falls.
//! 2. `chain(n) = sha256(chain(n-1) ‖ text(n))`, `chain(0)` = zeroes. A checkpoint signs the last value.
//! 3. A node that meets an unknown kind skips it when `critical` is false and refuses it when true.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    AppId, Digest, Fingerprint, HostName, Lane, NodeName, Profile, Target,
    assets::IndexRef,
    dsse::Envelope,
    keys::{Compiler, PublicKey},
    manifest::AppConfig,
    seal::Sealed,
    secrets::PinnedSecret,
};

/// Largest record in bytes of text. A version with 128 KiB of configuration or 80 KiB of secrets fits, and with most of
/// both; what does not is refused before it is published.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 512;
/// Most bytes of record text in one batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Position in the log, from 1. 0 is "before the first record".
pub type Rev = u64;
/// Term of office of the log's writer, from 1.
pub type Epoch = u64;
/// Milliseconds since the Unix epoch, by the writer's clock. For people; nothing is ordered by it.
pub type UnixMs = u64;
/// Number of an app's version, from 1.
pub type VersionNumber = u64;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position.
    pub rev: Rev,
    /// Writer's term.
    pub epoch: Epoch,
    /// When it was written.
    pub time_ms: UnixMs,
    /// Who caused it: a token's id, or `system`.
    pub actor: String,
    /// Idempotency key of the request that caused it, scoped by tenant: the same key never makes a second record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// May a reader that does not know the kind skip it?
    #[serde(default)]
    pub critical: bool,
    /// What happened.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "records are read one at a time, never kept by the thousand")]
pub enum Body {
    /// A writer takes office.
    EpochStart {
        /// The rev it starts from.
        base_rev: Rev,
        /// Compiler keys that its configuration names and that the log did not know. Nodes trust none by this: theirs come
        /// with enrolment, and by the word of a key they trust ([`Body::KeyChange`]).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        compiler_keys: Vec<PublicKey<Compiler>>,
    },
    /// An immutable version of an app: what the user meant, complete.
    Version(Version),
    /// Native code for a version, added to it. May be repeated as the fleet is recompiled.
    ArtifactSet(ArtifactSet),
    /// From here on this version answers for the app. A rollback is one more of these.
    Release {
        /// The app.
        #[serde(flatten)]
        id: AppId,
        /// The version that becomes active.
        version: VersionNumber,
    },
    /// The app, its versions and its host names are gone.
    AppDeleted {
        /// The app.
        #[serde(flatten)]
        id: AppId,
    },
    /// A TLS certificate for a host name, key sealed to the fleet.
    Certificate(Certificate),
    /// The node's identity is void; it may not connect again.
    NodeRevoked {
        /// The node.
        node: NodeName,
    },
    /// A compiler key endorses another, or revokes it. A reader that skips it trusts the keys it has.
    KeyChange {
        /// A [`crate::key_change::KeyChange`], as it was signed.
        change: Envelope,
    },
    /// A kind this reader does not know.
    #[serde(other)]
    Unknown,
}

/// See [`Body::Version`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The app.
    #[serde(flatten)]
    pub id: AppId,
    /// Its number.
    pub version: VersionNumber,
    /// The uploaded program. An app without one has that of no bytes.
    pub wasm: Digest,
    /// Its size in bytes; 0: there is none.
    pub wasm_bytes: u64,
    /// The interface it speaks.
    pub lane: Lane,
    /// Routes, bindings and limits pinned with it.
    pub config: AppConfig,
    /// The sealed values of the secrets it declares, so that a rollback brings back the values of then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<PinnedSecret>,
    /// Its static files; there if the configuration says how they are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<IndexRef>,
}

impl Version {
    /// Is there a program? If not, only its static files answer.
    pub fn has_program(&self) -> bool {
        self.wasm_bytes > 0
    }
}

/// See [`Body::ArtifactSet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSet {
    /// The app.
    #[serde(flatten)]
    pub id: AppId,
    /// The version the code is for.
    pub version: VersionNumber,
    /// One entry a target.
    #[serde(deserialize_with = "crate::target::known_only")]
    pub artifacts: Vec<ArtifactRef>,
}

/// Where one target's native code is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// Processor level.
    pub target: Target,
    /// Settings profile.
    pub profile: Profile,
    /// Engine fingerprint.
    pub fingerprint: Fingerprint,
    /// Digest of the [container](crate::container) blob.
    pub blob: Digest,
    /// Its size in bytes.
    pub blob_bytes: u64,
}

/// See [`Body::Certificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The exact names it covers.
    pub hosts: BTreeSet<HostName>,
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PKCS#8 PEM private key, sealed to the fleet's secrets key.
    pub key: Sealed,
}

/// A record's exact text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawRecord(String);

/// A record's text is unusable. The writer is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Over [`RECORD_BYTES_MAX`].
    #[error("a record of {0} bytes, at most {RECORD_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the JSON of a record.
    #[error("a malformed record: {0}")]
    Malformed(String),
}

impl RawRecord {
    /// The text of a record.
    pub fn encode(record: &Record) -> Result<RawRecord, RecordError> {
        let text =
            serde_json::to_string(record).map_err(|error| RecordError::Malformed(error.to_string()))?;
        RawRecord::from_text(text)
    }

    /// Takes text from a store or the wire, refusing what is too large.
    pub fn from_text(text: String) -> Result<RawRecord, RecordError> {
        if text.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(text.len()));
        }
        Ok(RawRecord(text))
    }

    /// The record it holds.
    pub fn decode(&self) -> Result<Record, RecordError> {
        if self.0.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(self.0.len()));
        }
        serde_json::from_str(&self.0).map_err(|error| RecordError::Malformed(error.to_string()))
    }

    /// The exact text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The chain value after this record, given the one before it (rule 2).
    pub fn chain(&self, before: Digest) -> Digest {
        Digest::of_parts(&[before.as_bytes(), self.0.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Record {
        let id = AppId { tenant: "default".parse().unwrap(), app: "hello".parse().unwrap() };
        Record {
            rev: 7,
            epoch: 1,
            time_ms: 1_700_000_000_000,
            actor: "system".into(),
            request: None,
            critical: true,
            body: Body::Release { id, version: 3 },
        }
    }

    #[test]
    fn the_written_form_is_fixed() {
        let raw = RawRecord::encode(&release()).unwrap();
        assert_eq!(
            raw.text(),
            r#"{"rev":7,"epoch":1,"time_ms":1700000000000,"actor":"system","critical":true,"body":{"kind":"release","tenant":"default","app":"hello","version":3}}"#
        );
        assert_eq!(raw.decode().unwrap(), release());
    }

    #[test]
    fn a_version_pins_secrets_and_one_from_before_there_were_any_reads_and_writes_as_it_was() {
        let before = r#"{"kind":"version","tenant":"default","app":"hello","version":1,"wasm":"0000000000000000000000000000000000000000000000000000000000000000","wasm_bytes":4,"lane":"wasi","config":{"hosts":[],"path_prefix":"/","limits":{"cpu_ms":50,"wall_ms":120000,"memory_mib":128}}}"#;
        let body: Body = serde_json::from_str(before).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), before);
        let Body::Version(mut version) = body else { panic!("a version") };
        assert!(version.secrets.is_empty());

        let sealed: Sealed = serde_json::from_str("\"c2VhbGVk\"").unwrap();
        let at = |store: Option<&str>| crate::secrets::SecretAt {
            store: store.map(|store| store.parse().unwrap()),
            name: "KEY".parse().unwrap(),
        };
        version.secrets = vec![
            PinnedSecret { at: at(None), value: sealed.clone() },
            PinnedSecret { at: at(Some("vault")), value: sealed },
        ];
        let text = serde_json::to_string(&Body::Version(version.clone())).unwrap();
        let end = r#","secrets":[{"name":"KEY","value":"c2VhbGVk"},{"store":"vault","name":"KEY","value":"c2VhbGVk"}]}"#;
        assert_eq!(text, format!("{}{end}", before.strip_suffix('}').unwrap()));
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), Body::Version(version));
    }

    #[test]
    fn keys_read_and_write_in_records_and_a_term_of_an_earlier_release_reads_and_writes_as_it_was() {
        let before = r#"{"kind":"epoch_start","base_rev":4}"#;
        let body: Body = serde_json::from_str(before).unwrap();
        assert_eq!(body, Body::EpochStart { base_rev: 4, compiler_keys: vec![] });
        assert_eq!(serde_json::to_string(&body).unwrap(), before);

        use crate::{
            key_change::{KeyChange, Verb},
            keys::SecretKey,
        };
        let key = |seed| SecretKey::<Compiler>::from_seed([seed; 32]);
        let told = Body::EpochStart { base_rev: 4, compiler_keys: vec![key(1).public()] };
        let text = serde_json::to_string(&told).unwrap();
        let end = format!(r#","compiler_keys":["{}"]}}"#, key(1).public().to_text().trim_end());
        assert_eq!(text, format!("{}{end}", before.strip_suffix('}').unwrap()));
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), told);

        let change = KeyChange::sign(&key(1), Verb::Endorses, key(2).public(), 7).unwrap();
        let body = Body::KeyChange { change: change.envelope().clone() };
        let text = serde_json::to_string(&body).unwrap();
        assert_eq!(text, format!(r#"{{"kind":"key_change","change":{}}}"#, change.to_text().trim_end()));
        assert_eq!(serde_json::from_str::<Body>(&text).unwrap(), body);
    }

    #[test]
    fn chain_depends_on_every_byte_and_on_what_came_before() {
        let raw = RawRecord::encode(&release()).unwrap();
        let chain = raw.chain(Digest::ZERO);
        assert_ne!(chain, raw.chain(chain));
        assert_ne!(chain, RawRecord::from_text(format!("{} ", raw.text())).unwrap().chain(Digest::ZERO));
    }

    #[test]
    fn a_kind_from_tomorrow_reads_as_unknown_and_says_whether_it_may_be_skipped() {
        let text = r#"{"rev":1,"epoch":1,"time_ms":0,"actor":"x","critical":true,"new_field":1,"body":{"kind":"teleport","where":"mars"}}"#;
        let record = RawRecord::from_text(text.into()).unwrap().decode().unwrap();
        assert_eq!(record.body, Body::Unknown);
        assert!(record.critical);
    }

    #[test]
    fn oversize_and_garbage_are_refused() {
        assert_eq!(
            RawRecord::from_text("x".repeat(RECORD_BYTES_MAX + 1)),
            Err(RecordError::TooLarge(RECORD_BYTES_MAX + 1))
        );
        assert!(RawRecord::from_text("{".into()).unwrap().decode().is_err());
    }
}
