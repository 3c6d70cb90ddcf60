//! What a client's device is: what the app's manifest says of its exact `User-Agent`, and nothing else.
//!
//! The answer is a JSON object in the form that programs made for Fastly Compute read
//! (`fastly_device_detection::lookup`). Deliberately absent: a database of devices.

use bytes::Bytes;

use super::{door::Source, geo::Answer};
use crate::exchange::Exchange;

/// What is known of a device, as JSON text.
pub fn lookup(exchange: &Exchange, user_agent: &str) -> Option<Bytes> {
    let known = || exchange.deployment.config.devices.get(user_agent);
    exchange
        .door
        .learn(Source::Lookup, || Answer(known().map(|json| Bytes::copy_from_slice(json.as_bytes()))))
        .0
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;

    use super::*;
    use crate::{host::tape::Tape, testing};

    #[test]
    fn a_device_is_known_by_its_exact_user_agent() {
        let json = r#"{"device":{"is_mobile":true}}"#;
        let devices = [("Phone/1.0".to_owned(), json.to_owned())].into();
        let exchange = testing::exchange(AppConfig { devices, ..AppConfig::default() });
        assert_eq!(lookup(&exchange, "Phone/1.0").as_deref(), Some(json.as_bytes()));
        for other in ["phone/1.0", "Phone/1.0 ", "Phone", ""] {
            assert_eq!(lookup(&exchange, other), None, "{other:?}");
        }
    }

    #[test]
    fn a_replay_knows_what_was_recorded() {
        let devices = [("A".to_owned(), "{}".to_owned())].into();
        let tape = Tape::record();
        let mut exchange = testing::exchange(AppConfig { devices, ..AppConfig::default() });
        exchange.door = tape.door();
        let live = (lookup(&exchange, "A"), lookup(&exchange, "B"));
        let mut elsewhere = testing::exchange(AppConfig::default());
        elsewhere.door = Tape::play(tape.recording()).door();
        assert_eq!((lookup(&elsewhere, "A"), lookup(&elsewhere, "B")), live);
        assert!(live.0.is_some() && live.1.is_none());
    }
}
