//! The query of a request or URL, as names and values.

use std::borrow::Cow;

use crate::percent::{Plus, decode};

/// Names and values of a query (`name=value&…`), decoded when they are looked at: `%20` and `+` are spaces, and bytes that
/// are no UTF-8 become U+FFFD.
///
/// ```
/// use skerry::Request;
///
/// let req = Request::get("http://app.example/?name=Zo%C3%AB+B&name=second&empty")?;
/// assert_eq!(req.query().get("name").as_deref(), Some("Zoë B"));
/// assert_eq!(req.query().all("name").collect::<Vec<_>>(), ["Zoë B", "second"]);
/// assert_eq!(req.query().get("empty").as_deref(), Some(""));
/// assert_eq!(req.query().get("absent"), None);
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Of a text without its `?`.
    pub fn new(text: &'a str) -> Query<'a> {
        Query(text)
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// All values of that name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.pairs().filter(move |(found, _)| found == name).map(|(_, value)| value)
    }

    /// All names and values, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, Plus::Space), decode(value, Plus::Space))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_too_and_nothing_is_no_pair() {
        let pairs: Vec<_> = Query::new("&a%20b=1&&c=d=e&=f&").pairs().collect();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(pairs, [("a b", "1"), ("c", "d=e"), ("", "f")]);
        assert_eq!(Query::new("").pairs().count(), 0);
    }
}
