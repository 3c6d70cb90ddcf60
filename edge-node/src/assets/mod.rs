//! Static files of an app, answered without its program: route → **index → file → precondition → part → bytes** → program.
//!
//! Relies on the shelf, where an app's files lie before it is activated, and on `artifact::assets` for digests of each
//! piece: bytes are compared with them when they are read, before one of them leaves, so a file that rotted or vanished is an
//! error (503, or a response that breaks off) and is fetched again. Deliberately absent: compressing, and any path of a file
//! system.
//!
//! | Module | One job |
//! |---|---|
//! | `path` | which file a request's path names |
//! | `negotiate` | coding, preconditions, ranges |
//! | `index` | one read of an index for all who wait |
//! | `cache` | small files and indexes in memory |
//! | `body` | a file that is sent in pieces |
//! | `readers` | the threads that wait for the disk |

mod body;
mod cache;
mod index;
mod negotiate;
mod path;
mod readers;

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    io,
    ops::Range,
    sync::Arc,
};

use artifact::{
    AppId, Digest, TenantName,
    assets::{AssetBlob, AssetFile, AssetIndex, Coding, IndexRef, PIECE_BYTES},
    manifest::Assets,
    nack::{Nack, NackCode},
    record::Version,
};
use bytes::Bytes;
use fleet_sync_replica::BlobShelf;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};

use self::{
    body::{FileBody, Memory, Piece, Room},
    cache::Cache,
    index::{Had, Landing, SharedIndex},
    negotiate::{Condition, Part},
    path::Named,
    readers::Readers,
};
use crate::{
    account::Account,
    failure::Failure,
    front::OutboundBody,
    load::chain,
    memory::Budget,
    node::{Executions, Permit},
};

/// Requests of one worker that read files from the disk, or send one in pieces, at once: 64 MiB of pieces. Each app has a quarter.
const READS_AT_ONCE_MAX: usize = 1024;
/// Small files and indexes in memory: the part of the node's memory for guests, and its bounds. The least holds the largest index.
const CACHE_PART: u64 = 16;
const CACHE_BYTES_MIN: u64 = 32 << 20;
const CACHE_BYTES_MAX: u64 = 128 << 20;
/// What an index takes in memory, of what its text has, at most: a file has 240 bytes of structure in a tree that is two
/// thirds full, path and type with an allocation each, and no less than 150 bytes of text.
const INDEX_MEMORY_FACTOR: u64 = 3;
/// Damaged files fetched again at once; others are noticed at their next request.
const MENDS_AT_ONCE_MAX: usize = 16;

/// The static files of all apps of a node.
pub struct StaticFiles {
    shelf: BlobShelf,
    /// Where what is damaged is fetched again.
    side: Handle,
    readers: Readers,
    budget: Budget,
    cache: Arc<Cache<Held>>,
    /// Requests that read the disk.
    room: Executions,
    mending: Arc<Mutex<HashSet<Digest>>>,
    tenants: RandomState,
}

#[derive(Clone)]
enum Held {
    Index(Arc<AssetIndex>),
    File(Bytes),
}

/// The static files of one version.
pub struct Site {
    at: IndexRef,
    settings: Assets,
    cache_control: HeaderValue,
    /// Whose places in the cache are its.
    tenant: u64,
    index: SharedIndex,
}

/// A file is not on the disk as it should be.
#[derive(Debug, Clone, Copy)]
pub struct Unavailable;

/// What a request asks for.
pub struct Asked<'r> {
    /// Its head.
    pub head: &'r request::Parts,
    /// The app.
    pub id: &'r AppId,
    /// The app's path prefix.
    pub prefix: &'r str,
    /// The worker that answers.
    pub worker: usize,
}

/// Who answers.
pub enum Answer {
    /// The program: no file is named, or it is not for reading.
    Program,
    /// This file, with the index that it is in.
    File(Arc<AssetIndex>, Found),
    /// 308 to the path with a `/` at its end.
    Moved(HeaderValue),
    /// Us.
    Failed(Failure),
}

/// See [`Answer::File`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The file that the path names.
    Named,
    /// The page for paths that name nothing.
    Missing,
}

