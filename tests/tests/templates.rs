//! Each template of `skerry new`, in each of its languages, as its user has it: made in an empty folder, built and tested
//! by its own commands, deployed, and asked over https. Backends are on loopback.
//!
//! Each prints what it took. Languages share what a user's machine has anyway: downloaded packages, and for Rust what was
//! compiled of dependencies.

#[path = "templates/answers.rs"]
mod answers;
#[path = "templates/backend.rs"]
mod backend;
#[path = "templates/project.rs"]
mod project;

use std::{
    io::Write as _,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use serde::Deserialize;
use whole_flow::{Fleet, skipped};

use self::{
    answers::App,
    backend::Backend,
    project::{Language, Project, templates},
};

/// `cli/templates/templates.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    template: Vec<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    name: String,
    title: String,
    description: String,
    languages: Vec<Language>,
}

fn list() -> Vec<Template> {
    let file = templates().join("templates.toml");
    let text = std::fs::read_to_string(&file).expect("it is in the repository");
    toml::from_str::<List>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).template
}

/// One for the tests of this file that run at the same time.
fn fleet() -> Arc<Fleet> {
    static FLEET: Mutex<Weak<Fleet>> = Mutex::new(Weak::new());
    let mut shared = FLEET.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let fleet = Arc::new(Fleet::workbench().start());
        *shared = Arc::downgrade(&fleet);
        fleet
    })
}

/// All templates of a language, one after the other: side by side they would wait for each other's locks and cores.
fn works(language: Language) {
    if let Some(missing) = language.missing() {
        return skipped(&format!("templates in {language}: {missing}"));
    }
    let fleet = fleet();
    let templates = list();
    let mut seen = 0;
    for template in templates.iter().filter(|template| template.languages.contains(&language)) {
        seen += 1;
        let backend = Backend::start();
        let name = format!("{}-{language}", template.name);
        let mut took = Took::default();
        let project = Project::new(&template.name, language, &name);
        answers::prepare(&template.name, &project, &backend, &fleet);
        took.after("build", || project.build());
        took.after("test", || project.test());
        took.after("deploy", || project.deploy(&fleet));
        took.after("ask", || answers::check(&template.name, &App { fleet: &fleet, name: &name }));
        took.say(&name, &project);
    }
    assert!(seen > 0, "no template in {language}");
}

/// How long steps took, in seconds.
#[derive(Default)]
struct Took(Vec<(&'static str, f64)>);

impl Took {
    fn after(&mut self, step: &'static str, work: impl FnOnce()) {
        let began = Instant::now();
        work();
        self.0.push((step, began.elapsed().as_secs_f64()));
    }

    /// Past the test runner's capture: what CI is to show.
    fn say(&self, name: &str, project: &Project) {
        let steps: Vec<_> = self.0.iter().map(|(step, seconds)| format!("{step} {seconds:.1} s")).collect();
        let all: f64 = self.0.iter().map(|(_, seconds)| seconds).sum();
        let kib = project.component_bytes() / 1024;
        let _ = writeln!(std::io::stderr(), "template {name}: {all:.1} s ({}), {kib} KiB", steps.join(", "));
    }
}

#[test]
fn those_in_rust_work_from_an_empty_folder_to_an_answer() {
    works(Language::Rust);
}

#[test]
fn those_in_assemblyscript_work_from_an_empty_folder_to_an_answer() {
    works(Language::As);
}

#[test]
fn those_in_javascript_work_from_an_empty_folder_to_an_answer() {
    works(Language::Js);
}

#[test]
fn those_in_python_work_from_an_empty_folder_to_an_answer() {
    works(Language::Python);
}

#[test]
fn the_list_names_each_folder_of_a_template_and_no_other() {
    let mut listed = Vec::new();
    for template in list() {
        assert!(!template.title.is_empty() && !template.description.ends_with('.'), "{}", template.name);
        listed.extend(template.languages.iter().map(|language| format!("{}/{language}", template.name)));
    }
    listed.sort();
    assert_eq!(listed, project::folders());
}

/// Lines of a README: it is to be read to its end.
const README_LINES_MAX: usize = 30;

#[test]
fn readmes_are_short_and_no_placeholder_is_left() {
    for template in list() {
        for language in template.languages {
            let project =
                Project::new(&template.name, language, &format!("look-{}-{language}", template.name));
            let readme = project.read("README.md");
            assert!(readme.lines().count() <= README_LINES_MAX, "{}/{language}", template.name);
            assert!(readme.starts_with(&format!("# look-{}", template.name)), "{readme}");
            for (file, text) in project.files() {
                assert!(
                    !["{{name}}", "{{crate}}", "{{sdk}}"].iter().any(|left| text.contains(left)),
                    "{file}"
                );
            }
        }
    }
}
