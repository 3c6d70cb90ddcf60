//! A guest's memory, where every pointer and length is checked and none can panic.
//!
//! Relied on by every host function. Lengths come from the guest, so nothing is allocated by them: data is borrowed
//! from the memory, or copied after it was found to be inside.

use super::abi::{Answer, Status};

/// One guest's linear memory during one host call.
pub(super) struct GuestMemory<'a>(&'a mut [u8]);

impl<'a> GuestMemory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> GuestMemory<'a> {
        GuestMemory(bytes)
    }

    /// `length` bytes at `pointer`.
    pub(super) fn bytes(&self, pointer: u32, length: u32) -> Result<&[u8], Status> {
        let rest = self.0.get(pointer as usize..).ok_or(Status::Invalid)?;
        rest.get(..length as usize).ok_or(Status::Invalid)
    }

    /// The same to be overwritten.
    pub(super) fn bytes_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8], Status> {
        let rest = self.0.get_mut(pointer as usize..).ok_or(Status::Invalid)?;
        rest.get_mut(..length as usize).ok_or(Status::Invalid)
    }

    /// UTF-8 text at `pointer`.
    pub(super) fn text(&self, pointer: u32, length: u32) -> Result<&str, Status> {
        std::str::from_utf8(self.bytes(pointer, length)?).map_err(|_| Status::Invalid)
    }

    /// All of it, in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.len()
    }

    fn write_number<const N: usize>(&mut self, pointer: u32, bytes: [u8; N]) -> Answer {
        if !(pointer as usize).is_multiple_of(N) {
            return Err(Status::Misaligned);
        }
        self.bytes_mut(pointer, N as u32)?.copy_from_slice(&bytes);
        Ok(())
    }

    pub(super) fn write_u16(&mut self, pointer: u32, value: u16) -> Answer {
        self.write_number(pointer, value.to_le_bytes())
    }

    pub(super) fn write_u32(&mut self, pointer: u32, value: u32) -> Answer {
        self.write_number(pointer, value.to_le_bytes())
    }

    pub(super) fn write_u64(&mut self, pointer: u32, value: u64) -> Answer {
        self.write_number(pointer, value.to_le_bytes())
    }

    /// A length or count that this host made, which is far below 4 GiB.
    pub(super) fn write_usize(&mut self, pointer: u32, value: usize) -> Answer {
        self.write_u32(pointer, u32::try_from(value).map_err(|_| Status::LimitExceeded)?)
    }

    pub(super) fn read_u32(&self, pointer: u32) -> Result<u32, Status> {
        let bytes = self.bytes(pointer, 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Status::Invalid)?))
    }

    /// The same of a struct that must stand where its alignment wants it.
    pub(super) fn read_u32_aligned(&self, pointer: u32) -> Result<u32, Status> {
        if !pointer.is_multiple_of(4) {
            return Err(Status::Misaligned);
        }
        self.read_u32(pointer)
    }

    pub(super) fn read_u64(&self, pointer: u32) -> Result<u64, Status> {
        let bytes = self.bytes(pointer, 8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Status::Invalid)?))
    }

    /// Gives a value: into `buffer` of `length_max` bytes, its length to `written`. When it does not fit, `written`
    /// gets the length it needs.
    pub(super) fn give(&mut self, value: &[u8], buffer: u32, length_max: u32, written: u32) -> Answer {
        if value.len() > length_max as usize {
            self.write_usize(written, value.len())?;
            return Err(Status::BufferTooShort);
        }
        self.bytes_mut(buffer, value.len() as u32)?.copy_from_slice(value);
        self.write_usize(written, value.len())
    }

    /// Gives an optional value.
    pub(super) fn give_optional(
        &mut self,
        value: Option<&[u8]>,
        buffer: u32,
        length_max: u32,
        written: u32,
    ) -> Answer {
        match value {
            Some(value) => self.give(value, buffer, length_max, written),
            None => {
                self.write_u32(written, 0)?;
                Err(Status::None)
            }
        }
    }

    /// Gives as many items of a list, each ended by NUL, as fit, beginning with number `cursor`; then the number of
    /// the next item, or -1, to `next`, and the bytes written to `written`. When not even one fits, `written` gets
    /// the length it needs.
    pub(super) fn give_list<'i>(&mut self, items: impl Iterator<Item = &'i [u8]>, list: ListOut) -> Answer {
        let ListOut { buffer, length_max, cursor, next, written } = list;
        let (mut at, mut next_cursor) = (0usize, -1i64);
        for (number, item) in items.enumerate().skip(cursor as usize) {
            let needed = item.len() + 1;
            if at + needed > length_max as usize {
                if at == 0 {
                    self.write_usize(written, needed)?;
                    return Err(Status::BufferTooShort);
                }
                next_cursor = number as i64;
                break;
            }
            let to = u32::try_from(at).ok().and_then(|at| buffer.checked_add(at)).ok_or(Status::Invalid)?;
            let (value, end) = self.bytes_mut(to, needed as u32)?.split_at_mut(item.len());
            value.copy_from_slice(item);
            end.fill(0);
            at += needed;
        }
        self.write_u64(next, next_cursor as u64)?;
        self.write_usize(written, at)
    }
}

