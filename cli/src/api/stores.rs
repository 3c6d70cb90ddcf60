//! Values of secrets and entries of key-value stores.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::Value;

use artifact::AppName;

use super::{Api, call::Call};
use crate::error::{Error, Result};

/// The code of the answer to a put that was to meet nothing, and met something.
const PRECONDITION: &str = "precondition_failed";
/// The header with what is stored beside a value.
const METADATA: &str = "skerry-metadata";

/// A secret in a list. Values are in no answer.
#[derive(Debug, Clone, Deserialize)]
pub struct SecretListed {
    /// Its store; absent is the app's own.
    pub store: Option<String>,
    /// Its name.
    pub name: String,
    /// When it was set; absent: it has no value.
    pub set_ms: Option<u64>,
}

impl Api {
    /// The secrets of an app: those that are set and those that its active version declares.
    pub fn secrets(&self, app: &AppName) -> Result<Vec<SecretListed>> {
        let path = format!("/v1/apps/{app}/secrets");
        self.answer(Call::new(format!("listing the secrets of {app}"), "GET", path))
    }

    /// Sets a secret. The same key never sets it twice.
    pub fn set_secret(
        &self,
        app: &AppName,
        store: Option<&str>,
        name: &str,
        value: &[u8],
        key: &str,
    ) -> Result<()> {
        let query = store.map(|store| format!("?store={}", encoded(store))).unwrap_or_default();
        let path = format!("/v1/apps/{app}/secrets/{}{query}", encoded(name));
        let call = Call::new(format!("setting the secret {name} of {app}"), "PUT", path);
        self.answer::<Value>(call.value(value).key(key)).map(drop)
    }

    /// Writes an entry. `false`: it was to be written only where there is none, and there is one.
    pub fn put_kv(
        &self,
        store: &str,
        key: &str,
        value: &[u8],
        metadata: Option<&str>,
        only_if_absent: bool,
        request_key: &str,
    ) -> Result<bool> {
        let mode = if only_if_absent { "?mode=add" } else { "" };
        let path = format!("/v1/kv/{}/{}{mode}", encoded(store), encoded(key));
        let mut call =
            Call::new(format!("putting {key:?} into the KV store {store}"), "PUT", path).value(value);
        if let Some(metadata) = metadata {
            call = call.header(METADATA, BASE64.encode(metadata));
        }
        match self.answer::<Value>(call.key(request_key)) {
            Ok(_) => Ok(true),
            Err(Error::Rejected { code, .. }) if code == PRECONDITION && only_if_absent => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A name as one segment of a path, or as a value of a query (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(encoded("a-b.C_1~"), "a-b.C_1~");
        assert_eq!(encoded("a/b?c=d&é %"), "a%2Fb%3Fc%3Dd%26%C3%A9%20%25");
    }
}
