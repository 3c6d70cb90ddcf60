//! `[geo]` and `[devices]`: JSON objects, as text or as tables.

use core::net::IpAddr;

use toml::{
    Spanned,
    de::{DeString, DeValue},
};

use super::{Reader, Value};
use crate::manifest::{AppConfig, lookups};

impl Reader<'_> {
    pub(super) fn geo(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let Some(address) = self.address(&path, key) else { continue };
            self.stands(format!("geo.{address}"), value.span());
            if let Some(json) = self.json_object(&path, value) {
                config.geo.insert(address, json);
            }
        }
    }

    pub(super) fn devices(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            if let Some(json) = self.json_object(&path, value) {
                config.devices.insert(key.get_ref().to_string(), json);
            }
        }
    }

    /// A key that is an IP address.
    pub fn address(&mut self, path: &str, key: &Spanned<DeString<'_>>) -> Option<IpAddr> {
        let parsed = key.get_ref().parse();
        parsed.map_err(|_| self.note(path, key.span(), "is not an IP address".into())).ok()
    }

    /// A JSON object, given as text or as a table: its compact text.
    pub fn json_object(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let json = match value.get_ref() {
            DeValue::String(text) => lookups::object(text),
            DeValue::Table(_) => lookups::of_toml(value.get_ref()).map(|json| json.to_string()),
            _ => {
                self.wrong_type(path, value, "a table, or a string with a JSON object");
                return None;
            }
        };
        json.map_err(|why| self.note(path, value.span(), why)).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::Mistake;

    #[test]
    fn places_and_devices_are_json_objects_as_text_or_as_tables() {
        let head = "name = \"a\"\ncomponent = \"a.wasm\"\n";
        let project = crate::manifest::Project::parse(&format!(
            "{head}[geo]\n\"192.0.2.1\" = '{{ \"city\": \"Bonn\" }}'\n\"2001:db8::1\" = {{ latitude = 50.7, as_number = 7 }}\n\
             [devices.\"Agent/1.0\"]\ndevice = {{ is_mobile = true }}\n"
        ))
        .unwrap();
        let geo: Vec<_> = project.config.geo.into_iter().map(|(ip, json)| (ip.to_string(), json)).collect();
        assert_eq!(geo[0], ("192.0.2.1".to_owned(), r#"{"city":"Bonn"}"#.to_owned()));
        assert_eq!(geo[1], ("2001:db8::1".to_owned(), r#"{"as_number":7,"latitude":50.7}"#.to_owned()));
        assert_eq!(project.config.devices["Agent/1.0"], r#"{"device":{"is_mobile":true}}"#);

        let mistakes = crate::manifest::Project::parse(&format!(
            "{head}[geo]\nhere = '{{}}'\n\"192.0.2.1\" = '[1]'\n[devices]\na = 3\nb = {{ since = 1979-05-27 }}\n"
        ))
        .unwrap_err();
        let shown: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(
            shown,
            [
                "line 4: geo.here: is not an IP address",
                "line 5: geo.192.0.2.1: is not a JSON object",
                "line 7: devices.a: must be a table, or a string with a JSON object, not integer",
                "line 8: devices.b: has a date, which JSON does not know",
            ]
        );
    }
}
