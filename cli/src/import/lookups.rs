//! Geography of single addresses and devices by their user agent: `[local_server.geolocation]` and
//! `[local_server.device_detection]`.

use std::{collections::BTreeMap, net::IpAddr};

use artifact::manifest::{AppConfig, parse::Value};
use serde_json::json;
use toml::{Spanned, de::DeString};

use super::{Note, manifest::Walk};

/// A table's key.
type Key<'k> = Spanned<DeString<'k>>;

impl Walk<'_> {
    /// Answers whether loopback addresses have a sample place.
    pub fn geolocation(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) -> bool {
        let mut loopback = true;
        let mut format = None;
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "use_default_loopback" => loopback = self.boolean(&path, value).unwrap_or(loopback),
                "format" => format = self.format(&path, value),
                "addresses" => self.addresses(&path, value, config),
                "file" => {
                    self.place("geo".into(), &path, key);
                    for (address, place) in self.json_file(&path, value).into_iter().flatten() {
                        match address.parse::<IpAddr>() {
                            Ok(address) if place.is_object() => {
                                config.geo.insert(address, place.to_string());
                            }
                            Ok(_) => self.mistake(&path, value, format!("{address:?} is not an object")),
                            Err(_) => self.mistake(&path, value, format!("{address:?} is not an IP address")),
                        }
                    }
                }
                _ => self.unknown(&path, key),
            }
        }
        self.has_source(path, value, format, "addresses");
        if !config.geo.is_empty() {
            let text = format!("geolocation: {} addresses", config.geo.len());
            self.notes.push(Note::Taken(text));
        }
        loopback
    }

    fn addresses(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let Some(address) = self.reader.address(&path, key) else { continue };
            self.place(format!("geo.{address}"), &path, key);
            if let Some(json) = self.reader.json_object(&path, value) {
                config.geo.insert(address, json);
            }
        }
    }

    /// A place for this machine, as Fastly's local server has one: programs expect to be told where a client is.
    pub fn sample_place(&mut self, config: &mut AppConfig) {
        let place = json!({
            "as_name": "loopback", "as_number": 64512, "area_code": 415, "city": "San Francisco",
            "conn_speed": "broadband", "conn_type": "wired", "continent": "NA", "country_code": "US",
            "country_code3": "USA", "country_name": "United States of America", "gmt_offset": -700,
            "utc_offset": -700, "latitude": 37.77869, "longitude": -122.39557, "metro_code": 0,
            "postal_code": "94107", "proxy_description": "?", "proxy_type": "?", "region": "CA",
        });
        for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
            config.geo.entry(address).or_insert_with(|| place.to_string());
        }
        let text = "geolocation: 127.0.0.1 and ::1 are in a sample place (use_default_loopback)";
        self.notes.push(Note::Taken(text.into()));
    }

    /// `[local_server.device_detection]`
    pub fn device_detection(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        let mut format = None;
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "format" => format = self.format(&path, value),
                "user_agents" => {
                    for (agent, value) in self.reader.table(&path, value).into_iter().flatten() {
                        let path = format!("{path}.{:?}", agent.get_ref());
                        self.place(format!("devices.{}", agent.get_ref()), &path, agent);
                        if let Some(json) = self.reader.json_object(&path, value) {
                            config.devices.insert(agent.get_ref().to_string(), json);
                        }
                    }
                }
                "file" => self.device_file(&path, key, value, &mut config.devices),
                _ => self.unknown(&path, key),
            }
        }
        self.has_source(path, value, format, "user_agents");
        if !config.devices.is_empty() {
            let text = format!("device detection: {} user agents", config.devices.len());
            self.notes.push(Note::Taken(text));
        }
    }

    fn device_file(
        &mut self,
        path: &str,
        key: &Key<'_>,
        value: &Value<'_>,
        devices: &mut BTreeMap<String, String>,
    ) {
        self.place("devices".into(), path, key);
        for (agent, device) in self.json_file(path, value).into_iter().flatten() {
            match device.is_object() {
                true => drop(devices.insert(agent, device.to_string())),
                false => self.mistake(path, value, format!("{agent:?} is not an object")),
            }
        }
    }

    /// `json` or `inline-toml`.
    pub fn format(&mut self, path: &str, value: &Value<'_>) -> Option<Format> {
        match self.reader.string(path, value)? {
            "json" => Some(Format::Json),
            "inline-toml" => Some(Format::Inline),
            other => {
                self.mistake(path, value, format!("{other:?} is not a format: json or inline-toml"));
                None
            }
        }
    }

    /// A table with a format has what that format needs.
    pub fn has_source(&mut self, path: &str, value: &Value<'_>, format: Option<Format>, inline: &str) {
        let needed = match format {
            Some(Format::Json) => "file",
            Some(Format::Inline) => inline,
            None => return,
        };
        let table = value.get_ref().as_table();
        if !table.is_some_and(|table| table.keys().any(|key| key.get_ref() == needed)) {
            self.mistake(path, value, format!("needs {needed}, as its format says"));
        }
    }
}

/// Where a table's contents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// In a file.
    Json,
    /// In the manifest.
    Inline,
}
