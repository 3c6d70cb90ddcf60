//! `skerry new`: a project to start from, written offline out of this program alone.
//!
//! Relied on: `carried`, what the build embedded; `template`, which files a project has; `write`, all of them or none.
//! Deliberately absent: building, installing, and anything that asks a network.

mod carried;
mod lang;
mod template;
mod write;

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    args::New,
    error::{Error, Result},
    output::{Output, table},
    tools,
};

pub use lang::Lang;
use template::Template;

/// The result, also the JSON form.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    folder: PathBuf,
    lang: Lang,
    template: String,
    files: usize,
}

/// `skerry new NAME --lang LANG`, or `skerry new --list`.
pub fn run(args: &New, output: Output) -> Result<()> {
    let (Some(name), Some(lang)) = (&args.name, args.lang) else { return list(output) };
    let template = Template::find(&args.template, lang)?;
    if let Some(why) = lang.refuses(name) {
        return Err(Error::Usage(format!("{name} cannot be a project in {}: {why}", lang.title())));
    }
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let files = template.files(name);
    write::project(&folder, &files)?;
    let report = Report {
        name: name.to_string(),
        folder: folder.clone(),
        lang,
        template: args.template.clone(),
        files: files.len(),
    };
    output.print(&report, || text(&report))?;
    // The project is there in any case: what is missing is needed by its first build.
    for missing in lang.tools().iter().filter_map(|tool| tools::missing(tool, &folder)) {
        eprintln!("note: {missing}");
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let Report { name, folder, lang, template, .. } = report;
    let folder = folder.display();
    format!(
        "{name} is in {folder}/ ({}, template {template})\n\n  \
         cd {folder}\n  \
         skerry dev        # build, run, and rebuild on save: https://{name}.localhost:8443/\n  \
         skerry test       # its own tests\n  \
         skerry publish    # build and deploy to a fleet",
        lang.title()
    )
}

fn list(output: Output) -> Result<()> {
    let all = template::all()?;
    output.print(&all, || {
        let head = ["TEMPLATE", "LANGUAGES", "WHAT IT IS"].map(str::to_owned).to_vec();
        let rows = all.iter().map(|about| {
            let langs: Vec<_> = about.languages.iter().map(|lang| lang.name()).collect();
            vec![about.name.clone(), langs.join(" "), about.description.clone()]
        });
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    })
}
