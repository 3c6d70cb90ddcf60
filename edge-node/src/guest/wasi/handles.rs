//! What a handle of the guest can stand for, and typed access to it.

use wasmtime::component::Resource;

use super::{
    error::IoError,
    fields::Fields,
    incoming::{FutureTrailers, IncomingBody, IncomingRequest},
    keyvalue::{Bucket, Cas},
    outgoing::{OutgoingBody, OutgoingResponse, ResponseOutparam},
    outgoing_handler::{FutureIncomingResponse, IncomingResponse},
    outgoing_request::{OutgoingRequest, RequestOptions},
    poll::Pollable,
    slab::{Refused, Slab},
    sockets::Network,
    streams::{InputStream, OutputStream},
};

/// Bytes that the host holds for what a handle stands for, beside the handle itself. What happens outside does not change
/// the number, so a replay counts the same. What two handles share counts for each: either may outlive the other.
pub trait Holds {
    /// See the trait.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// What [`Resource`]s of type `Self` stand for.
pub trait Kind: Holds + Sized + 'static {
    /// As an entry.
    fn entry(self) -> Entry;
    /// Back.
    fn take(entry: Entry) -> Option<Self>;
    /// A look at it.
    fn of(entry: &Entry) -> Option<&Self>;
    /// To change it.
    fn of_mut(entry: &mut Entry) -> Option<&mut Self>;
}

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// One handle's content.
        pub enum Entry {
            $(
                #[allow(missing_docs)]
                $kind($kind),
            )*
        }
        impl Holds for Entry {
            fn held_bytes(&self) -> usize {
                match self {
                    $(Entry::$kind(this) => this.held_bytes(),)*
                }
            }
        }
        $(impl Kind for $kind {
            fn entry(self) -> Entry {
                Entry::$kind(self)
            }
            fn take(entry: Entry) -> Option<$kind> {
                if let Entry::$kind(this) = entry { Some(this) } else { None }
            }
            fn of(entry: &Entry) -> Option<&$kind> {
                if let Entry::$kind(this) = entry { Some(this) } else { None }
            }
            fn of_mut(entry: &mut Entry) -> Option<&mut $kind> {
                if let Entry::$kind(this) = entry { Some(this) } else { None }
            }
        })*
    };
}

kinds! {
    Bucket,
    Cas,
    Fields,
    FutureIncomingResponse,
    FutureTrailers,
    IncomingBody,
    IncomingRequest,
    IncomingResponse,
    InputStream,
    IoError,
    Network,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    OutputStream,
    Pollable,
    RequestOptions,
    ResponseOutparam,
}

// They are what their handle has room for, or nothing.
impl Holds for IncomingRequest {}
impl Holds for InputStream {}
impl Holds for IoError {}
impl Holds for Network {}
impl Holds for OutputStream {}
impl Holds for Pollable {}
impl Holds for RequestOptions {}
impl Holds for ResponseOutparam {}

/// What a handle costs: its place, and the little that most have elsewhere: an empty map, a pipe's queue, a timer.
pub const HANDLE_BYTES: usize = Slab::<Entry>::PLACE_BYTES + 256;

/// All handles of one execution.
pub struct Handles(Slab<Entry>);

impl Handles {
    /// None yet.
    pub fn new() -> Handles {
        Handles(Slab::new())
    }

    /// Makes a handle that the guest will own.
    pub fn push<K: Kind>(&mut self, this: K) -> Result<Resource<K>, Refused> {
        self.0.push(this.entry()).map(Resource::new_own)
    }

    /// Makes one that must go before `parent`.
    pub fn push_child<K: Kind, P: Kind>(
        &mut self,
        this: K,
        parent: &Resource<P>,
    ) -> Result<Resource<K>, Refused> {
        self.0.push_child(this.entry(), parent.rep()).map(Resource::new_own)
    }

    /// What a handle stands for.
    pub fn get<K: Kind>(&self, handle: &Resource<K>) -> Result<&K, Refused> {
        K::of(self.0.get(handle.rep())?).ok_or(Refused::OtherKind)
    }

    /// The same, to change it.
    pub fn get_mut<K: Kind>(&mut self, handle: &Resource<K>) -> Result<&mut K, Refused> {
        K::of_mut(self.0.get_mut(handle.rep())?).ok_or(Refused::OtherKind)
    }

    /// Ends a handle that the guest gave away.
    pub fn take<K: Kind>(&mut self, handle: Resource<K>) -> Result<K, Refused> {
        K::take(self.0.remove(handle.rep())?).ok_or(Refused::OtherKind)
    }

    /// Ends a handle that the guest dropped. Dropping what it stood for has the effect that the interface asks for: a
    /// body that was not finished is aborted, a fetch is given up.
    pub fn drop(&mut self, handle: u32) -> Result<(), Refused> {
        self.0.remove(handle).map(drop)
    }

    /// The parent of a child: a stream's body.
    pub fn parent_mut<K: Kind>(&mut self, child: u32) -> Result<&mut K, Refused> {
        let parent = self.0.parent(child)?;
        K::of_mut(self.0.get_mut(parent)?).ok_or(Refused::OtherKind)
    }

    /// The same, to look at it.
    pub fn parent_ref<K: Kind>(&self, child: u32) -> Result<&K, Refused> {
        K::of(self.0.get(self.0.parent(child)?)?).ok_or(Refused::OtherKind)
    }

    /// The number of a child's parent.
    pub fn parent(&self, child: u32) -> Result<u32, Refused> {
        self.0.parent(child)
    }

    /// Whatever a number stands for.
    pub fn entry_mut(&mut self, handle: u32) -> Result<&mut Entry, Refused> {
        self.0.get_mut(handle)
    }

    /// What the host holds for all of them, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.0.iter().map(|entry| HANDLE_BYTES.saturating_add(entry.held_bytes())).sum()
    }

    /// Everything there is.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every handle made or ended moves an entry, and a slab is made of some for every request.
    #[test]
    fn entries_are_small() {
        assert!(size_of::<Entry>() <= 80, "{} bytes: what is large goes into a box", size_of::<Entry>());
    }
}
