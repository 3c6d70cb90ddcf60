//! The conformance suites, run on the adapters of one machine.

use fleet_sync_origin::{LocalBlobs, SqliteLog, blobs, log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sqlite_log_conforms() {
    let root = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let fresh = || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = root.path().join(format!("{number}.sqlite"));
        async move {
            let log = SqliteLog::open(&path).unwrap();
            log::conformance::Subject { log, reopen: Box::new(move || SqliteLog::open(&path).unwrap()) }
        }
    };
    log::conformance::run(fresh).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_blobs_conform() {
    let root = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let fresh = || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = root.path().join(number.to_string());
        async move { LocalBlobs::open(&path).unwrap() }
    };
    blobs::conformance::run(fresh).await;
}
