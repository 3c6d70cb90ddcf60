//! The whole service as a process of its own, asked over HTTP, with real jobs.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use artifact::{
    Digest, Lane, Profile, Target,
    compile::{
        ADVICE_HEADER, Advice, AdviceCode, CACHE_HEADER, COMPILE_PATH, FUNCTIONS_COMPILED_HEADER,
        FUNCTIONS_FOUND_HEADER, FUNCTIONS_SHARED_HEADER, HEALTH_PATH, Health, QUEUE_PATH, Queued, Refusal,
        RefusalCode, TENANT_HEADER, WASM_BYTES_MAX,
    },
    container::Container,
    keys::{Compiler, PublicKey, Trusted},
    statement::{Requirements, TrustedStatement},
};

struct Running {
    child: Child,
    folder: tempfile::TempDir,
    listen: String,
    token: String,
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    advice: Option<String>,
    body: Vec<u8>,
    /// Functions found and compiled.
    functions: (u64, u64),
    shared: bool,
}

impl Answer {
    fn refusal(&self) -> Refusal {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }
}

impl Running {
    fn start() -> Running {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "listen = \"127.0.0.1:0\"\ndata_dir = {:?}\ntoken_file = {:?}\nready_file = {:?}\njobs_max = 2\n",
            path("data"),
            path("compiler.token"),
            path("ready.json"),
        );
        fs::write(path("compiler.toml"), config).unwrap();
        let (child, listen) = Running::launch(folder.path().into());
        let token = fs::read_to_string(path("compiler.token")).unwrap().trim().to_owned();
        Running { child, folder, listen, token }
    }

    fn launch(folder: PathBuf) -> (Child, String) {
        let ready = folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_aot-compiler"));
        command.arg("--config").arg(folder.join("compiler.toml")).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let started = Instant::now();
        let text = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break text;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "not ready in time");
            std::thread::sleep(Duration::from_millis(10));
        };
        let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ready["pid"], child.id());
        (child, ready["listen"].as_str().unwrap().to_owned())
    }

    fn public_key(&self) -> PublicKey<Compiler> {
        fs::read_to_string(self.folder.path().join("data/compiler.pub")).unwrap().parse().unwrap()
    }

    fn compile(&self, wasm: &[u8], target: &str) -> Answer {
        self.compile_as(wasm, target, &format!("Bearer {}", self.token))
    }

    fn compile_as(&self, wasm: &[u8], target: &str, authorization: &str) -> Answer {
        self.ask(wasm, target, authorization, "default", "")
    }

    fn compile_for(&self, tenant: &str, wasm: &[u8]) -> Answer {
        self.ask(wasm, "x86_64-v3", &format!("Bearer {}", self.token), tenant, "")
    }

    fn compile_sharing(&self, tenant: &str, cache: &str, wasm: &[u8]) -> Answer {
        let answer = self.ask(wasm, "x86_64-v3", &format!("Bearer {}", self.token), tenant, cache);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer
    }

    fn ask(&self, wasm: &[u8], target: &str, authorization: &str, tenant: &str, cache: &str) -> Answer {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let sent = agent
            .post(format!("http://{}{COMPILE_PATH}?target={target}", self.listen))
            .header("authorization", authorization)
            .header(TENANT_HEADER, tenant)
            .header(CACHE_HEADER, cache)
            .send(wasm);
        let mut response = sent.unwrap();
        let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let count =
            |name| response.headers().get(name).map_or(0, |count| count.to_str().unwrap().parse().unwrap());
        Answer {
            shared: response.headers().contains_key(FUNCTIONS_SHARED_HEADER),
            functions: (count(FUNCTIONS_FOUND_HEADER), count(FUNCTIONS_COMPILED_HEADER)),
            status: response.status().as_u16(),
            retry_after: header("retry-after"),
            advice: header(ADVICE_HEADER),
            body: response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a node does with a container before it would map it.
fn verify(blob: &[u8], key: PublicKey<Compiler>, wasm: &[u8], target: Target, lane: Lane) -> Vec<u8> {
    let container = Container::decode(blob).unwrap();
    let trusted = TrustedStatement::open(&container.envelope, &Trusted::new([key])).unwrap();
    let needs = Requirements {
        targets: &[target],
        profile: Profile::Serve,
        fingerprint: engine::fingerprint,
        wasm: Digest::of(wasm),
    };
    trusted.require(&needs).unwrap();
    let mut native = Vec::new();
    container.decompress(trusted.statement().size, &mut native).unwrap();
    let verified = trusted.verify(native).unwrap();
    let statement = verified.statement();
    assert_eq!(statement.lane, lane);
    assert_eq!(statement.flags, engine::flags(target));
    assert!(statement.compiler.contains(engine::WASMTIME_VERSION));
    assert!(!statement.imports.is_empty());
    verified.bytes().clone()
}

#[test]
fn answers_verifiable_artifacts_of_both_lanes_for_every_target() {
    let service = Running::start();
    let key = service.public_key();
    let mut programs = vec![(support::module(), Lane::Fastly), (support::component(), Lane::Wasi)];
    programs.extend(support::guest("wasi-hello").map(|wasm| (wasm, Lane::Wasi)));
    programs.extend(support::guest("fastly-hello").map(|wasm| (wasm, Lane::Fastly)));
    for (wasm, lane) in programs {
        for target in Target::ALL {
            let answer = service.compile(&wasm, target.name());
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            let native = verify(&answer.body, key, &wasm, target, lane);
            // e_machine of the ELF header: 62 is x86-64, 183 is AArch64.
            let machine = if target.triple().starts_with("x86_64") { 62 } else { 183 };
            assert_eq!(u16::from_le_bytes([native[18], native[19]]), machine);
        }
    }
}

#[test]
fn functions_are_found_by_the_same_tenant_and_name_alone() {
    let mut service = Running::start();
    let Some(program) = support::guest("wasi-hello") else { return };
    let first = service.compile_sharing("acme", "shop", &program);
    assert!(first.functions.0 == 0 && first.functions.1 > 100, "{:?}", first.functions);
    for (tenant, cache) in [("other", "shop"), ("acme", "blog"), ("acme", &"n".repeat(200)), ("", "shop")] {
        let answer = service.compile_sharing(tenant, cache, &program);
        assert!(answer.functions.0 == 0 && !answer.shared, "{tenant} {cache}");
        assert!(answer.body == first.body);
    }
    assert_eq!(service.compile_sharing("acme", "", &program).functions, (0, 0), "not asked for");

    let is_found = |answer: Answer| {
        let (found, compiled) = answer.functions;
        assert!(answer.shared && found > 100 && compiled < found / 4, "{found} found, {compiled} compiled");
        assert!(answer.body == first.body, "the same code, statement and signature");
    };
    is_found(service.compile_sharing("acme", "shop", &program));
    kill(&service);
    service.child.wait().unwrap();
    let (child, listen) = Running::launch(service.folder.path().into());
    (service.child, service.listen) = (child, listen);
    is_found(service.compile_sharing("acme", "shop", &program));

    // What was spoilt on the disk is compiled like what was never there.
    let functions = service.folder.path().join("data/functions");
    for pack in folder(&functions).iter().flat_map(|tenant| folder(tenant)) {
        fs::write(&pack, "spoilt").unwrap();
    }
    let answer = service.compile_sharing("acme", "shop", &program);
    assert!(answer.functions.0 == 0 && answer.body == first.body);
    is_found(service.compile_sharing("acme", "shop", &program));
}

fn folder(path: &std::path::Path) -> Vec<PathBuf> {
    fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn health_tells_key_and_fingerprints() {
    let service = Running::start();
    let mut response = ureq::get(format!("http://{}{HEALTH_PATH}", service.listen)).call().unwrap();
    let health: Health = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(health.key, service.public_key());
    let expected = Target::ALL.map(|target| (target, engine::fingerprint(target, Profile::Serve)));
    assert_eq!(health.targets, expected);
}

#[test]
fn advice_comes_with_the_artifact() {
    let service = Running::start();
    assert_eq!(service.compile(&support::module(), "x86_64-v2").advice, None);
    let advised = service.compile(&support::module_to_advise(), "x86_64-v2");
    let advice: Vec<Advice> = serde_json::from_str(&advised.advice.unwrap()).unwrap();
    assert_eq!(advice.iter().map(|one| one.code).collect::<Vec<_>>(), [AdviceCode::DataOffset]);
}

#[test]
fn bad_uploads_are_refused_with_their_code_and_the_service_goes_on() {
    let service = Running::start();
    let whole = support::module();
    let no_handler = wat::parse_str("(component)").unwrap();
    let mystery = "(module (import \"env\" \"mystery\" (func)) (memory (export \"memory\") 1) (func (export \"_start\")))";
    for (wasm, code, said) in [
        (b"".to_vec(), RefusalCode::Empty, "0 bytes"),
        (b"hello".to_vec(), RefusalCode::NotWasm, "text"),
        (b"\x7fELF\x02\x01\x01\xc8".to_vec(), RefusalCode::NotWasm, "native code"),
        (whole[..whole.len() - 3].to_vec(), RefusalCode::Invalid, "byte 0x"),
        (no_handler, RefusalCode::WrongWorld, "incoming-handler"),
        (wat::parse_str(mystery).unwrap(), RefusalCode::UnknownImport, "env.mystery"),
    ] {
        let answer = service.compile(&wasm, "x86_64-v3");
        let refusal = answer.refusal();
        assert_eq!((answer.status, refusal.code), (422, code), "{}", refusal.message);
        assert!(refusal.message.contains(said), "{}", refusal.message);
    }
    assert_eq!(service.compile(&whole, "x86_64-v3").status, 200);

    let answer = service.compile(&whole, "riscv64");
    assert_eq!(answer.status, 400);
    assert!(answer.refusal().message.contains("riscv64"));
}

#[test]
fn too_large_is_refused_from_its_stated_length_before_a_byte_is_sent() {
    let service = Running::start();
    let mut stream = TcpStream::connect(&service.listen).unwrap();
    let token = &service.token;
    let length = WASM_BYTES_MAX + 1;
    write!(
        stream,
        "POST {COMPILE_PATH}?target=x86_64-v3 HTTP/1.1\r\nhost: c\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
    )
    .unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("64 MiB"), "{answer}");
}

#[test]
fn a_missing_or_wrong_token_gets_one_and_the_same_401() {
    let service = Running::start();
    let wrong = service.compile_as(
        &support::module(),
        "x86_64-v3",
        "Bearer 0000000000000000000000000000000000000000",
    );
    let missing = service.compile_as(&support::module(), "x86_64-v3", "");
    assert_eq!((wrong.status, missing.status), (401, 401));
    assert_eq!(wrong.body, missing.body);
}

#[test]
fn a_compile_bomb_is_refused_and_others_are_served_meanwhile() {
    let service = Running::start();
    let bomb = support::bomb(60_000);
    std::thread::scope(|scope| {
        let bombs: Vec<_> = (0..2).map(|_| scope.spawn(|| service.compile(&bomb, "x86_64-v3"))).collect();
        for bomb in bombs {
            // It may be compiled on a fast machine; what matters is that it is bounded and answered.
            let answer = bomb.join().unwrap();
            assert!(answer.status == 200 || answer.refusal().code == RefusalCode::JobLimit);
        }
    });
    assert_eq!(service.compile(&support::module(), "x86_64-v3").status, 200);
}

/// A bomb is long after a second: it then holds no place, and computes with a tenth of what others get.
#[test]
fn one_tenants_bombs_hardly_delay_another() {
    let service = Running::start();
    let (bomb, program) = (support::bomb(60_000), support::module());
    let times = || {
        let mut times = [(); 10].map(|()| {
            let began = Instant::now();
            assert_eq!(service.compile_for("shop", &program).status, 200);
            began.elapsed()
        });
        times.sort();
        times[times.len() / 2]
    };
    let quiet = times();
    let ended = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads = [(); 6].map(|()| {
            scope.spawn(|| {
                let agent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    service.compile_for("bombs", &bomb)
                }));
                ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                drop(agent);
            })
        });
        wait_for(|| is_long(service.child.id()));
        let beside = times();
        // All ten were answered while two of the bombs ran, and four waited: nobody waited for one to end.
        assert_eq!(ended.load(std::sync::atomic::Ordering::Relaxed), 0);
        eprintln!(
            "a compile of another tenant: {quiet:.1?} alone, {beside:.1?} beside bombs, {:.2} times (goal 2)",
            beside.as_secs_f64() / quiet.as_secs_f64()
        );
        kill(&service);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Do two jobs of the service stand back for others?
