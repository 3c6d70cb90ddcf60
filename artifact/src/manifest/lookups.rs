//! What an app says of single addresses and devices: JSON objects that are asked before anything the operator has.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::{AppConfig, Mistake, bounds};

/// Levels of tables in tables: a device has two.
const DEPTH_MAX: usize = 8;

/// The compact text of a JSON object.
pub fn object(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object).to_string()),
        Ok(_) => Err("is not a JSON object".into()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// A TOML value as JSON.
pub fn of_toml(value: &DeValue<'_>) -> Result<Value, String> {
    nested(value, DEPTH_MAX)
}

fn nested(value: &DeValue<'_>, depth: usize) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("has more than {DEPTH_MAX} levels"));
    };
    let number = || "has a number that JSON does not know".to_owned();
    match value {
        DeValue::String(text) => Ok(Value::String(text.to_string())),
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Integer(value) => {
            let parsed = i64::from_str_radix(value.as_str(), value.radix());
            parsed.map(|value| Value::Number(value.into())).map_err(|_| number())
        }
        DeValue::Float(value) => {
            let parsed = value.as_str().parse().ok().and_then(Number::from_f64);
            parsed.map(Value::Number).ok_or_else(number)
        }
        DeValue::Datetime(_) => Err("has a date, which JSON does not know".into()),
        DeValue::Array(items) => {
            items.iter().map(|item| nested(item.get_ref(), depth)).collect::<Result<_, _>>().map(Value::Array)
        }
        DeValue::Table(table) => {
            let field =
                |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
                    Ok((key.get_ref().to_string(), nested(value.get_ref(), depth)?))
                };
            table.iter().map(field).collect::<Result<Map<_, _>, String>>().map(Value::Object)
        }
    }
}

/// Checks `geo` and `devices`.
pub(super) fn mistakes(config: &AppConfig) -> Vec<Mistake> {
    let mut found = Vec::new();
    let mut note = |key: String, message: String| found.push(Mistake::new(key, message));
    for (name, count) in [("geo", config.geo.len()), ("devices", config.devices.len())] {
        if count > bounds::LOOKUPS_MAX {
            note(name.into(), format!("{count} entries, at most {}", bounds::LOOKUPS_MAX));
        }
    }
    let geo = config.geo.iter().map(|(address, json)| (format!("geo.{address}"), json));
    let devices = config.devices.iter().map(|(agent, json)| (format!("devices.{agent}"), json));
    for (key, json) in geo.chain(devices) {
        let max = bounds::LOOKUP_JSON_BYTES_MAX;
        if json.len() > max {
            note(key, format!("an object of {} bytes, at most {max}", json.len()));
        } else if let Err(why) = object(json) {
            note(key, why);
        }
    }
    for agent in config.devices.keys() {
        let max = bounds::USER_AGENT_BYTES_MAX;
        if agent.is_empty() || agent.len() > max {
            note("devices".into(), format!("a user agent of {} bytes, from 1 to {max}", agent.len()));
        }
    }
    // An address as text has at most 39 bytes; in a record they are text.
    let bytes = config.geo.values().map(|json| 39 + json.len()).sum::<usize>()
        + config.devices.iter().map(|(agent, json)| agent.len() + json.len()).sum::<usize>();
    if bytes > bounds::LOOKUPS_BYTES_MAX {
        let key = if config.geo.is_empty() { "devices" } else { "geo" };
        note(key.into(), format!("{bytes} bytes with devices, at most {}", bounds::LOOKUPS_BYTES_MAX));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_checked_for_configuration_that_came_as_json() {
        let keys = |config: &AppConfig| -> Vec<String> {
            config.mistakes().into_iter().map(|mistake| mistake.key).collect()
        };
        let geo =
            |count: u8, json: &str| (0..=count).map(|a| ([192, 0, 2, a].into(), json.to_owned())).collect();
        let config = AppConfig { geo: geo(9, "{}"), ..AppConfig::default() };
        assert!(keys(&config).is_empty());
        let config = AppConfig { geo: geo(0, "[]"), ..AppConfig::default() };
        assert_eq!(keys(&config), ["geo.192.0.2.0"]);
        let object_of = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        let long = object_of(bounds::LOOKUP_JSON_BYTES_MAX + 1);
        let config = AppConfig { geo: geo(0, &long), ..AppConfig::default() };
        assert_eq!(keys(&config), ["geo.192.0.2.0"]);
        let config = AppConfig { geo: geo(200, &object_of(1_000)), ..AppConfig::default() };
        assert_eq!(keys(&config), ["geo"]);
        let devices = (0..=bounds::LOOKUPS_MAX).map(|n| (n.to_string(), "{}".to_owned())).collect();
        let config = AppConfig { devices, ..AppConfig::default() };
        assert_eq!(keys(&config), ["devices"]);
        let agent = "x".repeat(bounds::USER_AGENT_BYTES_MAX + 1);
        for agent in [agent, String::new()] {
            let config = AppConfig { devices: [(agent, "{}".to_owned())].into(), ..AppConfig::default() };
            assert_eq!(keys(&config), ["devices"]);
        }
    }
}
