//! How a node gets and renews its identity: the join token, and the bodies of `POST /v1/enrol` and `POST /v1/renew`.
//! Making certificates and random numbers is the callers' work.

use std::{fmt, str::FromStr};

use artifact::{
    Digest, NodeName,
    keyring::KeyringPast,
    keys::{Compiler, PublicKey, Release},
    names::PopName,
};
use serde::{Deserialize, Serialize};

/// Enrolment: no client certificate, a join token in the body.
pub const ENROL_PATH: &str = "/v1/enrol";
/// Renewal: with the client certificate that is to be replaced.
pub const RENEW_PATH: &str = "/v1/renew";
/// The stream of frames, both ways.
pub const STREAM_PATH: &str = "/v1/stream";
/// Blobs: `GET /v1/blobs/<sha-256>`, ranges honoured.
pub const BLOBS_PATH: &str = "/v1/blobs/";
/// Largest body of an enrolment or renewal and of their answers, in bytes.
pub const ENROL_BYTES_MAX: usize = 64 * 1024;
/// A node's identity in its certificate: URI name `skerry:node/<node name>`.
pub const NODE_URI_PREFIX: &str = "skerry:node/";

const PREFIX: &str = "skj_";

/// A single-use right to join. Text: `skj_<64 hex of secret>_<64 hex of the fleet CA certificate's sha-256>`, so that
/// a node can tell its origin from an impostor before it has anything else.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: Digest,
    ca: Digest,
}

/// The text is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: it looks like skj_<64 hex>_<64 hex>; make one with `skerry node token create`")]
pub struct JoinTokenError;

impl JoinToken {
    /// A token from 32 random bytes and the sha-256 of the fleet CA's certificate (DER).
    pub fn new(random: [u8; 32], ca: Digest) -> JoinToken {
        // The secret is itself a digest of the random bytes: same strength, and one text form in the house.
        JoinToken { secret: Digest::of(&random), ca }
    }

    /// The sha-256 of the fleet CA's certificate (DER).
    pub fn ca(&self) -> Digest {
        self.ca
    }

    /// What the origin stores instead of the token.
    pub fn hash(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// The text to hand over. Secret.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}_{}", self.secret, self.ca)
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<JoinToken, JoinTokenError> {
        let (secret, ca) =
            text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(JoinTokenError)?;
        let digest = |text: &str| text.parse::<Digest>().map_err(|_| JoinTokenError);
        Ok(JoinToken { secret: digest(secret)?, ca: digest(ca)? })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(.., ca {})", self.ca.short())
    }
}

/// Body of an enrolment.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The join token's text.
    pub token: String,
    /// PKCS#10 request, PEM. Only its public key is used.
    pub csr_pem: String,
}

/// Answer to an enrolment.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// The node's name from now on.
    pub node: NodeName,
    /// Its POP.
    pub pop: PopName,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// The fleet CA, PEM.
    pub ca_pem: String,
    /// Keys that may sign the log.
    pub release_keys: Vec<PublicKey<Release>>,
    /// Keys that may sign artifacts.
    pub compiler_keys: Vec<PublicKey<Compiler>>,
    /// What came before those keys were these. Empty from an origin of before there was such a thing.
    #[serde(default)]
    pub compiler_keys_past: KeyringPast,
    /// The fleet's secrets key, base64. Secret.
    pub secrets_key: String,
}

/// Body of a renewal.
#[derive(Clone, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS#10 request, PEM. Only its public key is used.
    pub csr_pem: String,
}

/// Answer to a renewal.
#[derive(Clone, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// The node's new certificate, PEM.
    pub certificate_pem: String,
}

/// Any refusal's body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Refusal {
    /// One sentence with the cure.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As an origin of an earlier release answers, and as a node of one reads: it passes over what it does not know.
    #[test]
    fn an_answer_without_the_past_of_its_keys_is_read() {
        let answer = r#"{"node":"fra1-0000","pop":"fra1","certificate_pem":"","ca_pem":"","release_keys":[],
            "compiler_keys":[],"secrets_key":"","of_a_later_release":{}}"#;
        let answer: EnrolAnswer = serde_json::from_str(answer).unwrap();
        assert_eq!(answer.compiler_keys_past, KeyringPast::default());
    }

    #[test]
    fn a_token_is_read_back_and_never_printed_by_debug() {
        let token = JoinToken::new([7; 32], Digest::of(b"ca"));
        let again: JoinToken = format!("{}\n", token.to_text()).parse().unwrap();
        assert_eq!((&again, again.hash()), (&token, token.hash()));
        assert_eq!(again.ca(), Digest::of(b"ca"));
        assert!(!format!("{token:?}").contains(&token.to_text()[4..20]));
        for bad in ["", "skj_", "skt_aa_bb", &token.to_text()[1..], &format!("{}0", token.to_text())] {
            assert_eq!(bad.parse::<JoinToken>(), Err(JoinTokenError), "{bad}");
        }
    }
}