fn is_long(service: u32) -> Option<()> {
    let nice = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse::<i32>().ok()
    };
    (children_of(service).iter().filter_map(nice).filter(|nice| *nice == 10).count() == 2).then_some(())
}

#[test]
fn one_tenants_full_line_is_busy_with_retry_after() {
    let service = Running::start();
    let bomb = support::bomb(30_000);
    // Two run, sixteen wait, the rest is sent away at once.
    let (answers, answered) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let ask = |answers: std::sync::mpsc::Sender<Answer>| {
            let (service, bomb) = (&service, &bomb);
            scope.spawn(move || answers.send(service.compile(bomb, "aarch64")))
        };
        let asked: Vec<_> = (0..24).map(|_| ask(answers.clone())).collect();
        let in_time = || answered.recv_timeout(Duration::from_secs(60)).expect("an answer");
        let busy = std::iter::repeat_with(in_time).find(|answer| answer.status == 503).unwrap();
        assert_eq!(busy.refusal().code, RefusalCode::Busy);
        assert!(busy.refusal().message.contains("this tenant"), "{}", busy.refusal().message);
        assert_eq!(busy.retry_after.as_deref(), Some("2"));
        kill(&service);
        for thread in asked {
            let _ = thread.join();
        }
    });
}

#[test]
fn a_tenant_is_told_where_its_program_waits() {
    let service = Running::start();
    let bomb = support::bomb(30_000);
    let queued = |tenant: &str, query: &str| {
        let asked = ureq::get(format!("http://{}{QUEUE_PATH}{query}", service.listen))
            .header("authorization", format!("Bearer {}", service.token))
            .header(TENANT_HEADER, tenant);
        let answer = asked.call().ok()?.body_mut().read_to_string().unwrap();
        Some(serde_json::from_str::<Queued>(&answer).unwrap())
    };
    let wasm = format!("?wasm={}", Digest::of(&bomb));
    assert_eq!(queued("bombs", &wasm), Some(Queued::default()));
    assert_eq!((queued("bombs", ""), queued("bombs", "?wasm=7")), (None, None));
    std::thread::scope(|scope| {
        // Two run, three wait.
        let threads = [(); 5].map(|()| {
            scope.spawn(|| {
                let asked = || service.compile_for("bombs", &bomb);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(asked));
            })
        });
        let waiting = Queued { waiting: 3, position: Some(1) };
        wait_for(|| (queued("bombs", &wasm) == Some(waiting)).then_some(()));
        assert_eq!(queued("shop", &wasm), Some(Queued::default()), "nothing is said of another's");
        kill(&service);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_killed_service_leaves_no_job_behind() {
    let service = Running::start();
    let bomb = support::bomb(40_000);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| service.compile(&bomb, "x86_64-v3"));
        let job = wait_for(|| child_of(service.child.id()));
        kill(&service);
        let _ = asked.join();
        wait_for(|| (child_state(job).is_none_or(|state| state == 'Z')).then_some(()));
    });
}

/// The one child process of a process.
fn child_of(parent: u32) -> Option<u32> {
    children_of(parent).into_iter().next()
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{parent}\n"))
    };
    processes.filter(is_child).collect()
}

fn child_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn wait_for<T>(found: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the service although jobs run: their callers see the connection close.
fn kill(service: &Running) {
    let pid = rustix::process::Pid::from_raw(service.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn sigterm_stops_it_cleanly_and_a_restart_keeps_key_and_token() {
    let mut service = Running::start();
    let key = service.public_key();
    let pid = rustix::process::Pid::from_raw(service.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(service.child.wait().unwrap().success());

    let (child, listen) = Running::launch(service.folder.path().into());
    (service.child, service.listen) = (child, listen);
    assert_eq!(service.public_key(), key);
    let wasm = support::module();
    let answer = service.compile(&wasm, "x86_64-v2");
    verify(&answer.body, key, &wasm, Target::X86_64V2, Lane::Fastly);
}
