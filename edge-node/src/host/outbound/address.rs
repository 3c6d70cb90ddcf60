//! Which addresses guests may reach.
//!
//! Everything that is not plain public unicast is refused, unless the operator allows its range. An IPv6 address that
//! carries an IPv4 one (mapped, NAT64, 6to4, Teredo ...) must pass in each of its readings: whoever allows a NAT64
//! prefix does not thereby allow `127.0.0.1` behind it. The tables are IANA's special-purpose registries
//! (RFC 6890 and updates) and the clouds' metadata addresses outside of them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::Deserialize;

/// A range of addresses as an operator writes it: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

/// The text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses such as \"10.0.0.0/8\", or has bits set after its length")]
pub struct RangeError(String);

/// What guests of this node may reach.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    allowed: Vec<Range>,
}

impl Policy {
    /// Public addresses and these ranges.
    pub fn allowing(allowed: Vec<Range>) -> Policy {
        Policy { allowed }
    }

    /// May a guest's request be connected to this address?
    pub fn permits(&self, address: IpAddr) -> bool {
        let allowed = |reading: &IpAddr| self.allowed.iter().any(|range| range.holds(*reading));
        readings(address).iter().flatten().all(|reading| !is_special(*reading) || allowed(reading))
    }
}

impl Range {
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Range {
        Range { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Range {
        Range { first: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), bits }
    }

    fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = u32::from(first) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = u128::from(first) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Range, RangeError> {
        let wrong = || RangeError(text.chars().take(80).collect());
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(wrong)?,
            None => width,
        };
        // `10.0.0.1/8` is more likely a slip than a wish for all of 10/8.
        let past = match first {
            IpAddr::V4(v4) => u32::from(v4).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
            IpAddr::V6(v6) => u128::from(v6).checked_shl(u32::from(bits)).unwrap_or(0) == 0,
        };
        if past { Ok(Range { first, bits }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Range {
    type Error = RangeError;

    fn try_from(text: String) -> Result<Range, RangeError> {
        text.parse()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

const SPECIAL_V4: [Range; 20] = [
    Range::v4(0, 0, 0, 0, 8),          // this network, unspecified
    Range::v4(10, 0, 0, 0, 8),         // private
    Range::v4(100, 64, 0, 0, 10),      // carrier-grade NAT, 100.100.100.200 (metadata) in it
    Range::v4(127, 0, 0, 0, 8),        // loopback
    Range::v4(168, 63, 129, 16, 32),   // a cloud's host agent, in a public range
    Range::v4(169, 254, 0, 0, 16),     // link-local, 169.254.169.254 (metadata) in it
    Range::v4(172, 16, 0, 0, 12),      // private
    Range::v4(192, 0, 0, 0, 24),       // protocol assignments, 192.0.0.192 (metadata) in it
    Range::v4(192, 0, 2, 0, 24),       // documentation
    Range::v4(192, 31, 196, 0, 24),    // AS112
    Range::v4(192, 52, 193, 0, 24),    // AMT
    Range::v4(192, 88, 99, 0, 24),     // 6to4 relays
    Range::v4(192, 168, 0, 0, 16),     // private
    Range::v4(192, 175, 48, 0, 24),    // AS112
    Range::v4(198, 18, 0, 0, 15),      // benchmarks
    Range::v4(198, 51, 100, 0, 24),    // documentation
    Range::v4(203, 0, 113, 0, 24),     // documentation
    Range::v4(224, 0, 0, 0, 4),        // multicast
    Range::v4(240, 0, 0, 0, 4),        // reserved
    Range::v4(255, 255, 255, 255, 32), // broadcast
];

/// Public unicast of IPv6 is here and nowhere else: unspecified, loopback, mapped and compatible, NAT64, unique local,
/// link-local, site-local and multicast addresses are all outside.
const GLOBAL_V6: Range = Range::v6(0x2000, 0, 0, 3);

/// What is special within it.
const SPECIAL_V6: [Range; 6] = [
    Range::v6(0x2001, 0, 0, 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    Range::v6(0x2001, 0xdb8, 0, 32), // documentation
    Range::v6(0x2002, 0, 0, 16),     // 6to4
    Range::v6(0x2620, 0x4f, 0x8000, 48), // AS112
    Range::v6(0x3ffe, 0, 0, 16),     // 6bone, given back
    Range::v6(0x3fff, 0, 0, 20),     // documentation
];

fn is_special(address: IpAddr) -> bool {
    let held = |ranges: &[Range]| ranges.iter().any(|range| range.holds(address));
    match address {
        IpAddr::V4(_) => held(&SPECIAL_V4),
        IpAddr::V6(_) => !GLOBAL_V6.holds(address) || held(&SPECIAL_V6),
    }
}

/// The address itself, and every IPv4 address that something on the way may take out of it.
fn readings(address: IpAddr) -> [Option<IpAddr>; 3] {
    let IpAddr::V6(v6) = address else { return [Some(address), None, None] };
    let [first, second] = embedded(v6).map(|v4| v4.map(IpAddr::V4));
    [Some(address), first, second]
}

fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = u128::from(address);
    let at = |shift: u32| Some(Ipv4Addr::from_bits((bits >> shift) as u32));
    match address.segments() {
        // Unspecified and loopback are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None, None],
        // Compatible (RFC 4291 §2.5.5.1), mapped (§2.5.5.2), translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [at(0), None],
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [at(0), None],
        // NAT64 of a network's own (RFC 8215): split around bits 64 to 71 if the prefix is used whole (RFC 6052 §2.2).
        [0x64, 0xff9b, 1, ..] if bits & 0xff_ffff_ffff == 0 => {
            let (high, low) = ((bits >> 64) as u16, (bits >> 40) as u16);
            [Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))), None]
        }
        [0x64, 0xff9b, 1, ..] => [at(0), None],
        // 6to4 (RFC 3056).
        [0x2002, ..] => [at(80), None],
        // Teredo (RFC 4380 §4): the server, and the client with its bits turned.
        [0x2001, 0, ..] => [at(64), Some(Ipv4Addr::from_bits(!(bits as u32)))],
        // ISATAP (RFC 5214 §6.1), under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [at(0), None],
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(ranges: &[&str]) -> Policy {
        Policy::allowing(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    #[test]
    fn public_addresses_are_permitted_and_special_ones_are_not() {
        let strict = Policy::default();
        for good in
            ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "169.253.1.1", "2606:4700::1111", "2a00::1"]
        {
            assert!(strict.permits(good.parse().unwrap()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.168.1.1",
            "192.175.48.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "64:ff9b:1:7f00:0:100::",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2620:4f:8000::1",
            "3ffe::1",
            "3fff::1",
            "5f00::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:127.0.0.1",
        ] {
            assert!(!strict.permits(bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn an_allowed_range_opens_itself_and_no_other_reading() {
        let loopback = policy(&["127.0.0.0/8", "::1"]);
        for (address, permitted) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", false),
            ("10.0.0.1", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(loopback.permits(address.parse().unwrap()), permitted, "{address}");
        }
        let nat64 = policy(&["64:ff9b::/96", "64:ff9b:1::/48"]);
        for (address, permitted) in [
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b::169.254.169.254", false),
            ("64:ff9b:1::8.8.8.8", true),
            ("64:ff9b:1::10.0.0.1", false),
            ("64:ff9b:1:808:8:800::", true),
            ("64:ff9b:1:7f00:0:100::", false),
        ] {
            assert_eq!(nat64.permits(address.parse().unwrap()), permitted, "{address}");
        }
        let teredo = policy(&["2001::/32"]);
        assert!(teredo.permits("2001:0:808:808::f7f7:f7f7".parse().unwrap()));
        assert!(!teredo.permits("2001:0:808:808::80ff:fffe".parse().unwrap()), "127.0.0.1 turned");
        assert!(!teredo.permits("2001:0:7f00:1::f7f7:f7f7".parse().unwrap()));
        let all = policy(&["0.0.0.0/0", "::/0"]);
        assert!(all.permits("::ffff:127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn ranges_are_read_strictly() {
        for good in ["127.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "10.0.0.1", "::1/128"] {
            assert!(good.parse::<Range>().is_ok(), "{good}");
        }
        for bad in
            ["", "10/8", "10.0.0.1/8", "10.0.0.0/33", "::/129", "fd00::1/8", "10.0.0.0/", "10.0.0.0/-1", "a"]
        {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        assert_eq!("10.0.0.0/8".parse::<Range>().unwrap().to_string(), "10.0.0.0/8");
    }
}
