//! Configuration, secrets and key-value stores.

use std::sync::Arc;

use artifact::{
    manifest::AppConfig,
    seal::{NONCE_BYTES, SecretsKey},
    secrets::{PinnedSecret, SecretAt, SecretValue},
};

use futures_util::FutureExt as _;

use super::script::{
    Arg::{At, N, T, To},
    Memory, Out, Script,
};
use crate::{
    exchange::Exchange,
    generation::Deployment,
    guest::fastly::abi::Status,
    host::{
        Host,
        kv::{self, memory::MemoryKv},
        secrets::Secrets,
    },
    testing,
};

pub fn configuration_is_read_from_its_store() {
    for module in ["fastly_config_store", "fastly_dictionary"] {
        let mut guest = Script::new();
        let (open, get) = (format!("{module}.open"), format!("{module}.get"));
        let store = guest.gives(&open, vec![T("settings")]);
        let (value, written, needed) = (guest.out(16), guest.out(4), guest.out(4));
        guest.call(&get, &[At(store), T("key"), To(value), N(16), To(written)]);
        guest.answers(Status::BufferTooShort, &get, &[At(store), T("key"), To(value), N(2), To(needed)]);
        guest.answers(Status::None, &get, &[At(store), T("other"), To(value), N(16), To(needed)]);
        guest.answers(Status::Invalid, &get, &[At(store), T(""), To(value), N(16), N(0)]);
        let long = "k".repeat(256);
        guest.answers(Status::Unsupported, &get, &[At(store), T(&long), To(value), N(16), N(0)]);
        guest.answers(Status::BadHandle, &get, &[N(u32::MAX), T("key"), To(value), N(16), N(0)]);
        let out = guest.out(4);
        guest.answers(Status::BadHandle, &open, &[T("other"), To(out)]);
        guest.answers(Status::None, &open, &[T(""), To(out)]);
        let entries = [("key".to_owned(), "value".to_owned())].into();
        let config =
            AppConfig { config_stores: [("settings".to_owned(), entries)].into(), ..super::config() };
        let memory = guest.run_in(testing::exchange(config), super::get("/"));
        assert_eq!(memory.text(value, written), "value");
    }
}

pub fn secrets_are_read_from_their_store_or_made() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_secret_store.open", vec![T("vault")]);
    let secret = guest.gives("fastly_secret_store.get", vec![At(store), T("TOKEN")]);
    let made = guest.gives("fastly_secret_store.from_bytes", vec![T("own")]);
    let (text, written, own, own_written) = (guest.out(16), guest.out(4), guest.out(16), guest.out(4));
    let plaintext = "fastly_secret_store.plaintext";
    guest.call(plaintext, &[At(secret), To(text), N(16), To(written)]);
    guest.call(plaintext, &[At(made), To(own), N(16), To(own_written)]);
    guest.answers(Status::BufferTooShort, plaintext, &[At(made), To(own), N(2), To(own_written)]);
    guest.call(plaintext, &[At(made), To(own), N(16), To(own_written)]);
    let out = guest.out(4);
    guest.answers(Status::None, "fastly_secret_store.get", &[At(store), T("OTHER"), To(out)]);
    guest.answers(Status::None, "fastly_secret_store.open", &[T("other"), To(out)]);
    guest.answers(Status::Invalid, "fastly_secret_store.open", &[T(""), To(out)]);
    guest.answers(Status::BadHandle, plaintext, &[At(store), To(own), N(16), To(out)]);
    let memory = guest.run_in(with_secret(), super::get("/"));
    assert_eq!(memory.text(text, written), "s3cret");
    assert_eq!(memory.text(own, own_written), "own");
}

/// Gives a deployment a secret.
pub fn pin(deployment: &mut Deployment, store: &str, name: &str, value: &str) {
    let key = SecretsKey::from_bytes([1; 32]);
    let at = SecretAt { store: Some(store.parse().unwrap()), name: name.parse().unwrap() };
    let value = SecretValue::new(value.as_bytes().to_vec());
    let value = at.seal(&key, &deployment.id, [3; NONCE_BYTES], &value);
    let pinned = [PinnedSecret { at, value }];
    deployment.secrets = Arc::new(Secrets::open(&key, &deployment.id, &pinned).unwrap());
}

