//! `skerry deploy`: read → upload → values → version → wait → say.

use std::time::Instant;

use artifact::{Digest, visible};
use serde::Serialize;

use super::{
    convergence::{self, Waited},
    idempotency_key,
    items::{self, Entries},
    queued,
    replaced::{self, Replaced},
};
use crate::{
    api::{Api, Deployed, NewVersion},
    args::Deploy,
    assets::{self, Kept, Sent},
    build::size,
    error::{Error, Result},
    import::Purpose,
    oci::{self, reference::Reference},
    output::{Output, Progress},
    project::{Alone, Package, Reading},
};

/// Codes of refusals that are cured by sending the program, or static files, again.
const UPLOAD_AGAIN: [&str; 2] = ["upload_again", "assets_missing"];

/// The result, also the JSON form.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub deployed: Deployed,
    /// Digest of the program, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasm: Option<Digest>,
    /// Its static files, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<Sent>,
    /// Entries of its configuration that had other values before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_replaced: Vec<Replaced>,
    /// Absent with `--no-wait`.
    #[serde(flatten)]
    pub waited: Option<Waited>,
}

/// Deploys and prints; fails if not every node serves it.
pub fn run(api: &Api, args: &Deploy, output: Output) -> Result<()> {
    let report = deploy(api, args, Purpose::Deploy, &Kept::default())?;
    output.print(&report, || report.text())?;
    match &report.waited {
        Some(waited) => waited.verdict(&format!("{} v{}", report.deployed.app, report.deployed.version)),
        None => Ok(()),
    }
}

/// Deploys and, unless told not to, waits for the nodes. `kept`: compressed files of the deploy before.
pub fn deploy(api: &Api, args: &Deploy, purpose: Purpose, kept: &Kept) -> Result<Report> {
    let package = read(args, purpose)?;
    for note in &package.notes {
        eprintln!("{note}");
    }
    let progress = Progress::start(format!("{}: uploading", package.app));
    let deadline = Instant::now() + args.timeout;

    let site = package.assets.as_ref().map(|folder| assets::read(folder, &progress, kept)).transpose()?;
    for note in site.iter().flat_map(|site| &site.notes) {
        eprintln!("{note}");
    }
    let program = package.wasm.as_deref().map(|wasm| (Digest::of(wasm), wasm));
    let file = package.file.display().to_string();
    if let Some((digest, wasm)) = program
        && !api.has_wasm(&digest, &file)?
    {
        api.put_wasm(&digest, wasm, &file, deadline)?;
    }
    let mut sent = Sent::default();
    if let Some(site) = &site {
        site.send(api, deadline, &progress, &mut sent)?;
    }

    progress.now(format!("{}: putting values", package.app));
    items::put_secrets(api, &package.app, &package.items.secrets)?;
    let entries = items::put_kv(api, &package.items.kv)?;

    // Before the version is made: afterwards it is the manifest's.
    let before = replaced::before(api, &package.app);
    progress.now(format!("{}: compiling", package.app));
    let wasm = program.map(|(digest, _)| digest);
    let (assets, prepare) = (site.as_ref().map(|site| site.index), &package.prepare);
    let body = NewVersion { wasm, assets, prepare, config: &package.config };
    let key = idempotency_key()?;
    let version = || api.deploy(&package.app, &body, &key, deadline);
    let deployed = match wasm.filter(|_| progress.is_shown()) {
        Some(wasm) => {
            let tell = |position| progress.now(format!("{}: {}", package.app, queued::text(position)));
            queued::told(|| api.place_in_queue(&wasm), tell, version)
        }
        None => version(),
    };
    let deployed = match deployed {
        // What was there a moment ago is gone or damaged. Nothing was made, so this is a new call.
        Err(Error::Rejected { code, .. }) if UPLOAD_AGAIN.contains(&code.as_str()) => {
            if let Some((digest, wasm)) = program {
                api.put_wasm(&digest, wasm, &file, deadline)?;
            }
            if let Some(site) = &site {
                site.send(api, deadline, &progress, &mut sent)?;
            }
            api.deploy(&package.app, &body, &idempotency_key()?, deadline)?
        }
        other => other?,
    };

    if entries == Entries::Later && items::put_kv(api, &package.items.kv)? == Entries::Later {
        let doing = format!("putting the entries of {}'s KV stores", package.app);
        let message = "this token may not do that".into();
        return Err(Error::Rejected { doing, code: "forbidden".into(), message, mistakes: vec![] });
    }
    let assets = site.map(|_| sent);
    let config_replaced =
        before.map(|before| replaced::entries(&before, &package.config)).unwrap_or_default();
    if args.no_wait {
        return Ok(Report { deployed, wasm, assets, config_replaced, waited: None });
    }
    progress.now(format!("{}: waiting for the nodes", package.app));
    let waited = convergence::wait(api, &package.app, deployed.rev, args.timeout, &progress)?;
    Ok(Report { deployed, wasm, assets, config_replaced, waited: Some(waited) })
}

/// What is to be deployed: of this machine, or of a registry.
fn read(args: &Deploy, purpose: Purpose) -> Result<Package> {
    let reading = Reading {
        app: args.app.as_ref(),
        hosts: &args.hosts,
        env: args.env.as_deref(),
        purpose,
        manifest: args.manifest.as_deref(),
    };
    let Some(image) = Reference::text_of(&args.source) else { return Package::read(&args.source, reading) };
    let image = oci::reference(image)?;
    let progress = Progress::start(format!("pulling {image}"));
    let pulled = oci::pull(&image, &args.registry, &progress)?;
    drop(progress);
    // A tag may name another image tomorrow: what was deployed is to be found again.
    eprintln!("pulled {}, {}", pulled.image, size(pulled.wasm.len() as u64));
    let (name, file) = (image.name().to_owned(), image.to_string().into());
    Package::alone(Alone { name, file, wasm: pulled.wasm }, reading)
}