impl StaticFiles {
    /// The files on this shelf. Pieces and cache are a part of `budget`. Fails where no thread can be started.
    pub fn new(shelf: BlobShelf, side: Handle, budget: Budget, workers: usize) -> io::Result<StaticFiles> {
        let cache_bytes = (budget.bytes_max() / CACHE_PART).clamp(CACHE_BYTES_MIN, CACHE_BYTES_MAX);
        Ok(StaticFiles {
            shelf,
            side,
            readers: Readers::start()?,
            cache: Arc::new(Cache::new(cache_bytes, budget.clone())),
            budget,
            room: Executions::new(workers, READS_AT_ONCE_MAX),
            mending: Arc::default(),
            tenants: RandomState::new(),
        })
    }

    /// The files of a version, if it has any.
    pub fn site(&self, version: &Version) -> Result<Option<Arc<Site>>, Nack> {
        let unusable = |detail: &str| Nack { code: NackCode::LoadFail, detail: detail.to_owned() };
        let Some(settings) = version.config.assets.clone() else { return Ok(None) };
        let at =
            version.assets.ok_or_else(|| unusable("the version says how to serve files, and names none"))?;
        let cache_control = HeaderValue::from_str(&settings.cache_control)
            .map_err(|_| unusable("the Cache-Control of its files is no header value"))?;
        let tenant: &TenantName = &version.id.tenant;
        let tenant = self.tenants.hash_one(tenant);
        Ok(Some(Arc::new(Site { at, settings, cache_control, tenant, index: SharedIndex::default() })))
    }

    /// Requests that read the disk or send a file in pieces now.
    pub fn running(&self) -> usize {
        self.room.running()
    }

    /// Who answers a request of an app with files.
    pub async fn find(&self, site: &Site, asked: &Asked<'_>, has_program: bool) -> Answer {
        let uri = &asked.head.uri;
        let is_read = matches!(asked.head.method, Method::GET | Method::HEAD);
        if !is_read && has_program {
            return Answer::Program;
        }
        let index = match self.index(site, asked).await {
            Ok(index) => index,
            Err(failure) => return Answer::Failed(failure),
        };
        match path::named(&index, uri.path(), asked.prefix, &site.settings.index) {
            Named::Nothing if has_program => Answer::Program,
            Named::Nothing => {
                let has_page =
                    site.settings.not_found.as_ref().is_some_and(|page| index.files().contains_key(page));
                match is_read && has_page {
                    true => Answer::File(index, Found::Missing),
                    false => Answer::Failed(Failure::NoFile),
                }
            }
            Named::File(_) | Named::Folder if !is_read => Answer::Failed(Failure::FileMethod),
            Named::Folder => {
                let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
                let to = HeaderValue::try_from(format!("{}/{query}", uri.path()));
                to.map_or(Answer::Failed(Failure::NoFile), Answer::Moved)
            }
            Named::File(_) => Answer::File(index, Found::Named),
        }
    }

    /// The file's response; its account is noted, and ends with its body.
    pub async fn respond(
        self: &Arc<Self>,
        site: &Site,
        asked: &Asked<'_>,
        (index, found): (&AssetIndex, Found),
        account: &Arc<Account>,
    ) -> Result<Response<OutboundBody>, Failure> {
        let headers = &asked.head.headers;
        let file = match found {
            Found::Missing => site.settings.not_found.as_ref().and_then(|page| index.files().get(page)),
            Found::Named => {
                match path::named(index, asked.head.uri.path(), asked.prefix, &site.settings.index) {
                    Named::File(file) => Some(file),
                    Named::Folder | Named::Nothing => None,
                }
            }
        };
        let file = file.ok_or(Failure::NoFile)?;
        let coding = negotiate::coding(headers, file);
        let blob = file.blob(coding).unwrap_or(&file.plain);
        let mut response = head(site, file, coding, found);
        if found == Found::Missing {
            return self.whole(response, site, asked, blob, StatusCode::NOT_FOUND, account).await;
        }
        let tag = format!("\"{}\"", &blob.digest.to_string()[..TAG_DIGITS]);
        if let Ok(value) = HeaderValue::try_from(tag.as_str()) {
            response.headers_mut().insert(header::ETAG, value);
        }
        match negotiate::condition(headers, &tag) {
            Condition::Holds => {}
            Condition::NotModified => {
                response.headers_mut().remove(header::CONTENT_TYPE);
                response.headers_mut().remove(header::CONTENT_ENCODING);
                return Ok(said(response, StatusCode::NOT_MODIFIED, account));
            }
            Condition::Failed => {
                not_for_others(&mut response);
                return Ok(said(response, StatusCode::PRECONDITION_FAILED, account));
            }
        }
        response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        let part = match asked.head.method == Method::GET {
            true => negotiate::part(headers, blob.bytes, &tag),
            false => Part::Whole, // a range is for GET alone
        };
        let content_range = |text: String| HeaderValue::try_from(text).map_err(|_| Failure::Internal);
        match part {
            Part::Whole => self.whole(response, site, asked, blob, StatusCode::OK, account).await,
            Part::Unsatisfiable => {
                let range = content_range(format!("bytes */{}", blob.bytes))?;
                not_for_others(&mut response);
                response.headers_mut().remove(header::ETAG);
                response.headers_mut().insert(header::CONTENT_RANGE, range);
                Ok(said(response, StatusCode::RANGE_NOT_SATISFIABLE, account))
            }
            Part::Bytes(bytes) => {
                let text = format!("bytes {}-{}/{}", bytes.start, bytes.end.saturating_sub(1), blob.bytes);
                response.headers_mut().insert(header::CONTENT_RANGE, content_range(text)?);
                self.send(response, site, asked, (blob, bytes), StatusCode::PARTIAL_CONTENT, account).await
            }
        }
    }

