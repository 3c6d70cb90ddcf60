//! What every [`BlobStore`] must do. Each adapter's tests call [`run`] with a maker of fresh, empty stores.

use std::future::Future;

use artifact::Digest;
use bytes::Bytes;

use super::{BlobError, BlobStore};

/// Runs every case. Panics at the first that fails.
pub async fn run<B, F>(fresh: impl Fn() -> F)
where
    B: BlobStore,
    F: Future<Output = B>,
{
    what_was_put_is_got_by_its_digest(fresh().await).await;
    what_is_not_there_is_missing(fresh().await).await;
    ranges_are_cut_at_the_end(fresh().await).await;
    deleting_is_idempotent_and_putting_again_works(fresh().await).await;
    writers_of_one_blob_do_not_disturb_each_other(fresh().await).await;
}

async fn what_was_put_is_got_by_its_digest<B: BlobStore>(store: B) {
    for bytes in [Bytes::new(), Bytes::from_static(b"code"), Bytes::from(vec![7; 3_000_000])] {
        let digest = store.put(bytes.clone()).await.expect("put");
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(store.put(bytes.clone()).await.expect("put again"), digest);
        assert_eq!(store.get(digest).await.expect("get"), bytes);
        assert_eq!(store.size(digest).await.expect("size"), Some(bytes.len() as u64));
    }
}

async fn what_is_not_there_is_missing<B: BlobStore>(store: B) {
    let digest = Digest::of(b"never put");
    assert!(matches!(store.get(digest).await, Err(BlobError::Missing(_))));
    assert!(matches!(store.get_range(digest, 0..1).await, Err(BlobError::Missing(_))));
    assert!(!store.exists(digest).await.expect("exists"));
}

async fn ranges_are_cut_at_the_end<B: BlobStore>(store: B) {
    let digest = store.put(Bytes::from_static(b"0123456789")).await.expect("put");
    for (range, expected) in
        [(0..4, "0123"), (4..10, "456789"), (8..99, "89"), (10..20, ""), (50..60, ""), (3..3, "")]
    {
        let got = store.get_range(digest, range.clone()).await.expect("range");
        assert_eq!(got, expected, "{range:?}");
    }
}

async fn deleting_is_idempotent_and_putting_again_works<B: BlobStore>(store: B) {
    let digest = store.put(Bytes::from_static(b"x")).await.expect("put");
    for _ in 0..2 {
        store.delete(digest).await.expect("delete");
        assert!(!store.exists(digest).await.expect("exists"));
    }
    store.put(Bytes::from_static(b"x")).await.expect("put after delete");
    assert!(store.exists(digest).await.expect("exists"));
}

async fn writers_of_one_blob_do_not_disturb_each_other<B: BlobStore>(store: B) {
    let bytes = Bytes::from(vec![3; 500_000]);
    let puts = (0..8).map(|_| store.put(bytes.clone()));
    for put in futures_util::future::join_all(puts).await {
        assert_eq!(put.expect("one of eight puts"), Digest::of(&bytes));
    }
    assert_eq!(store.get(Digest::of(&bytes)).await.expect("get"), bytes);
}
