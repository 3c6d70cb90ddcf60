//! Key-value stores, shared by all nodes (`kv_stores` of `skerry.toml`). Imports `wasi:keyvalue`.
//!
//! Calls wait for their answer and stop the whole program meanwhile: the interface knows no other way. Several at once are
//! [`Store::get_many`] and its neighbours. On Skerry keys have up to 1,024 bytes and values up to 8 MiB, and an execution may do
//! 1,000 operations.

use std::{error::Error as StdError, fmt};

use crate::sys;

/// Times that [`Store::update`] tries before it gives up.
pub const UPDATE_ATTEMPTS_MAX: u32 = 10;

/// An open store.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.kv_store("carts");
/// use skerry::kv::Store;
///
/// let carts = Store::open("carts")?;
/// carts.set("ana", b"3")?;
/// assert_eq!(carts.get("ana")?.as_deref(), Some(&b"3"[..]));
/// assert!(carts.exists("ana")?);
/// carts.delete("ana")?;
/// assert_eq!(carts.get("ana")?, None);
/// # Ok::<(), skerry::Error>(())
/// ```
pub struct Store(sys::kv::Store);

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvError {
    /// The app has no store of that name: it must be named in `kv_stores`.
    NoSuchStore,
    /// The app may not do this.
    Denied,
    /// Others changed the entry each of [`UPDATE_ATTEMPTS_MAX`] times.
    Contended,
    /// The store said this: it cannot be reached, or a key, a value or a page is over a limit.
    Other(String),
}

type Result<T> = std::result::Result<T, KvError>;

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Some of the keys.
    pub keys: Vec<String>,
    /// Where the next page begins; `None` after the last. It stays valid in later requests.
    pub next: Option<String>,
}

impl Store {
    /// Opens a store.
    ///
    /// # Errors
    ///
    /// [`KvError::NoSuchStore`] if the app has none of that name.
    ///
    /// ```
    /// # let world = skerry::testing::World::new();
    /// use skerry::kv::{KvError, Store};
    /// assert_eq!(Store::open("nowhere").err(), Some(KvError::NoSuchStore));
    /// ```
    pub fn open(name: &str) -> Result<Store> {
        sys::kv::Store::open(name).map(Store)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    /// Sets a value, whatever was there.
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.0.set(key, value)
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    pub fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key)
    }

    /// Is the key there?
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key)
    }

    /// A page of keys, from the start or from where the page before ended. How many a page has is the host's.
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    pub fn keys(&self, from: Option<&str>) -> Result<Keys> {
        self.0.keys(from)
    }

    /// All keys, sorted: for stores that are known to be small.
    ///
    /// # Errors
    ///
    /// See [`KvError`].
    ///
    /// ```
    /// # let world = skerry::testing::World::new();
    /// # world.kv_store("carts");
    /// let carts = skerry::kv::Store::open("carts")?;
    /// carts.set_many(&[("b", b"2"), ("a", b"1")])?;
    /// assert_eq!(carts.all_keys()?, ["a", "b"]);
    /// assert_eq!(carts.get_many(&["b", "x"])?, [Some(b"2".to_vec()), None]);
    /// carts.delete_many(&["a", "b"])?;
    /// assert!(carts.all_keys()?.is_empty());
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn all_keys(&self) -> Result<Vec<String>> {
        let (mut all, mut from) = (Vec::new(), None::<String>);
        loop {
            let Keys { keys, next } = self.keys(from.as_deref())?;
            all.extend(keys);
            if next.is_none() {
                all.sort_unstable();
                return Ok(all);
            }
            from = next;
        }
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    ///
    /// See [`KvError`]; the first that fails.
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
        self.0.get_many(keys)
    }

    /// Sets several values. Not all at the same moment: others may see some of them before the rest.
    ///
    /// # Errors
    ///
    /// See [`KvError`]; what was set before stays.
    pub fn set_many<V: AsRef<[u8]>>(&self, entries: &[(&str, V)]) -> Result<()> {
        self.0.set_many(
            entries.iter().map(|(key, value)| ((*key).to_owned(), value.as_ref().to_vec())).collect(),
        )
    }

    /// Deletes several keys.
    ///
    /// # Errors
    ///
    /// See [`KvError`]; what was deleted before is gone.
    pub fn delete_many(&self, keys: &[&str]) -> Result<()> {
        self.0.delete_many(keys)
    }

    /// Adds to a number that is stored as decimal text, and gives the sum. One that is not there is 0. No addition gets
    /// lost, whoever adds at the same time.
    ///
    /// # Errors
    ///
    /// [`KvError::Other`] if the entry is no number, the sum has more than 64 bits, or the store says so.
    ///
    /// ```
    /// # let world = skerry::testing::World::new();
    /// # world.kv_store("hits");
    /// let hits = skerry::kv::Store::open("hits")?;
    /// assert_eq!((hits.increment("/", 1)?, hits.increment("/", 2)?), (1, 3));
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn increment(&self, key: &str, by: i64) -> Result<i64> {
        self.0.increment(key, by)
    }

    /// Changes an entry by what it is, and nobody else's change gets lost: `change` makes the new value of the one that is
    /// there, and is called again if it was changed meanwhile.
    ///
    /// # Errors
    ///
    /// [`KvError::Contended`] after [`UPDATE_ATTEMPTS_MAX`] times; else see [`KvError`].
    ///
    /// ```
    /// # let world = skerry::testing::World::new();
    /// # world.kv_store("carts");
    /// let carts = skerry::kv::Store::open("carts")?;
    /// for item in ["tea", "milk"] {
    ///     carts.update("ana", |cart| [cart.unwrap_or_default(), item.as_bytes(), b";"].concat())?;
    /// }
    /// assert_eq!(carts.get("ana")?.unwrap(), b"tea;milk;");
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<()> {
        for _ in 0..UPDATE_ATTEMPTS_MAX {
            if self.0.swap(key, &mut change)? {
                return Ok(());
            }
        }
        Err(KvError::Contended)
    }
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvError::NoSuchStore => {
                f.write_str("the app has no such key-value store: name it in kv_stores of skerry.toml")
            }
            KvError::Denied => f.write_str("the app may not do this in the key-value store"),
            KvError::Contended => write!(f, "others changed the entry {UPDATE_ATTEMPTS_MAX} times meanwhile"),
            KvError::Other(text) => write!(f, "the key-value store: {text}"),
        }
    }
}

impl StdError for KvError {}