/// An exchange of an app whose store `vault` has one secret.
fn with_secret() -> Exchange {
    let stores = [("vault".to_owned(), vec!["TOKEN".to_owned()])].into();
    let mut deployment =
        testing::deployment("test", 1, AppConfig { secret_stores: stores, ..super::config() });
    pin(&mut deployment, "vault", "TOKEN", "s3cret");
    Exchange::begin(Arc::new(deployment), testing::connection(), testing::host())
}

/// An exchange of an app with the store `carts`.
fn with_store() -> Exchange {
    let config = AppConfig { kv_stores: vec!["carts".into()], ..super::config() };
    testing::exchange(config)
}

fn run(guest: &Script) -> Memory {
    guest.run_in(with_store(), super::get("/"))
}

fn body(guest: &mut Script, text: &str) -> Out {
    let body = guest.gives("fastly_http_body.new", vec![]);
    guest.gives("fastly_http_body.write", vec![At(body), T(text), N(0)]);
    body
}

/// The struct of an insert's options: mode, metadata, life, generation.
fn insert_options(guest: &mut Script, mode: u32, metadata: &str, ttl: u32, generation: u32) -> Out {
    let text = guest.text(metadata);
    guest.fields(&[mode, 0, text.0, metadata.len() as u32, ttl, 0, generation, 0])
}

const METADATA: u32 = 1 << 3;
const TTL: u32 = 1 << 4;
const IF_GENERATION: u32 = 1 << 5;

/// Inserts and waits; the outcome.
fn insert(guest: &mut Script, store: Out, key: &str, value: &str, mask: u32, options: Out) -> Out {
    let value = body(guest, value);
    let arguments = vec![At(store), T(key), At(value), N(mask), To(options)];
    let insert = guest.gives("fastly_kv_store.insert", arguments);
    guest.gives("fastly_kv_store.insert_wait", vec![At(insert)])
}

/// What a lookup gave.
struct Found {
    body: Out,
    metadata: (Out, Out),
    generation: Out,
    outcome: Out,
}

fn lookup(guest: &mut Script, store: Out, key: &str, wait: &str) -> Found {
    let lookup = guest.gives("fastly_kv_store.lookup", vec![At(store), T(key), N(0), N(0)]);
    let found = Found {
        body: guest.out(4),
        metadata: (guest.out(32), guest.out(4)),
        generation: guest.out(8),
        outcome: guest.out(4),
    };
    let Found { body, metadata, generation, outcome } = &found;
    let arguments =
        [At(lookup), To(*body), To(metadata.0), N(32), To(metadata.1), To(*generation), To(*outcome)];
    guest.call(&format!("fastly_kv_store.{wait}"), &arguments);
    found
}

fn read(guest: &mut Script, body: Out) -> (Out, Out) {
    let (text, length) = (guest.out(128), guest.out(4));
    guest.call("fastly_http_body.read", &[At(body), To(text), N(128), To(length)]);
    (text, length)
}

pub fn entries_are_written_found_listed_and_deleted() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_kv_store.open", vec![T("carts")]);
    let options = insert_options(&mut guest, 0, "meta", 60, 0);
    let inserted = insert(&mut guest, store, "a/1", "value", METADATA | TTL, options);
    insert(&mut guest, store, "a/2", "two", 0, options);
    insert(&mut guest, store, "b/1", "three", 0, options);
    let found = lookup(&mut guest, store, "a/1", "lookup_wait_v2");
    let value = read(&mut guest, found.body);
    let older = lookup(&mut guest, store, "a/1", "lookup_wait");
    let prefix = guest.text("a/");
    let listing = guest.fields(&[0, 0, 0, 1, prefix.0, 2]);
    let list = guest.gives("fastly_kv_store.list", vec![At(store), N(0b1100), To(listing)]);
    let (page, outcome) = (guest.out(4), guest.out(4));
    guest.call("fastly_kv_store.list_wait", &[At(list), To(page), To(outcome)]);
    let keys = read(&mut guest, page);
    let delete = guest.gives("fastly_kv_store.delete", vec![At(store), T("a/1"), N(0), N(0)]);
    let deleted = guest.gives("fastly_kv_store.delete_wait", vec![At(delete)]);
    let gone = lookup(&mut guest, store, "a/1", "lookup_wait_v2");
    let out = guest.out(4);
    guest.answers(Status::Invalid, "fastly_kv_store.open", &[T("other"), To(out)]);
    let memory = run(&guest);
    assert_eq!([inserted, found.outcome, older.outcome, deleted].map(|at| memory.u32(at)), [1; 4]);
    assert_eq!(memory.text(value.0, value.1), "value");
    assert_eq!(memory.text(found.metadata.0, found.metadata.1), "meta");
    assert_eq!((memory.u64(found.generation), memory.u64(older.generation)), (1, 0));
    let keys: serde_json::Value = serde_json::from_str(memory.text(keys.0, keys.1)).unwrap();
    assert_eq!((&keys["data"], &keys["meta"]["limit"]), (&serde_json::json!(["a/1"]), &1.into()));
    assert!(keys["meta"]["next_cursor"].is_string(), "{keys}");
    assert_eq!((memory.u32(gone.outcome), memory.u32(gone.body)), (3, u32::MAX - 1), "not found");
}