    async fn whole(
        self: &Arc<Self>,
        response: Response<OutboundBody>,
        site: &Site,
        asked: &Asked<'_>,
        blob: &AssetBlob,
        status: StatusCode,
        account: &Arc<Account>,
    ) -> Result<Response<OutboundBody>, Failure> {
        self.send(response, site, asked, (blob, 0..blob.bytes), status, account).await
    }

    /// Puts bytes of a blob into a response: from memory, or from the disk.
    async fn send(
        self: &Arc<Self>,
        mut response: Response<OutboundBody>,
        site: &Site,
        asked: &Asked<'_>,
        (blob, bytes): (&AssetBlob, Range<u64>),
        status: StatusCode,
        account: &Arc<Account>,
    ) -> Result<Response<OutboundBody>, Failure> {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.end - bytes.start));
        if asked.head.method == Method::HEAD || bytes.is_empty() {
            return Ok(said(response, status, account));
        }
        let part = bytes.start as usize..bytes.end as usize;
        let key = (site.tenant, blob.digest);
        if let Some(Held::File(held)) = self.cache.get(&key).filter(|_| blob.pieces.is_empty()) {
            // The cache may let go of it while a reader that is slow still has it.
            let memory = Arc::new(Memory::take(&self.budget, held.len() as u64)?);
            *response.body_mut() = OutboundBody::Full(memory.held_by(held.slice(part)));
            return Ok(said(response, status, account));
        }
        let room = Room::take(self.room.admit(asked.worker, asked.id, 1)?, &self.budget)?;
        let first = self.read(blob, bytes.start / PIECE_BYTES, room).await;
        let Ok(Piece { bytes: Ok(first), room }) = first else {
            self.mend(blob);
            return Err(Failure::FileUnavailable);
        };
        *response.body_mut() = match blob.pieces.is_empty() {
            true => {
                self.cache.put(key, Held::File(first.clone()), blob.bytes);
                OutboundBody::Full(room.held_by(first.slice(part)))
            }
            false => {
                let (files, account) = (Arc::clone(self), Arc::clone(account));
                let first = Piece { bytes: Ok(first), room };
                OutboundBody::stream(FileBody::new(files, blob.clone(), bytes, first, account))
            }
        };
        Ok(said(response, status, account))
    }

    /// The index of a site: in memory, or read now.
    async fn index(&self, site: &Site, asked: &Asked<'_>) -> Result<Arc<AssetIndex>, Failure> {
        let key = (site.tenant, site.at.index);
        let cached = || match self.cache.get(&key) {
            Some(Held::Index(index)) => Some(index),
            _ => None,
        };
        if let Some(index) = cached() {
            return Ok(index);
        }
        let permit = self.room.admit(asked.worker, asked.id, 1)?;
        let read = match site.index.have(cached) {
            Had::Here(index) => return Ok(index),
            Had::Reading(flight) => {
                let _permit = permit;
                flight.await
            }
            Had::Read(landing, flight) => {
                self.read_index(site, landing, permit);
                flight.await
            }
        };
        read.unwrap_or(Err(Unavailable)).map_err(|Unavailable| {
            self.mend_blob(site.at.index, site.at.index_bytes);
            Failure::FileUnavailable
        })
    }

    /// Has an index read, kept if there is room, and told to all who wait. The room of the request that began it is given back
    /// after that, though the request may be gone long before.
    fn read_index(&self, site: &Site, landing: Landing, permit: Permit) {
        let (shelf, cache, at) = (self.shelf.clone(), Arc::clone(&self.cache), site.at);
        let key = (site.tenant, at.index);
        // Nobody waits for this one: `landing` tells.
        drop(self.readers.read(move || {
            let _permit = permit;
            let outcome = match shelf.read_index(&at) {
                Ok(Some(index)) => Ok(Arc::new(index)),
                not_there => {
                    tracing::error!(index = %at.index, ?not_there, "an index of static files is lost or damaged");
                    Err(Unavailable)
                }
            };
            if let Ok(index) = &outcome {
                let bytes = at.index_bytes.saturating_mul(INDEX_MEMORY_FACTOR);
                cache.put(key, Held::Index(Arc::clone(index)), bytes);
            }
            landing.land(outcome);
        }));
    }

    /// Reads a piece of a blob and checks it, on a thread that may wait. It has the room of the request that asks for it until then,
    /// whether that is still there or not: what waits for a thread is counted.
    fn read(&self, blob: &AssetBlob, number: u64, room: Room) -> oneshot::Receiver<Piece> {
        let (shelf, digest, piece) = (self.shelf.clone(), blob.digest, blob.piece(number));
        self.readers.read(move || Piece { bytes: read_piece(&shelf, digest, piece), room })
    }

    /// Has a blob fetched again, in the background, once however many notice.
    fn mend(&self, blob: &AssetBlob) {
        self.mend_blob(blob.digest, blob.bytes);
    }

    fn mend_blob(&self, digest: Digest, bytes: u64) {
        {
            let mut mending = self.mending.lock();
            if mending.len() >= MENDS_AT_ONCE_MAX || !mending.insert(digest) {
                return;
            }
        }
        let (shelf, mending) = (self.shelf.clone(), Arc::clone(&self.mending));
        self.side.spawn(async move {
            match shelf.mend(digest, bytes).await {
                Ok(()) => tracing::info!(%digest, "a static file was fetched again"),
                Err(error) => tracing::warn!(%digest, "fetching a static file again: {}", chain(&error)),
            }
            mending.lock().remove(&digest);
        });
    }
}

