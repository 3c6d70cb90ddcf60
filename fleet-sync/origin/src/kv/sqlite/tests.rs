use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use fleet_sync_proto::kv::ListAsk;
use proptest::prelude::*;

use super::*;

/// The clock of the tests that move it. Each test that does has one of its own.
macro_rules! clock {
    ($name:ident) => {{
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let now: fn() -> u64 = || NOW.load(Relaxed);
        let $name = |ms: u64| NOW.fetch_add(ms, Relaxed);
        (now, $name)
    }};
}

fn at(store: &str, key: &str) -> At {
    of("acme", store, key)
}

fn of(tenant: &str, store: &str, key: &str) -> At {
    let space = Space { tenant: tenant.parse().unwrap(), store: store.parse().unwrap() };
    At { space, key: key.parse().unwrap() }
}

fn writes(at: At) -> PutAsk {
    PutAsk { at, mode: Mode::Overwrite, if_generation: None, ttl_ms: None, has_metadata: false }
}

struct Kv {
    store: SqliteKv,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
}

impl Kv {
    fn open() -> Kv {
        Kv::with_clock(|| 1_000_000)
    }

    fn with_clock(now: fn() -> u64) -> Kv {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = SqliteKv::open_at(&folder.path().join("kv.sqlite"), KvQuotas::default(), now).unwrap();
        Kv { store, runtime, folder }
    }

    fn ask(&self, ask: Message<Ask>) -> Message<Said> {
        self.runtime.block_on(self.store.ask(ask)).unwrap()
    }

