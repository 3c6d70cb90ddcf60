//! `[build]` of a `skerry.toml`.

use super::{Reader, Value};
use crate::manifest::{Build, bounds, build, keys};

impl Reader<'_> {
    pub(super) fn build(&mut self, path: &str, value: &Value<'_>) -> Option<Build> {
        let (mut command, mut watch, mut test) = (None, None, None);
        let mut commanded = false;
        for (key, value) in self.table(path, value)? {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "command" => {
                    commanded = true;
                    command = self.command(&path, value);
                }
                "watch" => watch = Some(self.watched(&path, value)),
                "test" => test = self.command(&path, value),
                _ => self.unknown(&path, key, keys::BUILD),
            }
        }
        if !commanded {
            self.note(path, value.span(), "needs a command, such as \"cargo build --release\"".into());
        }
        Some(Build { command: command?, watch, test })
    }

    fn command(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let text = self.string(path, value)?;
        let checked = build::check_command(text).map(|()| text.to_owned());
        checked.map_err(|why| self.note(path, value.span(), why)).ok()
    }

    fn watched(&mut self, path: &str, value: &Value<'_>) -> Vec<String> {
        let items = self.items(path, value);
        if items.len() > bounds::WATCH_MAX {
            let message = format!("{} paths, at most {}", items.len(), bounds::WATCH_MAX);
            self.note(path, value.span(), message);
        }
        let mut watched = Vec::new();
        for item in items {
            let Some(text) = self.string(path, item) else { continue };
            match build::check_watched(text) {
                Ok(()) => watched.push(text.to_owned()),
                Err(why) => self.note(path, item.span(), why),
            }
        }
        watched
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Build, Mistake, Project, bounds};

    const HEAD: &str = "name = \"a\"\ncomponent = \"a.wasm\"\n";

    fn mistakes(rest: &str) -> Vec<String> {
        let mistakes = Project::parse(&format!("{HEAD}{rest}")).unwrap_err();
        mistakes.iter().map(Mistake::to_string).collect()
    }

    #[test]
    fn a_build_has_a_command_and_may_have_more() {
        let parse = |rest: &str| Project::parse(&format!("{HEAD}{rest}")).unwrap().build;
        assert_eq!(parse(""), None);
        let bare = Build { command: "make".into(), watch: None, test: None };
        assert_eq!(parse("build = { command = \"make\" }"), Some(bare.clone()));
        let nothing = Build { watch: Some(vec![]), ..bare };
        assert_eq!(parse("build = { command = \"make\", watch = [] }"), Some(nothing));
        let whole =
            "[build]\ncommand = \"npm run build\"\nwatch = [\"src\", \"../shared\"]\ntest = \"npm test\"\n";
        let build = parse(whole).unwrap();
        assert_eq!(build.watch.unwrap(), ["src", "../shared"]);
        assert_eq!((build.command.as_str(), build.test.as_deref()), ("npm run build", Some("npm test")));
    }

    #[test]
    fn every_mistake_of_a_build_is_found() {
        assert_eq!(
            mistakes(
                "[build]\ncmd = \"make\"\ntest = \" \"\nwatch = [\"/src\", \"src/**/*.rs\", \"\", \"a\\nb\", 3]\n"
            ),
            [
                "line 3: build: needs a command, such as \"cargo build --release\"",
                "line 4: build.cmd: is not a known key; known here: command, watch, test",
                "line 5: build.test: is empty",
                "line 6: build.watch: \"/src\" is absolute: paths are relative to the manifest",
                "line 6: build.watch: \"src/**/*.rs\" is a pattern: name files, or folders, which stand for all in them",
                "line 6: build.watch: a path of 0 bytes, from 1 to 1024",
                "line 6: build.watch: \"a\\nb\" has a control character",
                "line 6: build.watch: must be a string, not integer",
            ]
        );
        assert_eq!(mistakes("build = \"make\""), ["line 3: build: must be a table, not string"]);
        assert_eq!(
            mistakes("build = { command = 3 }"),
            ["line 3: build.command: must be a string, not integer"]
        );
        let long = "x".repeat(bounds::COMMAND_BYTES_MAX + 1);
        let shown = mistakes(&format!("build = {{ command = \"{long}\" }}"));
        assert_eq!(
            shown,
            ["line 3: build.command: 4097 bytes, at most 4096; a longer one belongs into a script"]
        );
        let shown = mistakes("build = { command = \"a\\u0000b\" }");
        assert_eq!(shown, ["line 3: build.command: has a NUL character"]);
        let many = "\"src\",".repeat(bounds::WATCH_MAX + 1);
        let shown = mistakes(&format!("build = {{ command = \"make\", watch = [{many}] }}"));
        assert_eq!(shown, ["line 3: build.watch: 65 paths, at most 64"]);
    }
}
