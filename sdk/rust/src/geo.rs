//! Where an address is, by the app's manifest (`[geo]`) or the operator's database. Imports `skerry:edge/geo`.

use std::net::IpAddr;

use crate::sys;

/// What is known of an address, as a JSON object (`{"city":"Bonn","country_code":"DE",…}`; what is not known has the value
/// that the node's documents give for it). `None`: nothing is.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.place("192.0.2.7".parse().unwrap(), r#"{"city":"Bonn"}"#);
/// use skerry::geo;
///
/// let place = geo::lookup("192.0.2.7".parse()?).unwrap_or_default();
/// let place: serde_json::Value = serde_json::from_str(&place)?;
/// assert_eq!(place["city"], "Bonn");
/// # Ok::<(), skerry::Error>(())
/// ```
pub fn lookup(address: IpAddr) -> Option<String> {
    sys::edge::place(&address.to_string())
}