    fn put_with(&self, put: PutAsk, value: &[u8]) -> Result<Generation, Refusal> {
        let message = Message { head: Ask::Put(put), metadata: vec![], value: value.to_vec() };
        match self.ask(message).head {
            Said::Stored { generation } => Ok(generation),
            Said::Refused { refusal } => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn put(&self, at: At, value: &str) -> Generation {
        self.put_with(writes(at), value.as_bytes()).unwrap()
    }

    fn get(&self, at: At) -> Option<(Generation, String)> {
        let Message { head, value, .. } = self.ask(Message::bare(Ask::Get(at)));
        match head {
            Said::Found { generation, .. } => Some((generation, String::from_utf8(value).unwrap())),
            Said::Missing { .. } => None,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&self, at: At, if_generation: Option<Generation>) -> Result<bool, Refusal> {
        match self.ask(Message::bare(Ask::Delete { at, if_generation })).head {
            Said::Deleted { existed } => Ok(existed),
            Said::Refused { refusal } => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn page(
        &self,
        store: &str,
        prefix: &str,
        limit: u32,
        cursor: Option<String>,
    ) -> (Vec<String>, Option<String>) {
        let space = at(store, "x").space;
        let list = ListAsk { space, prefix: prefix.to_owned(), limit, cursor };
        match self.ask(Message::bare(Ask::List(list))).head {
            Said::Page { keys, next } => (keys, next),
            other => panic!("{other:?}"),
        }
    }

    fn list(&self, store: &str, prefix: &str, limit: u32) -> Vec<String> {
        let (mut keys, mut next) = self.page(store, prefix, limit, None);
        while let Some(cursor) = next {
            let (more, after) = self.page(store, prefix, limit, Some(cursor));
            assert!(!more.is_empty(), "a cursor promises at least one key in a store at rest");
            keys.extend(more);
            next = after;
        }
        keys
    }

    fn used(&self, tenant: &str) -> (u64, u64, u64) {
        let [stores, keys, bytes] = self.store.inner.readers.with(|reader| used(reader, tenant)).unwrap();
        (stores, keys, bytes)
    }
}

#[test]
fn the_stores_of_a_tenant_are_those_that_hold_something_and_nobody_elses() {
    let kv = Kv::open();
    let stores = |tenant: &str| {
        let stores = kv.runtime.block_on(kv.store.stores(&tenant.parse().unwrap())).unwrap();
        stores.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let other = of("other", "theirs", "a");
    kv.put(at("users", "a"), "1");
    kv.put(at("carts", "a"), "1");
    kv.put(other.clone(), "1");
    let tenant = at("carts", "a").space.tenant;
    assert_eq!(stores(tenant.as_str()), ["carts", "users"]);
    assert_eq!(stores("other"), ["theirs"]);
    kv.delete(other, None).unwrap();
    assert_eq!(stores("other"), [""; 0]);
}

#[test]
fn what_was_written_is_there_after_reopening_and_only_for_its_tenant() {
    let kv = Kv::open();
    let generation = kv.put(at("carts", "a"), "1");
    assert_eq!(kv.get(of("other", "carts", "a")), None);
    assert_eq!(kv.get(at("other", "a")), None);
    let again =
        Kv { store: SqliteKv::open(&kv.folder.path().join("kv.sqlite"), KvQuotas::default()).unwrap(), ..kv };
    assert_eq!(again.get(at("carts", "a")), Some((generation, "1".into())));
}

#[test]
fn a_write_is_on_the_disk_before_it_is_acknowledged() {
    let kv = Kv::open();
    let writer = kv.store.inner.writer.lock();
    let synchronous: u64 = writer.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
    assert_eq!(synchronous, 2, "FULL: the log is synced with every commit");
    let journal: String = writer.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
}

#[test]
fn a_write_takes_a_bounded_part_of_what_has_expired_along() {
    let (now, advance) = clock!(advance);
    let kv = Kv::with_clock(now);
    for n in 0..5 {
        let put = PutAsk { ttl_ms: Some(2_000), ..writes(at("s", &n.to_string())) };
        kv.put_with(put, &vec![0; 2 << 20]).unwrap();
    }
    advance(2_000);
    kv.put(at("s", "a"), "v");
    assert_eq!(kv.used("acme").1, 5 - 2 + 1, "4 MiB of 10");
    kv.put(at("s", "a"), "v");
    kv.put(at("s", "a"), "v");
    assert_eq!(kv.used("acme").1, 1);
}

#[test]
fn a_file_of_a_later_release_is_refused() {
    let kv = Kv::open();
    kv.store.inner.writer.lock().execute("INSERT INTO kv_schema VALUES (2)", []).unwrap();
    let error = SqliteKv::open(&kv.folder.path().join("kv.sqlite"), KvQuotas::default()).unwrap_err();
    assert!(error.source.to_string().contains("newer release"), "{error:?}");
}

#[test]
fn generations_grow_and_none_is_given_twice_though_key_and_store_come_and_go() {
    let kv = Kv::open();
    let mut last = 0;
    for round in 0..3 {
        for _ in 0..2 {
            let next = kv.put(at("s", "k"), "v");
            assert!(next > last, "round {round}");
            last = next;
        }
        assert_eq!(kv.delete(at("s", "k"), None), Ok(true));
        assert_eq!(kv.used("acme"), (0, 0, 0));
    }
}

#[test]
fn a_generation_that_does_not_match_changes_nothing() {
    let kv = Kv::open();
    let put_if = |generation, value: &[u8]| {
        kv.put_with(PutAsk { if_generation: Some(generation), ..writes(at("s", "k")) }, value)
    };
    assert_eq!(put_if(1, b"x"), Err(Refusal::Precondition), "there is nothing");
    let first = kv.put(at("s", "k"), "1");
    assert_eq!(put_if(first + 1, b"x"), Err(Refusal::Precondition));
    let second = put_if(first, b"2").unwrap();
    assert_eq!(put_if(first, b"x"), Err(Refusal::Precondition), "a second one with the same knowledge");
    assert_eq!(kv.get(at("s", "k")), Some((second, "2".into())));
    assert_eq!(kv.delete(at("s", "k"), Some(first)), Err(Refusal::Precondition));
    assert_eq!(kv.delete(at("s", "k"), Some(second)), Ok(true));
    assert_eq!(kv.delete(at("s", "k"), Some(second)), Err(Refusal::Precondition));
    assert_eq!(kv.delete(at("s", "k"), None), Ok(false));
}

#[test]
fn add_append_and_prepend() {
    let kv = Kv::open();
    let put = |mode, value: &[u8]| kv.put_with(PutAsk { mode, ..writes(at("s", "k")) }, value);
    put(Mode::Append, b"b").unwrap();
    put(Mode::Append, b"c").unwrap();
    put(Mode::Prepend, b"a").unwrap();
    assert_eq!(put(Mode::Add, b"x"), Err(Refusal::Precondition));
    assert_eq!(kv.get(at("s", "k")).unwrap().1, "abc");
    put(Mode::Overwrite, b"z").unwrap();
    assert_eq!(kv.get(at("s", "k")).unwrap().1, "z");
    kv.delete(at("s", "k"), None).unwrap();
    put(Mode::Add, b"new").unwrap();
    assert_eq!(kv.get(at("s", "k")).unwrap().1, "new");
}

#[test]
fn append_keeps_metadata_and_life_unless_it_brings_its_own() {
    let kv = Kv::open();
    let put = |mode, ttl_ms, metadata: Option<&str>| {
        let ask = PutAsk { mode, ttl_ms, has_metadata: metadata.is_some(), ..writes(at("s", "k")) };
        let metadata = metadata.unwrap_or_default().into();
        kv.ask(Message { head: Ask::Put(ask), metadata, value: b"v".to_vec() });
        let Message { head: Said::Found { ttl_ms, .. }, metadata, .. } =
            kv.ask(Message::bare(Ask::Get(at("s", "k"))))
        else {
            panic!("it is there")
        };
        (ttl_ms, String::from_utf8(metadata).unwrap())
    };
    assert_eq!(put(Mode::Overwrite, Some(5_000), Some("m")), (Some(5_000), "m".into()));
    assert_eq!(put(Mode::Append, None, None), (Some(5_000), "m".into()));
    assert_eq!(put(Mode::Append, Some(9_000), Some("")), (Some(9_000), "".into()));
    assert_eq!(put(Mode::Overwrite, None, None), (None, "".into()));
}

#[test]
fn an_expired_entry_is_gone_at_once_and_its_room_with_the_next_write() {
    let (now, advance) = clock!(advance);
    let kv = Kv::with_clock(now);
    let put = PutAsk { ttl_ms: Some(2_000), ..writes(at("s", "k")) };
    let first = kv.put_with(put, b"v").unwrap();
    advance(1_999);
    assert!(kv.get(at("s", "k")).is_some());
    advance(1);
    assert_eq!(kv.get(at("s", "k")), None);
    assert_eq!(kv.list("s", "", 10), [""; 0]);
    assert_eq!(kv.delete(at("s", "k"), Some(first)), Err(Refusal::Precondition));
    kv.put(at("other", "x"), "1");
    assert_eq!(kv.used("acme"), (1, 1, 2), "what had expired is not counted any more");
    let again = kv.put_with(PutAsk { mode: Mode::Add, ..writes(at("s", "k")) }, b"w").unwrap();
    assert!(again > first);
}

#[test]
fn a_value_over_its_limit_is_refused_however_it_came_to_be() {
    let kv = Kv::open();
    let half = vec![b'x'; VALUE_BYTES_MAX / 2 + 1];
    kv.put_with(writes(at("s", "k")), &half).unwrap();
    let append = PutAsk { mode: Mode::Append, ..writes(at("s", "k")) };
    assert_eq!(kv.put_with(append, &half), Err(Refusal::ValueTooLarge));
    let too_large = vec![0; VALUE_BYTES_MAX + 1];
    assert_eq!(kv.put_with(writes(at("s", "k")), &too_large), Err(Refusal::ValueTooLarge));
    assert_eq!(kv.get(at("s", "k")).unwrap().1.len(), half.len(), "nothing changed");
}

#[test]
fn a_tenant_at_its_quota_is_refused_and_its_neighbour_is_not() {
    let (kv, quotas) = (Kv::open(), KvQuotas::default());
    for n in 0..quotas.stores_per_tenant_max {
        kv.put(at(&format!("s{n}"), "k"), "v");
    }
    let refused = kv.put_with(writes(at("one-more", "k")), b"v");
    assert_eq!(refused, Err(Refusal::Quota { of: "stores".into(), max: quotas.stores_per_tenant_max }));
    kv.put(of("neighbour", "s", "k"), "v");
    kv.put(at("s0", "k"), "replaced");
    kv.delete(at("s1", "k"), None).unwrap();
    kv.put(at("one-more", "k"), "v");

    let nearly = quotas.bytes_per_tenant_max - kv.used("acme").2;
    let add = "UPDATE tenants SET bytes = bytes + ?1 WHERE tenant = 'acme'";
    kv.store.inner.writer.lock().execute(add, [nearly]).unwrap();
    let refused = kv.put_with(writes(at("s0", "more")), b"");
    assert_eq!(refused, Err(Refusal::Quota { of: "bytes".into(), max: quotas.bytes_per_tenant_max }));
    assert_eq!(kv.put_with(writes(at("s0", "k")), b"smaller"), Ok(3), "what makes room is let through");
}

fn once(key: &str, request: &str) -> Once {
    Once { key: key.into(), request: artifact::Digest::of(request.as_bytes()) }
}

fn appends(value: &str) -> Message<Ask> {
    let put = PutAsk { mode: Mode::Append, ..writes(at("s", "k")) };
    Message { head: Ask::Put(put), metadata: vec![], value: value.into() }
}

impl Kv {
    fn ask_once(&self, ask: Message<Ask>, once: Once) -> Result<Said, OnceError> {
        self.runtime.block_on(self.store.ask_once(ask, once)).map(|said| said.head)
    }

    /// The process ends and another one opens the file.
    fn ends_and_comes_back(self, now: fn() -> u64) -> Kv {
        let Kv { store, runtime, folder } = self;
        drop((store, runtime));
        let store = SqliteKv::open_at(&folder.path().join("kv.sqlite"), KvQuotas::default(), now).unwrap();
        Kv { store, folder, ..Kv::open() }
    }
}

#[test]
fn an_append_repeated_after_a_crash_before_its_answer_is_done_once_and_answered_alike() {
    let kv = Kv::open();
    {
        // The write is under way when whoever was to hear of it is gone.
        let mut asked = Box::pin(kv.store.ask_once(appends("x"), once("key", "1")));
        kv.runtime.block_on(async {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        });
    }
    let kv = kv.ends_and_comes_back(|| 1_000_000);
    let written = kv.get(at("s", "k")).unwrap();
    assert_eq!(written.1, "x");
    for _ in 0..2 {
        let again = kv.ask_once(appends("x"), once("key", "1")).unwrap();
        assert_eq!(again, Said::Stored { generation: written.0 });
    }
    assert_eq!(kv.get(at("s", "k")), Some(written), "one append");
}

#[test]
fn a_deletion_under_a_name_says_the_second_time_what_it_said_the_first() {
    let kv = Kv::open();
    kv.put(at("s", "k"), "v");
    let delete = || Message::bare(Ask::Delete { at: at("s", "k"), if_generation: None });
    for _ in 0..2 {
        assert_eq!(kv.ask_once(delete(), once("d", "1")).unwrap(), Said::Deleted { existed: true });
    }
}

#[test]
fn a_name_is_one_tenants_and_one_writes_and_a_refusal_leaves_it_free() {
    let kv = Kv::open();
    let add = |tenant: &str| {
        let put = PutAsk { mode: Mode::Add, ..writes(of(tenant, "s", "k")) };
        Message { head: Ask::Put(put), metadata: vec![], value: vec![] }
    };
    kv.ask_once(add("acme"), once("n", "1")).unwrap();
    assert!(matches!(kv.ask_once(add("acme"), once("n", "2")), Err(OnceError::Reused)));
    assert!(matches!(kv.ask_once(add("other"), once("n", "2")), Ok(Said::Stored { .. })));
    let refused = Said::Refused { refusal: Refusal::Precondition };
    assert_eq!(kv.ask_once(add("acme"), once("free", "1")).unwrap(), refused);
    kv.delete(at("s", "k"), None).unwrap();
    assert!(matches!(kv.ask_once(add("acme"), once("free", "1")), Ok(Said::Stored { .. })));
    for key in ["", &"x".repeat(ONCE_KEY_BYTES_MAX + 1)] {
        assert!(matches!(kv.ask_once(add("acme"), once(key, "1")), Err(OnceError::Key)));
    }
}

#[test]
fn names_are_forgotten_after_a_week_and_those_of_one_tenant_are_bounded() {
    let (now, advance) = clock!(advance);
    let kv = Kv::with_clock(now);
    let kept = |kv: &Kv| -> u64 {
        let writer = kv.store.inner.writer.lock();
        writer.query_row("SELECT count(*) FROM written", [], |row| row.get(0)).unwrap()
    };
    kv.ask_once(appends("a"), once("n", "1")).unwrap();
    advance(once::KEEP_MS - 1);
    kv.ask_once(appends("a"), once("n", "1")).unwrap();
    assert_eq!(kv.get(at("s", "k")).unwrap().1, "a");
    advance(1);
    kv.ask_once(appends("b"), once("n", "2")).unwrap();
    assert_eq!((kv.get(at("s", "k")).unwrap().1, kept(&kv)), ("ab".into(), 1));
    advance(once::KEEP_MS);
    kv.put(at("s", "other"), "");
    assert_eq!(kept(&kv), 0, "any write takes them along");

    kv.ask_once(appends("c"), once("old", "1")).unwrap();
    kv.ask_once(appends("c"), once("new", "1")).unwrap();
    let last = "UPDATE written SET number = ?1 WHERE key = 'new'";
    kv.store.inner.writer.lock().execute(last, [once::OF_TENANT_MAX]).unwrap();
    assert_eq!(kept(&kv), 2);
    kv.ask_once(appends("c"), once("newer", "1")).unwrap();
    assert_eq!(kept(&kv), 2, "the oldest has gone");
}

#[test]
fn a_tenant_over_a_quota_that_was_lowered_reads_deletes_and_replaces_but_adds_nothing() {
    let kv = Kv::open();
    for key in ["a", "b", "c"] {
        kv.put(at("s", key), "value");
    }
    let quotas = KvQuotas { keys_per_tenant_max: 2, bytes_per_tenant_max: 10, ..KvQuotas::default() };
    let Kv { store, runtime, folder } = kv;
    drop(store);
    let store = SqliteKv::open(&folder.path().join("kv.sqlite"), quotas).unwrap();
    let kv = Kv { store, runtime, folder };
    assert_eq!(kv.get(at("s", "a")).unwrap().1, "value");
    kv.put(at("s", "a"), "other");
    kv.put(at("s", "a"), "");
    let refused = |of: &str, max| Err(Refusal::Quota { of: of.into(), max });
    assert_eq!(kv.put_with(writes(at("s", "a")), b"longer"), refused("bytes", 10));
    assert_eq!(kv.put_with(writes(at("s", "d")), b""), refused("keys", 2));
    kv.delete(at("s", "a"), None).unwrap();
    assert_eq!(kv.put_with(writes(at("s", "a")), b""), refused("keys", 2));
    kv.delete(at("s", "b"), None).unwrap();
    kv.put(at("s", "a"), "");
}

impl Kv {
    /// `count` entries that have expired at time 1, `a00000` and on, and none of them swept.
    fn with_expired(count: usize) -> Kv {
        let kv = Kv::open();
        kv.put(at("s", "zz"), "");
        let mut writer = kv.store.inner.writer.lock();
        let transaction = writer.transaction().unwrap();
        for n in 0..count {
            let sql =
                "INSERT INTO entries (tenant, store, key, generation, expires_ms, bytes, metadata, value)
                       VALUES ('acme', 's', ?1, 1, 1, 0, x'', x'')";
            transaction.execute(sql, [format!("a{n:05}").into_bytes()]).unwrap();
        }
        let counted = "UPDATE tenants SET keys = keys + ?1";
        transaction.execute(counted, [count]).unwrap();
        transaction.execute("UPDATE stores SET keys = keys + ?1", [count]).unwrap();
        transaction.commit().unwrap();
        drop(writer);
        kv
    }
}

#[test]
fn a_page_looks_at_a_bounded_number_of_expired_entries_and_its_cursor_goes_on() {
    let kv = Kv::with_expired(2 * list::LOOKED_AT_MAX);
    let (mut pages, mut keys, mut next) = (0, vec![], None);
    loop {
        let (found, after) = kv.page("s", "", 10, next);
        pages += 1;
        keys.extend(found);
        next = after;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((pages, keys), (3, vec!["zz".to_owned()]), "two pages of nothing, then what lies behind");
    let (found, next) = kv.page("s", "a0", 10, None);
    assert!(found.is_empty() && next.is_some());
    assert_eq!(kv.page("s", "z", 10, None), (vec!["zz".to_owned()], None));
}

#[test]
fn what_has_expired_leaves_in_bounded_batches_though_nobody_writes() {
    let kv = Kv::with_expired(2_500);
    let mut left = Vec::new();
    loop {
        let swept = kv.runtime.block_on(kv.store.sweep()).unwrap();
        left.push(kv.used("acme").1);
        if swept == Swept::All {
            break;
        }
    }
    assert_eq!(left, [1_501, 501, 1]);
    assert_eq!(kv.runtime.block_on(kv.store.sweep()).unwrap(), Swept::All);
}

#[test]
fn a_tenant_at_a_quota_gets_the_room_of_its_expired_entries_though_others_have_many() {
    let (now, advance) = clock!(advance);
    let kv = Kv::with_clock(now);
    let max = KvQuotas::default().stores_per_tenant_max;
    let passing = |at| PutAsk { ttl_ms: Some(2_000), ..writes(at) };
    // Those of others expired first and are more than writes take along.
    for n in 0..200 {
        kv.put_with(passing(of("others", "s", &format!("k{n}"))), b"v").unwrap();
    }
    advance(1);
    for n in 0..max {
        kv.put_with(passing(at(&format!("s{n}"), "k")), b"v").unwrap();
    }
    let new = || kv.put_with(writes(at("new", "k")), b"v");
    advance(1_998);
    assert_eq!(new(), Err(Refusal::Quota { of: "stores".into(), max }), "none of its own has expired");
    advance(2);
    new().unwrap();
    assert!(kv.used("others").1 > 0, "they were first in the queue, and are not gone yet");
    assert_eq!(kv.used("acme"), (1, 1, 2));
}

#[test]
fn a_read_does_not_wait_for_a_read_that_is_under_way() {
    let kv = Kv::open();
    kv.put(at("s", "k"), "v");
    let readers = &kv.store.inner.readers;
    readers.with(|_| readers.with(|_| readers.with(|_| assert!(kv.get(at("s", "k")).is_some()))));
}

/// Reads until `stop`, each read ending only after the other reader has begun its next: there is always one.
fn reads_overlapping(path: &std::path::Path, began: &[AtomicU64; 2], me: usize, stop: &AtomicU64) {
    let reader = Connection::open(path).unwrap();
    while stop.load(Relaxed) == 0 {
        let others = began[1 - me].load(Relaxed);
        reader.execute_batch("BEGIN").unwrap();
        let _: u64 = reader.query_row("SELECT count(*) FROM tenants", [], |row| row.get(0)).unwrap();
        began[me].fetch_add(1, Relaxed);
        while began[1 - me].load(Relaxed) == others && stop.load(Relaxed) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        reader.execute_batch("COMMIT").unwrap();
    }
}

#[test]
fn the_write_ahead_log_stays_small_though_reads_overlap_without_an_end() {
    const VALUE_BYTES: usize = 4 << 20;
    let kv = Kv::open();
    kv.put(at("s", "k"), "v");
    let path = kv.folder.path().join("kv.sqlite");
    let (began, stop) = ([AtomicU64::new(0), AtomicU64::new(0)], AtomicU64::new(0));
    let largest = std::thread::scope(|threads| {
        for me in 0..2 {
            let (path, began, stop) = (&path, &began, &stop);
            threads.spawn(move || reads_overlapping(path, began, me, stop));
        }
        let value = vec![b'x'; VALUE_BYTES];
        let size = || std::fs::metadata(wal::path_of(&path)).unwrap().len();
        let sizes = (0..25).map(|_| kv.put_with(writes(at("s", "k")), &value).map(|_| size()));
        let largest = sizes.collect::<Result<Vec<u64>, _>>().map(|sizes| sizes.into_iter().max());
        stop.store(1, Relaxed);
        largest.unwrap().unwrap()
    });
    let one_write = VALUE_BYTES as u64 + (1 << 20);
    assert!(largest <= wal::BYTES_MAX + one_write, "{largest}");
    assert!(largest > wal::BYTES_MAX, "{largest}: there was nothing to hold small");
}

#[test]
fn a_sweep_empties_a_large_write_ahead_log_of_a_store_that_nobody_writes_to() {
    let kv = Kv::open();
    let reader = Connection::open(kv.folder.path().join("kv.sqlite")).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM tenants").unwrap();
    let size = || std::fs::metadata(wal::path_of(&kv.folder.path().join("kv.sqlite"))).unwrap().len();
    for _ in 0..5 {
        kv.put_with(writes(at("s", "k")), &vec![b'x'; VALUE_BYTES_MAX]).unwrap();
    }
    assert!(size() > wal::BYTES_MAX, "{}", size());
    kv.runtime.block_on(kv.store.sweep()).unwrap();
    assert!(size() > wal::BYTES_MAX, "a read that does not end is waited for a while and let be");
    reader.execute_batch("COMMIT").unwrap();
    kv.runtime.block_on(kv.store.sweep()).unwrap();
    assert_eq!(size(), 0);
}

#[test]
fn a_forged_cursor_is_refused() {
    let kv = Kv::open();
    for cursor in ["", "0", "zz", "é", &"61".repeat(1025), &list::cursor_after(b"other")] {
        let list = ListAsk {
            space: at("s", "k").space,
            prefix: "pre".into(),
            limit: 1,
            cursor: Some(cursor.to_owned()),
        };
        let said = kv.ask(Message::bare(Ask::List(list))).head;
        assert!(matches!(said, Said::Refused { refusal: Refusal::Invalid { .. } }), "{cursor:?}: {said:?}");
    }
}

#[test]
fn a_key_that_stays_is_listed_once_though_others_come_and_go_between_pages() {
    let kv = Kv::open();
    for key in ["a", "b", "c", "d", "e"] {
        kv.put(at("s", key), "v");
    }
    let (first, next) = kv.page("s", "", 2, None);
    assert_eq!(first, ["a", "b"]);
    kv.delete(at("s", "b"), None).unwrap();
    kv.delete(at("s", "c"), None).unwrap();
    kv.put(at("s", "aa"), "v");
    kv.put(at("s", "dd"), "v");
    let (second, next) = kv.page("s", "", 2, next);
    assert_eq!(second, ["d", "dd"]);
    assert_eq!(kv.page("s", "", 2, next), (vec!["e".to_owned()], None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a plain map: any keys (also those that are prefixes of others, or not ASCII), any prefix, any page.
    #[test]
    fn a_list_is_exactly_the_live_keys_with_the_prefix_in_the_order_of_bytes(
        operations in proptest::collection::vec(("[ab/é\u{10ffff}]{1,4}", any::<bool>()), 0..40),
        prefix in "[ab/é\u{10ffff}]{0,2}",
        limit in 1u32..6,
    ) {
        let kv = Kv::open();
        let mut model = BTreeMap::new();
        for (key, keeps) in operations {
            if keeps {
                kv.put(at("s", &key), &key);
                kv.put(at("t", &format!("{key}!")), "elsewhere");
                model.insert(key.into_bytes(), ());
            } else {
                let existed = kv.delete(at("s", &key), None).unwrap();
                prop_assert_eq!(existed, model.remove(key.as_bytes()).is_some());
            }
        }
        let wanted: Vec<String> = model
            .into_keys()
            .map(|key| String::from_utf8(key).unwrap())
            .filter(|key| key.starts_with(&prefix))
            .collect();
        prop_assert_eq!(kv.list("s", &prefix, limit), wanted);
    }
}
