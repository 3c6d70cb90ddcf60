//! Bulk instructions that may move more than [`PIECE_BYTES`] become calls of helpers, which do the same in pieces.
//!
//! A running guest is stopped, or moved to the slow lane, where the code generator checks the epoch: at the entry of a
//! function, the head of a loop, and before a bulk instruction of more than 128 bytes or elements. One `memory.fill` of 128 MiB
//! has no such place inside and holds its core for tens of milliseconds. In pieces, each has one.
//!
//! Left alone is what cannot be long: a length that is a constant up to a piece, a segment or a table that has no
//! more. Helpers stand behind a module's own functions and types, so that no index changes.

use std::collections::{BTreeMap, HashMap};

use wasm_encoder::Encode as _;
use wasmparser::{
    CodeSectionReader, DataSectionReader, ElementItems, ElementSectionReader, FunctionBody,
    ImportSectionReader, Operator, Result, TableSectionReader, TypeRef,
};

use super::{
    helpers::{self, Bulk},
    sections::{Section, core},
};

/// The most that one instruction moves, in bytes.
pub const PIECE_BYTES: u32 = 64 * 1024;
/// The same in elements of tables, which have 8 bytes.
pub const PIECE_ELEMENTS: u32 = PIECE_BYTES / 8;

/// What a module says of its parts, as far as it bounds bulk instructions.
#[derive(Default)]
struct Facts {
    /// Functions with and without a body.
    functions: u32,
    types: u32,
    /// The most elements of each table, where it says.
    tables: Vec<Option<u64>>,
    /// Elements of each segment.
    elements: Vec<u32>,
    /// Bytes of each segment.
    data: Vec<usize>,
}

/// A piece of a function's body that is put in the place of another.
struct Call {
    /// Of the instruction, in the section.
    range: std::ops::Range<usize>,
    helper: u32,
}

