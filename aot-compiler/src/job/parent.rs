//! The service's side of a job: start it, feed it, bound it, and judge how it ended.

use std::{future, path::PathBuf, process::Stdio, time::Duration};

use artifact::{
    Lane, Profile, Target,
    compile::{Refusal, RefusalCode},
    manifest::Prepare,
};
use bytes::Bytes;
use rustix::process::{Pid, setpriority_pgrp};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{JobAnswer, JobCaps, Reuse, Work, exit, frame};
use crate::{
    compile::{CompiledArtifact, chain, check_native_size},
    intake::{self, limits, refuse},
};

/// Bytes of a job's standard error kept for the log and for telling causes apart.
const STDERR_BYTES_MAX: u64 = 8 << 10;

/// A job that takes longer stands back for the others: ten times what a hello takes.
pub const LONG_AFTER: Duration = Duration::from_secs(1);
/// Its niceness then: a tenth of what others get (`sched_prio_to_weight`: 110 of 1,024). With 19, the seventieth part, an honest JS
/// engine would not be done in its time beside busy tenants.
const LONG_NICE: i32 = 10;

/// Starts jobs.
#[derive(Debug, Clone)]
pub struct JobRunner {
    program: PathBuf,
    caps: JobCaps,
}

/// What a job is told on its command line and on its standard input.
struct Job<'a> {
    command: &'static str,
    order: Vec<(&'static str, String)>,
    threads: usize,
    /// Before the program.
    pack: &'a [u8],
    wasm: &'a [u8],
    answer_bytes_max: u64,
}

impl JobRunner {
    /// Jobs run this same executable, also when the file on disk has been replaced by a newer one meanwhile.
    pub fn this_executable(caps: JobCaps) -> JobRunner {
        JobRunner::of_program("/proc/self/exe".into(), caps)
    }

    /// Jobs run this program, which must understand `job` as `aot-compiler` does.
    pub fn of_program(program: PathBuf, caps: JobCaps) -> JobRunner {
        JobRunner { program, caps }
    }

    /// Compiles in a child process with `threads` threads. Dropping the future kills the child, and so does the end of
    /// the thread that polls it first: call it on a runtime's worker or main thread, not on a short-lived one.
    ///
    /// A job that takes longer than [`LONG_AFTER`] is asked for by `lengthened`, until that says that others have its place: then it
    /// goes on with less of the processor.
    pub async fn compile(
        &self,
        wasm: Bytes,
        target: Target,
        profile: Profile,
        threads: usize,
        lengthened: impl FnMut() -> bool,
    ) -> Result<CompiledArtifact, Refusal> {
        let work = Work { wasm, target, profile, threads, reuse: Reuse::Nothing };
        Ok(self.run(work, lengthened).await?.compiled)
    }

    /// The same, with functions that were compiled before.
    pub async fn run(&self, work: Work, lengthened: impl FnMut() -> bool) -> Result<JobAnswer, Refusal> {
        let lane = intake::lane_of(&work.wasm)?;
        let pack_bytes = work.reuse.pack_bytes().map(|bytes| ("--pack-bytes", bytes.to_string()));
        let order = [("--target", work.target.to_string()), ("--profile", work.profile.to_string())];
        let job = Job {
            command: "job",
            order: order.into_iter().chain(pack_bytes).collect(),
            threads: work.threads,
            pack: work.reuse.pack().map_or(&[], |pack| pack.bytes()),
            wasm: &work.wasm,
            answer_bytes_max: frame::ANSWER_BYTES_MAX + work.reuse.answer_bytes_max(),
        };
        let frame::Answer { compiled, functions, learned } = self.answered(&job, lengthened).await?;

        // A job that was taken over could answer anything. What can be known from outside is checked; the native code
        // cannot be, which is why a job never gets further than its caps.
        // A core module may be half of a component.
        let is_lifted = (lane, compiled.admitted.lane) == (Lane::Fastly, Lane::Wasi);
        if compiled.admitted.lane != lane && !is_lifted {
            return Err(refuse(RefusalCode::Internal, "the compile job answered for another lane"));
        }
        limits::check_imports(&compiled.admitted.imports)?;
        check_native_size(compiled.native.len() as u64)?;
        let learned = work.reuse.learned(learned)?;
        Ok(JobAnswer { compiled, functions, learned })
    }

