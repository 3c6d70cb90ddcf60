//! What device a client has, by the app's manifest (`[devices]`). Imports `skerry:edge/device`.

use crate::sys;

/// What is known of a device by its exact `User-Agent`, as a JSON object. `None`: nothing is.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.device("Phone/1.0", r#"{"device":{"is_mobile":true}}"#);
/// assert!(skerry::device::lookup("Phone/1.0").unwrap_or_default().contains("is_mobile"));
/// assert_eq!(skerry::device::lookup("Other/1.0"), None);
/// ```
pub fn lookup(user_agent: &str) -> Option<String> {
    sys::edge::device(user_agent)
}
