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

/// A list of objects as a table with the keys of `columns` as head.
pub fn objects(columns: &[&str], rows: &[serde_json::Value]) -> String {
    let head = columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
    let body = rows.iter().map(|row| columns.iter().map(|name| cell(&row[*name])).collect());
    table(&std::iter::once(head).chain(body).collect::<Vec<_>>())
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
}