/// Where a field of a struct is.
pub(super) fn field(pointer: u32, offset: u32) -> Result<u32, Status> {
    pointer.checked_add(offset).ok_or(Status::Invalid)
}

/// Where a list goes: see [`GuestMemory::give_list`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ListOut {
    pub(super) buffer: u32,
    pub(super) length_max: u32,
    pub(super) cursor: u32,
    pub(super) next: u32,
    pub(super) written: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_that_does_not_fit_tells_its_size() {
        let mut bytes = [0xff; 32];
        let mut memory = GuestMemory::new(&mut bytes);
        assert_eq!(memory.give(b"hello", 8, 4, 0), Err(Status::BufferTooShort));
        assert_eq!(memory.read_u32(0), Ok(5));
        assert_eq!(memory.bytes(8, 5).unwrap(), [0xff; 5], "nothing was written");
        assert_eq!(memory.give(b"hello", 8, 5, 0), Ok(()));
        assert_eq!(memory.bytes(8, 5).unwrap(), b"hello");
        assert_eq!(memory.give(b"hello", 28, 5, 0), Err(Status::Invalid));
        assert_eq!(memory.give(b"hello", 8, 5, 2), Err(Status::Misaligned));
        assert_eq!(memory.give_optional(None, 8, 5, 0), Err(Status::None));
    }

    #[test]
    fn a_list_is_given_in_as_many_batches_as_it_needs() {
        let items: [&[u8]; 4] = [b"a", b"bcd", b"", b"efghij"];
        let mut bytes = [0; 64];
        let mut memory = GuestMemory::new(&mut bytes);
        let mut ask = |cursor, length_max| {
            let out = ListOut { buffer: 16, length_max, cursor, next: 0, written: 8 };
            let answer = memory.give_list(items.iter().copied(), out);
            let next = i64::from_le_bytes(memory.bytes(0, 8).unwrap().try_into().unwrap());
            let written = memory.read_u32(8).unwrap();
            (answer, next, written, memory.bytes(16, written).unwrap().to_vec())
        };
        assert_eq!(ask(0, 48), (Ok(()), -1, 14, b"a\0bcd\0\0efghij\0".to_vec()));
        assert_eq!(ask(0, 7), (Ok(()), 3, 7, b"a\0bcd\0\0".to_vec()));
        let (answer, _, needed, _) = ask(3, 6);
        assert_eq!((answer, needed), (Err(Status::BufferTooShort), 7));
        assert_eq!(ask(3, 7), (Ok(()), -1, 7, b"efghij\0".to_vec()));
        assert_eq!(ask(4, 7), (Ok(()), -1, 0, vec![]));
        assert_eq!(ask(u32::MAX, 7), (Ok(()), -1, 0, vec![]));
    }

    proptest! {
        /// Any pointers and lengths, most of them near the edges of a page.
        #[test]
        fn no_pointer_or_length_panics_or_writes_outside(
            value in proptest::collection::vec(any::<u8>(), 0..80),
            pointers in proptest::array::uniform4(prop_oneof![0u32..96, any::<u32>(), (u32::MAX - 96)..]),
            length_max in prop_oneof![0u32..96, any::<u32>()],
            size in 0usize..96,
        ) {
            let [buffer, written, next, cursor] = pointers;
            let mut bytes = vec![0u8; size];
            let mut memory = GuestMemory::new(&mut bytes);
            let _ = memory.bytes(buffer, length_max);
            let _ = memory.read_u32(buffer);
            let _ = memory.write_u64(next, 1);
            let _ = memory.write_u16(next, 1);
            let given = memory.give(&value, buffer, length_max, written);
            if given.is_ok() {
                prop_assert!(value.len() <= length_max as usize);
                prop_assert!(buffer as usize + value.len() <= size);
            }
            let out = ListOut { buffer, length_max, cursor, next, written };
            let listed = memory.give_list([&value[..], b"x"].into_iter(), out);
            if listed.is_ok() {
                prop_assert!(next as usize + 8 <= size && written as usize + 4 <= size);
            }
        }
    }
}
