//! A compiler service of its own, in a folder that is removed afterwards, and what its jobs take.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use artifact::{
    Target,
    compile::{CACHE_HEADER, COMPILE_PATH, FUNCTIONS_COMPILED_HEADER, FUNCTIONS_FOUND_HEADER, TENANT_HEADER},
};
use tempfile::TempDir;

/// A service that is not ready by then will not be.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two looks at how much memory jobs have: short beside the shortest of them.
const LOOK: Duration = Duration::from_millis(5);
/// Largest answer: as large as an artifact may be.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The service. Dropping it ends it.
pub struct Service {
    child: Child,
    url: String,
    token: String,
    peak: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    folder: TempDir,
}

/// An artifact, and what making it took.
pub struct Answer {
    pub blob: Vec<u8>,
    pub ms: f64,
    /// Processor time of the job, and of others that ended meanwhile.
    pub cpu_s: f64,
    pub found: u64,
    pub compiled: u64,
}

impl Service {
    /// Starts the compiler in `binaries`, as it is configured by default.
    pub fn start(binaries: &Path) -> anyhow::Result<Service> {
        let program = binaries.join("aot-compiler");
        anyhow::ensure!(program.is_file(), "{} is missing: cargo build -p aot-compiler", program.display());
        let folder = tempfile::tempdir().context("making a folder for the compiler")?;
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "listen = \"127.0.0.1:0\"\ndata_dir = {:?}\ntoken_file = {:?}\nready_file = {:?}\n",
            path("data"),
            path("token"),
            path("ready.json")
        );
        fs::write(path("compiler.toml"), config).context("writing the compiler's configuration")?;
        let log = fs::File::create(path("log")).context("making the compiler's log")?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(path("compiler.toml")).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("starting {}", program.display()))?;
        let mut service = Service {
            child,
            url: String::new(),
            token: String::new(),
            peak: Arc::default(),
            ended: Arc::default(),
            folder,
        };
        service.await_ready()?;
        service.look_at_jobs();
        Ok(service)
    }

    /// Compiles; with a label, among the functions that are known under it.
    pub fn compile(&self, wasm: &[u8], target: Target, cache: Option<&str>) -> anyhow::Result<Answer> {
        let (began, cpu_before_s) = (Instant::now(), self.cpu_s()?);
        let mut answer = ureq::post(format!("{}{COMPILE_PATH}?target={target}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header(TENANT_HEADER, "bench")
            .header(CACHE_HEADER, cache.unwrap_or(""))
            .send(wasm)
            .with_context(|| format!("compiling for {target}"))?;
        let count = |name| answer.headers().get(name).and_then(|count| count.to_str().ok()?.parse().ok());
        let (found, compiled) = (count(FUNCTIONS_FOUND_HEADER), count(FUNCTIONS_COMPILED_HEADER));
        let blob = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(Answer {
            blob,
            ms,
            cpu_s: self.cpu_s()? - cpu_before_s,
            found: found.unwrap_or(0),
            compiled: compiled.unwrap_or(0),
        })
    }

    /// Processor time of all jobs that have ended, in seconds.
    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // After the name in brackets, which may have spaces: cutime and cstime are the 14th and 15th.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let ticks: Vec<u64> = fields.skip(13).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Forgets what jobs took before.
    pub fn forget_peak(&self) {
        self.peak.store(0, Relaxed);
    }

    /// The most memory that a job had (its resident set), in bytes.
    pub fn peak(&self) -> u64 {
        self.peak.load(Relaxed)
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let path = |name: &str| self.folder.path().join(name);
        let text = loop {
            if let Ok(text) = fs::read_to_string(path("ready.json")) {
                break text;
            }
            if began.elapsed() > READY_TIME_MAX || self.child.try_wait()?.is_some() {
                let log = fs::read_to_string(path("log")).unwrap_or_default();
                anyhow::bail!("the compiler is not ready: {}", log.trim());
            }
            thread::sleep(LOOK);
        };
        let ready: serde_json::Value = serde_json::from_str(&text).context("reading the ready file")?;
        self.url = format!("http://{}", ready["listen"].as_str().context("no address in the ready file")?);
        fs::read_to_string(path("token")).context("reading the token")?.trim().clone_into(&mut self.token);
        Ok(())
    }

    fn look_at_jobs(&self) {
        let (service, peak, ended) = (self.child.id(), Arc::clone(&self.peak), Arc::clone(&self.ended));
        thread::spawn(move || {
            while !ended.load(Relaxed) {
                for job in children(service) {
                    peak.fetch_max(resident_bytes_max(job).unwrap_or(0), Relaxed);
                }
                thread::sleep(LOOK);
            }
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that threads of a process have started.
fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let all: String = threads.filter_map(of).collect();
    all.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn resident_bytes_max(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
