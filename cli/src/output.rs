//! Results on stdout, for people or as JSON; progress on stderr, as a spinner on a terminal and as nothing elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::error::{Error, Result};

/// How results are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Text for a person.
    Text,
    /// One JSON value, indented.
    Json,
}

impl Output {
    /// From the `--json` switch.
    pub fn new(json: bool) -> Output {
        if json { Output::Json } else { Output::Text }
    }

    /// Prints a result: the value itself as JSON, or the text made of it.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        let text = match self {
            Output::Json => serde_json::to_string_pretty(value).expect("results have only string keys"),
            Output::Text => text(),
        };
        print_line(&text)
    }
}

/// Writes to stdout. A reader that went away (`| head`) is not an error worth a message.
pub fn print_line(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n')) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("writing to stdout")(cause))
        }
        _ => Ok(()),
    }
}

/// Something that goes on. Gone when dropped.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Starts showing it: only on a terminal, so that logs stay clean.
    pub fn start(what: impl Into<String>) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new_spinner();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let template =
            if plain { "{spinner} {msg} {elapsed}" } else { "{spinner:.cyan} {msg} {elapsed:.dim}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.into());
        bar.enable_steady_tick(Duration::from_millis(80));
        Progress(Some(bar))
    }

    /// Does anybody see it?
    pub fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// The next thing that goes on.
    pub fn now(&self, what: impl Into<String>) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.into());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Columns aligned with two spaces between; the first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What came as JSON, as text of a table's cell.
pub fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".into(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A list of objects as a table with the keys of `columns` as head. Keys that end with `_ms` are moments, in ms since
/// 1970, and stand there as a person reads them.
pub fn objects(columns: &[&str], rows: &[serde_json::Value]) -> String {
    let head = |name: &&str| name.strip_suffix(MOMENT).unwrap_or(name).to_uppercase().replace('_', " ");
    let text = |row: &serde_json::Value, name: &str| match row[name].as_u64() {
        Some(ms) if name.ends_with(MOMENT) => moment(ms),
        _ => cell(&row[name]),
    };
    let body = rows.iter().map(|row| columns.iter().map(|name| text(row, name)).collect());
    table(&std::iter::once(columns.iter().map(head).collect()).chain(body).collect::<Vec<_>>())
}

/// How the names of moments end.
const MOMENT: &str = "_ms";

/// A moment in ms since 1970 as RFC 3339 has it, in UTC, to the second.
pub fn moment(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms"): years begin in
/// March, so that the day of a leap year is their last, and repeat every 400.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from the 1st of March of year 0
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_have_no_trailing_blanks() {
        let rows = [
            serde_json::json!({"app": "hello", "n": 3}),
            serde_json::json!({"app": "a-long-name", "n": null}),
        ];
        assert_eq!(objects(&["app", "n"], &rows), "APP          N\nhello        3\na-long-name  -");
    }

    #[test]
    fn moments_are_shown_as_a_person_reads_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(moment(ms), text);
        }
        let rows =
            [serde_json::json!({"name": "K", "set_ms": 0}), serde_json::json!({"name": "L", "set_ms": null})];
        assert_eq!(objects(&["name", "set_ms"], &rows), "NAME  SET\nK     1970-01-01T00:00:00Z\nL     -");
    }
}