/// The sections of a core module that change, by their numbers. Empty: it has no bulk instruction that could be long.
pub fn changed(sections: &[Section<'_>]) -> Result<BTreeMap<u8, Vec<u8>>> {
    let facts = facts(sections)?;
    let mut used = Used { first: facts.functions, known: HashMap::new(), order: Vec::new() };
    let Some(code) = sections.iter().find(|section| section.id == core::CODE) else {
        return Ok(BTreeMap::new());
    };
    let bodies = CodeSectionReader::new(code.reader())?.into_iter().collect::<Result<Vec<_>>>()?;
    let calls = bodies.iter().map(|body| calls(body, &facts, &mut used)).collect::<Result<Vec<_>>>()?;
    if used.order.is_empty() {
        return Ok(BTreeMap::new());
    }
    let helpers: Vec<_> = used.order.iter().map(|bulk| helpers::made(*bulk)).collect();
    let mut changed = BTreeMap::from([(core::CODE, code_section(&bodies, &calls, &helpers))]);
    for section in sections {
        let more: Vec<u8> = match section.id {
            core::TYPE => helpers.iter().flat_map(|helper| helper.ty.clone()).collect(),
            core::FUNCTION => encoded((0..helpers.len() as u32).map(|at| facts.types + at)),
            _ => continue,
        };
        changed.insert(section.id, lengthened(section, helpers.len() as u32, &more)?);
    }
    Ok(changed)
}

/// The helpers a module needs, in the order they were first needed.
struct Used {
    /// The index of the first.
    first: u32,
    known: HashMap<Bulk, u32>,
    order: Vec<Bulk>,
}

impl Used {
    fn index(&mut self, bulk: Bulk) -> u32 {
        let next = self.first + self.order.len() as u32;
        let order = &mut self.order;
        *self.known.entry(bulk).or_insert_with(|| {
            order.push(bulk);
            next
        })
    }
}

fn facts(sections: &[Section<'_>]) -> Result<Facts> {
    let mut facts = Facts::default();
    for section in sections {
        match section.id {
            core::TYPE => facts.types += types(section)?,
            core::IMPORT => imports(section, &mut facts)?,
            core::FUNCTION => facts.functions += section.reader().read_var_u32()?,
            core::TABLE => {
                for table in TableSectionReader::new(section.reader())? {
                    facts.tables.push(table?.ty.maximum);
                }
            }
            core::ELEMENT => {
                for segment in ElementSectionReader::new(section.reader())? {
                    facts.elements.push(match segment?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    });
                }
            }
            core::DATA => {
                for segment in DataSectionReader::new(section.reader())? {
                    facts.data.push(segment?.data.len());
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

/// How many types there are: a group has several.
fn types(section: &Section<'_>) -> Result<u32> {
    let mut types = 0;
    for group in wasmparser::TypeSectionReader::new(section.reader())? {
        types += group?.types().len() as u32;
    }
    Ok(types)
}

fn imports(section: &Section<'_>, facts: &mut Facts) -> Result<()> {
    for import in ImportSectionReader::new(section.reader())?.into_imports() {
        match import?.ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => facts.functions += 1,
            TypeRef::Table(ty) => facts.tables.push(ty.maximum),
            TypeRef::Memory(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {}
        }
    }
    Ok(())
}

/// The instructions of a function that are replaced.
fn calls(body: &FunctionBody<'_>, facts: &Facts, used: &mut Used) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    let mut operators = body.get_operators_reader()?;
    let mut constant = None;
    while !operators.eof() {
        let start = operators.original_position();
        let operator = operators.read()?;
        if let Some(bulk) = long(&operator, constant, facts) {
            calls.push(Call { range: start..operators.original_position(), helper: used.index(bulk) });
        }
        constant = match operator {
            Operator::I32Const { value } => Some(value.cast_unsigned()),
            _ => None,
        };
    }
    Ok(calls)
}

/// Which bulk instruction it is, if it can be long. `length` is known where the instruction before is a constant: it is the
/// last operand.
fn long(operator: &Operator<'_>, length: Option<u32>, facts: &Facts) -> Option<Bulk> {
    let (bulk, piece, may_be_long) = match *operator {
        Operator::MemoryFill { mem } => (Bulk::MemoryFill { memory: mem }, PIECE_BYTES, true),
        Operator::MemoryCopy { dst_mem, src_mem } => {
            (Bulk::MemoryCopy { to: dst_mem, from: src_mem }, PIECE_BYTES, true)
        }
        Operator::MemoryInit { data_index, mem } => {
            let bytes = facts.data.get(data_index as usize)?;
            (
                Bulk::MemoryInit { segment: data_index, memory: mem },
                PIECE_BYTES,
                *bytes > PIECE_BYTES as usize,
            )
        }
        Operator::TableFill { table } => {
            (Bulk::TableFill { table }, PIECE_ELEMENTS, is_long_table(table, facts))
        }
        Operator::TableCopy { dst_table, src_table } => {
            let may_be_long = is_long_table(dst_table, facts) && is_long_table(src_table, facts);
            (Bulk::TableCopy { to: dst_table, from: src_table }, PIECE_ELEMENTS, may_be_long)
        }
        Operator::TableInit { elem_index, table } => {
            let elements = facts.elements.get(elem_index as usize)?;
            (Bulk::TableInit { segment: elem_index, table }, PIECE_ELEMENTS, *elements > PIECE_ELEMENTS)
        }
        _ => return None,
    };
    (may_be_long && length.is_none_or(|length| length > piece)).then_some(bulk)
}

fn is_long_table(table: u32, facts: &Facts) -> bool {
    let max = facts.tables.get(table as usize).copied().flatten();
    max.is_none_or(|max| max > PIECE_ELEMENTS.into())
}

fn code_section(bodies: &[FunctionBody<'_>], calls: &[Vec<Call>], helpers: &[helpers::Helper]) -> Vec<u8> {
    let mut out = Vec::new();
    ((bodies.len() + helpers.len()) as u32).encode(&mut out);
    for (body, calls) in bodies.iter().zip(calls) {
        with_calls(body, calls).as_slice().encode(&mut out);
    }
    for helper in helpers {
        helper.body.as_slice().encode(&mut out);
    }
    out
}

fn with_calls(body: &FunctionBody<'_>, calls: &[Call]) -> Vec<u8> {
    let (bytes, start) = (body.as_bytes(), body.range().start);
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = start;
    for call in calls {
        out.extend_from_slice(&bytes[at - start..call.range.start - start]);
        wasm_encoder::Instruction::Call(call.helper).encode(&mut out);
        at = call.range.end;
    }
    out.extend_from_slice(&bytes[at - start..]);
    out
}

/// A section whose vector of so many things has more.
fn lengthened(section: &Section<'_>, count: u32, more: &[u8]) -> Result<Vec<u8>> {
    let mut reader = section.reader();
    let before = reader.read_var_u32()?;
    let mut out = Vec::new();
    (before + count).encode(&mut out);
    out.extend_from_slice(&section.bytes[reader.current_position()..]);
    out.extend_from_slice(more);
    Ok(out)
}

fn encoded(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.for_each(|number| number.encode(&mut out));
    out
}
