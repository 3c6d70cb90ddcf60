//! Finds a second `:authority` in an h3 head.
//!
//! The h3 crate keeps the last of several and says nothing, but the authority is the tenant key, and a request
//! with two is malformed (RFC 9114 §4.3.1). So the encoded head is walked once before it is decoded; only names
//! are looked at. Relies on the crate refusing the dynamic table, whose entries this walk could not name.
//! Deliberately absent: Huffman decoding. A name has one Huffman code, so codes are compared.

/// `:authority` is entry 0 of QPACK's static table (RFC 9204 Appendix A).
const AUTHORITY_INDEX: u64 = 0;
const AUTHORITY: &[u8] = b":authority";
/// `:authority` in the code of RFC 7541 Appendix B: 57 bits, then 7 bits of padding that are not compared.
const AUTHORITY_HUFFMAN: [u8; 8] = [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// How many `:authority` fields an encoded field section has; `None` when it is not well-formed or refers to the
/// dynamic table, which the decoder will refuse for itself.
pub(super) fn authorities(section: &[u8]) -> Option<usize> {
    let mut rest = section;
    // Encoded Field Section Prefix (RFC 9204 §4.5.1): required insert count, base.
    integer(&mut rest, 8)?;
    integer(&mut rest, 7)?;
    let mut found = 0;
    while let Some(&first) = rest.first() {
        found += usize::from(field_is_authority(first, &mut rest)?);
    }
    Some(found)
}

/// Reads one field line representation (RFC 9204 §4.5.2 to §4.5.6).
fn field_is_authority(first: u8, rest: &mut &[u8]) -> Option<bool> {
    if first & 0b1000_0000 != 0 {
        // Indexed: 1 T index(6+).
        let is_static = first & 0b0100_0000 != 0;
        let index = integer(rest, 6)?;
        is_static.then_some(index == AUTHORITY_INDEX)
    } else if first & 0b0100_0000 != 0 {
        // Literal with name reference: 01 N T index(4+), value.
        let is_static = first & 0b0001_0000 != 0;
        let index = integer(rest, 4)?;
        string(rest, 7)?;
        is_static.then_some(index == AUTHORITY_INDEX)
    } else if first & 0b0010_0000 != 0 {
        // Literal with literal name: 001 N H length(3+) name, value.
        let huffman = first & 0b0000_1000 != 0;
        let name = string(rest, 3)?;
        string(rest, 7)?;
        Some(if huffman { same_code(name, &AUTHORITY_HUFFMAN) } else { name == AUTHORITY })
    } else {
        // Post-base references need the dynamic table.
        None
    }
}

/// Equal but for the 7 bits of padding.
fn same_code(name: &[u8], code: &[u8; 8]) -> bool {
    name.len() == code.len() && name[..7] == code[..7] && (name[7] ^ code[7]) & 0b1000_0000 == 0
}

/// A string literal whose length has a prefix of `bits` bits; the Huffman bit before it is the caller's.
fn string<'a>(rest: &mut &'a [u8], bits: u32) -> Option<&'a [u8]> {
    let length = usize::try_from(integer(rest, bits)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

/// A prefixed integer (RFC 7541 §5.1) of at most 62 bits.
fn integer(rest: &mut &[u8], bits: u32) -> Option<u64> {
    let (&first, mut after) = rest.split_first()?;
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(first) & mask;
    if value == mask {
        for shift in (0..56).step_by(7) {
            let (&byte, tail) = after.split_first()?;
            after = tail;
            value = value.checked_add(u64::from(byte & 0x7f) << shift)?;
            if byte & 0x80 == 0 {
                *rest = after;
                return Some(value);
            }
        }
        return None;
    }
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `:method GET`, `:scheme https`, `:path /` of the static table.
    const START: [u8; 5] = [0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1];

    fn section(fields: &[&[u8]]) -> Vec<u8> {
        let mut bytes = START.to_vec();
        fields.iter().for_each(|field| bytes.extend_from_slice(field));
        bytes
    }

    #[test]
    fn every_way_to_write_an_authority_is_counted() {
        let by_reference: &[u8] = b"\x50\x03a.b";
        let by_literal: &[u8] = b"\x27\x03:authority\x03a.b";
        let mut by_huffman = vec![0x2f, 0x01];
        by_huffman.extend_from_slice(&AUTHORITY_HUFFMAN);
        by_huffman.extend_from_slice(b"\x03a.b");
        let other: &[u8] = b"\x23x-y\x01z";

        assert_eq!(authorities(&section(&[])), Some(0));
        for way in [by_reference, by_literal, &by_huffman] {
            assert_eq!(authorities(&section(&[way, other])), Some(1));
            assert_eq!(authorities(&section(&[way, other, by_reference])), Some(2));
        }
        assert_eq!(authorities(&section(&[b"\xc0"])), Some(1), "indexed with the empty value");
        assert_eq!(authorities(&section(&[b"\x80"])), None, "dynamic table");
        assert_eq!(authorities(&section(&[b"\x50\x09a"])), None, "cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = authorities(&bytes);
        }
    }
}
