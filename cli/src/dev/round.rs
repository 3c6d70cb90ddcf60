//! One round of `dev`: build, deploy, say.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{fleet::Serving, lines};
use crate::{
    args::Deploy,
    build::Recipe,
    commands::deploy::{self, Report},
    error::Result,
    import::Purpose,
    output::print_line,
    up::Stop,
};

/// How long a round waits for the one node.
const ACTIVE_S_MAX: u64 = 30;

/// The rounds of one run.
pub struct Rounds<'a> {
    folder: &'a Path,
    serving: &'a Serving,
    stop: &'a Stop,
    /// Prints the app's lines, from the first version on.
    lines: Option<JoinHandle<()>>,
}

impl<'a> Rounds<'a> {
    /// Of this project, on this fleet.
    pub fn new(folder: &'a Path, serving: &'a Serving, stop: &'a Stop) -> Rounds<'a> {
        Rounds { folder, serving, stop, lines: None }
    }

    /// Waits, once told to stop, until nothing prints any more.
    pub fn close(self) {
        if let Some(lines) = self.lines {
            let _ = lines.join();
        }
    }

    /// Brings what is in the folder now to the node.
    pub fn next(&mut self) -> Result<()> {
        if let Some(recipe) = Recipe::read(self.folder)? {
            let built = recipe.make()?;
            if let Some(took) = built.took {
                let took = took.as_secs_f64();
                print_line(&format!("{}: built in {took:.2} s: {}", recipe.name, built.what()))?;
            }
        }
        let began = Instant::now();
        let report = self.deploy()?;
        print_line(&format!(
            "{} v{} answers after {} ms (compile {} ms)",
            report.deployed.app,
            report.deployed.version,
            began.elapsed().as_millis(),
            report.deployed.compile_ms
        ))?;
        if let Some(waited) = &report.waited {
            waited.verdict(&format!("{} v{}", report.deployed.app, report.deployed.version))?;
        }
        self.tell(&report)
    }

    fn deploy(&self) -> Result<Report> {
        let deploy = Deploy {
            source: PathBuf::from(self.folder),
            app: None,
            hosts: vec![],
            env: None,
            timeout: Duration::from_secs(ACTIVE_S_MAX),
            no_wait: false,
        };
        deploy::deploy(&self.serving.api, &deploy, Purpose::Up)
    }

    /// Once: where it is, how it is asked from a shell, and from now on what it says.
    fn tell(&mut self, report: &Report) -> Result<()> {
        if self.lines.is_some() {
            return Ok(());
        }
        let urls = report.deployed.urls.iter().map(|url| {
            let ca = self.serving.ca();
            format!("\n  {url}\n  curl --cacert {} {url}", ca.display())
        });
        print_line(&format!("{}\n", urls.collect::<String>()))?;
        let Ok(app) = report.deployed.app.parse() else { return Ok(()) };
        self.lines = Some(lines::follow(self.serving.client()?, app, self.stop.clone()));
        Ok(())
    }
}
