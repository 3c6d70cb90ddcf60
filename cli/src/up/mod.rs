//! `skerry up`: a whole fleet on this machine, from the same three servers and the same protocols as on many.
//!
//! The servers are child processes, found beside this executable, configured by files in the fleet's directory and
//! watched until `up` is told to stop. Relied on: their ready files, and that they stop when their standard input
//! ends (`SKERRY_EXIT_WITH_STDIN`), so that none outlives `up`, even one that was killed.
//! Deliberately absent: any shortcut past the API or the sync protocol.

mod config;
mod layout;
mod part;
mod ports;
mod ready;
mod start;
mod stop;
mod supervise;

use std::{path::Path, time::Duration};

use crate::{
    api::Api,
    args::{Deploy, Registry, Up},
    assets::Kept,
    commands::deploy::{self, Report},
    error::{Error, Result},
    import::Purpose,
    output::{Output, print_line},
};

use self::layout::Layout;
pub use self::{ready::Ready, stop::Stop};

/// How long the sample given on the command line may take until the node serves it.
const DEPLOY_S_MAX: u64 = 60;

/// Starts the fleet, deploys the project if one is given, says where everything is, and stays until stopped.
pub fn run(args: &Up, output: Output) -> Result<()> {
    let stop = Stop::listen()?;
    let own = Own::start(args, &stop)?;
    let deployed =
        args.project.as_ref().map(|source| deploy_project(source.clone(), args.env.clone(), &own.fleet.api));
    own.ready().write(&own.layout, args.ready_file.as_deref())?;
    announce(own.ready(), &own.layout, deployed.as_ref(), output)?;
    own.until_stopped(args.ready_file.as_deref(), &stop);
    Ok(())
}

/// A fleet that this process started, which nobody else can start in its directory meanwhile.
pub struct Own {
    fleet: start::Fleet,
    layout: Layout,
    _lock: layout::Lock,
}

impl Own {
    /// Starts it.
    pub fn start(args: &Up, stop: &Stop) -> Result<Own> {
        let layout = Layout::make(&args.data)?;
        let lock = layout.lock()?;
        let fleet = start::fleet(args, &layout, stop)?;
        Ok(Own { fleet, layout, _lock: lock })
    }

    /// Where everything is.
    pub fn ready(&self) -> &Ready {
        &self.fleet.ready
    }

    /// Says where everything is to whoever looks into the fleet's directory.
    pub fn write_ready(&self) -> Result<()> {
        self.fleet.ready.write(&self.layout, None)
    }

    /// Watches its parts until told to stop, and stops them.
    pub fn until_stopped(mut self, ready_file: Option<&Path>, stop: &Stop) {
        supervise::until_stopped(&mut self.fleet, &self.layout, ready_file, stop);
        self.fleet.stop();
    }
}

/// The fleet that runs in a directory, if one does.
pub fn running_in(directory: &Path) -> Option<Ready> {
    let file = directory.join(crate::credentials::FLEET_FILE);
    if !crate::credentials::is_ours(directory) {
        return None;
    }
    let ready: Ready = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    // The file may be left from a run before: a fleet that starts holds the lock and has not written its own yet.
    (layout::holder(directory)? == ready.pid).then_some(ready)
}

fn deploy_project(source: std::path::PathBuf, env: Option<String>, api: &Api) -> Result<Report> {
    let timeout = Duration::from_secs(DEPLOY_S_MAX);
    let registry = Registry::default();
    let deploy =
        Deploy { source, manifest: None, app: None, hosts: vec![], env, timeout, no_wait: false, registry };
    deploy::deploy(api, &deploy, Purpose::Up, &Kept::default())
}

/// A deploy that failed is said, and leaves the fleet running: it is what one needs to try again.
fn announce(ready: &Ready, layout: &Layout, deployed: Option<&Result<Report>>, output: Output) -> Result<()> {
    let report = match deployed {
        Some(Ok(report)) => Some(report),
        Some(Err(error)) => {
            eprintln!("{}", error.report());
            eprintln!(
                "  the fleet is up without it; try again with: skerry deploy --data {}",
                layout.shown().display()
            );
            None
        }
        None => None,
    };
    if let Some(Err(error)) =
        report.and_then(|report| report.waited.as_ref()).map(|waited| waited.verdict("the project"))
    {
        eprintln!("{}", error.report());
    }
    match output {
        Output::Json => output.print(ready, String::new),
        Output::Text => {
            print_line(&ready.summary(layout))?;
            report.map_or(Ok(()), |report| print_line(&format!("\n{}{}", report.text(), curl(ready, report))))
        }
    }
}

/// Commands to copy. `curl` resolves `*.localhost` by itself; other names must be pointed at the node.
pub fn curl(ready: &Ready, report: &Report) -> String {
    // From where one stands, if that is where the fleet is: shorter, and the same on another machine.
    let here = std::env::current_dir().unwrap_or_default();
    let ca = ready.ca.strip_prefix(here).unwrap_or(&ready.ca);
    let line = |host: &String, url: &String| {
        let resolve = match host.ends_with(".localhost") {
            true => String::new(),
            false => format!(" --resolve {host}:{}:{}", ready.https.port(), ready.https.ip()),
        };
        format!("\n  curl --cacert {}{resolve} {url}", ca.display())
    };
    report.deployed.hosts.iter().zip(&report.deployed.urls).map(|(host, url)| line(host, url)).collect()
}

impl Drop for start::Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a part of the fleet did wrong, with the end of its log: the reason is almost always there.
fn failed(name: &str, what: &str, log: &std::path::Path) -> Error {
    /// Lines of the log that are shown.
    const TAIL_LINES: usize = 8;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail: String =
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("\n  | {line}")).collect();
    Error::Fleet(format!("{name} {what}; its log is {}{tail}", log.display()))
}
