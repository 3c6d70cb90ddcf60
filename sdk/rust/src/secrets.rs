//! Secrets of the app's version: those its manifest names (`secrets`, `[secret_stores]`). Imports `skerry:edge/secrets`.

use std::{error::Error as StdError, fmt};

use crate::sys;

/// The app has no secret store of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchStore(String);

/// The app has no secret of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSecret(String);

/// A secret's bytes. Printing it for debugging shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A secret of the default store. `None`: the manifest names none like it.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.secret("API_KEY", b"hunter2");
/// use skerry::secrets;
///
/// assert_eq!(secrets::get("API_KEY").unwrap().text(), Some("hunter2"));
/// assert_eq!(secrets::get("OTHER"), None);
/// ```
pub fn get(name: &str) -> Option<Secret> {
    // Every app has the default store.
    sys::edge::secret(None, name).ok().flatten().map(Secret)
}

/// A secret of the default store that the program cannot do without.
///
/// # Errors
///
/// [`NoSecret`] if the manifest names none like it.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.secret("API_KEY", b"hunter2");
/// use skerry::secrets;
///
/// assert_eq!(secrets::require("API_KEY")?.text(), Some("hunter2"));
/// assert!(secrets::require("OTHER").unwrap_err().to_string().contains("skerry.toml"));
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn require(name: &str) -> Result<Secret, NoSecret> {
    get(name).ok_or_else(|| NoSecret(name.to_owned()))
}

/// A secret of a store that the manifest names under `[secret_stores]`.
///
/// # Errors
///
/// [`NoSuchStore`] if it names none like it.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.secret_in("vault", "PIN", b"1234");
/// use skerry::secrets;
///
/// assert_eq!(secrets::get_from("vault", "PIN")?.map(|pin| pin.bytes().len()), Some(4));
/// assert!(secrets::get_from("other", "PIN").is_err());
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn get_from(store: &str, name: &str) -> Result<Option<Secret>, NoSuchStore> {
    match sys::edge::secret(Some(store), name) {
        Ok(found) => Ok(found.map(Secret)),
        Err(sys::edge::NoStore) => Err(NoSuchStore(store.to_owned())),
    }
}

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for NoSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the app has no secret {:?}; its skerry.toml names them under `secrets`", self.0)
    }
}

impl StdError for NoSecret {}

impl fmt::Display for NoSuchStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the app has no secret store {:?}; its manifest names them under [secret_stores]", self.0)
    }
}

impl StdError for NoSuchStore {}
