//! The handles of one execution: one space of numbers for requests, responses and bodies.

use http::{Request, Response};

use super::{abi::Status, body::GuestBody};

/// Handles one execution may hold at once.
const HANDLES_MAX: usize = 10_000;

/// What a handle stands for.
#[derive(Debug)]
pub(super) enum Item {
    /// A request's head.
    Request(Box<Request<()>>),
    /// A response's head.
    Response(Box<Response<()>>),
    /// A body, of either.
    Body(GuestBody),
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

    pub(super) fn request(&mut self, handle: u32) -> Result<&mut Request<()>, Status> {
        match self.item(handle)? {
            Item::Request(request) => Ok(request),
            Item::Response(_) | Item::Body(_) => Err(Status::BadHandle),
        }
    }

    pub(super) fn response(&mut self, handle: u32) -> Result<&mut Response<()>, Status> {
        match self.item(handle)? {
            Item::Response(response) => Ok(response),
            Item::Request(_) | Item::Body(_) => Err(Status::BadHandle),
        }
    }

    pub(super) fn body(&mut self, handle: u32) -> Result<&mut GuestBody, Status> {
        match self.item(handle)? {
            Item::Body(body) => Ok(body),
            Item::Request(_) | Item::Response(_) => Err(Status::BadHandle),
        }
    }

    fn take(&mut self, handle: u32) -> Option<Item> {
        let item = self.items.get_mut(handle as usize)?.take();
        if item.is_some() {
            self.free.push(handle);
        }
        item
    }

    /// Frees a request's handle.
    pub(super) fn take_request(&mut self, handle: u32) -> Result<Request<()>, Status> {
        self.request(handle)?;
        match self.take(handle) {
            Some(Item::Request(request)) => Ok(*request),
            _ => Err(Status::BadHandle),
        }
    }

    /// Frees a response's handle.
    pub(super) fn take_response(&mut self, handle: u32) -> Result<Response<()>, Status> {
        self.response(handle)?;
        match self.take(handle) {
            Some(Item::Response(response)) => Ok(*response),
            _ => Err(Status::BadHandle),
        }
    }

    /// Frees a body's handle.
    pub(super) fn take_body(&mut self, handle: u32) -> Result<GuestBody, Status> {
        self.body(handle)?;
        match self.take(handle) {
            Some(Item::Body(body)) => Ok(body),
            _ => Err(Status::BadHandle),
        }
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
        assert_eq!(handles.take_response(request).unwrap_err(), Status::BadHandle);
        assert!(handles.request(request).is_ok(), "a wrong close frees nothing");
        handles.take_body(body).unwrap();
        assert_eq!(handles.take_body(body).unwrap_err(), Status::BadHandle);
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