/// An exchange that has done so many operations, of an app whose store has so many entries that expired, and one more.
fn with_expired(entries: u32, done: u32) -> Exchange {
    let host = Host { kv: Arc::new(MemoryKv::with_expired("gone")), ..testing::bare_host() };
    let config = AppConfig { kv_stores: vec!["carts".into()], ..super::config() };
    let deployment = Arc::new(testing::deployment("test", 1, config));
    let mut exchange = Exchange::begin(deployment, testing::connection(), Arc::new(host));
    let store = kv::open(&exchange, "carts").unwrap();
    for number in 0..done {
        let key = if number < entries { format!("gone/{number:03}") } else { "there".to_owned() };
        let put = kv::insert(&mut exchange, &store, &key, "v".into(), kv::Insert::default()).unwrap();
        put.now_or_never().unwrap().unwrap();
    }
    exchange
}

pub fn a_page_without_keys_is_the_last() {
    let list = |guest: &mut Script| {
        let store = guest.gives("fastly_kv_store.open", vec![T("carts")]);
        let options = guest.fields(&[0, 0, 0, 0, 0, 0]);
        guest.gives("fastly_kv_store.list", vec![At(store), N(0), To(options)])
    };
    let mut guest = Script::new();
    let (listing, page, outcome) = (list(&mut guest), guest.out(4), guest.out(4));
    guest.call("fastly_kv_store.list_wait", &[At(listing), To(page), To(outcome)]);
    let keys = read(&mut guest, page);
    let memory = guest.run_in(with_expired(9, 10), super::get("/"));
    assert_eq!(memory.u32(outcome), 1);
    assert_eq!(memory.text(keys.0, keys.1), r#"{"data":["there"],"meta":{"limit":100}}"#);

    // Each round is an operation. Where there are no more of them, it is an error, not the end.
    let mut guest = Script::new();
    let (listing, page, outcome) = (list(&mut guest), guest.out(4), guest.out(4));
    let arguments = [At(listing), To(page), To(outcome)];
    guest.answers(Status::LimitExceeded, "fastly_kv_store.list_wait", &arguments);
    let memory = guest.run_in(with_expired(9, kv::OPERATIONS_MAX - 3), super::get("/"));
    assert_eq!((memory.u32(page), memory.u32(outcome)), (u32::MAX - 1, 0));
}

pub fn an_insert_keeps_its_conditions() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_kv_store.open", vec![T("carts")]);
    let modes = [0, 1, 2, 3].map(|mode| insert_options(&mut guest, mode, "", 0, 9));
    let outcomes = [
        insert(&mut guest, store, "k", "b", 0, modes[1]),
        insert(&mut guest, store, "k", "again", 0, modes[1]),
        insert(&mut guest, store, "k", "c", 0, modes[2]),
        insert(&mut guest, store, "k", "a", 0, modes[3]),
        insert(&mut guest, store, "k", "x", IF_GENERATION, modes[0]),
        insert(&mut guest, store, "", "x", 0, modes[0]),
    ];
    let found = lookup(&mut guest, store, "k", "lookup_wait_v2");
    let value = read(&mut guest, found.body);
    let memory = run(&guest);
    assert_eq!(outcomes.map(|outcome| memory.u32(outcome)), [1, 4, 1, 1, 4, 2]);
    assert_eq!(memory.text(value.0, value.1), "abc");
}

