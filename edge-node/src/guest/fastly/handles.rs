//! The handles of one execution: one space of numbers for all that a guest can hold.

use std::task::{Context, Poll, Waker};

use http::{Request, Response};

use super::{
    abi::Status,
    body::GuestBody,
    config_store::ConfigStore,
    kv_operation::{Delete, Insert, Lookup, Store},
    kv_store::Listing,
    log::LogEndpoint,
    pending::Pending,
    secret_store::{Secret, SecretStore},
};

/// Handles one execution may hold at once.
pub(super) const HANDLES_MAX: usize = 10_000;

/// A kind of things that handles stand for.
pub(super) trait Kind: Sized {
    fn of(item: &mut Item) -> Option<&mut Self>;
    fn taken(item: Item) -> Option<Self>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($kind:ty),)*) => {
        /// What a handle stands for.
        #[derive(Debug)]
        pub(super) enum Item {
            $($(#[$doc])* $name($kind),)*
        }

        $(impl Kind for $kind {
            fn of(item: &mut Item) -> Option<&mut $kind> {
                if let Item::$name(it) = item { Some(it) } else { None }
            }

            fn taken(item: Item) -> Option<$kind> {
                if let Item::$name(it) = item { Some(it) } else { None }
            }
        })*
    };
}

// All but bodies, which are most of them, are boxed or small.
kinds! {
    /// A request's head.
    Request(Box<Request<()>>),
    /// A response's head.
    Response(Box<Response<()>>),
    /// A body, of either.
    Body(GuestBody),
    /// A store of configuration.
    ConfigStore(ConfigStore),
    /// A store of secrets.
    SecretStore(SecretStore),
    /// A secret.
    Secret(Box<Secret>),
    /// A key-value store.
    KvStore(Store),
    /// Operations on it under way.
    KvLookup(Lookup),
    /// See [`Item::KvLookup`].
    KvInsert(Insert),
    /// See [`Item::KvLookup`].
    KvDelete(Delete),
    /// See [`Item::KvLookup`].
    KvList(Box<Listing>),
    /// A request under way.
    Pending(Box<Pending>),
    /// A named log.
    LogEndpoint(LogEndpoint),
}

impl Item {
    /// Polls whether the guest could go on with it. `None`: it is nothing that can be waited for.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        match self {
            Item::Body(body) => Some(body.poll_ready(cx)),
            Item::Pending(pending) => Some(pending.poll_head(cx)),
            Item::KvLookup(lookup) => Some(lookup.poll_ready(cx)),
            Item::KvInsert(insert) => Some(insert.poll_ready(cx)),
            Item::KvDelete(delete) => Some(delete.poll_ready(cx)),
            Item::KvList(listing) => Some(listing.operation.poll_ready(cx)),
            Item::Request(_)
            | Item::Response(_)
            | Item::ConfigStore(_)
            | Item::SecretStore(_)
            | Item::Secret(_)
            | Item::KvStore(_)
            | Item::LogEndpoint(_) => None,
        }
    }
}

/// All handles. A freed number is given out again.
#[derive(Debug, Default)]
pub(super) struct Handles {
    items: Vec<Option<Item>>,
    free: Vec<u32>,
}

impl Handles {
    /// A handle for a new item.
    pub(super) fn insert(&mut self, item: Item) -> Result<u32, Status> {
        if let Some(handle) = self.free.pop()
            && let Some(slot) = self.items.get_mut(handle as usize)
        {
            *slot = Some(item);
            return Ok(handle);
        }
        if self.items.len() >= HANDLES_MAX {
            return Err(Status::LimitExceeded);
        }
        self.items.push(Some(item));
        Ok(self.items.len() as u32 - 1)
    }

    fn item(&mut self, handle: u32) -> Result<&mut Item, Status> {
        self.items.get_mut(handle as usize).and_then(Option::as_mut).ok_or(Status::BadHandle)
    }

    /// Can a handle be waited for?
    pub(super) fn async_item(&mut self, handle: u32) -> Result<(), Status> {
        let polled = self.item(handle)?.poll_ready(&mut Context::from_waker(Waker::noop()));
        polled.ok_or(Status::BadHandle).map(drop)
    }

    /// The indices of those of `listed` with which the guest could go on now. What is gone counts: whoever uses it
    /// learns that.
    pub(super) fn ready_of(&mut self, listed: &[u32], cx: &mut Context<'_>) -> Vec<u32> {
        let mut ready = Vec::new();
        for (index, handle) in (0..).zip(listed) {
            let polled = self.item(*handle).ok().and_then(|item| item.poll_ready(cx));
            if polled.is_none_or(|polled| polled.is_ready()) {
                ready.push(index);
            }
        }
        ready
    }

    /// What a handle of this kind stands for.
    pub(super) fn get<K: Kind>(&mut self, handle: u32) -> Result<&mut K, Status> {
        K::of(self.item(handle)?).ok_or(Status::BadHandle)
    }

    /// Frees a handle of this kind.
    pub(super) fn take<K: Kind>(&mut self, handle: u32) -> Result<K, Status> {
        self.get::<K>(handle)?;
        let slot = self.items.get_mut(handle as usize).ok_or(Status::BadHandle)?;
        let item = slot.take().ok_or(Status::BadHandle)?;
        self.free.push(handle);
        K::taken(item).ok_or(Status::BadHandle)
    }

    pub(super) fn request(&mut self, handle: u32) -> Result<&mut Request<()>, Status> {
        self.get::<Box<Request<()>>>(handle).map(|head| &mut **head)
    }

    pub(super) fn response(&mut self, handle: u32) -> Result<&mut Response<()>, Status> {
        self.get::<Box<Response<()>>>(handle).map(|head| &mut **head)
    }

    pub(super) fn body(&mut self, handle: u32) -> Result<&mut GuestBody, Status> {
        self.get(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_for_its_kind_until_it_is_closed() {
        let mut handles = Handles::default();
        let request = handles.insert(Item::Request(Box::new(Request::new(())))).unwrap();
        let body = handles.insert(Item::Body(GuestBody::default())).unwrap();
        assert!(handles.request(request).is_ok());
        assert_eq!(handles.body(request).unwrap_err(), Status::BadHandle);
        assert_eq!(handles.take::<Box<Response<()>>>(request).unwrap_err(), Status::BadHandle);
        assert!(handles.request(request).is_ok(), "a wrong close frees nothing");
        handles.take::<GuestBody>(body).unwrap();
        assert_eq!(handles.take::<GuestBody>(body).unwrap_err(), Status::BadHandle);
        for invalid in [u32::MAX, u32::MAX - 1, 1 << 31, 77] {
            assert_eq!(handles.body(invalid).unwrap_err(), Status::BadHandle);
        }
        assert_eq!(handles.insert(Item::Body(GuestBody::default())), Ok(body), "numbers are used again");
    }

    #[test]
    fn handles_are_bounded() {
        let mut handles = Handles::default();
        for _ in 0..HANDLES_MAX {
            handles.insert(Item::Body(GuestBody::default())).unwrap();
        }
        assert_eq!(handles.insert(Item::Body(GuestBody::default())), Err(Status::LimitExceeded));
    }
}
