//! What the compiler service can do wrong, and what the client of the API is told. A small stand-in answers in its
//! place, because the real one does none of this; it makes no native code.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use artifact::{
    Digest, Fingerprint, Lane, Profile, Target,
    compile::{
        CACHE_HEADER, COMPILE_PATH, FUNCTIONS_SHARED_HEADER, HEALTH_PATH, Health, QUEUE_PATH, Queued,
        Refusal, RefusalCode, TENANT_HEADER,
    },
    container,
    keys::{Compiler, SecretKey},
    statement::Statement,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::json;

use crate::harness::{Answer, Plane, program};

#[derive(Clone, Copy, PartialEq)]
pub enum Behaviour {
    Sound,
    SignsWithAnotherKey,
    SignsAnotherProgram,
    SendsOtherBytes,
    Refuses(RefusalCode),
    SpeaksGibberish,
    /// Refuses as busy so many times, then is sound.
    IsBusyFor(usize),
    /// Takes its time, and refuses more calls at once than this.
    TakesAtOnce(usize),
    /// Is sound after a second.
    TakesItsTime,
}

pub struct StandIn {
    pub key: SecretKey<Compiler>,
    /// Set: it has this key now.
    pub next_key: Mutex<Option<SecretKey<Compiler>>>,
    behaviour: Mutex<Behaviour>,
    pub fingerprint: Mutex<Digest>,
    /// What it says of itself in statements: another name makes another blob.
    pub name: Mutex<String>,
    pub compiled: AtomicUsize,
    /// What each compile was to share functions by.
    pub caches: Mutex<Vec<String>>,
    /// The tenant and the query of each question for the queue.
    pub asked: Mutex<Vec<String>>,
    at_once: AtomicUsize,
    refused: AtomicUsize,
}

