use std::{fs, sync::Arc};

use artifact::manifest::AppConfig;
use serde_json::{Value, json};

use super::{encode::database, *};
use crate::{exchange::Exchange, host::tape::Tape, testing};

fn bonn() -> Value {
    json!({
        "city": {"names": {"en": "Bonn", "de": "Bonn"}, "geoname_id": 2946447},
        "continent": {"code": "EU", "names": {"en": "Europe"}},
        "country": {"iso_code": "DE", "names": {"en": "Germany"}},
        "location": {"latitude": 50.7323, "longitude": 7.1847, "time_zone": "Europe/Berlin"},
        "postal": {"code": "53111"},
        "subdivisions": [{"iso_code": "NW", "names": {"en": "North Rhine-Westphalia"}}],
        "traits": {
            "autonomous_system_number": 3320, "autonomous_system_organization": "Deutsche Telekom AG",
            "connection_type": "Cable/DSL", "is_anonymous_vpn": true,
        },
    })
}

/// A node with this database in front of an app that says `own` of addresses.
fn exchange(file: &[u8], own: &[(&str, &str)]) -> (Exchange, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    fs::write(&path, file).unwrap();
    let geo = own.iter().map(|(ip, json)| (ip.parse().unwrap(), (*json).to_owned())).collect();
    let mut exchange = testing::exchange(AppConfig { geo, ..AppConfig::default() });
    let mut host = Arc::into_inner(testing::host()).unwrap();
    host.geo = Some(Database::open(&path).unwrap());
    exchange.host = Arc::new(host);
    (exchange, dir)
}

fn place(exchange: &Exchange, address: &str) -> Option<Place> {
    lookup(exchange, address.parse().unwrap()).map(|json| Place::parse(&json).unwrap())
}

#[test]
fn a_record_of_the_database_has_every_field_that_programs_read() {
    let (exchange, _dir) = exchange(&database(&[("217.0.0.0", 13, bonn())]), &[]);
    let text = lookup(&exchange, "217.1.2.3".parse().unwrap()).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        json,
        json!({
            "as_name": "Deutsche Telekom AG", "as_number": 3320, "area_code": 0, "city": "Bonn",
            "conn_speed": "broadband", "conn_type": "wired", "continent": "EU", "country_code": "DE",
            "country_code3": "DEU", "country_name": "Germany", "gmt_offset": 9999, "latitude": 50.7323,
            "longitude": 7.1847, "metro_code": -1, "postal_code": "53111", "proxy_description": "vpn",
            "proxy_type": "anonymous", "region": "NW", "utc_offset": 9999,
        })
    );
    assert_eq!(
        place(&exchange, "::ffff:217.1.2.3").unwrap().city,
        "Bonn",
        "an IPv4 address in another dress"
    );
}

#[test]
fn what_a_database_does_not_say_has_the_documented_values() {
    let asn = json!({"autonomous_system_number": 1, "autonomous_system_organization": "One"});
    let file = database(&[("9.0.0.0", 8, asn), ("2a00::", 16, json!({"country": {"iso_code": "XX"}}))]);
    let (exchange, _dir) = exchange(&file, &[]);
    let one = Place { as_name: "One".into(), as_number: 1, ..Place::default() };
    assert_eq!(place(&exchange, "9.9.9.9"), Some(one));
    let nowhere = Place { country_code: "XX".into(), ..Place::default() };
    assert_eq!(place(&exchange, "2a00::1"), Some(nowhere));
    assert_eq!(place(&exchange, "8.8.8.8"), None, "not in the database");
}

#[test]
fn reserved_addresses_have_no_place_whatever_the_database_says() {
    let everywhere = database(&[
        ("0.0.0.0", 1, bonn()),
        ("128.0.0.0", 1, bonn()),
        ("2000::", 3, bonn()),
        ("fc00::", 6, bonn()),
    ]);
    let (exchange, _dir) = exchange(&everywhere, &[]);
    for reserved in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "198.18.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(place(&exchange, reserved), None, "{reserved}");
    }
    for public in ["1.1.1.1", "100.63.255.255", "172.32.0.1", "2a00::1"] {
        assert!(place(&exchange, public).is_some(), "{public}");
    }
}

#[test]
fn what_the_app_says_comes_first_and_is_completed() {
    let file = database(&[("217.0.0.0", 13, bonn())]);
    let own = [("217.1.2.3", r#"{"city":"Elsewhere","mine":1}"#), ("127.0.0.1", r#"{"city":"Here"}"#)];
    let (exchange, _dir) = exchange(&file, &own);
    let json = lookup(&exchange, "217.1.2.3".parse().unwrap()).unwrap();
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["city"], &json["mine"], &json["utc_offset"]),
        (&json!("Elsewhere"), &json!(1), &json!(9999))
    );
    assert_eq!(place(&exchange, "127.0.0.1").unwrap().city, "Here");
    assert_eq!(place(&exchange, "217.1.2.4").unwrap().city, "Bonn");
}

#[test]
fn without_a_database_only_the_app_knows_places() {
    let exchange = testing::exchange(AppConfig::default());
    assert_eq!(place(&exchange, "217.1.2.3"), None);
}

#[test]
fn a_replay_knows_what_was_recorded_without_a_database() {
    let (mut exchange, _dir) = exchange(&database(&[("217.0.0.0", 13, bonn())]), &[]);
    let tape = Tape::record();
    exchange.door = tape.door();
    let live = (place(&exchange, "217.1.2.3"), place(&exchange, "8.8.8.8"));
    let mut elsewhere = testing::exchange(AppConfig::default());
    elsewhere.door = Tape::play(tape.recording()).door();
    assert_eq!((place(&elsewhere, "217.1.2.3"), place(&elsewhere, "8.8.8.8")), live);
    assert!(live.0.is_some() && live.1.is_none());
}

#[test]
fn a_file_in_its_place_is_taken_up_and_a_bad_one_leaves_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("city.mmdb");
    let put = |bytes: &[u8]| {
        fs::write(dir.path().join("new"), bytes).unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
    };
    let city = |database: &Database| database.place([217, 1, 2, 3].into()).map(|place| place.city);
    put(&database(&[("217.0.0.0", 13, bonn())]));
    let geo = Database::open(&path).unwrap();
    assert!(!geo.refresh().unwrap());
    put(b"not a database");
    assert!(matches!(geo.refresh(), Err(BadDatabase::NotOne { .. })));
    assert_eq!(city(&geo).as_deref(), Some("Bonn"));
    put(&database(&[("217.0.0.0", 13, json!({"city": {"names": {"en": "Köln"}}}))]));
    assert!(geo.refresh().unwrap());
    assert_eq!(city(&geo).as_deref(), Some("Köln"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(geo.refresh(), Err(BadDatabase::Read { .. })));
    assert_eq!(city(&geo).as_deref(), Some("Köln"));
}

#[test]
fn another_layout_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmdb");
    fs::write(&path, database(&[("9.0.0.0", 8, json!({"country": "Germany"}))])).unwrap();
    let error = Database::open(&path).err().unwrap();
    assert!(error.to_string().contains("layout of GeoIP2"), "{error}");
    assert!(matches!(Database::open(dir.path()), Err(BadDatabase::Read { .. })));
}