    /// Prepares a program as its app wishes, in the same way. What comes out is a program like an upload, and as little believed.
    pub async fn prepare(
        &self,
        wasm: Bytes,
        wish: &Prepare,
        threads: usize,
        lengthened: impl FnMut() -> bool,
    ) -> Result<Vec<u8>, Refusal> {
        intake::lane_of(&wasm)?;
        let wish = serde_json::to_string(wish).unwrap_or_default(); // names and numbers: no reason to fail
        let job = Job {
            command: "prepare-job",
            order: vec![("--wish", wish)],
            threads,
            pack: &[],
            wasm: &wasm,
            answer_bytes_max: frame::ANSWER_BYTES_MAX,
        };
        let prepared = self.answered(&job, lengthened).await.map_err(|mut refusal| {
            // Of a job that ended without an answer; one that gave it says what it was doing.
            if refusal.code == RefusalCode::JobLimit && refusal.message.starts_with("compiling ") {
                refusal.message.insert_str(0, "preparing the program, initialization included: ");
            }
            refusal
        })?;
        let prepared = prepared.compiled.native;
        intake::lane_of(&prepared)?;
        Ok(prepared)
    }

    /// A job from its start to its answer.
    async fn answered(
        &self,
        job: &Job<'_>,
        mut lengthened: impl FnMut() -> bool,
    ) -> Result<frame::Answer, Refusal> {
        let mut child = self.spawn(job)?;
        let group = child.id();
        let long = async {
            sleep(LONG_AFTER).await;
            while !lengthened() {
                sleep(LONG_AFTER).await;
            }
            stand_back(group);
            future::pending().await
        };
        let answer = tokio::select! {
            answer = timeout(self.caps.wall, self.converse(&mut child, job)) => answer,
            never = long => never,
        };
        let answer = answer.unwrap_or_else(|_| Err(exit::out_of_time(&self.caps)));
        // Ended or not: nothing of it stays. Killing what has exited already is no error.
        let _ = child.kill().await;
        frame::read(answer?)
    }

    fn spawn(&self, job: &Job<'_>) -> Result<Child, Refusal> {
        let caps = [
            ("--memory-bytes", self.caps.memory_bytes.to_string()),
            ("--cpu-s", self.caps.cpu_s.to_string()),
            ("--threads", job.threads.to_string()),
        ];
        let mut command = Command::new(&self.program);
        command
            .arg(job.command)
            .args(job.order.iter().chain(&caps).flat_map(|(name, value)| [*name, value]))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Not in the terminal's group: an interrupt is for the service, which ends its jobs itself.
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map_err(|error| {
            tracing::error!(program = %self.program.display(), error = chain(&error), "starting a compile job failed");
            refuse(RefusalCode::Internal, "the compile job could not be started: try again later")
        })
    }

    /// Feeds the job and waits for its end. Answers its output if it succeeded.
    async fn converse(&self, child: &mut Child, job: &Job<'_>) -> Result<Vec<u8>, Refusal> {
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(refuse(RefusalCode::Internal, "the compile job has no pipes"));
        };
        let feed = async move {
            // A job that refuses early closes its end; its answer says why.
            if stdin.write_all(job.pack).await.is_ok() {
                let _ = stdin.write_all(job.wasm).await;
            }
        };
        // Reading stops at the bound, and with it the conversation, so that an endless answer costs no more.
        let bytes_max = job.answer_bytes_max;
        let answer = async {
            let answer = read_at_most(stdout, bytes_max + 1).await;
            if answer.len() as u64 > bytes_max { Err(()) } else { Ok(answer) }
        };
        let last_words = async { Ok(read_at_most(stderr, STDERR_BYTES_MAX).await) };
        let fed = async {
            feed.await;
            Ok(())
        };
        let Ok(((), answer, last_words)) = tokio::try_join!(fed, answer, last_words) else {
            return Err(check_native_size(frame::ANSWER_BYTES_MAX + 1)
                .err()
                .unwrap_or_else(|| exit::out_of_memory(&self.caps, None)));
        };
        let status = child.wait().await.map_err(|error| {
            tracing::error!(error = chain(&error), "waiting for a compile job failed");
            refuse(RefusalCode::Internal, "the compile job could not be waited for: try again later")
        })?;
        if status.success() {
            return Ok(answer);
        }
        let last_words = String::from_utf8_lossy(&last_words);
        tracing::warn!(%status, stderr = last_words.trim(), "a compile job ended without an answer");
        let shape = frame::admitted(&answer).map(|admitted| admitted.shape);
        Err(exit::refusal(status, &last_words, &self.caps, shape))
    }
}

/// Lowers the priority of every thread of a job's process group.
fn stand_back(group: Option<u32>) {
    let Some(group) = group.and_then(|group| Pid::from_raw(group as i32)) else { return };
    if let Err(error) = setpriority_pgrp(Some(group), LONG_NICE) {
        tracing::debug!(%error, "a job that ended meanwhile");
    }
}

/// The first `max` bytes of a pipe, which is then closed. A read error ends it like its end: the exit status says what
/// happened.
async fn read_at_most(pipe: impl AsyncRead + Unpin, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.take(max).read_to_end(&mut bytes).await;
    bytes
}