/// Reads a piece that has this range and digest, if there is one.
fn read_piece(
    shelf: &BlobShelf,
    digest: Digest,
    piece: Option<(Range<u64>, Digest)>,
) -> Result<Bytes, Unavailable> {
    let (range, expected) = piece.ok_or(Unavailable)?;
    match shelf.read_part(digest, range) {
        Ok(bytes) if Digest::of(&bytes) == expected => Ok(Bytes::from(bytes)),
        Ok(_) => {
            tracing::error!(%digest, "a static file is damaged on this node's disk");
            Err(Unavailable)
        }
        Err(error) => {
            tracing::error!(%digest, %error, "reading a static file");
            Err(Unavailable)
        }
    }
}

/// Hex digits of a digest that are enough for an entity tag: 128 bits.
const TAG_DIGITS: usize = 32;

/// What every answer with this file has.
fn head(site: &Site, file: &AssetFile, coding: Coding, found: Found) -> Response<OutboundBody> {
    let mut response = Response::new(OutboundBody::Empty);
    let headers = response.headers_mut();
    headers.reserve(9);
    // What a browser guesses of a tenant's file is not for us to allow.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(content_type) = HeaderValue::from_str(&file.content_type) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    let cache_control = match found {
        Found::Named => site.cache_control.clone(),
        // There may be a file tomorrow.
        Found::Missing => HeaderValue::from_static("no-store"),
    };
    headers.insert(header::CACHE_CONTROL, cache_control);
    if file.br.is_some() || file.gzip.is_some() {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if coding != Coding::Identity {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}

/// What one client's conditions or ranges made fail: no cache is to give it to others in the file's place.
fn not_for_others(response: &mut Response<OutboundBody>) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_ENCODING);
}

/// The response with its status, which the account is told.
fn said(
    mut response: Response<OutboundBody>,
    status: StatusCode,
    account: &Account,
) -> Response<OutboundBody> {
    *response.status_mut() = status;
    account.responded(status);
    response
}

#[cfg(test)]
mod tests;
