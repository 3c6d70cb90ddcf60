//! Setting fields by whatever makes a name and a value.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Error, Result};

/// What becomes of a field that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    /// The new value is the only one.
    Replaced,
    /// The new value stands beside the old ones.
    Kept,
}

pub(crate) fn put<N, V>(headers: &mut HeaderMap, name: N, value: V, old: Old) -> Result<()>
where
    N: TryInto<HeaderName>,
    V: TryInto<HeaderValue>,
    Error: From<N::Error> + From<V::Error>,
{
    let (name, value) = (name.try_into()?, value.try_into()?);
    match old {
        Old::Replaced => drop(headers.insert(name, value)),
        Old::Kept => drop(headers.append(name, value)),
    }
    Ok(())
}

/// The first value of that name, if it is visible ASCII.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
