//! Where a figure was measured: without it a figure says nothing.

use std::{fs, process::Command, thread};

use serde::Serialize;

/// The machine, the tree and the build.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// Processes that wanted a core in the last minute, this one included. Above the number of cores, times are void.
    pub load: f64,
    /// Of the working directory; `+changes` when it is not what was committed.
    pub commit: String,
    pub wasmtime: &'static str,
    pub build: String,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Machine {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            cpu: cpu_model(&cpu_info),
            cores: thread::available_parallelism().map_or(0, |cores| cores.get()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load: load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN),
            commit: commit(),
            wasmtime: engine::WASMTIME_VERSION,
            build: build(),
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Machine { cpu, cores, kernel, load, commit, wasmtime, build } = self;
        format!(
            "machine   {cpu}, {cores} cores, Linux {kernel}, load {load:.1}\n\
             commit    {commit}\n\
             build     {build}, wasmtime {wasmtime}"
        )
    }
}

/// x86 names a model, Arm servers only an implementer and a part.
fn cpu_model(cpu_info: &str) -> String {
    let field = |name: &str| {
        let line =
            cpu_info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    field("model name")
        .or_else(|| Some(format!("implementer {} part {}", field("CPU implementer")?, field("CPU part")?)))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "none".to_owned());
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => commit,
        Some(_) => commit + "+changes",
        None => commit,
    }
}

/// Cargo names the folder after the profile.
fn build() -> String {
    if cfg!(debug_assertions) {
        return "debug: times say nothing".to_owned();
    }
    let folder = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
    folder.map_or_else(|| "unknown".to_owned(), |folder| folder.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_and_arm_are_named() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 9R14\n"), "AMD EPYC 9R14");
        assert_eq!(cpu_model("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n"), "implementer 0x41 part 0xd40");
    }

    #[test]
    fn this_machine_is_described() {
        let here = Machine::here();
        assert!(here.cores > 0 && !here.cpu.is_empty() && !here.commit.is_empty());
        assert!(here.text().contains(&here.kernel));
    }
}
