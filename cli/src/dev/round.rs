//! One round of `dev`: build, deploy, say.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{fleet::Serving, lines::Lines};
use crate::{
    args::{Deploy, Registry},
    assets::Kept,
    build::{Aim, Recipe},
    commands::deploy::{self, Report},
    error::Result,
    import::Purpose,
    output::print_line,
    up::{self, Stop},
};

/// How long a round waits for the one node.
const ACTIVE_S_MAX: u64 = 30;

/// The rounds of one run.
pub struct Rounds<'a> {
    folder: &'a Path,
    serving: &'a Serving,
    /// Where it answers, as was said last.
    told: Vec<String>,
    /// Prints the app's lines, from its first version on.
    lines: Option<Lines>,
    /// Static files that are compressed already.
    kept: Kept,
}

impl<'a> Rounds<'a> {
    /// Of this project, on this fleet.
    pub fn new(folder: &'a Path, serving: &'a Serving) -> Rounds<'a> {
        Rounds { folder, serving, told: Vec::new(), lines: None, kept: Kept::default() }
    }

    /// Ends what prints, and returns when nothing prints any more.
    pub fn close(self) {
        if let Some(lines) = self.lines {
            lines.close();
        }
    }

    /// Brings what is in the folder now to the node.
    pub fn next(&mut self, stop: &Stop) -> Result<()> {
        if let Some(recipe) = Recipe::read(self.folder)? {
            let built = recipe.make(Aim::Dev, stop)?;
            if let Some(took) = built.took {
                let took = took.as_secs_f64();
                print_line(&format!("{}: built in {took:.2} s: {}", recipe.name, built.what()))?;
            }
        }
        if stop.is_raised() {
            return Ok(());
        }
        let began = Instant::now();
        let report = self.deploy()?;
        let which = format!("{} v{}", report.deployed.app, report.deployed.version);
        if let Some(waited) = &report.waited {
            waited.verdict(&which)?;
        }
        let (ms, compile_ms) = (began.elapsed().as_millis(), report.deployed.compile_ms);
        print_line(&format!("{which} answers after {ms} ms (compile {compile_ms} ms)"))?;
        for line in report.undone() {
            print_line(&line)?;
        }
        self.tell(&report)?;
        self.listen(&report)
    }

    fn deploy(&self) -> Result<Report> {
        let deploy = Deploy {
            source: PathBuf::from(self.folder),
            manifest: None,
            app: None,
            hosts: vec![],
            env: None,
            timeout: Duration::from_secs(ACTIVE_S_MAX),
            no_wait: false,
            registry: Registry::default(),
        };
        deploy::deploy(&self.serving.api, &deploy, Purpose::Up, &self.kept)
    }

    /// Where it is and how it is asked from a shell, when that is news.
    fn tell(&mut self, report: &Report) -> Result<()> {
        if self.told == report.deployed.urls {
            return Ok(());
        }
        self.told.clone_from(&report.deployed.urls);
        let urls = self.told.iter().map(|url| format!("\n  {url}")).collect::<String>();
        print_line(&format!("{urls}{}\n", up::curl(&self.serving.ready, report)))
    }

    /// From now on what it says stands here, under whatever name it has.
    fn listen(&mut self, report: &Report) -> Result<()> {
        if self.lines.as_ref().is_some_and(|lines| lines.are_of(&report.deployed.app)) {
            return Ok(());
        }
        if let Some(lines) = self.lines.take() {
            lines.close();
        }
        if let Ok(app) = report.deployed.app.parse() {
            self.lines = Some(Lines::follow(self.serving.client()?, app));
        }
        Ok(())
    }
}