pub fn options_that_are_unknown_are_refused() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_kv_store.open", vec![T("carts")]);
    let (value, out) = (body(&mut guest, "x"), guest.out(4));
    let bad_mode = insert_options(&mut guest, 4, "", 0, 0);
    let good = insert_options(&mut guest, 0, "", 0, 0);
    let insert = |mask, options| [At(store), T("k"), At(value), N(mask), To(options), To(out)];
    for mask in [1, 1 << 2, 1 << 6] {
        guest.answers(Status::Invalid, "fastly_kv_store.insert", &insert(mask, good));
    }
    guest.answers(Status::Invalid, "fastly_kv_store.insert", &insert(0, bad_mode));
    for function in ["lookup", "delete"] {
        let arguments = [At(store), T("k"), N(1), N(0), To(out)];
        guest.answers(Status::Invalid, &format!("fastly_kv_store.{function}"), &arguments);
    }
    let list = |mask, options| [At(store), N(mask), To(options), To(out)];
    guest.answers(Status::Invalid, "fastly_kv_store.list", &list(1, good));
    guest.answers(Status::Invalid, "fastly_kv_store.list", &list(0, bad_mode));
    for function in ["lookup_wait", "insert_wait", "delete_wait", "list_wait"] {
        let arguments: &[_] = match function {
            "lookup_wait" => &[At(store), To(out), To(out), N(0), To(out), To(out), To(out)],
            "list_wait" => &[At(store), To(out), To(out)],
            _ => &[At(store), To(out)],
        };
        guest.answers(Status::BadHandle, &format!("fastly_kv_store.{function}"), arguments);
    }
    // The value is still there: nothing was used up.
    guest.call("fastly_kv_store.insert", &insert(0, good));
    run(&guest);
}

pub fn metadata_that_does_not_fit_leaves_the_answer() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_kv_store.open", vec![T("carts")]);
    let options = insert_options(&mut guest, 0, "0123456789", 0, 0);
    insert(&mut guest, store, "k", "v", METADATA, options);
    let lookup = guest.gives("fastly_kv_store.lookup", vec![At(store), T("k"), N(0), N(0)]);
    let ready = guest.gives("fastly_async_io.is_ready", vec![At(lookup)]);
    let (out, metadata, generation) = (guest.out(4), guest.out(16), guest.out(8));
    let (needed, written) = (guest.out(4), guest.out(4));
    let wait = |length, written| {
        [At(lookup), To(out), To(metadata), N(length), To(written), To(generation), To(out)]
    };
    guest.answers(Status::BufferTooShort, "fastly_kv_store.lookup_wait_v2", &wait(9, needed));
    guest.call("fastly_kv_store.lookup_wait_v2", &wait(10, written));
    let memory = run(&guest);
    assert_eq!((memory.u32(needed), memory.u32(ready)), (10, 1));
    assert_eq!(memory.text(metadata, written), "0123456789");
}

pub fn the_older_interface_tells_by_status() {
    let mut guest = Script::new();
    let store = guest.gives("fastly_object_store.open", vec![T("carts")]);
    let (one, two) = (body(&mut guest, "one"), body(&mut guest, "two"));
    guest.call("fastly_object_store.insert", &[At(store), T("1"), At(one)]);
    let insert = guest.gives("fastly_object_store.insert_async", vec![At(store), T("2"), At(two)]);
    guest.call("fastly_object_store.pending_insert_wait", &[At(insert)]);
    let found = guest.gives("fastly_object_store.lookup", vec![At(store), T("1")]);
    let value = read(&mut guest, found);
    let lookup = guest.gives("fastly_object_store.lookup_async", vec![At(store), T("2")]);
    let found = guest.gives("fastly_object_store.pending_lookup_wait", vec![At(lookup)]);
    let second = read(&mut guest, found);
    let delete = guest.gives("fastly_object_store.delete_async", vec![At(store), T("1")]);
    guest.call("fastly_object_store.pending_delete_wait", &[At(delete)]);
    let out = guest.out(4);
    guest.answers(Status::None, "fastly_object_store.lookup", &[At(store), T("1"), To(out)]);
    guest.answers(Status::Invalid, "fastly_object_store.lookup", &[At(store), T(""), To(out)]);
    guest.answers(Status::BadHandle, "fastly_object_store.pending_delete_wait", &[At(delete)]);
    guest.answers(Status::Invalid, "fastly_object_store.open", &[T("other"), To(out)]);
    let memory = run(&guest);
    assert_eq!(memory.text(value.0, value.1), "one");
    assert_eq!(memory.text(second.0, second.1), "two");
}
