//! The stream of an app's lines.

use std::{io::Read, time::Duration};

use artifact::AppName;

use super::call::{Api, Call};
use crate::error::Result;

/// The control plane ends a stream after five minutes.
const STREAM_S_MAX: u64 = 330;
/// It says something each ten seconds.
const SILENCE_S_MAX: u64 = 30;

impl Api {
    /// An app's lines, one JSON object each: those that nodes remember, of the last `past` only if that is given; and, with
    /// `follow`, those that come. A read fails after 30 s of silence.
    pub fn logs(
        &self,
        doing: String,
        app: &AppName,
        follow: bool,
        past: Option<Duration>,
    ) -> Result<impl Read + Send + 'static> {
        let past = past.map(|past| format!("&past_ms={}", past.as_millis())).unwrap_or_default();
        let path = format!("/v1/apps/{app}/logs?follow={follow}{past}");
        self.stream(Call::new(doing, "GET", path).streams(STREAM_S_MAX, SILENCE_S_MAX))
    }
}
