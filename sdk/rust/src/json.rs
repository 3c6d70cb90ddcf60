//! JSON in bodies: [`Response::json`](crate::Response::json), [`Request::json`](crate::Request::json). With the feature
//! `json`, which is on by default and costs a program nothing that calls none of them.

use std::{error::Error as StdError, fmt};

use serde::{Serialize, de::DeserializeOwned};

use crate::Result;

pub(crate) const CONTENT_TYPE: &str = "application/json";

/// A body is no JSON, or not of the shape that was asked for. Answered with 400 when it was the client's.
#[derive(Debug)]
pub struct NotThat(serde_json::Error);

pub(crate) fn text_of(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

pub(crate) fn value_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Ok(serde_json::from_slice(bytes).map_err(NotThat)?)
}

impl fmt::Display for NotThat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading JSON")
    }
}

impl StdError for NotThat {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}
