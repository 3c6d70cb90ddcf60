//! Writes small databases for tests: the MaxMind DB format 2.0, records of 24 bits, addresses of 128.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A database of networks (address, bits of it) and what is said of them. A number without fraction becomes an
/// unsigned one of 32 bits, others a double.
pub fn database(networks: &[(&str, u8, Value)]) -> Vec<u8> {
    let mut tree = vec![[Branch::Nothing; 2]];
    let mut data = Vec::new();
    for (address, bits, value) in networks {
        let offset = data.len();
        write(&mut data, value);
        insert(&mut tree, address.parse().unwrap(), *bits, offset);
    }
    let mut file = Vec::new();
    for node in &tree {
        for branch in node {
            let record = match branch {
                Branch::Nothing => tree.len(),
                Branch::Node(node) => *node,
                Branch::Data(offset) => tree.len() + 16 + offset,
            };
            file.extend_from_slice(&(record as u32).to_be_bytes()[1..]);
        }
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    head(&mut file, MAP, 9);
    // Readers insist on the very types of these.
    for (name, kind, number) in [
        ("binary_format_major_version", NUMBER_16, 2),
        ("binary_format_minor_version", NUMBER_16, 0),
        ("build_epoch", NUMBER_64, 1),
        ("ip_version", NUMBER_16, 6),
        ("node_count", NUMBER, tree.len() as u64),
        ("record_size", NUMBER_16, 24),
    ] {
        write(&mut file, &json!(name));
        number_of(&mut file, kind, number);
    }
    for (name, value) in [
        ("database_type", json!("Test-City")),
        ("description", json!({"en": "test"})),
        ("languages", json!(["en"])),
    ] {
        write(&mut file, &json!(name));
        write(&mut file, &value);
    }
    file
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Data(usize),
}

/// IPv4 stands at `::/96`.
fn insert(tree: &mut Vec<[Branch; 2]>, address: IpAddr, bits: u8, offset: usize) {
    let (address, bits) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), bits + 96),
        IpAddr::V6(v6) => (u128::from(v6), bits),
    };
    let mut node = 0;
    for depth in 0..bits {
        let bit = ((address >> (127 - depth)) & 1) as usize;
        if depth + 1 == bits {
            tree[node][bit] = Branch::Data(offset);
            return;
        }
        node = match tree[node][bit] {
            Branch::Node(next) => next,
            _ => {
                tree.push([Branch::Nothing; 2]);
                tree[node][bit] = Branch::Node(tree.len() - 1);
                tree.len() - 1
            }
        };
    }
}

const TEXT: u8 = 2;
const DOUBLE: u8 = 3;
const NUMBER_16: u8 = 5;
const NUMBER: u8 = 6;
const MAP: u8 = 7;
const NUMBER_64: u8 = 9;
const ARRAY: u8 = 11;
const BOOLEAN: u8 = 14;

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => panic!("the format has no null"),
        Value::Bool(value) => head(out, BOOLEAN, usize::from(*value)),
        Value::Number(number) => match number.as_u64() {
            Some(number) => number_of(out, NUMBER, number),
            None => {
                head(out, DOUBLE, 8);
                out.extend_from_slice(&number.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::String(text) => {
            head(out, TEXT, text.len());
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            head(out, ARRAY, items.len());
            items.iter().for_each(|item| write(out, item));
        }
        Value::Object(fields) => {
            head(out, MAP, fields.len());
            for (name, value) in fields {
                write(out, &Value::String(name.clone()));
                write(out, value);
            }
        }
    }
}

/// Without leading zero bytes.
fn number_of(out: &mut Vec<u8>, kind: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let bytes = &bytes[number.leading_zeros() as usize / 8..];
    head(out, kind, bytes.len());
    out.extend_from_slice(bytes);
}

/// The type in the upper three bits (above 7: in a byte of its own), the size in the lower five (from 29: and a byte).
fn head(out: &mut Vec<u8>, kind: u8, size: usize) {
    let (low, more) =
        if size < 29 { (size as u8, None) } else { (29, Some(u8::try_from(size - 29).unwrap())) };
    if kind > 7 {
        out.extend_from_slice(&[low, kind - 7]);
    } else {
        out.push(kind << 5 | low);
    }
    out.extend(more);
}
