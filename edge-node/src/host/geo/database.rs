//! The operator's database: an `.mmdb` file in the layout of GeoIP2 (City, Country, Enterprise, ISP or ASN; DB-IP has
//! the same). It is read into memory, never mapped: a file that shrinks under a map would end the process.
//!
//! A file that is put in its place is taken up by [`Database::refresh`]; one that cannot be used leaves the last.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::{Deserialize, Deserializer, de::Visitor};

use super::{Place, countries};

/// Bytes of a database. City files have about 150 MiB, Enterprise ones about 500.
const DATABASE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadDatabase {
    /// It cannot be read.
    #[error("reading the geography database {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Over [`DATABASE_BYTES_MAX`].
    #[error("the geography database {} has {bytes} bytes, at most {DATABASE_BYTES_MAX}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no such database, or another layout.
    #[error("the geography database {} is not an .mmdb file in the layout of GeoIP2", path.display())]
    NotOne {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: MaxMindDbError,
    },
}

/// A database in use.
pub struct Database {
    path: PathBuf,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    reader: Reader<Vec<u8>>,
    file: Stamp,
}

/// Tells a file from the one that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Database {
    /// Reads a database.
    pub fn open(path: &Path) -> Result<Database, BadDatabase> {
        let loaded = ArcSwap::from_pointee(Loaded::read(path)?);
        Ok(Database { path: path.to_owned(), loaded })
    }

    /// Takes up a file that was put in the place of the last one. `true`: there was one. Blocks on the disk.
    pub fn refresh(&self) -> Result<bool, BadDatabase> {
        if Stamp::of(&self.path)? == self.loaded.load().file {
            return Ok(false);
        }
        self.loaded.store(Arc::new(Loaded::read(&self.path)?));
        Ok(true)
    }

    /// What it knows of an address; nothing if the record is damaged.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        place(&self.loaded.load().reader, address)
    }
}

impl Loaded {
    fn read(path: &Path) -> Result<Loaded, BadDatabase> {
        let file = Stamp::of(path)?;
        if file.bytes > DATABASE_BYTES_MAX {
            return Err(BadDatabase::TooLarge { path: path.to_owned(), bytes: file.bytes });
        }
        let bytes = fs::read(path).map_err(|cause| BadDatabase::Read { path: path.to_owned(), cause })?;
        let reader = reader(bytes).map_err(|cause| BadDatabase::NotOne { path: path.to_owned(), cause })?;
        Ok(Loaded { reader, file })
    }
}

/// A database in another layout is found out at the start, by its first record, not by requests.
fn reader(bytes: Vec<u8>) -> Result<Reader<Vec<u8>>, MaxMindDbError> {
    let reader = Reader::from_source(bytes)?;
    if let Some(found) = reader.networks(WithinOptions::default())?.next() {
        found?.decode::<Entry<'_>>()?;
    }
    Ok(reader)
}

fn place(reader: &Reader<Vec<u8>>, address: IpAddr) -> Option<Place> {
    reader.lookup(address).ok()?.decode::<Entry<'_>>().ok().flatten().map(Entry::place)
}

impl Stamp {
    fn of(path: &Path) -> Result<Stamp, BadDatabase> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata =
            fs::metadata(path).map_err(|cause| BadDatabase::Read { path: path.to_owned(), cause })?;
        Ok(Stamp { bytes: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() })
    }
}

/// A record. Which fields there are depends on the product.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry<'a> {
    #[serde(borrow)]
    city: Named<'a>,
    #[serde(borrow)]
    continent: Named<'a>,
    #[serde(borrow)]
    country: Named<'a>,
    location: Location,
    #[serde(borrow)]
    postal: Named<'a>,
    #[serde(borrow)]
    subdivisions: Vec<Named<'a>>,
    #[serde(borrow)]
    traits: Traits<'a>,
    autonomous_system_number: Option<i64>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named<'a> {
    #[serde(borrow)]
    code: Option<&'a str>,
    #[serde(borrow)]
    iso_code: Option<&'a str>,
    #[serde(borrow)]
    names: Names<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'a> {
    #[serde(borrow)]
    en: Option<&'a str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    latitude: Option<Degrees>,
    longitude: Option<Degrees>,
    metro_code: Option<i64>,
}

