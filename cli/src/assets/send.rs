//! Sending what is missing. What was sent stays there for a day, so that after a broken line the rest is asked for anew, and
//! nothing is sent twice.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use artifact::Digest;
use serde::Serialize;

use super::{From, Site, Source, read_bounded, refused};
use crate::{
    api::Api,
    error::{Error, Result},
    output::Progress,
};

/// Digests of one question, the control plane's own bound.
const ASKED_MAX: usize = 4096;
/// Blobs sent at once: as many as the control plane takes of one tenant.
const SENDERS: usize = 2;
/// Rounds in a row in which nothing arrived, before it is given up. Each call of a round is tried for 2 s by itself.
const IDLE_ROUNDS_MAX: u32 = 4;
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// What a deploy says of its static files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Files of the version.
    pub files: usize,
    /// Of them, those of which something was sent.
    pub new: usize,
    /// Bytes sent, the index's not among them.
    pub bytes: u64,
}

impl Sent {
    /// As a person reads it.
    pub fn text(&self) -> String {
        let kb = self.bytes.div_ceil(1000);
        let files = if self.files == 1 { "file" } else { "files" };
        format!("{} {files} ({} new, {kb} KB)", self.files, self.new)
    }
}

impl Site {
    /// Sends what the control plane does not have of it; what went is added to `sent`.
    pub fn send(&self, api: &Api, deadline: Instant, progress: &Progress, sent: &mut Sent) -> Result<()> {
        let all: Vec<Digest> = self.blobs.keys().copied().collect();
        let (mut idle_rounds, mut ever): (u32, BTreeSet<Digest>) = (0, BTreeSet::new());
        let outcome = loop {
            let round = self.round(api, &all, deadline, progress, &mut ever);
            match round {
                Ok(()) => break Ok(()),
                // The line is broken: asked again, it says what arrived.
                Err((Error::Unreachable { .. }, arrived)) if arrived > 0 || idle_rounds < IDLE_ROUNDS_MAX => {
                    idle_rounds = if arrived > 0 { 0 } else { idle_rounds + 1 };
                    progress.now("the control plane does not answer; going on where it was".to_owned());
                    thread::sleep(ROUND_PAUSE);
                }
                Err((error, _)) => break Err(error),
            }
        };
        ever.remove(&self.index);
        sent.files = self.files.files().len();
        sent.bytes +=
            ever.iter().filter_map(|digest| self.blobs.get(digest)).map(|source| source.bytes).sum::<u64>();
        let is_new =
            |file: &artifact::assets::AssetFile| file.blobs().any(|(_, blob)| ever.contains(&blob.digest));
        sent.new += self.files.files().values().filter(|file| is_new(file)).count();
        outcome
    }

    /// Asks what is missing and sends it. With an error comes how many blobs arrived before it.
    fn round(
        &self,
        api: &Api,
        all: &[Digest],
        deadline: Instant,
        progress: &Progress,
        ever: &mut BTreeSet<Digest>,
    ) -> std::result::Result<(), (Error, usize)> {
        let mut missing = Vec::new();
        for some in all.chunks(ASKED_MAX) {
            missing.extend(api.missing_assets(some).map_err(|error| (error, 0))?);
        }
        // The index last: by then its files are there.
        missing.sort_by_key(|digest| *digest == self.index);
        let bytes: u64 =
            missing.iter().filter_map(|digest| self.blobs.get(digest)).map(|source| source.bytes).sum();
        let (next, gone) = (AtomicUsize::new(0), AtomicU64::new(0));
        let arrived = Mutex::new(Vec::new());
        let failed = Mutex::new(None);
        let locked = |error: Option<Error>| -> bool {
            let mut failed = failed.lock().unwrap_or_else(|held| held.into_inner());
            if failed.is_none() {
                *failed = error;
            }
            failed.is_some()
        };
        thread::scope(|scope| {
            for _ in 0..SENDERS.min(missing.len()) {
                scope.spawn(|| {
                    while !locked(None)
                        && let Some(digest) = missing.get(next.fetch_add(1, Relaxed))
                    {
                        let Some(source) = self.blobs.get(digest) else { continue };
                        let done = gone.fetch_add(source.bytes, Relaxed);
                        progress.now(format!(
                            "uploading static files: {} of {} KB, {}",
                            done / 1000,
                            bytes.div_ceil(1000),
                            source.path
                        ));
                        match source.send(api, digest, deadline) {
                            Ok(()) => arrived.lock().unwrap_or_else(|held| held.into_inner()).push(*digest),
                            Err(error) => drop(locked(Some(error))),
                        }
                    }
                });
            }
        });
        let arrived = arrived.into_inner().unwrap_or_else(|held| held.into_inner());
        let count = arrived.len();
        ever.extend(arrived);
        match failed.into_inner().unwrap_or_else(|held| held.into_inner()) {
            Some(error) => Err((error, count)),
            None => Ok(()),
        }
    }
}

impl Source {
    fn send(&self, api: &Api, digest: &Digest, deadline: Instant) -> Result<()> {
        let bytes = match &self.from {
            From::Memory(bytes) => Cow::Borrowed(bytes.as_slice()),
            From::Disk(disk) => {
                let folder = disk.parent().unwrap_or(disk);
                let bytes = read_bounded(disk, folder, &self.path)?;
                if Digest::of(&bytes) != *digest {
                    let why = format!("{} changed while it was deployed: deploy again", self.path);
                    return Err(refused(folder, &why));
                }
                Cow::Owned(bytes)
            }
        };
        api.put_asset(digest, &bytes, &self.path, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_said_in_one_line() {
        let sent = |files, new, bytes| Sent { files, new, bytes }.text();
        assert_eq!(sent(42, 3, 119_800), "42 files (3 new, 120 KB)");
        assert_eq!(sent(1, 0, 0), "1 file (0 new, 0 KB)");
        assert_eq!(sent(2, 1, 1), "2 files (1 new, 1 KB)");
    }
}
