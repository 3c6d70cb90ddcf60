//! A `skerry.toml` of what was read: keys in the order of the reference, defaults left out.

use artifact::manifest::{AppConfig, Build, Project, keys};
use toml::{Table, Value};

/// The text of a project's manifest, which reads as this project.
pub fn manifest(project: &Project) -> Result<String, String> {
    let written = text(project)?;
    match Project::parse(&written) {
        Ok(read) if read == *project => Ok(written),
        Ok(_) => Err("it would read as something else".into()),
        Err(mistakes) => Err(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn text(project: &Project) -> Result<String, String> {
    let Project { name, component, build, prepare, assets_folder, config } = project;
    let said = |error: toml::ser::Error| error.to_string();
    let (mut whole, defaults) =
        (Table::try_from(config).map_err(said)?, Table::try_from(AppConfig::default()).map_err(said)?);
    whole.retain(|key, value| defaults.get(key) != Some(value));
    if let Some(Value::Table(limits)) = whole.get_mut("limits") {
        limits.retain(|key, value| defaults["limits"].get(key) != Some(value));
    }
    whole.insert("name".into(), Value::String(name.to_string()));
    whole.extend(component.iter().map(|file| ("component".to_owned(), Value::String(file.clone()))));
    if let (Some(folder), Some(Value::Table(assets))) = (assets_folder, whole.get_mut("assets")) {
        assets.insert("folder".into(), Value::String(folder.clone()));
    }
    if let Some(Build { command, watch, test }) = build {
        let mut table = Table::from_iter([("command".to_owned(), Value::String(command.clone()))]);
        let paths = |watch: &Vec<String>| watch.iter().cloned().map(Value::String).collect();
        table.extend(watch.as_ref().map(|watch| ("watch".to_owned(), Value::Array(paths(watch)))));
        table.extend(test.as_ref().map(|test| ("test".to_owned(), Value::String(test.clone()))));
        whole.insert("build".into(), Value::Table(table));
    }
    if !prepare.is_empty() {
        whole.insert("prepare".into(), Value::Table(Table::try_from(prepare).map_err(said)?));
    }

    let (mut top, mut tables) = (String::new(), String::new());
    for key in keys::TOP {
        let Some(value) = whole.remove(key.name) else { continue };
        let is_table = value.is_table();
        let text = toml::to_string(&Table::from_iter([(key.name.to_owned(), value)])).map_err(said)?;
        match is_table {
            true => tables += &format!("\n{text}"),
            false => top += &text,
        }
    }
    Ok(top + &tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_manifest_reads_as_what_was_written() {
        let whole = Project::parse(include_str!("../../../artifact/tests/whole.toml")).unwrap();
        let written = manifest(&whole).unwrap();
        assert_eq!(Project::parse(&written).unwrap(), whole, "{written}");
        assert!(written.starts_with("name = \"shop\"\ncomponent = "), "{written}");
    }

    #[test]
    fn the_least_manifest_is_two_lines() {
        let project =
            Project::parse("component = \"a.wasm\"\nname = \"a\"\nlimits = { cpu_ms = 50 }\n").unwrap();
        assert_eq!(manifest(&project).unwrap(), "name = \"a\"\ncomponent = \"a.wasm\"\n");
        let project = Project { config: AppConfig { path_prefix: "x".into(), ..project.config }, ..project };
        assert!(
            manifest(&project).unwrap_err().contains("does not start with"),
            "what is wrong is not written"
        );
    }
}
