//! Fields on their way in and out.

use http::{HeaderMap, HeaderName, HeaderValue};
use wasip2::http::types::Fields;

/// For a message of ours, with the length of its body if that is to be told.
pub(super) fn of(headers: &HeaderMap, content_length: Option<usize>) -> Fields {
    let mut entries = Vec::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        entries.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
    }
    if let Some(bytes) = content_length {
        entries.push(("content-length".to_owned(), bytes.to_string().into_bytes()));
    }
    Fields::from_list(&entries).unwrap_or_else(|_| allowed(&entries))
}

/// Hosts refuse fields that belong to a connection, and each its own: one by one, so that the rest is sent.
fn allowed(entries: &[(String, Vec<u8>)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in entries {
        let _ = fields.append(name, value);
    }
    fields
}

/// Of a message from outside. What the host let through is well-formed.
pub(super) fn read(fields: &Fields) -> HeaderMap {
    let entries = fields.entries();
    let mut headers = HeaderMap::with_capacity(entries.len());
    for (name, value) in entries {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::try_from(value))
        {
            headers.append(name, value);
        }
    }
    headers
}
