//! `[prepare]` of a `skerry.toml`.

use super::{Reader, Value};
use crate::manifest::{Limits, Mistake, Prepare, bounds, keys, prepare};

impl Reader<'_> {
    pub(super) fn prepare(&mut self, path: &str, value: &Value<'_>) -> Prepare {
        let mut prepare = Prepare::default();
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "initialize" => prepare.initialize = self.function(&path, value),
                "initial_memory_mib" => {
                    prepare.initial_memory_mib = self.number(&path, value).and_then(|mib| {
                        let range = bounds::MEMORY_MIB;
                        let (least, most) = (range.start(), range.end());
                        if !range.contains(&mib) {
                            self.note(
                                &path,
                                value.span(),
                                format!("{mib} is out of range: {least} to {most}"),
                            );
                            return None;
                        }
                        Some(mib)
                    });
                }
                _ => self.unknown(&path, key, keys::PREPARE),
            }
        }
        prepare
    }

    fn function(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let text = self.string(path, value)?;
        let checked = prepare::check_function(text).map(|()| text.to_owned());
        checked.map_err(|why| self.note(path, value.span(), why)).ok()
    }
}

/// What does not go with the limits of an execution.
pub(super) fn beyond(prepare: &Prepare, limits: &Limits) -> Option<Mistake> {
    prepare.beyond(limits).map(|why| Mistake::new("prepare.initial_memory_mib", why))
}

#[cfg(test)]
mod tests {
    use crate::manifest::{Mistake, Prepare, Project};

    const HEAD: &str = "name = \"a\"\ncomponent = \"a.wasm\"\n";

    #[test]
    fn what_is_asked_for_is_read_and_nothing_is_the_default() {
        let parse = |rest: &str| Project::parse(&format!("{HEAD}{rest}")).unwrap().prepare;
        assert_eq!(parse(""), Prepare::default());
        let whole = parse("[prepare]\ninitialize = \"wizer-initialize\"\ninitial_memory_mib = 16");
        assert_eq!(
            (whole.initialize.as_deref(), whole.initial_memory_mib),
            (Some("wizer-initialize"), Some(16))
        );
    }

    #[test]
    fn every_mistake_of_it_is_found() {
        let mistakes = |rest: &str| {
            let mistakes = Project::parse(&format!("{HEAD}{rest}")).unwrap_err();
            mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            mistakes("[prepare]\ninitialize = \"two words\"\ninitial_memory_mib = 129\nwizer = true"),
            [
                "line 4: prepare.initialize: has a character other than ASCII letters, digits and signs",
                "line 5: prepare.initial_memory_mib: 129 is out of range: 1 to 128",
                "line 6: prepare.wizer: is not a known key; known here: initialize, initial_memory_mib",
            ]
        );
        assert_eq!(
            mistakes("[prepare]\ninitialize = \"\"\ninitial_memory_mib = 17\n[limits]\nmemory_mib = 16"),
            [
                "line 4: prepare.initialize: has 0 bytes, from 1 to 128",
                "line 5: prepare.initial_memory_mib: 17 is more than limits.memory_mib, 16",
            ]
        );
    }
}
