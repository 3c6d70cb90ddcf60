//! The job process: what it cannot do, and what the service makes of each way it can end.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aot_compiler::{
    compile_in_process,
    job::{JobCaps, JobRunner, caps::cap_this_process, filter::forbid_other_calls},
};
use artifact::{
    Profile, Target,
    compile::{Refusal, RefusalCode},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_aot-compiler");
const MIB: u64 = 1 << 20;

fn runner(caps: JobCaps) -> JobRunner {
    JobRunner::of_program(PathBuf::from(PROGRAM), caps)
}

async fn compile(wasm: Vec<u8>, caps: JobCaps) -> Result<Vec<u8>, Refusal> {
    let compiled = runner(caps).compile(wasm.into(), Target::X86_64V3, Profile::Serve, 2, || false).await;
    compiled.map(|compiled| compiled.native)
}

#[tokio::test]
async fn a_job_makes_the_same_bytes_as_any_other_with_any_number_of_threads() {
    for wasm in [support::module(), support::component()] {
        for target in Target::ALL {
            let here = compile_in_process(&wasm, target, Profile::Serve).unwrap();
            for threads in [1, 2] {
                let runner = runner(JobCaps::DEFAULT);
                let there = runner
                    .compile(wasm.clone().into(), target, Profile::Serve, threads, || false)
                    .await
                    .unwrap();
                assert!(there == here, "{target} with {threads} threads differs");
            }
        }
    }
    if let Some(wasm) = support::guest("wstd-hello") {
        let first = compile(wasm.clone(), JobCaps::DEFAULT).await.unwrap();
        assert!(first == compile(wasm, JobCaps::DEFAULT).await.unwrap(), "two compiles of one guest differ");
    }
}

#[tokio::test]
async fn a_refusal_travels_from_the_job_unchanged() {
    let wasm = wat::parse_str("(module (memory (export \"memory\") 1))").unwrap();
    let there = compile(wasm.clone(), JobCaps::DEFAULT).await.unwrap_err();
    assert_eq!(there, aot_compiler::intake::admit(&wasm).unwrap_err());
}

/// Before its input has come, a job is already capped, has an empty environment and nothing open but its pipes.
#[test]
fn a_job_is_capped_before_it_reads_anything() {
    let compile = ["job", "--target", "x86_64-v3", "--profile", "serve"];
    is_capped_before_it_reads(&compile, &support::module(), b"\x7fELF");
    let wish = r#"{"initialize":"init","initial_memory_mib":2}"#;
    let program = "(module (memory (export \"memory\") 1) (func (export \"_start\")) (func (export \"init\") (i32.store8 (i32.const 3) (i32.const 90))))";
    is_capped_before_it_reads(&["prepare-job", "--wish", wish], &wat::parse_str(program).unwrap(), b"\0asm");
}

fn is_capped_before_it_reads(order: &[&str], program: &[u8], made: &[u8; 4]) {
    let pipe = Stdio::piped;
    let mut child = Command::new(PROGRAM)
        .args(order)
        .args(["--memory-bytes", "1073741824", "--cpu-s", "7"])
        .env_clear()
        .stdin(pipe())
        .stdout(pipe())
        .stderr(pipe())
        .spawn()
        .unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let limit = |name: &str| -> String {
        let limits = fs::read_to_string(proc.join("limits")).unwrap();
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    // The cap on open files is the last one set.
    wait_until(|| limit("Max open files") == "0 0");
    for (name, value) in [
        ("Max address space", "1073741824 1073741824"),
        ("Max cpu time", "7 8"),
        ("Max file size", "0 0"),
        ("Max core file size", "0 0"),
        ("Max processes", "0 0"),
        ("Max locked memory", "0 0"),
    ] {
        assert_eq!(limit(name), value, "{name}");
    }
    let status = || fs::read_to_string(proc.join("status")).unwrap();
    assert!(status().contains("NoNewPrivs:\t1"));
    wait_until(|| status().contains("Seccomp:\t2") && status().contains("Seccomp_filters:\t2"));
    assert_eq!(fs::read(proc.join("environ")).unwrap(), b"");
    // Beyond its pipes it has only what whoever started these tests left open, and this process still has.
    for entry in fs::read_dir(proc.join("fd")).unwrap().flatten() {
        let number = entry.file_name().into_string().unwrap();
        let ours = fs::read_link(Path::new("/proc/self/fd").join(&number)).ok();
        assert!(
            ["0", "1", "2"].contains(&number.as_str()) || ours == fs::read_link(entry.path()).ok(),
            "{number}"
        );
    }

    child.stdin.take().unwrap().write_all(program).unwrap();
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(answer.windows(4).any(|bytes| bytes == made), "and it still does its work");
}

/// The other half of `inside_its_caps_a_process_can_reach_nothing`: runs only in its child process.
#[test]
fn probe_inside_caps() {
    if std::env::var_os("SKERRY_TEST_PROBE").is_none() {
        return;
    }
    cap_this_process(&JobCaps { memory_bytes: 1024 * MIB, cpu_s: 10, wall: Duration::MAX }).unwrap();
    let refused = |what: &str, failed: bool| {
        if !failed {
            eprintln!("could {what}");
            std::process::exit(3);
        }
    };
    refused("open a file", fs::File::open("/etc/passwd").is_err());
    refused("open its own executable", fs::File::open("/proc/self/exe").is_err());
    refused(
        "read its parent's memory",
        fs::File::open(format!("/proc/{}/mem", std::os::unix::process::parent_id())).is_err(),
    );
    refused("make a file", fs::write(std::env::temp_dir().join("skerry-probe"), "x").is_err());
    refused("make a TCP socket", std::net::TcpListener::bind("127.0.0.1:0").is_err());
    refused("make a UDP socket", std::net::UdpSocket::bind("127.0.0.1:0").is_err());
    refused("make a Unix socket", std::os::unix::net::UnixDatagram::unbound().is_err());
    refused("start a program", Command::new("/bin/true").stdin(Stdio::piped()).spawn().is_err());
    refused("allocate 1 GiB", Vec::<u8>::new().try_reserve_exact(1 << 30).is_err());
    std::process::exit(42);
}

#[test]
fn inside_its_caps_a_process_can_reach_nothing() {
    let mut probe = Command::new(std::env::current_exe().unwrap());
    probe.args(["--exact", "probe_inside_caps", "--nocapture"]).env("SKERRY_TEST_PROBE", "1");
    let output = probe.output().unwrap();
    assert_eq!(output.status.code(), Some(42), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a job that was taken over might try, each in a process of its own. `None`: no such thing.
fn try_forbidden(what: &str) -> Option<bool> {
    use rustix::process;
    Some(match what {
        "socket" => std::net::UdpSocket::bind("127.0.0.1:0").is_ok(),
        "start a program" => Command::new("/bin/true").status().is_ok(),
        "start a thread" => std::thread::Builder::new().spawn(|| false).is_ok(),
        "signal its parent" => {
            process::kill_process(process::getppid().unwrap(), process::Signal::CONT).is_ok()
        }
        "make memory executable" => {
            wasmtime::Module::new(&wasmtime::Engine::default(), support::module()).is_ok()
        }
        "write a file by its name" => std::fs::create_dir("/tmp/skerry-forbidden").is_ok(),
        "look at a process" => process::getpgid(None).is_ok(),
        _ => return None,
    })
}

/// The other half of `a_forbidden_call_ends_the_job`: runs only in its child process.
#[test]
fn probe_forbidden_call() {
    let Ok(what) = std::env::var("SKERRY_TEST_FORBIDDEN") else { return };
    if std::env::var_os("SKERRY_TEST_UNFILTERED").is_none() {
        // The pool exists before the filter, as in a job: what is tried is the executable memory and not a thread.
        rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
        forbid_other_calls().unwrap();
    }
    std::process::exit(match try_forbidden(&what) {
        Some(true) => 1,
        Some(false) => 2,
        None => 42,
    });
}

#[test]
fn a_forbidden_call_ends_the_job() {
    let probe = |what: &str| {
        let mut probe = Command::new(std::env::current_exe().unwrap());
        probe.args(["--exact", "probe_forbidden_call", "--nocapture"]).env("SKERRY_TEST_FORBIDDEN", what);
        probe
    };
    for what in [
        "socket",
        "start a program",
        "start a thread",
        "signal its parent",
        "make memory executable",
        "write a file by its name",
        "look at a process",
    ] {
        let output = probe(what).output().unwrap();
        assert_eq!(output.status.signal(), Some(31), "{what}: {output:?}"); // SIGSYS
        let unfiltered = probe(what).env("SKERRY_TEST_UNFILTERED", "1").output().unwrap();
        assert_eq!(unfiltered.status.code(), Some(1), "{what} without the filter: {unfiltered:?}");
    }
    assert_eq!(probe("nothing").output().unwrap().status.code(), Some(42));
    let _ = fs::remove_dir("/tmp/skerry-forbidden");
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_cap_and_the_limit_is_named() {
    let caps = JobCaps { memory_bytes: 384 * MIB, ..JobCaps::DEFAULT };
    compile(support::module(), caps).await.expect("a small program fits");
    let refusal = compile(support::bomb(40_000), caps).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::JobLimit, "{}", refusal.message);
    assert!(refusal.message.contains("384 MiB of memory"), "{}", refusal.message);
    compile(support::module(), caps).await.expect("the next job is unharmed");
}

#[tokio::test]
async fn a_job_out_of_processor_time_or_wall_time_names_that_limit() {
    let cpu = compile(support::bomb(40_000), JobCaps { cpu_s: 1, ..JobCaps::DEFAULT }).await.unwrap_err();
    assert_eq!(cpu.code, RefusalCode::JobLimit);
    assert!(cpu.message.contains("1 s of processor time"), "{}", cpu.message);

    let started = Instant::now();
    let caps = JobCaps { wall: Duration::from_millis(300), ..JobCaps::DEFAULT };
    let wall = compile(support::bomb(40_000), caps).await.unwrap_err();
    assert_eq!(wall.code, RefusalCode::Busy);
    assert!(wall.message.contains("within 0.3 s"), "{}", wall.message);
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A program that stands where the job should, taken over or broken.
struct Impostor(tempfile::TempDir);

impl Impostor {
    fn new(script: &str) -> Impostor {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Impostor(folder)
    }

    async fn refusal(&self) -> Refusal {
        self.refusal_of(support::module()).await
    }

    async fn refusal_of(&self, wasm: Vec<u8>) -> Refusal {
        let caps = JobCaps { wall: Duration::from_secs(20), ..JobCaps::DEFAULT };
        let runner = JobRunner::of_program(self.0.path().join("job"), caps);
        runner.compile(wasm.into(), Target::X86_64V3, Profile::Serve, 1, || false).await.unwrap_err()
    }
}

#[tokio::test]
async fn every_other_end_of_a_job_is_a_clear_answer() {
    for (script, said) in [
        ("kill -KILL $$", "killed from outside"),
        ("kill -ABRT $$", "failed (signal: 6"),
        ("kill -SEGV $$", "failed (signal: 11"),
        ("kill -SYS $$", "a system call that compiling does not need"),
        ("exit 101", "failed (exit status: 101"),
        ("cat >/dev/null", "cut short"),
        ("echo hello; cat >/dev/null", "does not fit"),
        ("printf '\\002\\000\\000\\000{}'; cat >/dev/null", "malformed head"),
        ("head -c 100000 /dev/zero >&2; exit 1", "failed ("),
    ] {
        let refusal = Impostor::new(script).refusal().await;
        assert_eq!(refusal.code, RefusalCode::Internal, "{script}: {}", refusal.message);
        assert!(refusal.message.contains(said), "{script}: {}", refusal.message);
    }
    let gone = JobRunner::of_program(Path::new("/nonexistent/job").into(), JobCaps::DEFAULT);
    let refusal = gone
        .compile(support::module().into(), Target::X86_64V3, Profile::Serve, 1, || false)
        .await
        .unwrap_err();
    assert!(refusal.message.contains("could not be started"), "{}", refusal.message);
}

#[tokio::test]
async fn an_endless_answer_is_cut_at_its_bound() {
    let refusal = Impostor::new("exec cat /dev/zero").refusal().await;
    assert_eq!(refusal.code, RefusalCode::Limit, "{}", refusal.message);
    assert!(refusal.message.contains("at most 268435456"), "{}", refusal.message);
}

/// What a job that was taken over answers: native code of a lane, and what stands behind it.
async fn refusal_of(wasm: Vec<u8>, lane: &str, behind: &str) -> Refusal {
    let shape = r#"{"core_modules":1,"components":0,"functions":1,"function_body_bytes_largest":1,"function_largest":[0,0],"memory_initial_bytes_largest":1,"table_initial_elements_largest":0,"elements":0,"tables_per_module_most":0}"#;
    let admitted = format!(r#"{{"admitted":{{"lane":"{lane}","imports":[],"shape":{shape},"advice":[]}}}}"#);
    let compiled = r#"{"compiled":{"native_bytes":6,"functions":{"found":0,"compiled":0}}}"#;
    let length = |text: &str| format!("\\{:03o}\\{:03o}\\000\\000", text.len() % 256, text.len() / 256);
    let script = format!(
        "cat >/dev/null; printf '{}'; printf '%s' '{admitted}'; printf '{}'; printf '%s' '{compiled}'; printf native{behind}",
        length(&admitted),
        length(compiled)
    );
    Impostor::new(&script).refusal_of(wasm).await
}

#[tokio::test]
async fn a_job_that_answers_for_another_lane_is_not_believed() {
    // A component: a core module could have been lifted into one.
    let refusal = refusal_of(support::component(), "fastly", "").await;
    assert!(refusal.message.contains("another lane"), "{}", refusal.message);
}

#[tokio::test]
async fn a_job_that_answers_functions_nobody_asked_for_is_not_believed() {
    let refusal = refusal_of(support::module(), "fastly", "functions").await;
    assert!(refusal.code == RefusalCode::Internal && refusal.message.contains("functions"), "{refusal:?}");
}

#[tokio::test]
async fn dropping_a_compile_kills_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let impostor = Impostor::new(&format!("echo $$ > {}; exec sleep 1000", pid_file.display()));
    let started = tokio::spawn(async move { impostor.refusal().await });
    let pid = loop {
        match fs::read_to_string(&pid_file) {
            Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    started.abort();
    let _ = started.await;
    let alive = || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    wait_until(|| !alive());
}

fn wait_until(done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
