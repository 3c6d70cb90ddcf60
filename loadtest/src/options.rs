//! Options that several commands have, each written once.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::Verdict;

/// Where programs are.
#[derive(Debug, Clone, clap::Args)]
pub struct Guests {
    /// Folder with the guests; `fixtures/build` puts them there
    #[arg(long = "guests-dir", value_name = "DIR", default_value = "target/guests")]
    pub folder: PathBuf,
}

/// Where what is measured is.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Binaries {
    /// Folder with skerry and the servers; default: that of this command
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
}

/// How a command tells what it found.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a goal is not met
    #[arg(long)]
    check: bool,
}

impl Binaries {
    /// The folder, whole: it is found from other folders too.
    pub fn folder(&self) -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe().context("finding this executable")?;
        let own = own.parent().context("finding the folder of this executable")?;
        absolute(self.binaries.as_deref().unwrap_or(own))
    }
}

impl Output {
    /// Prints what was found.
    pub fn print<R: Serialize>(&self, report: &R, text: impl FnOnce(&R) -> String) -> anyhow::Result<()> {
        crate::print(report, self.json, text)
    }

    /// What the command comes to.
    pub fn verdict(&self, verdict: Verdict) -> Verdict {
        if self.check { verdict } else { Verdict::NoGoal }
    }
}

/// The path from the root.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("finding the folder {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binaries_are_beside_this_one_unless_others_are_named() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(Binaries::default().folder().unwrap(), own.parent().unwrap());
        let named = Binaries { binaries: Some("some/where".into()) };
        assert_eq!(named.folder().unwrap(), std::env::current_dir().unwrap().join("some/where"));
    }

    #[test]
    fn a_goal_that_is_not_met_counts_only_where_it_is_asked_for() {
        let told = |check| Output { json: false, check }.verdict(Verdict::NotMet);
        assert_eq!((told(true), told(false)), (Verdict::NotMet, Verdict::NoGoal));
    }
}
