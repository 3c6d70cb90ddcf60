//! The counts that the repository keeps: a file with a baseline for each kind of machine.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Taken};

/// A file of counts: a baseline for each kind of machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    machine: Vec<Baseline>,
}

const HEAD: &str = "\
# Counts of one request that do not depend on a quiet machine (docs/design/0013-counts.md).
# Written by `loadtest counts --write`, which keeps what is of other machines; `loadtest counts --check` compares with the
# machine of the same target and reset, and fails where a count is more than 10 % above it.
";

impl Kept {
    /// What a file keeps. One without any, or with two of one kind, is an error.
    pub fn read(path: &Path) -> anyhow::Result<Kept> {
        let reading = || format!("reading the baseline {}", path.display());
        let text = fs::read_to_string(path).with_context(reading)?;
        let kept: Kept = toml::from_str(&text).with_context(reading)?;
        kept.check().with_context(reading)?;
        Ok(kept)
    }

    /// The same, of a file that need not be there yet.
    pub fn read_if_there(path: &Path) -> anyhow::Result<Kept> {
        match path.exists() {
            true => Kept::read(path),
            false => Ok(Kept::default()),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.machine.is_empty(), "it keeps no counts");
        for (number, one) in self.machine.iter().enumerate() {
            let is_twice = self.machine[..number].iter().any(|other| other.taken == one.taken);
            anyhow::ensure!(!is_twice, "it keeps counts of {} twice", one.taken);
        }
        Ok(())
    }

    /// What to compare with on such a machine: its own, or else the first, of which the counts that are the same everywhere
    /// still say something.
    pub fn of(&self, taken: &Taken) -> Option<&Baseline> {
        self.machine.iter().find(|one| one.taken == *taken).or(self.machine.first())
    }

    /// Keeps it instead of what was kept of such a machine. What is kept of others stays.
    pub fn keep(&mut self, now: Baseline) {
        match self.machine.iter_mut().find(|one| one.taken == now.taken) {
            Some(one) => *one = now,
            None => self.machine.push(now),
        }
    }

    /// Of which machines there are counts.
    pub fn machines(&self) -> Vec<Taken> {
        self.machine.iter().map(|one| one.taken.clone()).collect()
    }

    /// Rounded to what a change would be seen in.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut rounded = self.clone();
        let counts = rounded.machine.iter_mut().flat_map(|one| one.requests.values_mut().flatten());
        for (count, value) in counts {
            *value = (*value / count.step()).round() * count.step();
        }
        let text = format!("{HEAD}\n{}", toml::to_string(&rounded).context("writing the baseline")?);
        fs::write(path, text).with_context(|| format!("writing the baseline {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::baseline::{Count, tests::baseline};

    fn taken(reset: &str) -> Taken {
        Taken { target: "x86_64-v3".into(), reset: reset.into() }
    }

    fn of(reset: &str, allocations: f64) -> Baseline {
        Baseline { taken: taken(reset), ..baseline(&[(Count::Allocations, allocations)]) }
    }

    #[test]
    fn a_machine_is_compared_with_its_own_and_an_unknown_one_with_the_first() {
        let kept = Kept { machine: vec![of("copying", 40.0), of("PAGEMAP_SCAN", 50.0)] };
        assert_eq!(kept.of(&taken("PAGEMAP_SCAN")), Some(&of("PAGEMAP_SCAN", 50.0)));
        assert_eq!(kept.of(&taken("magic")), Some(&of("copying", 40.0)));
        assert_eq!(Kept::default().of(&taken("magic")), None);
    }

    #[test]
    fn a_second_machine_is_added_and_the_first_is_not_lost() {
        let mut kept = Kept::default();
        kept.keep(of("copying", 40.0));
        kept.keep(of("PAGEMAP_SCAN", 50.0));
        kept.keep(of("copying", 30.0));
        assert_eq!(kept.machine, [of("copying", 30.0), of("PAGEMAP_SCAN", 50.0)]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counts.toml");
        assert_eq!(Kept::read_if_there(&file).unwrap(), Kept::default());
        let counts = |allocations, bytes| {
            let one = baseline(&[(Count::Allocations, allocations), (Count::AllocatedBytes, bytes)]);
            Kept { machine: vec![one, of("copying", 1.0)] }
        };
        let written = counts(40.5, 9_000.0);
        written.write(&file).unwrap();
        assert_eq!(Kept::read_if_there(&file).unwrap(), written);
        counts(40.6, 8_999.9).write(&file).unwrap();
        assert_eq!(Kept::read(&file).unwrap(), written, "noise is not written");
        let told = |text: &str| {
            fs::write(&file, text).unwrap();
            format!("{:#}", Kept::read(&file).unwrap_err())
        };
        let error = told("colour = 1");
        assert!(error.contains("counts.toml") && error.contains("colour"), "{error}");
        assert!(told("machine = []").contains("it keeps no counts"));
        let one = "[[machine]]\ntaken = { target = 'x', reset = 'y' }\nrequests = {}\n";
        assert!(told(&one.repeat(2)).contains("counts of target x, slots reset by y twice"));
    }

    #[test]
    fn the_file_of_the_repository_is_sound() {
        let kept = Kept::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/counts.toml"))).unwrap();
        assert!(kept.machine.iter().all(|one| !one.requests.is_empty()));
    }
}
