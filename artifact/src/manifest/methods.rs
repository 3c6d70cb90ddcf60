//! Which methods an app answers. Deliberately absent: HEAD from GET, since a guest may answer the two differently.

use std::collections::BTreeSet;

use super::{AppConfig, bounds};

impl AppConfig {
    /// Does the app answer this method?
    pub fn answers(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|known| known == method))
    }
}

/// Notes every mistake.
pub(super) fn check(config: &AppConfig, note: &mut impl FnMut(String, String)) {
    let Some(methods) = &config.methods else { return };
    let mut note = |message| note("methods".into(), message);
    if methods.is_empty() {
        note("names none; leave it out to answer all methods".into());
    }
    if methods.len() > bounds::METHODS_MAX {
        note(format!("{} methods, at most {}", methods.len(), bounds::METHODS_MAX));
    }
    let mut seen = BTreeSet::new();
    for method in methods {
        if let Err(why) = check_method(method) {
            note(why);
        } else if !seen.insert(method) {
            note(format!("{method:?} is named twice"));
        }
    }
}

fn check_method(method: &str) -> Result<(), String> {
    let (max, shown) = (bounds::METHOD_BYTES_MAX, method.chars().take(80).collect::<String>());
    if method.is_empty() || method.len() > max {
        return Err(format!("a method of {} bytes, from 1 to {max}", method.len()));
    }
    if !method.bytes().all(|c| c.is_ascii_alphabetic() || c == b'-') {
        return Err(format!("method {shown:?} has a character other than A-Z and '-'"));
    }
    match method.bytes().any(|c| c.is_ascii_lowercase()) {
        true => Err(format!("method {shown:?} has small letters; did you mean {:?}?", shown.to_uppercase())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(methods: &[&str]) -> AppConfig {
        let methods = Some(methods.iter().map(|method| method.to_string()).collect());
        AppConfig { methods, ..AppConfig::default() }
    }

    #[test]
    fn every_method_is_answered_unless_some_are_named() {
        assert!(AppConfig::default().answers("PATCH"));
        let config = config(&["GET", "M-SEARCH"]);
        assert_eq!(
            ["GET", "M-SEARCH", "HEAD", "get"].map(|method| config.answers(method)),
            [true, true, false, false]
        );
        assert!(config.mistakes().is_empty());
    }

    #[test]
    fn every_mistake_is_found() {
        let messages = |methods: &[&str]| -> Vec<String> {
            config(methods).mistakes().iter().map(ToString::to_string).collect()
        };
        assert_eq!(messages(&[]), ["methods: names none; leave it out to answer all methods"]);
        assert_eq!(
            messages(&["GET", "get", "G T", "", "GET", &"X".repeat(33)]),
            [
                "methods: method \"get\" has small letters; did you mean \"GET\"?",
                "methods: method \"G T\" has a character other than A-Z and '-'",
                "methods: a method of 0 bytes, from 1 to 32",
                "methods: \"GET\" is named twice",
                "methods: a method of 33 bytes, from 1 to 32",
            ]
        );
        let many: Vec<String> = (b'A'..=b'Q').map(|c| char::from(c).to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(messages(&many), ["methods: 17 methods, at most 16"]);
    }

    #[test]
    fn a_config_without_methods_is_written_as_it_was_before_there_were_any() {
        let before =
            r#"{"hosts":[],"path_prefix":"/","limits":{"cpu_ms":50,"wall_ms":120000,"memory_mib":128}}"#;
        let config: AppConfig = serde_json::from_str(before).unwrap();
        assert_eq!(
            (config.methods.as_ref(), serde_json::to_string(&config).unwrap().as_str()),
            (None, before)
        );
        let with = AppConfig { methods: Some(vec!["GET".into()]), ..config };
        let text = serde_json::to_string(&with).unwrap();
        assert!(text.contains(r#""path_prefix":"/","methods":["GET"],"limits""#), "{text}");
        assert_eq!(serde_json::from_str::<AppConfig>(&text).unwrap(), with);
    }
}
