//! Which compiled functions a job gets, and what becomes of those it answers ([record](../../../docs/design/0023-functions.md)).

use std::sync::Arc;

use artifact::{
    Target,
    compile::{CACHE_HEADER, Refusal, RefusalCode},
};
use axum::http::HeaderMap;
use bytes::Bytes;

use super::{CACHE_LABEL_BYTES_MAX, PROFILE, Shared, label};
use crate::{
    compile::CompiledArtifact,
    functions::{Counts, Learned, Pack, PackName, Shelf},
    job::{Reuse, Work},
};

/// The place of a request's functions.
pub(super) struct Place {
    shelf: Arc<Shelf>,
    name: PackName,
}

/// What a job made.
pub(super) struct Reused {
    pub compiled: CompiledArtifact,
    pub functions: Counts,
    /// Was it given functions of earlier programs?
    pub shared: bool,
    pub learned: Option<ToKeep>,
}

/// What it learned, to be kept when its code is signed.
pub(super) struct ToKeep {
    place: Place,
    old: Option<Pack>,
    learned: Learned,
}

impl Shared {
    /// Where this request's functions are, if the caller names what may share them and they are kept at all. Without a tenant
    /// nobody is known whose they are.
    pub(super) fn pack(&self, headers: &HeaderMap, tenant: &str, target: Target) -> Option<Place> {
        let shelf = Arc::clone(self.shelf.as_ref()?);
        let cache = label(headers, CACHE_HEADER, CACHE_LABEL_BYTES_MAX);
        if tenant.is_empty() || cache.is_empty() {
            return None;
        }
        let name = PackName::new(tenant, cache, target, engine::fingerprint(target, PROFILE));
        Some(Place { shelf, name })
    }

    /// Runs a job with what there is of functions. If it fails by no fault of the program's, it may have been a pack that a job before
    /// spoilt: that is dropped, and the program compiled without.
    pub(super) async fn run(
        &self,
        wasm: Bytes,
        target: Target,
        threads: usize,
        place: Option<Place>,
        mut lengthened: impl FnMut() -> bool,
    ) -> Result<Reused, Refusal> {
        let work = |reuse| Work { wasm: wasm.clone(), target, profile: PROFILE, threads, reuse };
        let Some(place) = place else {
            let answer = self.service.runner.run(work(Reuse::Nothing), lengthened).await?;
            return Ok(Reused {
                compiled: answer.compiled,
                functions: answer.functions,
                shared: false,
                learned: None,
            });
        };
        let mut old = place.on_disk(|shelf, name| shelf.take(name)).await.flatten();
        let mut answer = self.service.runner.run(work(Reuse::Functions(old.clone())), &mut lengthened).await;
        if old.is_some() && answer.as_ref().is_err_and(|refusal| refusal.code == RefusalCode::Internal) {
            tracing::warn!(%target, "a compile with kept functions failed: they are dropped");
            place.on_disk(|shelf, name| shelf.drop_pack(name)).await;
            old = None;
            answer = self.service.runner.run(work(Reuse::Functions(None)), lengthened).await;
        }
        let answer = answer?;
        let shared = old.is_some();
        let learned = Some(ToKeep { place, old, learned: answer.learned });
        Ok(Reused { compiled: answer.compiled, functions: answer.functions, shared, learned })
    }

    /// Keeps what a job learned, for later jobs of the same name.
    pub(super) async fn keep(&self, learned: Option<ToKeep>) {
        if let Some(ToKeep { place, old, learned }) = learned {
            place.on_disk(move |shelf, name| shelf.keep(name, old.as_ref(), learned)).await;
        }
    }
}

impl Place {
    /// Works with the disk, off the threads that serve. `None` if that failed in a way that is no error of the disk's.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf, &PackName) -> T + Send + 'static,
    ) -> Option<T> {
        let (shelf, name) = (Arc::clone(&self.shelf), self.name.clone());
        tokio::task::spawn_blocking(move || work(&shelf, &name)).await.ok()
    }
}
