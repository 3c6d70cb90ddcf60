//! The deadline that a request hands on, and how a node knows that its own fleet set it.
//!
//! All requests that one client's request leads to share its deadline: `skerry-deadline-ms` says how many milliseconds
//! whoever gets the request has left, to every backend. A node of the fleet takes it over, but only with
//! `skerry-deadline-seal`: proof that a node that has the fleet's secrets key wrote this number for this host. Without it
//! anybody could turn an answer of an app into a 504, for others too where a cache stands between (the field is in no
//! cache's key). Guests see neither field, and cannot write them. A seal is for the host that is connected to: made for
//! a `Host` that the guest chose, it would let any tenant collect seals for the hosts of others.
//!
//! Deliberately absent: a time of issue. Clocks of nodes differ, and a seal that is shown again can only shorten a
//! request to the host that it was made for.

use artifact::{
    HostName,
    seal::{NONCE_BYTES, Sealed, SecretsKey},
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What is left, in milliseconds.
pub static MS: HeaderName = HeaderName::from_static("skerry-deadline-ms");
/// That the fleet says so.
pub static SEAL: HeaderName = HeaderName::from_static("skerry-deadline-seal");

/// A seal in base64: nonce and tag around nothing, 24 + 16 bytes.
const SEAL_TEXT_BYTES: usize = (NONCE_BYTES + 16).div_ceil(3) * 4;

/// Seals deadlines and knows those of its fleet. Without a key it does neither.
#[derive(Debug, Default)]
pub struct Seals(Option<SecretsKey>);

impl Seals {
    /// Of the fleet that has this key.
    pub fn of(fleet: Option<SecretsKey>) -> Seals {
        Seals(fleet)
    }

    /// Writes what is left into the head of a request. Sealed for `host`, where the request goes to that very host and
    /// nowhere else: whoever gets a seal can show it to its host again.
    pub fn write(&self, headers: &mut HeaderMap, ms: u64, host: Option<&HostName>) {
        headers.insert(MS.clone(), HeaderValue::from(ms));
        if let Some(seal) = host.and_then(|host| self.seal(ms, host)) {
            headers.insert(SEAL.clone(), seal);
        }
    }

    fn seal(&self, ms: u64, host: &HostName) -> Option<HeaderValue> {
        let key = self.0.as_ref()?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?; // the request goes out, with a deadline that nobody shares
        HeaderValue::from_str(key.seal(&purpose(ms, host), nonce, b"").text()).ok()
    }

    /// Takes the fields out of the head of a request for `host`. What is left, in milliseconds, if this fleet says so.
    pub fn take(&self, headers: &mut HeaderMap, host: &HostName) -> Option<u64> {
        let (ms, seal) = (headers.remove(&MS), headers.remove(&SEAL));
        let ms = ms?.to_str().ok()?.parse().ok()?;
        let seal = seal.filter(|seal| seal.len() == SEAL_TEXT_BYTES)?;
        let seal = Sealed::from_text(seal.to_str().ok()?);
        self.0.as_ref()?.open(&purpose(ms, host), &seal).ok().map(|_| ms)
    }
}

/// What is sealed is not hidden: the number stands beside it.
fn purpose(ms: u64, host: &HostName) -> String {
    format!("a deadline of {ms} ms for {host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(key: u8) -> Seals {
        Seals::of(Some(SecretsKey::from_bytes([key; 32])))
    }

    fn host() -> HostName {
        "shop.example".parse().unwrap()
    }

    fn written(seals: &Seals, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        seals.write(&mut headers, 500, Some(&host.parse().unwrap()));
        headers
    }

    #[test]
    fn a_deadline_of_the_fleet_is_known_on_every_node_of_it() {
        let mut headers = written(&seals(1), "shop.example");
        assert_eq!(headers[&SEAL].len(), SEAL_TEXT_BYTES);
        assert_eq!(seals(1).take(&mut headers, &host()), Some(500));
        assert!(headers.is_empty(), "guests do not see it");
        let mut headers = HeaderMap::new();
        seals(1).write(&mut headers, 500, None);
        assert!(headers.contains_key(&MS) && !headers.contains_key(&SEAL), "nobody to seal it for");
    }

    #[test]
    fn forged_replayed_elsewhere_or_of_another_fleet_it_is_nobodys() {
        let good = written(&seals(1), "shop.example");
        let with = |name: &HeaderName, value: &str| {
            let mut headers = good.clone();
            headers.insert(name, value.parse().unwrap());
            headers
        };
        let mut bare = good.clone();
        bare.remove(&SEAL);
        let long = "A".repeat(SEAL_TEXT_BYTES);
        for (what, seals, headers) in [
            ("a stranger's", seals(1), bare),
            ("another number", seals(1), with(&MS, "499")),
            ("no number", seals(1), with(&MS, "x")),
            ("another host's", seals(1), written(&seals(1), "other.example")),
            ("another fleet's", seals(2), good.clone()),
            ("a node without a fleet", Seals::default(), good.clone()),
            ("made up", seals(1), with(&SEAL, &long)),
            ("too long", seals(1), with(&SEAL, &(long.clone() + "AAAA"))),
            ("no text", seals(1), with(&SEAL, "\u{e9}")),
        ] {
            let mut headers = headers;
            assert_eq!(seals.take(&mut headers, &host()), None, "{what}");
            assert!(headers.is_empty(), "{what}: guests see none of it");
        }
    }
}
