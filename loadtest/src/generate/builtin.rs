//! The scenarios that come with the command.

macro_rules! files {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*] };
}

const FILES: [(&str, &str); 9] = files![
    "hello-h1",
    "hello-h2-tls",
    "hello-h3",
    "open-loop-h1",
    "handshakes-tls",
    "zipf-hosts",
    "upload",
    "slow-clients",
    "slow-readers"
];

/// The text of the one with this name.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// For a person.
pub fn names() -> String {
    FILES.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::{super::Scenario, FILES};

    #[test]
    fn every_one_is_sound_and_has_its_files_name() {
        for (name, text) in FILES {
            assert_eq!(Scenario::parse(text).map_err(|error| format!("{name}: {error}")).unwrap().name, name);
        }
    }
}
