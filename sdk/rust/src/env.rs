//! Environment variables: who and where this program is.
//!
//! Skerry sets six; other hosts set what their user says.

use crate::sys;

/// The value of a variable.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.env("SKERRY_APP", "shop");
/// assert_eq!(skerry::env::var("SKERRY_APP").as_deref(), Some("shop"));
/// assert_eq!(skerry::env::var("ABSENT"), None);
/// ```
pub fn var(name: &str) -> Option<String> {
    sys::env(name)
}

/// The tenant's name (`SKERRY_TENANT`).
pub fn tenant() -> Option<String> {
    var("SKERRY_TENANT")
}

/// The app's name (`SKERRY_APP`).
pub fn app() -> Option<String> {
    var("SKERRY_APP")
}

/// The version's number, as text (`SKERRY_VERSION`).
pub fn version() -> Option<String> {
    var("SKERRY_VERSION")
}

/// The request's id, as in the node's access log (`SKERRY_REQUEST_ID`).
pub fn request_id() -> Option<String> {
    var("SKERRY_REQUEST_ID")
}

/// The node's name (`SKERRY_NODE`).
pub fn node() -> Option<String> {
    var("SKERRY_NODE")
}

/// The name of the node's POP, its point of presence (`SKERRY_POP`).
pub fn pop() -> Option<String> {
    var("SKERRY_POP")
}