impl StandIn {
    pub async fn start() -> (Arc<StandIn>, String) {
        let stand_in = Arc::new(StandIn {
            key: SecretKey::from_seed([1; 32]),
            next_key: Mutex::new(None),
            behaviour: Mutex::new(Behaviour::Sound),
            fingerprint: Mutex::new(Digest::of(b"engine 1")),
            name: Mutex::new("stand-in".into()),
            compiled: AtomicUsize::new(0),
            caches: Mutex::default(),
            asked: Mutex::default(),
            at_once: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route(HEALTH_PATH, get(health))
            .route(COMPILE_PATH, post(compile))
            .route(QUEUE_PATH, get(queued))
            .with_state(Arc::clone(&stand_in));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (stand_in, url)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    fn key_of_now(&self) -> SecretKey<Compiler> {
        self.next_key.lock().clone().unwrap_or_else(|| self.key.clone())
    }
}

async fn health(State(stand_in): State<Arc<StandIn>>) -> Json<Health> {
    let targets = vec![(Target::X86_64V3, Fingerprint(*stand_in.fingerprint.lock()))];
    Json(Health { key: stand_in.key_of_now().public(), targets, compiler: "stand-in".into() })
}

async fn queued(State(stand_in): State<Arc<StandIn>>, headers: HeaderMap, uri: Uri) -> Json<Queued> {
    let tenant = headers[TENANT_HEADER].to_str().unwrap();
    stand_in.asked.lock().push(format!("{tenant} {}", uri.query().unwrap()));
    Json(Queued { waiting: 2, position: Some(3) })
}

async fn compile(State(stand_in): State<Arc<StandIn>>, headers: HeaderMap, wasm: Bytes) -> Response {
    let cache = headers[CACHE_HEADER].to_str().unwrap().to_owned();
    // The first under a name has nothing to share.
    let is_shared = !cache.is_empty() && stand_in.caches.lock().contains(&cache);
    stand_in.caches.lock().push(cache);
    let behaviour = *stand_in.behaviour.lock();
    if behaviour == Behaviour::TakesItsTime {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if let Behaviour::Refuses(code) = behaviour {
        let status = match code {
            RefusalCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        return (status, Json(Refusal { code, message: "the reason".into() })).into_response();
    }
    let too_many = match behaviour {
        Behaviour::IsBusyFor(times) => stand_in.refused.load(Ordering::Relaxed) < times,
        Behaviour::TakesAtOnce(most) => {
            let too_many = stand_in.at_once.fetch_add(1, Ordering::Relaxed) >= most;
            tokio::time::sleep(Duration::from_millis(100)).await;
            stand_in.at_once.fetch_sub(1, Ordering::Relaxed);
            too_many
        }
        _ => false,
    };
    if too_many {
        stand_in.refused.fetch_add(1, Ordering::Relaxed);
        let refusal = Refusal { code: RefusalCode::Busy, message: "full".into() };
        return (StatusCode::SERVICE_UNAVAILABLE, Json(refusal)).into_response();
    }
    if behaviour == Behaviour::SpeaksGibberish {
        return "gibberish".into_response();
    }
    stand_in.compiled.fetch_add(1, Ordering::Relaxed);
    let code = b"no native code";
    let wasm =
        if behaviour == Behaviour::SignsAnotherProgram { Digest::of(b"other") } else { Digest::of(&wasm) };
    let stated = Statement {
        artifact: Digest::of(code),
        size: code.len() as u64,
        wasm,
        lane: Lane::Fastly,
        target: Target::X86_64V3,
        profile: Profile::Serve,
        fingerprint: Fingerprint(*stand_in.fingerprint.lock()),
        imports: vec![],
        compiler: stand_in.name.lock().clone(),
        flags: vec![],
    };
    let thief = SecretKey::from_seed([2; 32]);
    let key = if behaviour == Behaviour::SignsWithAnotherKey { &thief } else { &stand_in.key_of_now() };
    let sent: &[u8] = if behaviour == Behaviour::SendsOtherBytes { b"NO NATIVE CODE" } else { code };
    let mut answer = container::encode(&stated.sign(key), sent).unwrap().into_response();
    if is_shared {
        answer.headers_mut().insert(FUNCTIONS_SHARED_HEADER, HeaderValue::from_static("1"));
    }
    answer
}

#[tokio::test]
async fn where_a_program_waits_is_asked_of_the_compiler_for_the_callers_tenant() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let token = plane.tenant("acme").await;
    let wasm = Digest::of(b"program");
    let answer = plane.ask_as(&token, Method::GET, &format!("/v1/wasm/{wasm}/queue")).send().await.ok();
    assert_eq!(answer, json!({ "waiting": 2, "position": 3 }));
    assert_eq!(*stand_in.asked.lock(), [format!("acme wasm={wasm}")]);
}

#[tokio::test]
async fn code_made_with_an_apps_functions_is_given_to_no_other_app() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    for (app, name) in [
        ("shop", "first"),  // made of nothing else: for every app
        ("shop", "second"), // with functions of the first: for shop
        ("shop", "second"),
        ("blog", "first"),
        ("blog", "second"), // so this is made again, by blog's functions, of which there are none: for every app
        ("till", "second"),
    ] {
        plane.deploy(&plane.operator, app, &program(name), json!({})).await.ok();
    }
    assert_eq!(*stand_in.caches.lock(), ["shop/0", "shop/0", "blog/0"]);

    // Recompiling takes nothing of before, and keeps nothing.
    let all = json!({ "all": true, "reason": "drill" });
    let asked = plane.ask(Method::POST, "/v1/recompiles").json(all).send().await.ok();
    let path = format!("/v1/recompiles/{}", asked["id"]);
    while plane.ask(Method::GET, &path).send().await.ok()["ended_ms"].is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    plane.deploy(&plane.operator, "shop", &program("third"), json!({})).await.ok();
    assert_eq!(stand_in.caches.lock()[3..], ["", "", "shop/1"]);
}

async fn deploy(plane: &Plane) -> Answer {
    plane.deploy(&plane.operator, "shop", &program("faults"), json!({})).await
}

#[tokio::test]
async fn each_fault_has_its_status_and_code_and_nothing_is_published() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    for (behaviour, status, code) in [
        (Behaviour::SignsWithAnotherKey, 502, "compiler_untrusted"),
        (Behaviour::SignsAnotherProgram, 502, "compiler_untrusted"),
        (Behaviour::SendsOtherBytes, 502, "compiler_untrusted"),
        (Behaviour::SpeaksGibberish, 502, "compiler_untrusted"),
        (Behaviour::Refuses(RefusalCode::UnknownImport), 422, "unknown_import"),
        (Behaviour::Refuses(RefusalCode::WrongWorld), 422, "wrong_world"),
        (Behaviour::Refuses(RefusalCode::JobLimit), 422, "job_limit"),
        (Behaviour::Refuses(RefusalCode::Internal), 502, "compiler_failed"),
        (Behaviour::Refuses(RefusalCode::Busy), 503, "compiler_busy"),
    ] {
        stand_in.behave(behaviour);
        let answer = deploy(&plane).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{answer:?}");
        assert_eq!(answer.retry_after.is_some(), status == 503);
    }
    assert_eq!(plane.ask(Method::GET, "/v1/apps/shop").send().await.code(), "no_such_app");
    stand_in.behave(Behaviour::Sound);
    assert_eq!(deploy(&plane).await.ok()["version"], 1);
}

#[tokio::test]
async fn a_compiler_that_is_down_is_named_with_the_cure() {
    let plane = Plane::without_compiler().await;
    let answer = deploy(&plane).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "compiler_unreachable"));
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("compiler unreachable") && message.contains("start aot-compiler"),
        "{message}"
    );
}

