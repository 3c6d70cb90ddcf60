//! A place, with the names, types and values for "not known" that programs made for Fastly Compute expect.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is known of an address. [`Place::default`] is what an unknown field says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Who runs the network the address is in.
    pub as_name: String,
    /// Its number; 0 is unknown.
    pub as_number: u32,
    /// Telephone area, in North America; 0 is unknown.
    pub area_code: u16,
    /// City.
    pub city: String,
    /// `broadband`, `cable`, `dialup`, `mobile`, `satellite`, …
    pub conn_speed: String,
    /// `wired`, `wifi`, `mobile`, `dialup`, `satellite`.
    pub conn_type: String,
    /// Two letters.
    pub continent: String,
    /// ISO 3166-1, two letters.
    pub country_code: String,
    /// ISO 3166-1, three letters.
    pub country_code3: String,
    /// Country.
    pub country_name: String,
    /// Offset of local time, as a decimal of hours and minutes (-330 is 3 h 30 min west); 9999 is unknown. The older
    /// name of `utc_offset`.
    pub gmt_offset: i32,
    /// Degrees from the equator, −90 to 90; 999.9 is unknown.
    pub latitude: f64,
    /// Degrees from Greenwich, −180 to 180; 999.9 is unknown.
    pub longitude: f64,
    /// Market area in the United States; −1 is unknown.
    pub metro_code: i64,
    /// Postal code.
    pub postal_code: String,
    /// `vpn`, `tor-exit`, `cloud`, …; `?` when it is not known to be a proxy.
    pub proxy_description: String,
    /// `anonymous`, `hosting`, `public`, …; `?` when it is not known to be a proxy.
    pub proxy_type: String,
    /// ISO 3166-2, the part after the country; the most specific. Absent where there is none.
    pub region: Option<String>,
    /// See `gmt_offset`.
    pub utc_offset: i32,
}

impl Default for Place {
    fn default() -> Place {
        let unknown = || "?".to_owned();
        Place {
            as_name: unknown(),
            as_number: 0,
            area_code: 0,
            city: unknown(),
            conn_speed: unknown(),
            conn_type: unknown(),
            continent: unknown(),
            country_code: unknown(),
            country_code3: unknown(),
            country_name: unknown(),
            gmt_offset: 9999,
            latitude: 999.9,
            longitude: 999.9,
            metro_code: -1,
            postal_code: unknown(),
            proxy_description: unknown(),
            proxy_type: unknown(),
            region: None,
            utc_offset: 9999,
        }
    }
}

impl Place {
    /// From the text of a lookup. `None`: a field has a type of the app's own making.
    pub fn parse(json: &[u8]) -> Option<Place> {
        serde_json::from_slice(json).ok()
    }

    /// As text.
    pub fn json(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// An app's own object, with what it does not say: programs refuse one in which a field is missing.
pub(super) fn complete(own: &str) -> Option<Bytes> {
    let own: Map<String, Value> = serde_json::from_str(own).ok()?;
    let Ok(Value::Object(mut place)) = serde_json::to_value(Place::default()) else { return None };
    place.extend(own);
    Some(Value::Object(place).to_string().into())
}
