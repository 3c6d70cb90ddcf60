//! A line as people read it: `12:03:04.123 fra1 v2 8c0000000003 stdout | text`. All that strangers wrote is spelled out
//! where it would do anything but show itself.

use std::io::IsTerminal as _;

use artifact::visible::for_people;

use super::line::{Line, RequestLine, Said};

/// Digits of a request's id that are shown, its last: they tell requests of one node apart, and the whole id, which
/// `--json` and the access log have, is found by them.
const REQUEST_DIGITS: usize = 12;

/// With colours or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For a file, a pipe, or somebody who does not want any.
    Plain,
    /// For a terminal.
    Coloured,
}

/// ANSI colours, as a terminal's own palette has them.
const DIM: &str = "2";
const RED: &str = "31";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Style {
    /// That of standard output: coloured on a terminal, unless `NO_COLOR` is set.
    pub fn of_stdout() -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !unwanted { Style::Coloured } else { Style::Plain }
    }

    /// The line's text, without an end; `None` for lines that say nothing to people.
    pub fn text(self, line: &Line) -> Option<String> {
        let (kind, colour, what) = match &line.said {
            Said::Stdout { text } => ("stdout".into(), "", for_people(text).into_owned()),
            Said::Stderr { text } => ("stderr".into(), YELLOW, for_people(text).into_owned()),
            // Beside the names of our own kinds one of the program's would not be told apart.
            Said::Log { name, text } => (format!("log {}", quoted(name)), "", for_people(text).into_owned()),
            Said::Cut { bytes } => {
                ("cut".into(), RED, format!("{bytes} bytes more than a request may say are gone"))
            }
            Said::Request(request) => {
                let failed = request.status >= 500 || request.status == 0 || request.error.is_some();
                ("request".into(), if failed { RED } else { CYAN }, cost(request))
            }
            Said::Dropped { lines, by } => {
                let why = match by.as_str() {
                    "reader" => "they came faster than they were read",
                    "away" => "they came while nobody listened",
                    _ => "the node had no room",
                };
                ("dropped".into(), RED, format!("{lines} lines are missing here: {why}"))
            }
            Said::Listening { .. } | Said::From { .. } | Said::Again | Said::End { .. } | Said::Unknown => {
                return None;
            }
        };
        let mut head = clock(line.time_ms);
        line.pop.iter().for_each(|pop| head.push_str(&format!(" {}", for_people(pop))));
        line.version.iter().for_each(|version| head.push_str(&format!(" v{version}")));
        if let Some(request) = &line.request {
            let at = request.char_indices().rev().nth(REQUEST_DIGITS - 1).map_or(0, |(at, _)| at);
            head.push_str(&format!(" {}", for_people(&request[at..])));
        }
        Some(format!("{} {} {what}", self.painted(DIM, &head), self.painted(colour, &format!("{kind} |"))))
    }

    fn painted(self, colour: &str, text: &str) -> String {
        match self {
            Style::Coloured if !colour.is_empty() => format!("\x1b[{colour}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// A name that stands between words of ours.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_.:/".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => for_people(name).into_owned(),
        false => format!("\"{}\"", for_people(name)),
    }
}

fn cost(request: &RequestLine) -> String {
    let RequestLine { method, path, status, error, .. } = request;
    let status = if *status == 0 { "no answer".to_owned() } else { status.to_string() };
    let error = error.as_ref().map(|error| format!(" {}", for_people(error))).unwrap_or_default();
    format!(
        "{} {} → {status}{error} in {}; cpu {}, of it start {}; memory {}",
        for_people(method),
        for_people(path),
        time(request.duration_us),
        time(request.cpu_us),
        time(request.instantiate_us),
        memory(request.memory_peak_kib)
    )
}

fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn memory(kib: u64) -> String {
    match kib {
        0..1_024 => format!("{kib} KiB"),
        _ => format!("{}.{} MiB", kib / 1_024, kib % 1_024 * 10 / 1_024),
    }
}

/// The time of day, UTC, to the millisecond.
fn clock(ms: u64) -> String {
    let (s, ms) = (ms / 1_000, ms % 1_000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3_600 % 24, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> Line {
        let at = r#""time_ms":1767225784123,"node":"fra1-1","pop":"fra1","version":2,
            "request":"a1fa79bd0000000000009f8c0000000003","run":1,"seq":2"#;
        Line::parse(&format!("{{{at},{json}}}").replace('\n', "")).unwrap()
    }

    fn text(json: &str) -> String {
        Style::Plain.text(&line(json)).unwrap()
    }

    #[test]
    fn lines_say_when_where_and_what() {
        let head = "00:03:04.123 fra1 v2 8c0000000003";
        assert_eq!(text(r#""kind":"stdout","text":"hello""#), format!("{head} stdout | hello"));
        assert_eq!(text(r#""kind":"log","name":"access","text":"x""#), format!("{head} log access | x"));
        let request = r#""kind":"request","method":"GET","path":"/a","status":504,"error":"cpu_limit",
            "duration_us":1234567,"cpu_us":51234,"instantiate_us":90,"memory_peak_kib":1664"#;
        assert_eq!(
            text(request),
            format!(
                "{head} request | GET /a → 504 cpu_limit in 1.2 s; cpu 51.2 ms, of it start 90 µs; memory 1.6 MiB"
            )
        );
        assert!(text(&request.replace("504", "0")).contains("→ no answer cpu_limit in"));
        assert!(
            text(r#""kind":"dropped","lines":3,"by":"reader""#)
                .ends_with("3 lines are missing here: they came faster than they were read")
        );
        assert!(text(r#""kind":"cut","bytes":9"#).contains("9 bytes more than"));
        for silent in [r#""kind":"again""#, r#""kind":"listening","nodes":1"#, r#""kind":"of_tomorrow""#] {
            assert_eq!(Style::Plain.text(&line(silent)), None, "{silent}");
        }
    }

    #[test]
    fn whatever_a_program_says_is_one_line_that_does_nothing() {
        let hostile = r#"\u001b[2J\u001b]0;x\u0007\r\n00:00:00.000 fra1 v1 0 stdout | forged\u202e\u009b31m"#;
        for json in [
            format!(r#""kind":"stdout","text":"{hostile}""#),
            format!(r#""kind":"stderr","text":"{hostile}""#),
            format!(r#""kind":"log","name":"{hostile}","text":"{hostile}""#),
            format!(
                r#""kind":"request","method":"{hostile}","path":"{hostile}","status":200,"error":"{hostile}",
                "duration_us":1,"cpu_us":1,"instantiate_us":1,"memory_peak_kib":1"#
            ),
        ] {
            let line = line(&json);
            let said = Style::Plain.text(&line).unwrap();
            assert!(said.chars().all(artifact::visible::is_plain), "{said:?}");
            assert!(line.json.chars().all(artifact::visible::is_plain), "{:?}", line.json);
        }
        // Also where a control plane sends it as it is.
        let raw = Line::parse("{\"kind\":\"stdout\",\"text\":\"\u{202e}\u{9b}31m\"}").unwrap();
        assert_eq!(raw.json, r#"{"kind":"stdout","text":"\u202e\u009b31m"}"#);
        // Nor where only a control plane could put it.
        let line = Line {
            pop: Some("\x1b[2J".into()),
            request: Some("\x1b[2J".into()),
            ..line(r#""kind":"cut","bytes":1"#)
        };
        assert!(Style::Plain.text(&line).unwrap().chars().all(artifact::visible::is_plain));
    }

    /// `UPDATE=1` writes it anew.
    #[test]
    fn every_kind_that_the_control_plane_says_is_shown() {
        let said = include_str!("../../../control-plane/tests/golden/logs.ndjson");
        let lines: Vec<Line> = said.lines().map(|line| Line::parse(line).expect(line)).collect();
        assert!(lines.iter().all(|line| line.said != Said::Unknown));
        let json: Vec<&str> = lines.iter().map(|line| line.json.as_str()).collect();
        assert_eq!(json, said.lines().collect::<Vec<_>>(), "passed through as it came");

        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/logs.txt");
        let shown: String = lines.iter().filter_map(|line| Some(Style::Plain.text(line)? + "\n")).collect();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &shown).unwrap();
        }
        assert_eq!(shown, std::fs::read_to_string(path).unwrap_or_default());
    }

    #[test]
    fn a_log_is_not_taken_for_a_kind_of_ours() {
        assert!(text(r#""kind":"log","name":"x | stdout","text":"""#).contains(r#"log "x | stdout" |"#));
        assert!(text(r#""kind":"log","name":"","text":"""#).contains(r#"log "" |"#));
    }

    #[test]
    fn colours_are_ours_alone() {
        let said = Style::Coloured.text(&line(r#""kind":"stderr","text":"\u001b[0m""#)).unwrap();
        assert_eq!(
            said,
            "\x1b[2m00:03:04.123 fra1 v2 8c0000000003\x1b[0m \x1b[33mstderr |\x1b[0m \\u{1b}[0m"
        );
    }
}
