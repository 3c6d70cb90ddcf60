//! The scenarios that come with the command.

const FILES: [(&str, &str); 1] = [("hello-h1", include_str!("../../scenarios/hello-h1.toml"))];

/// The text of the one with this name.
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// For a person.
pub fn names() -> String {
    FILES.map(|(name, _)| name).join(", ")
}
