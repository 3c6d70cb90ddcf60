//! A module or component, section by section.

use wasm_encoder::Encode as _;
use wasmparser::{BinaryReader, Result};

use super::bulk;

/// `\0asm`, version, layer.
const HEADER_BYTES: usize = 8;
/// Byte 6 of the header: 0 for a core module, 1 for a component.
const LAYER_AT: usize = 6;

/// Section numbers of a core module (Core Specification 2.0 §5.5.2).
pub mod core {
    pub const CUSTOM: u8 = 0;
    pub const TYPE: u8 = 1;
    pub const IMPORT: u8 = 2;
    pub const FUNCTION: u8 = 3;
    pub const TABLE: u8 = 4;
    pub const MEMORY: u8 = 5;
    pub const ELEMENT: u8 = 9;
    pub const CODE: u8 = 10;
    pub const DATA: u8 = 11;
}

/// Section numbers of a component that hold programs (Component Model, Binary.md).
mod component {
    pub const CUSTOM: u8 = 0;
    pub const CORE_MODULE: u8 = 1;
    pub const COMPONENT: u8 = 4;
}

/// The custom sections that are kept: names, for readable traps.
const CUSTOM_KEPT: [&str; 2] = ["name", "component-name"];

/// One section.
#[derive(Debug, Clone, Copy)]
pub struct Section<'w> {
    /// Its number.
    pub id: u8,
    /// What is in it.
    pub bytes: &'w [u8],
    /// Where that begins, for messages.
    pub at: usize,
}

impl<'w> Section<'w> {
    /// Reads what is in it.
    pub fn reader(&self) -> BinaryReader<'w> {
        BinaryReader::new(self.bytes, self.at)
    }

    fn is_kept(&self) -> Result<bool> {
        let name = self.reader().read_string()?;
        Ok(CUSTOM_KEPT.contains(&name))
    }
}

/// The program with its core modules changed and without the custom sections that nothing needs.
pub fn rewrite(wasm: &[u8]) -> Result<Vec<u8>> {
    if wasm.get(LAYER_AT) == Some(&0) { module(wasm, 0) } else { self::component(wasm, 0) }
}

fn component(wasm: &[u8], at: usize) -> Result<Vec<u8>> {
    let (header, sections) = split(wasm, at)?;
    let mut out = header.to_vec();
    for section in sections {
        match section.id {
            component::CUSTOM if !section.is_kept()? => {}
            component::CORE_MODULE => put(section.id, &module(section.bytes, section.at)?, &mut out),
            component::COMPONENT => put(section.id, &self::component(section.bytes, section.at)?, &mut out),
            id => put(id, section.bytes, &mut out),
        }
    }
    Ok(out)
}

fn module(wasm: &[u8], at: usize) -> Result<Vec<u8>> {
    let (header, sections) = split(wasm, at)?;
    let split_bulk = bulk::changed(&sections)?;
    let mut out = header.to_vec();
    for section in sections {
        if section.id == core::CUSTOM && !section.is_kept()? {
            continue;
        }
        put(section.id, split_bulk.get(&section.id).map_or(section.bytes, Vec::as_slice), &mut out);
    }
    Ok(out)
}

/// The program with sections of its core modules replaced by what `edit` makes of them.
pub fn edited(
    wasm: &[u8],
    edit: &mut impl FnMut(&Section<'_>) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<u8>> {
    edited_at(wasm, 0, edit)
}

fn edited_at(
    wasm: &[u8],
    at: usize,
    edit: &mut impl FnMut(&Section<'_>) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<u8>> {
    let (header, sections) = split(wasm, at)?;
    let is_module = header.get(LAYER_AT) == Some(&0);
    let mut out = header.to_vec();
    for section in sections {
        let changed = match section.id {
            _ if is_module => edit(&section)?,
            component::CORE_MODULE | component::COMPONENT => {
                Some(edited_at(section.bytes, section.at, edit)?)
            }
            _ => None,
        };
        put(section.id, changed.as_deref().unwrap_or(section.bytes), &mut out);
    }
    Ok(out)
}

fn split(wasm: &[u8], at: usize) -> Result<(&[u8], Vec<Section<'_>>)> {
    let mut reader = BinaryReader::new(wasm, at);
    let header = reader.read_bytes(HEADER_BYTES)?;
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()?;
        let at = reader.original_position();
        sections.push(Section { id, bytes: reader.read_bytes(length as usize)?, at });
    }
    Ok((header, sections))
}

fn put(id: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    (bytes.len() as u32).encode(out); // at most 64 MiB and a little
    out.extend_from_slice(bytes);
}
