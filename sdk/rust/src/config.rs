//! Settings of the app's version (`[config]` of `skerry.toml`). They arrive with the version and do not change under a
//! request. Imports `wasi:config/store`.

use std::{error::Error as StdError, fmt};

use crate::sys;

/// The host cannot read settings now. Skerry's node always can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub(crate) String);

/// The value of a key.
///
/// # Errors
///
/// [`ConfigError`] if the host cannot read settings.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.config("greeting", "hello");
/// use skerry::config;
///
/// assert_eq!(config::get("greeting")?.as_deref(), Some("hello"));
/// assert_eq!(config::get("absent")?, None);
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn get(key: &str) -> Result<Option<String>, ConfigError> {
    sys::config::get(key)
}

/// All keys and values, by key.
///
/// # Errors
///
/// [`ConfigError`] if the host cannot read settings.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.config("greeting", "hello");
/// assert_eq!(skerry::config::all()?, [("greeting".to_owned(), "hello".to_owned())]);
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn all() -> Result<Vec<(String, String)>, ConfigError> {
    let mut all = sys::config::all()?;
    all.sort();
    Ok(all)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host cannot read the app's settings: {}", self.0)
    }
}

impl StdError for ConfigError {}