impl Report {
    /// For a person: what is live where, how long each stage took, and the URLs.
    pub fn text(&self) -> String {
        let Deployed { app, version, compile_ms, publish_ms, urls, rev, .. } = &self.deployed;
        let first = match &self.waited {
            Some(Waited { convergence, .. }) if convergence.active == 0 => format!(
                "{app} v{version} is durable, but no node serves it yet (compile {compile_ms} ms, publish {publish_ms} ms)"
            ),
            Some(Waited { active_ms, convergence, .. }) => format!(
                "{app} v{version} is live on {} of {} nodes (compile {compile_ms} ms, publish {publish_ms} ms, active {active_ms} ms)",
                convergence.active, convergence.nodes
            ),
            None => format!(
                "{app} v{version} is durable at rev {rev} (compile {compile_ms} ms, publish {publish_ms} ms)"
            ),
        };
        let files = self.assets.iter().map(Sent::text);
        let advice =
            self.deployed.advice.iter().map(|one| format!("advice: {}", visible::for_people(&one.message)));
        let prepared =
            self.deployed.prepared.iter().map(|digest| format!("prepared: {}", visible::for_people(digest)));
        let lines = files.chain(prepared).chain(self.undone()).chain(advice).chain(urls.iter().cloned());
        lines.fold(first, |text, line| format!("{text}\n  {line}"))
    }

    /// What of `skerry config set` this deploy undid, a line for each entry.
    pub fn undone(&self) -> Vec<String> {
        replaced::lines(&self.config_replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Advice, Convergence};
    use crate::commands::convergence::Spread;

    fn report(waited: Option<Waited>) -> Report {
        let deployed = Deployed {
            app: "hello".into(),
            tenant: "default".into(),
            version: 3,
            rev: 9,
            lane: "wasi".into(),
            hosts: vec!["hello.localhost".into()],
            urls: vec!["https://hello.localhost:8443/".into()],
            targets: vec![],
            compile_ms: 210,
            publish_ms: 4,
            prepared: None,
            advice: vec![],
        };
        Report { deployed, wasm: Some(Digest::ZERO), assets: None, config_replaced: vec![], waited }
    }

    fn live() -> Waited {
        let convergence = Convergence { rev: 9, nodes: 1, active: 1, failed: vec![], lagging: vec![] };
        Waited { outcome: Spread::Live, active_ms: 38, convergence }
    }

    #[test]
    fn says_what_is_live_where_and_how_long_it_took() {
        assert_eq!(
            report(Some(live())).text(),
            "hello v3 is live on 1 of 1 nodes (compile 210 ms, publish 4 ms, active 38 ms)\n  https://hello.localhost:8443/"
        );
        assert!(report(None).text().starts_with("hello v3 is durable at rev 9"));
        let convergence = Convergence { rev: 9, nodes: 1, active: 0, failed: vec![], lagging: vec![] };
        let nowhere = Waited { outcome: Spread::TimedOut, active_ms: 2_000, convergence };
        let text = report(Some(nowhere)).text();
        assert!(text.starts_with("hello v3 is durable, but no node serves it yet"), "{text}");
    }

    #[test]
    fn static_files_have_a_line_before_the_urls() {
        let assets = Some(Sent { files: 42, new: 3, bytes: 120_000 });
        let report = Report { assets, wasm: None, ..report(Some(live())) };
        assert!(report.text().ends_with("\n  42 files (3 new, 120 KB)\n  https://hello.localhost:8443/"));
        let value = serde_json::to_value(report).unwrap();
        assert_eq!(value["assets"], serde_json::json!({ "files": 42, "new": 3, "bytes": 120_000 }));
        assert_eq!(value.get("wasm"), None);
    }

    #[test]
    fn a_prepared_program_is_told_by_its_digest() {
        let mut report = report(Some(live()));
        report.deployed.prepared = Some("sha256-of-it".into());
        assert!(report.text().contains("\n  prepared: sha256-of-it\n"), "{}", report.text());
    }

    #[test]
    fn advice_has_a_line_and_no_control_characters() {
        let mut report = report(Some(live()));
        let advice =
            Advice { code: "start_function".into(), message: "function 3 is \u{1b}[31ma start".into() };
        report.deployed.advice.push(advice);
        let text = report.text();
        assert!(text.contains("\n  advice: function 3 is ") && !text.contains('\u{1b}'), "{text}");
        let value = serde_json::to_value(report).unwrap();
        assert_eq!(value["advice"][0]["code"], "start_function");
    }

    #[test]
    fn the_json_form_is_stable() {
        let value = serde_json::to_value(report(Some(live()))).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "app": "hello", "tenant": "default", "version": 3, "rev": 9, "lane": "wasi",
                "hosts": ["hello.localhost"], "urls": ["https://hello.localhost:8443/"], "targets": [],
                "compile_ms": 210, "publish_ms": 4, "wasm": Digest::ZERO, "outcome": "live", "active_ms": 38,
                "convergence": { "rev": 9, "nodes": 1, "active": 1, "failed": [], "lagging": [] },
            })
        );
    }
}
