use std::task::{Context, Waker};

use artifact::manifest::AppConfig;
use tokio::sync::oneshot;

use super::{memory::MemoryKv, *};
use crate::{
    host::{Host, held::FREE_BYTES, tape::Tape, wait},
    limits::{EXECUTION, Limit},
    memory::Budget,
    testing::{self, local},
};

/// An exchange of an app that declared the store `carts`, on a node with these stores.
fn exchange(kv: Arc<dyn KvStore>) -> Exchange {
    let config = AppConfig { kv_stores: vec!["carts".into()], ..AppConfig::default() };
    let mut exchange = testing::exchange(config);
    exchange.host = Arc::new(Host { kv, ..testing::bare_host() });
    exchange
}

fn value(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn an_app_opens_the_stores_it_declared_and_no_other() {
    let exchange = exchange(Arc::new(MemoryKv::default()));
    assert!(open(&exchange, "carts").is_ok());
    assert_eq!(open(&exchange, "prices"), Err(NoStore));
    assert_eq!(open(&exchange, ""), Err(NoStore));
}

#[test]
fn what_is_written_is_found_listed_and_deleted_for_this_tenant() {
    let kv = Arc::new(MemoryKv::default());
    let mut exchange = exchange(kv.clone());
    let store = open(&exchange, "carts").unwrap();
    local(async {
        let exchange = &mut exchange;
        assert_eq!(get(exchange, &store, "a").unwrap().await, Ok(None));
        let how = Insert { metadata: Some(value("meta")), ..Insert::default() };
        let first = insert(exchange, &store, "a", value("1"), how).unwrap().await.unwrap();
        insert(exchange, &store, "b", value("2"), Insert::default()).unwrap().await.unwrap();
        let entry = get(exchange, &store, "a").unwrap().await.unwrap().unwrap();
        assert_eq!((entry.value, entry.metadata, entry.generation), (value("1"), value("meta"), first));
        let stale = Insert { if_generation: Some(first + 9), ..Insert::default() };
        let refused = insert(exchange, &store, "a", value("x"), stale).unwrap().await;
        assert_eq!(refused, Err(KvError::Precondition));
        let page = list(exchange, &store, "", 1, None).unwrap().await.unwrap();
        assert_eq!(page.keys, ["a"]);
        let page = list(exchange, &store, "", 1, page.next).unwrap().await.unwrap();
        assert_eq!(page, Page { keys: vec!["b".into()], next: None });
        assert_eq!(delete(exchange, &store, "a", None).unwrap().await, Ok(true));
        assert_eq!(delete(exchange, &store, "a", None).unwrap().await, Ok(false));
    });
    assert_eq!(kv.entries(), [("carts".to_owned(), "b".to_owned(), b"2".to_vec())]);
}

#[test]
fn what_is_no_key_life_or_page_is_refused_before_anything_is_asked() {
    let mut exchange = exchange(Arc::new(Away));
    let store = open(&exchange, "carts").unwrap();
    assert!(matches!(get(&mut exchange, &store, ""), Err(KvError::Invalid(_))));
    assert!(matches!(get(&mut exchange, &store, "a\nb"), Err(KvError::Invalid(_))));
    let short = Insert { ttl: Some(Duration::from_millis(1)), ..Insert::default() };
    assert!(matches!(insert(&mut exchange, &store, "k", value(""), short), Err(KvError::Invalid(_))));
    let large = Insert { metadata: Some(vec![0; 2049].into()), ..Insert::default() };
    let refused = insert(&mut exchange, &store, "k", value(""), large);
    assert!(matches!(refused, Err(KvError::MetadataTooLarge)));
    assert!(matches!(list(&mut exchange, &store, "", 0, None), Err(KvError::Invalid(_))));
    assert_eq!(exchange.kv.started, 0);
}

/// Answers when the test says so.
#[derive(Default)]
struct Slow(parking_lot::Mutex<Vec<oneshot::Sender<Message<Said>>>>);

impl KvStore for Slow {
    fn ask(&self, _: Message<Ask>, arrivals: Arrivals) -> Answer {
        let (answer, said) = oneshot::channel();
        self.0.lock().push(answer);
        Box::pin(async move { Arrived::count(said.await.map_err(|_| KvError::Busy), &arrivals) })
    }
}

impl Slow {
    fn answer(&self, index: usize, generation: u64) {
        let head = Said::Found { generation, ttl_ms: None, age_ms: 0 };
        self.0.lock().remove(index).send(Message::bare(head)).unwrap();
    }
}

#[test]
fn pending_lookups_are_selected_over_and_replayed_without_a_store() {
    fn lookups(mut exchange: Exchange, slow: Option<&Slow>) -> (Vec<u32>, u64) {
        let store = open(&exchange, "carts").unwrap();
        let mut pending = ["a", "b"].map(|key| get(&mut exchange, &store, key).unwrap());
        if let Some(slow) = slow {
            slow.answer(1, 42);
        }
        let door = exchange.door.clone();
        local(async {
            let ready = wait::select(&door, |cx| {
                let indexed = (0u32..).zip(&mut pending);
                indexed.filter_map(|(n, one)| one.poll_ready(cx).is_ready().then_some(n)).collect()
            })
            .await;
            let first = &mut pending[ready[0] as usize];
            (ready, first.await.unwrap().unwrap().generation)
        })
    }
    let (tape, slow) = (Tape::record(), Arc::new(Slow::default()));
    let mut live = exchange(slow.clone());
    live.door = tape.door();
    let seen = lookups(live, Some(&slow));
    assert_eq!(seen, (vec![1], 42));

    let mut replay = exchange(slow.clone());
    let again = Tape::play(tape.recording());
    replay.door = again.door();
    assert_eq!(lookups(replay, None), seen);
    assert_eq!(slow.0.lock().len(), 1, "the replay asked the store nothing");
    assert_eq!(again.recording(), tape.recording());
}

#[test]
fn answers_that_nobody_takes_are_the_nodes_memory_and_have_an_end() {
    let budget = Budget::new(1 << 30, 0).unwrap();
    let mut exchange = exchange(Arc::new(MemoryKv::default()));
    let kv = exchange.host.kv.clone();
    exchange.host = Arc::new(Host { kv, memory: budget.clone(), ..testing::bare_host() });
    let store = open(&exchange, "carts").unwrap();
    local(async {
        let large = Bytes::from(vec![b'x'; VALUE_BYTES_MAX]);
        insert(&mut exchange, &store, "k", large, Insert::default()).unwrap().await.unwrap();
        let mut open_ones: Vec<_> = (0..OPEN_MAX).map(|_| get(&mut exchange, &store, "k").unwrap()).collect();
        let fit = (EXECUTION.held_bytes - FREE_BYTES) / VALUE_BYTES_MAX;
        assert_eq!(budget.bytes() as usize, fit * VALUE_BYTES_MAX);
        assert!(exchange.bill.limits_met().has(Limit::Held));
        // Taken, but kept here, one goes on counting until it is let go.
        let mut first = open_ones.remove(0);
        assert!(std::future::poll_fn(|cx| first.poll(cx)).await.is_ok());
        let room = first.take_room();
        drop(first);
        assert_eq!(budget.bytes() as usize, fit * VALUE_BYTES_MAX);
        drop(room);
        assert_eq!(budget.bytes() as usize, (fit - 1) * VALUE_BYTES_MAX);
        let mut found = 1;
        for one in open_ones {
            match one.await {
                Ok(_) => found += 1,
                Err(error) => assert_eq!(error, KvError::NoRoom),
            }
        }
        assert_eq!((found, budget.bytes()), (fit, 0));
    });
}

#[test]
fn an_execution_has_so_many_operations_open_and_so_many_in_all() {
    let slow = Arc::new(Slow::default());
    let mut busy = exchange(slow.clone());
    let store = open(&busy, "carts").unwrap();
    let mut open_ones: Vec<_> = (0..OPEN_MAX).map(|_| get(&mut busy, &store, "k").unwrap()).collect();
    assert!(matches!(get(&mut busy, &store, "k"), Err(KvError::TooMany)));
    slow.answer(0, 1);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(open_ones[0].poll(&mut cx).is_ready(), "its answer is taken");
    assert!(open_ones[0].poll(&mut cx).is_pending(), "and comes once");
    open_ones.push(get(&mut busy, &store, "k").unwrap());
    drop(open_ones);

    let mut many = exchange(Arc::new(MemoryKv::default()));
    for _ in 0..OPERATIONS_MAX {
        assert!(get(&mut many, &store, "k").unwrap().poll(&mut cx).is_ready());
    }
    assert!(matches!(get(&mut many, &store, "k"), Err(KvError::TooMany)));
}

/// The whole way of a guest's operation: serving thread, side runtime, mTLS, the origin's file, and back.
#[test]
fn a_node_reaches_the_stores_of_its_fleet() {
    use artifact::{keys::SecretKey, seal::SecretsKey};
    use fleet_sync_origin::{Origin, OriginConfig};
    use fleet_sync_replica::{Replica, ReplicaConfig};

    let folder = tempfile::tempdir().unwrap();
    let side = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (origin, replica) = side.block_on(async {
        let config = OriginConfig {
            data_dir: folder.path().join("origin"),
            release_key: SecretKey::from_seed([1; 32]),
            compiler_keys: vec![],
            secrets_key: SecretsKey::from_bytes([1; 32]),
            sync_names: vec!["127.0.0.1".into()],
            kv_quotas: fleet_sync_origin::KvQuotas::default(),
            who: "test".into(),
        };
        let origin = Origin::open(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = listener.local_addr().unwrap().to_string();
        tokio::spawn(origin.clone().serve(listener, std::future::pending()));
        let token =
            origin.create_join_token(&"fra1".parse().unwrap(), Duration::from_secs(60)).await.unwrap();
        let replica = Replica::open(ReplicaConfig {
            control,
            data_dir: folder.path().join("node"),
            join_token: Some(token.token.to_text()),
            targets: vec![],
            serving: None,
            software: "test".into(),
        });
        let replica = replica.unwrap();
        replica.enrol().await.unwrap();
        (origin, replica)
    });
    let mut exchange = exchange(Arc::new(RemoteKv::start(replica.kv(), side.handle())));
    let store = open(&exchange, "carts").unwrap();
    let generation = local(async {
        let how = Insert { ttl: Some(Duration::from_secs(60)), ..Insert::default() };
        let written = insert(&mut exchange, &store, "a", value("1"), how).unwrap().await.unwrap();
        let entry = get(&mut exchange, &store, "a").unwrap().await.unwrap().unwrap();
        assert_eq!((entry.value, entry.generation), (value("1"), written));
        assert!(entry.ttl.unwrap() <= Duration::from_secs(60));
        written
    });
    // The same entry, asked at the origin as the API does: under the tenant of the exchange's app.
    let at = At { space: store.0.clone(), key: "a".parse().unwrap() };
    assert_eq!(at.space.tenant.as_str(), "default");
    let said = side.block_on(origin.kv().ask(Message::bare(Ask::Get(at)))).unwrap();
    assert!(matches!(said.head, Said::Found { generation: found, .. } if found == generation));
    assert_eq!(said.value, b"1");
}

#[test]
fn errors_pass_the_door_as_they_are() {
    let tape = Tape::record();
    let ask = |mut exchange: Exchange, door| {
        exchange.door = door;
        let store = open(&exchange, "carts").unwrap();
        local(async { get(&mut exchange, &store, "k").unwrap().await.unwrap_err() })
    };
    let live = ask(exchange(Arc::new(Away)), tape.door());
    assert!(matches!(&live, KvError::Away(_)), "{live}");
    let replayed = ask(exchange(Arc::new(MemoryKv::default())), Tape::play(tape.recording()).door());
    assert_eq!(replayed, live);
}
