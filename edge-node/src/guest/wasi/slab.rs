//! One execution's handles: a slab of entries that know their parent and how many children they have.
//!
//! A parent cannot go before its children, as the interfaces demand of streams and pollables. The component runtime
//! vouches for the numbers: a guest can only name what it was given and has not dropped.

use thiserror::Error;

/// Handles one execution may hold at once. Each is small; a guest that needs more leaks them.
pub const RESOURCES_MAX: usize = crate::limits::EXECUTION.resources;
/// Places made at the start: more than an ordinary request takes, so that none of them moves the slab.
const PLACES: usize = 12;

/// See the module.
pub struct Slab<E> {
    slots: Vec<Slot<E>>,
    /// The free place used next.
    free: Option<u32>,
}

enum Slot<E> {
    Free(Option<u32>),
    Used { entry: E, parent: Option<u32>, children: u32 },
}

/// Why a handle cannot be made, used or dropped: a trap for the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// Over [`RESOURCES_MAX`].
    #[error("the guest holds {RESOURCES_MAX} resources, which is all one execution may hold")]
    Full,
    /// Nothing has this number.
    #[error("no resource has this handle")]
    Absent,
    /// Its children must be dropped first.
    #[error("the resource has children that are alive: they must be dropped before it")]
    HasChildren,
    /// It is something else.
    #[error("the resource is of another kind")]
    OtherKind,
}

impl<E> Slab<E> {
    /// What a place costs, whatever is in it.
    pub const PLACE_BYTES: usize = size_of::<Slot<E>>();

    /// An empty one.
    pub fn new() -> Slab<E> {
        Slab { slots: Vec::with_capacity(PLACES), free: None }
    }

    /// Adds an entry and gives its number.
    pub fn push(&mut self, entry: E) -> Result<u32, Refused> {
        self.insert(entry, None)
    }

    /// Adds a child of `parent`.
    pub fn push_child(&mut self, entry: E, parent: u32) -> Result<u32, Refused> {
        if self.children_mut(parent).is_none() {
            return Err(Refused::Absent);
        }
        let child = self.insert(entry, Some(parent))?;
        if let Some(children) = self.children_mut(parent) {
            *children += 1; // at most RESOURCES_MAX
        }
        Ok(child)
    }

    fn insert(&mut self, entry: E, parent: Option<u32>) -> Result<u32, Refused> {
        let slot = Slot::Used { entry, parent, children: 0 };
        if let Some(at) = self.free
            && let Some(place) = self.slots.get_mut(at as usize)
            && let Slot::Free(next) = *place
        {
            self.free = next;
            *place = slot;
            return Ok(at);
        }
        if self.slots.len() >= RESOURCES_MAX {
            return Err(Refused::Full);
        }
        let at = u32::try_from(self.slots.len()).map_err(|_| Refused::Full)?;
        self.slots.push(slot);
        Ok(at)
    }

    /// An entry.
    pub fn get(&self, at: u32) -> Result<&E, Refused> {
        match self.slots.get(at as usize) {
            Some(Slot::Used { entry, .. }) => Ok(entry),
            Some(Slot::Free(_)) | None => Err(Refused::Absent),
        }
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, at: u32) -> Result<&mut E, Refused> {
        match self.slots.get_mut(at as usize) {
            Some(Slot::Used { entry, .. }) => Ok(entry),
            Some(Slot::Free(_)) | None => Err(Refused::Absent),
        }
    }

    /// The parent of a child.
    pub fn parent(&self, at: u32) -> Result<u32, Refused> {
        match self.slots.get(at as usize) {
            Some(Slot::Used { parent: Some(parent), .. }) => Ok(*parent),
            _ => Err(Refused::Absent),
        }
    }

    /// Takes an entry out, unless it has children.
    pub fn remove(&mut self, at: u32) -> Result<E, Refused> {
        let place = self.slots.get_mut(at as usize).ok_or(Refused::Absent)?;
        match place {
            Slot::Free(_) => return Err(Refused::Absent),
            Slot::Used { children: 1.., .. } => return Err(Refused::HasChildren),
            Slot::Used { .. } => {}
        }
        let Slot::Used { entry, parent, .. } = std::mem::replace(place, Slot::Free(self.free)) else {
            return Err(Refused::Absent); // looked at above
        };
        self.free = Some(at);
        if let Some(children) = parent.and_then(|parent| self.children_mut(parent)) {
            *children = children.saturating_sub(1);
        }
        Ok(entry)
    }

    /// All entries there are.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Used { entry, .. } => Some(entry),
            Slot::Free(_) => None,
        })
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Used { entry, .. } => Some(entry),
            Slot::Free(_) => None,
        })
    }

    fn children_mut(&mut self, at: u32) -> Option<&mut u32> {
        match self.slots.get_mut(at as usize) {
            Some(Slot::Used { children, .. }) => Some(children),
            Some(Slot::Free(_)) | None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_what_is_gone_is_gone() {
        let mut slab = Slab::new();
        let (a, b) = (slab.push("a").unwrap(), slab.push("b").unwrap());
        assert_eq!(slab.remove(a), Ok("a"));
        assert_eq!((slab.get(a).copied(), slab.remove(a)), (Err(Refused::Absent), Err(Refused::Absent)));
        assert_eq!(slab.push("c"), Ok(a));
        assert_eq!((slab.get(a), slab.get(b)), (Ok(&"c"), Ok(&"b")));
        assert_eq!(slab.get(99), Err(Refused::Absent));
    }

    #[test]
    fn a_parent_stays_until_its_last_child_is_gone() {
        let mut slab = Slab::new();
        let body = slab.push("body").unwrap();
        let stream = slab.push_child("stream", body).unwrap();
        let pollables = [1, 2].map(|_| slab.push_child("pollable", stream).unwrap());
        assert_eq!(slab.parent(stream), Ok(body));
        assert_eq!(slab.remove(stream), Err(Refused::HasChildren));
        assert_eq!(slab.remove(body), Err(Refused::HasChildren));
        for pollable in pollables {
            assert_eq!(slab.remove(stream), Err(Refused::HasChildren));
            slab.remove(pollable).unwrap();
        }
        assert_eq!((slab.remove(stream), slab.remove(body)), (Ok("stream"), Ok("body")));
        assert_eq!(slab.push_child("orphan", body), Err(Refused::Absent));
    }

    #[test]
    fn there_is_an_end_to_handles() {
        let mut slab = Slab::new();
        for at in 0..RESOURCES_MAX {
            assert_eq!(slab.push(()), Ok(at as u32));
        }
        assert_eq!(slab.push(()), Err(Refused::Full));
        slab.remove(7).unwrap();
        assert_eq!((slab.push(()), slab.push(())), (Ok(7), Err(Refused::Full)));
    }
}
