//! Functions that do in pieces what one bulk instruction does.
//!
//! A bulk instruction looks at its whole range before it writes a byte (Core Specification 2.0 §4.4.7): it traps, or does
//! all of it. So a helper asks first, by the same instruction with a length of 0 at the ends of the ranges, which traps by
//! the same rule and writes nothing. Ends beyond 4 GiB are out of every memory and table: there the instruction itself traps.
//!
//! ```text
//! helper(to, from, length):
//!     if length > PIECE:
//!         if to + length or from + length wraps: the instruction; return    // traps
//!         the instruction (to + length, from + length, 0)                   // traps if either is outside
//!         while length > PIECE: the instruction of one PIECE                // from the end, if that is what overlap asks for
//!     the instruction (to, from, length)
//! ```

use wasm_encoder::{BlockType, Encode as _, Function, InstructionSink, ValType};

use super::bulk::{PIECE_BYTES, PIECE_ELEMENTS};

/// An instruction with the things it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bulk {
    MemoryFill { memory: u32 },
    MemoryCopy { to: u32, from: u32 },
    MemoryInit { segment: u32, memory: u32 },
    TableFill { table: u32 },
    TableCopy { to: u32, from: u32 },
    TableInit { segment: u32, table: u32 },
}

/// A function, encoded.
pub struct Helper {
    /// Its entry of the type section.
    pub ty: Vec<u8>,
    /// Its body, without the size before it.
    pub body: Vec<u8>,
}

/// How an entry of the type section begins that is a function (Core Specification 2.0 §5.3.6).
const FUNCTION_TYPE: u8 = 0x60;
/// Parameters: where to, what or where from, how many.
const TO: u32 = 0;
const FROM: u32 = 1;
const LENGTH: u32 = 2;

/// The helper for an instruction.
pub fn made(bulk: Bulk) -> Helper {
    let mut ty = vec![FUNCTION_TYPE];
    [ValType::I32, bulk.second(), ValType::I32].as_slice().encode(&mut ty);
    ty.push(0); // results
    Helper { ty, body: body(bulk) }
}

impl Bulk {
    /// The type of the second operand: a place, or what to fill with.
    fn second(self) -> ValType {
        match self {
            // The only type of tables there is: others need garbage collection, which the engine switches off.
            Bulk::TableFill { .. } => ValType::FUNCREF,
            _ => ValType::I32,
        }
    }

    /// Is the second operand a place that moves with the first?
    fn has_source(self) -> bool {
        !matches!(self, Bulk::MemoryFill { .. } | Bulk::TableFill { .. })
    }

    /// May the ranges overlap, so that a copy to higher places has to begin at the end? Two indices may be one memory: an
    /// instance can be given the same under two names.
    fn may_overlap(self) -> bool {
        matches!(self, Bulk::MemoryCopy { .. } | Bulk::TableCopy { .. })
    }

    fn piece(self) -> i32 {
        match self {
            Bulk::MemoryFill { .. } | Bulk::MemoryCopy { .. } | Bulk::MemoryInit { .. } => PIECE_BYTES as i32,
            Bulk::TableFill { .. } | Bulk::TableCopy { .. } | Bulk::TableInit { .. } => PIECE_ELEMENTS as i32,
        }
    }

    fn put(self, code: &mut InstructionSink<'_>) {
        match self {
            Bulk::MemoryFill { memory } => code.memory_fill(memory),
            Bulk::MemoryCopy { to, from } => code.memory_copy(to, from),
            Bulk::MemoryInit { segment, memory } => code.memory_init(memory, segment),
            Bulk::TableFill { table } => code.table_fill(table),
            Bulk::TableCopy { to, from } => code.table_copy(to, from),
            Bulk::TableInit { segment, table } => code.table_init(table, segment),
        };
    }
}

fn body(bulk: Bulk) -> Vec<u8> {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    code.local_get(LENGTH).i32_const(bulk.piece()).i32_gt_u().if_(BlockType::Empty);
    ask(bulk, &mut code);
    if bulk.may_overlap() {
        code.local_get(TO).local_get(FROM).i32_gt_u().if_(BlockType::Empty);
        from_the_end(bulk, &mut code);
        code.else_();
        from_the_start(bulk, &mut code);
        code.end();
    } else {
        from_the_start(bulk, &mut code);
    }
    code.end();
    whole(bulk, &mut code);
    code.end();
    function.into_raw_body()
}

fn whole(bulk: Bulk, code: &mut InstructionSink<'_>) {
    code.local_get(TO).local_get(FROM).local_get(LENGTH);
    bulk.put(code);
}

/// Traps as the whole instruction would, and writes nothing.
fn ask(bulk: Bulk, code: &mut InstructionSink<'_>) {
    wraps(TO, code);
    if bulk.has_source() {
        wraps(FROM, code);
        code.i32_or();
    }
    code.if_(BlockType::Empty);
    whole(bulk, code);
    code.return_().end();

    end_of(TO, code);
    if bulk.has_source() {
        end_of(FROM, code);
    } else {
        code.local_get(FROM);
    }
    code.i32_const(0);
    bulk.put(code);
}

fn end_of(place: u32, code: &mut InstructionSink<'_>) {
    code.local_get(place).local_get(LENGTH).i32_add();
}

fn wraps(place: u32, code: &mut InstructionSink<'_>) {
    end_of(place, code);
    code.local_get(place).i32_lt_u();
}

/// Pieces from low to high; what is left of the ranges stands in the parameters.
fn from_the_start(bulk: Bulk, code: &mut InstructionSink<'_>) {
    let piece = bulk.piece();
    code.loop_(BlockType::Empty);
    code.local_get(TO).local_get(FROM).i32_const(piece);
    bulk.put(code);
    code.local_get(TO).i32_const(piece).i32_add().local_set(TO);
    if bulk.has_source() {
        code.local_get(FROM).i32_const(piece).i32_add().local_set(FROM);
    }
    code.local_get(LENGTH).i32_const(piece).i32_sub().local_tee(LENGTH);
    code.i32_const(piece).i32_gt_u().br_if(0).end();
}

/// Pieces from high to low.
fn from_the_end(bulk: Bulk, code: &mut InstructionSink<'_>) {
    let piece = bulk.piece();
    code.loop_(BlockType::Empty);
    code.local_get(LENGTH).i32_const(piece).i32_sub().local_set(LENGTH);
    end_of(TO, code);
    end_of(FROM, code);
    code.i32_const(piece);
    bulk.put(code);
    code.local_get(LENGTH).i32_const(piece).i32_gt_u().br_if(0).end();
}