#[tokio::test]
async fn a_compiler_with_another_key_than_configured_is_not_asked() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &SecretKey::from_seed([9; 32])).await;
    let answer = deploy(&plane).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "compiler_untrusted"));
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_new_engine_gets_old_versions_recompiled_without_a_new_version() {
    let (stand_in, url) = StandIn::start().await;
    let mut plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    deploy(&plane).await.ok();
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), 1);
    let before = plane.ask(Method::GET, "/healthz").send().await.ok()["rev"].as_u64().unwrap();

    *stand_in.fingerprint.lock() = Digest::of(b"engine 2");
    plane.restart().await;
    let end = Instant::now() + Duration::from_secs(20);
    while stand_in.compiled.load(Ordering::Relaxed) < 2 || {
        let now = plane.ask(Method::GET, "/healthz").send().await.ok()["rev"].as_u64().unwrap();
        // One record of the restart itself, one of the added native code.
        now < before + 2
    } {
        assert!(Instant::now() < end, "not recompiled within 20 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let app = plane.ask(Method::GET, "/v1/apps/shop").send().await.ok();
    assert_eq!((&app["active_version"], app["versions"].as_array().unwrap().len()), (&json!(1), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_deploys_of_one_tenant_at_once_all_come_through_and_never_overrun_the_compiler() {
    let (stand_in, url) = StandIn::start().await;
    stand_in.behave(Behaviour::TakesAtOnce(8));
    let plane = Arc::new(Plane::with_compiler_at(&url, &stand_in.key).await);
    let deploys = (0..16).map(|number| {
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            let (app, wasm) = (format!("app-{number}"), program(&format!("many {number}")));
            plane.deploy(&plane.operator, &app, &wasm, json!({})).await
        })
    });
    for deployed in deploys.collect::<Vec<_>>() {
        deployed.await.unwrap().ok();
    }
    assert_eq!(stand_in.refused.load(Ordering::Relaxed), 0, "the tenant's calls wait their turn here");
}

#[tokio::test]
async fn a_compiler_that_is_full_for_a_moment_is_asked_again() {
    let (stand_in, url) = StandIn::start().await;
    stand_in.behave(Behaviour::IsBusyFor(2));
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    assert_eq!(deploy(&plane).await.ok()["version"], 1);
    assert_eq!(stand_in.refused.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn native_code_that_rotted_is_compiled_again_and_a_rotten_program_is_asked_for_again() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    deploy(&plane).await.ok();
    let wasm = plane.upload(&plane.operator, &program("faults")).await;
    let again = async || {
        let ask = plane.ask(Method::POST, "/v1/apps/shop/versions");
        ask.json(json!({ "wasm": wasm, "config": {} })).send().await
    };
    rot(&plane, |name| name != wasm);
    again().await.ok();
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), 2);

    rot(&plane, |_| true);
    let refused = again().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "upload_again"), "{refused:?}");
    assert!(refused.body.to_string().contains("PUT /v1/wasm/"), "{refused:?}");
    plane.upload(&plane.operator, &program("faults")).await;
    again().await.ok();
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), 3);
}

/// Overwrites blobs on the disk, as many bytes as before.
fn rot(plane: &Plane, wanted: impl Fn(&str) -> bool) {
    let mut rotted = 0;
    for directory in std::fs::read_dir(plane.data_dir().join("blobs/sha256")).unwrap() {
        for blob in std::fs::read_dir(directory.unwrap().path()).unwrap() {
            let blob = blob.unwrap();
            if wanted(&blob.file_name().to_string_lossy()) {
                let bytes = blob.metadata().unwrap().len() as usize;
                std::fs::write(blob.path(), vec![0; bytes]).unwrap();
                rotted += 1;
            }
        }
    }
    assert!(rotted > 0);
}

#[tokio::test]
async fn a_second_control_plane_on_the_same_data_is_refused_and_the_first_goes_on() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let Err(refused) = plane.start_another().await else {
        panic!("two control planes on one data directory")
    };
    assert!(refused.to_string().contains("stop that one first"), "{refused}");
    deploy(&plane).await.ok();
}

#[tokio::test]
async fn a_token_of_one_app_takes_no_path_of_a_neighbours_host() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let tenant = plane.tenant("a").await;
    let wasm = program("neighbours");
    let route = |prefix: &str| json!({ "hosts": ["shop.example"], "path_prefix": prefix });
    plane.deploy(&tenant, "front", &wasm, route("/")).await.ok();
    let only_api = plane.token(json!({ "tenant": "a", "actions": ["deploy"], "app": "api" })).await;
    let refused = plane.deploy(&only_api, "api", &wasm, route("/login")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "host_of_other_app"), "{refused:?}");
    plane.deploy(&only_api, "api", &wasm, json!({ "hosts": ["api.example"] })).await.ok();
    // Somebody who may speak for the whole tenant gives it a path; from then on the app may deploy there.
    plane.deploy(&tenant, "api", &wasm, route("/api")).await.ok();
    plane.deploy(&only_api, "api", &wasm, route("/api")).await.ok();
    assert_eq!(plane.deploy(&only_api, "api", &wasm, route("/login")).await.code(), "host_of_other_app");
}
