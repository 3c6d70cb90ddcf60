//! Lines for the app's log.
//!
//! They go to standard error as `LEVEL: TEXT`, which every host has and Skerry's node keeps with the request's id; so
//! nothing is imported for it. A text with line ends becomes several lines.

use std::fmt::Display;

use crate::sys;

/// For whoever looks for a fault.
///
/// ```
/// # let world = skerry::testing::World::new();
/// skerry::log::debug(format_args!("{} items", 3));
/// # assert_eq!(world.logged(), ["debug: 3 items"]);
/// ```
pub fn debug(text: impl Display) {
    line("debug", &text);
}

/// What happened.
///
/// ```
/// # let world = skerry::testing::World::new();
/// skerry::log::info("a line");
/// # assert_eq!(world.logged(), ["info: a line"]);
/// ```
pub fn info(text: impl Display) {
    line("info", &text);
}

/// What should not happen, and did no harm.
///
/// ```
/// # let world = skerry::testing::World::new();
/// skerry::log::warn("the second attempt worked");
/// # assert_eq!(world.logged(), ["warn: the second attempt worked"]);
/// ```
pub fn warn(text: impl Display) {
    line("warn", &text);
}

/// What failed. Errors of handlers are logged so by themselves.
///
/// ```
/// # let world = skerry::testing::World::new();
/// skerry::log::error("another");
/// # assert_eq!(world.logged(), ["error: another"]);
/// ```
pub fn error(text: impl Display) {
    line("error", &text);
}

fn line(level: &str, text: &dyn Display) {
    sys::log(format!("{level}: {text}\n"));
}