/// Vendors write single or double precision, and the decoder takes a wanted type at its word.
struct Degrees(f64);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Degrees, D::Error> {
        struct AnyPrecision;
        impl Visitor<'_> for AnyPrecision {
            type Value = Degrees;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("degrees")
            }

            fn visit_f64<E>(self, degrees: f64) -> Result<Degrees, E> {
                Ok(Degrees(degrees))
            }

            fn visit_f32<E>(self, degrees: f32) -> Result<Degrees, E> {
                Ok(Degrees(degrees.into()))
            }
        }
        deserializer.deserialize_any(AnyPrecision)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Traits<'a> {
    autonomous_system_number: Option<i64>,
    #[serde(borrow)]
    autonomous_system_organization: Option<&'a str>,
    #[serde(borrow)]
    connection_type: Option<&'a str>,
    is_anonymous: bool,
    is_anonymous_proxy: bool,
    is_anonymous_vpn: bool,
    is_hosting_provider: bool,
    is_public_proxy: bool,
    is_tor_exit_node: bool,
}

impl Entry<'_> {
    fn place(self) -> Place {
        let Entry { city, continent, country, location, postal, subdivisions, traits, .. } = self;
        let or_unknown = |text: Option<&str>| text.unwrap_or("?").to_owned();
        let (conn_type, conn_speed) = connection(traits.connection_type);
        let (proxy_type, proxy_description) = proxy(&traits);
        let number = traits.autonomous_system_number.or(self.autonomous_system_number);
        let organization = traits.autonomous_system_organization.or(self.autonomous_system_organization);
        let unknown = Place::default();
        Place {
            as_name: or_unknown(organization),
            as_number: number.and_then(|number| u32::try_from(number).ok()).unwrap_or(unknown.as_number),
            city: or_unknown(city.names.en),
            conn_speed: conn_speed.to_owned(),
            conn_type: conn_type.to_owned(),
            continent: or_unknown(continent.code),
            country_code: or_unknown(country.iso_code),
            country_code3: or_unknown(country.iso_code.and_then(countries::three_letters)),
            country_name: or_unknown(country.names.en),
            latitude: location.latitude.map_or(unknown.latitude, |Degrees(degrees)| degrees),
            longitude: location.longitude.map_or(unknown.longitude, |Degrees(degrees)| degrees),
            metro_code: location.metro_code.unwrap_or(unknown.metro_code),
            postal_code: or_unknown(postal.code),
            proxy_description: proxy_description.to_owned(),
            proxy_type: proxy_type.to_owned(),
            // From largest to smallest.
            region: subdivisions.last().and_then(|last| last.iso_code).map(str::to_owned),
            ..unknown
        }
    }
}

/// Type and speed, of the database's one word for both.
fn connection(word: Option<&str>) -> (&'static str, &'static str) {
    match word {
        Some("Dialup") => ("dialup", "dialup"),
        Some("Cable/DSL") => ("wired", "broadband"),
        Some("Corporate") => ("wired", "?"),
        Some("Cellular") => ("mobile", "mobile"),
        Some("Satellite") => ("satellite", "satellite"),
        _ => ("?", "?"),
    }
}

/// Type and description; the most telling first.
fn proxy(traits: &Traits<'_>) -> (&'static str, &'static str) {
    match traits {
        Traits { is_tor_exit_node: true, .. } => ("anonymous", "tor-exit"),
        Traits { is_anonymous_vpn: true, .. } => ("anonymous", "vpn"),
        Traits { is_public_proxy: true, .. } => ("public", "?"),
        Traits { is_hosting_provider: true, .. } => ("hosting", "cloud"),
        Traits { is_anonymous: true, .. } | Traits { is_anonymous_proxy: true, .. } => ("anonymous", "?"),
        _ => ("?", "?"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::geo::encode;

    #[test]
    fn degrees_of_any_precision() {
        use serde::de::value::{Error, F32Deserializer, F64Deserializer};
        let single = Degrees::deserialize(F32Deserializer::<Error>::new(1.5)).unwrap();
        let double = Degrees::deserialize(F64Deserializer::<Error>::new(1.5)).unwrap();
        assert_eq!((single.0, double.0), (1.5, 1.5));
    }

    /// Operators fetch these files over the network: a damaged one may answer wrongly, but takes no thread down.
    #[test]
    fn no_damage_to_a_file_panics() {
        let record = json!({"city": {"names": {"en": "x"}}, "location": {"latitude": 1.5, "metro_code": 7}});
        let whole = encode::database(&[("217.0.0.0", 3, record.clone()), ("9.0.0.0", 4, record)]);
        let visit = |bytes: Vec<u8>| {
            let Ok(reader) = reader(bytes) else { return };
            for address in
                [IpAddr::from([217, 1, 2, 3]), [9, 9, 9, 9].into(), [0x2a00, 0, 0, 0, 0, 0, 0, 1].into()]
            {
                let _ = place(&reader, address);
            }
        };
        for at in 0..whole.len() {
            visit(whole[..at].to_vec());
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                visit(damaged);
            }
        }
    }
}
