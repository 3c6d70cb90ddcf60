//! Starts `spec-runner`: by itself for this architecture, by an emulator for another.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, bail};
use artifact::{Target, target::Arch};

/// Where qemu looks for the other architecture's C library.
const LIBRARIES: &str = "QEMU_LD_PREFIX";
/// Where Debian's cross compiler has it.
const DEBIAN_LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// The runners at hand.
pub struct Runners {
    native: PathBuf,
    aarch64: Option<PathBuf>,
    emulator: PathBuf,
    /// How many processes run at once.
    pub jobs: usize,
}

impl Runners {
    /// `native` by default beside this program.
    pub fn new(
        native: Option<PathBuf>,
        aarch64: Option<PathBuf>,
        emulator: PathBuf,
        jobs: Option<usize>,
    ) -> anyhow::Result<Runners> {
        let native = match native {
            Some(path) => path,
            None => env::current_exe().context("finding this program")?.with_file_name("spec-runner"),
        };
        let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
        Ok(Runners { native, aarch64, emulator, jobs })
    }

    /// A command that runs code of `arch`.
    fn command(&self, arch: Arch) -> anyhow::Result<Command> {
        if arch == Arch::Aarch64 && !cfg!(target_arch = "aarch64") {
            let Some(runner) = &self.aarch64 else {
                bail!("code for aarch64 needs --aarch64-runner PATH, built for aarch64-unknown-linux-gnu");
            };
            let mut command = Command::new(&self.emulator);
            command.arg(runner);
            if env::var_os(LIBRARIES).is_none() {
                command.env(LIBRARIES, DEBIAN_LIBRARIES);
            }
            return Ok(command);
        }
        if arch == Arch::X86_64 && !cfg!(target_arch = "x86_64") {
            bail!("there is no emulator for x86_64 here");
        }
        Ok(Command::new(&self.native))
    }

    /// Runs one script and answers what the runner printed.
    pub fn script(&self, arch: Arch, folder: &Path, name: &str, allocator: &str) -> anyhow::Result<String> {
        let mut command = self.command(arch)?;
        command.arg("script").arg(folder).args([name, allocator]);
        output(command)
    }

    /// Runs the random modules of a folder.
    pub fn smith(&self, target: Target, folder: &Path) -> anyhow::Result<String> {
        let mut command = self.command(target.arch())?;
        command.arg("smith").arg(folder);
        output(command)
    }
}

fn output(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("reading what the runner printed")
}
