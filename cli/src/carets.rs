//! Mistakes of a file as people read them: what is wrong, where, and that piece of the line with carets under it.
//!
//! Relies on `miette` for the drawing. It gets one line for each mistake, cut to the width and without anything that a
//! terminal would obey: a manifest may be anybody's.

use std::{io::IsTerminal as _, ops::Range, path::Path};

use artifact::manifest::Mistake;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SourceSpan, SpanContents,
};

/// Mistakes that are drawn. Who has more mends these first.
const DRAWN_MAX: usize = 50;
/// Columns of what is no terminal, and of one that does not say.
const COLUMNS: usize = 100;
/// Columns of a terminal that are used: longer lines do not read well, in shorter ones nothing fits.
const COLUMNS_BETWEEN: Range<usize> = 40..160;
/// Columns before a source line, with a line number of seven digits.
const GUTTER: usize = 11;

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    theme: Theme,
    columns: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theme {
    /// For files and pipes.
    Ascii,
    /// For terminals without colours.
    Plain,
    /// For terminals.
    Colours,
}

impl Look {
    /// For what is no terminal.
    pub const FILE: Look = Look { theme: Theme::Ascii, columns: COLUMNS };

    /// As standard error wants it.
    pub fn of_stderr() -> Look {
        let stderr = std::io::stderr();
        if !stderr.is_terminal() {
            return Look::FILE;
        }
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        let theme = match set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb") {
            _ if !utf8 => Theme::Ascii,
            true => Theme::Colours,
            false => Theme::Plain,
        };
        let columns = rustix::termios::tcgetwinsize(&stderr).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { COLUMNS } else { columns };
        Look { theme, columns: columns.clamp(COLUMNS_BETWEEN.start, COLUMNS_BETWEEN.end) }
    }
}

/// Line and column, from 1, of a byte of a text; columns are characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line..].chars().count() + 1)
}

/// Draws the mistakes of a file with this text.
pub fn draw(file: &Path, text: &str, mistakes: &[Mistake], look: Look) -> String {
    let theme = match look.theme {
        Theme::Ascii => GraphicalTheme::none(),
        Theme::Plain => GraphicalTheme::unicode_nocolor(),
        Theme::Colours => GraphicalTheme::unicode(),
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(look.columns)
        .with_wrap_lines(look.theme != Theme::Ascii)
        .with_links(false);
    let mut drawn = String::new();
    for mistake in mistakes.iter().take(DRAWN_MAX) {
        let drawing = Drawing::of(file, text, mistake, look.columns);
        // Writing to a string succeeds.
        let _ = handler.render_report(&mut drawn, &drawing);
    }
    if let Some(more @ 1..) = mistakes.len().checked_sub(DRAWN_MAX) {
        drawn += &format!("  and {more} more");
    }
    drawn.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// One mistake.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Drawing {
    message: String,
    label: Option<String>,
    excerpt: Option<Excerpt>,
}

/// A piece of one line.
#[derive(Debug)]
struct Excerpt {
    file: String,
    text: String,
    span: Range<usize>,
    /// From 1.
    line: usize,
    /// Of what is wrong, from 1.
    column: usize,
}

impl Drawing {
    fn of(file: &Path, text: &str, mistake: &Mistake, columns: usize) -> Drawing {
        let excerpt = mistake.span.clone().map(|span| {
            let (line, column) = position(text, span.start);
            let (text, span) = excerpt(text, span, columns.saturating_sub(GUTTER));
            Excerpt { file: file.display().to_string(), text, span, line, column }
        });
        let label = excerpt.as_ref().and(mistake.suggestion.as_ref());
        let label = label.map(|meant| format!("did you mean `{meant}`?"));
        let suggestion = mistake.suggestion.clone().filter(|_| label.is_none());
        let said = Mistake { suggestion, ..mistake.clone() }.said();
        Drawing { message: said.chars().map(tame).collect(), label, excerpt }
    }
}

impl Diagnostic for Drawing {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|excerpt| excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Range { start, end } = self.excerpt.as_ref()?.span.clone();
        let label = LabeledSpan::new_primary_with_span(self.label.clone(), (start, end - start));
        Some(Box::new(std::iter::once(label)))
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = SourceSpan::from((0, self.text.len()));
        let (line, column, data) = (self.line - 1, self.column - 1, self.text.as_bytes());
        Ok(Box::new(MietteSpanContents::new_named(self.file.clone(), data, whole, line, column, 1)))
    }
}

/// What stands around `span` in its line, cut to so many columns, and where in that it is. What goes on in further lines is
/// cut at the end of the first.
fn excerpt(text: &str, span: Range<usize>, columns: usize) -> (String, Range<usize>) {
    let start = text.floor_char_boundary(span.start);
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let (before, rest) =
        text[line..end].trim_end_matches('\r').split_at_checked(start - line).unwrap_or_default();
    let wrong = &rest[..rest.floor_char_boundary(span.end.saturating_sub(start))];
    let after = &rest[wrong.len()..];

    // A third of the width for what stands before; what is wrong may take all but a tenth of the rest.
    let wrong = fitting(wrong.chars(), columns * 6 / 10);
    let left = columns.saturating_sub(wrong.chars().map(width).sum());
    let before: String = fitting(before.chars().rev(), left / 2).chars().rev().collect();
    let left = left.saturating_sub(before.chars().map(width).sum());
    let after = fitting(after.chars(), left);
    // At the end of a line there is nothing to point at but what is missing.
    let wrong = if wrong.is_empty() && after.is_empty() { " ".to_owned() } else { wrong };
    let span = before.len()..before.len() + wrong.len();
    (before + &wrong + &after, span)
}

/// As many characters as fit, with dots for the others.
fn fitting(characters: impl Iterator<Item = char> + Clone, columns: usize) -> String {
    const DOTS: &str = "...";
    let mut used = 0;
    let mut tamed = characters.map(tame);
    let fits = |used: &mut usize, c: char| {
        *used += width(c);
        *used <= columns
    };
    if tamed.clone().take(columns + 1).all(|c| fits(&mut used, c)) && used <= columns {
        return tamed.collect();
    }
    used = DOTS.len();
    let mut fitting: String = tamed.by_ref().take_while(|c| fits(&mut used, *c)).collect();
    fitting.push_str(DOTS);
    fitting
}

/// Columns of a character, or more.
fn width(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// What a terminal obeys, or turns the line around with, becomes a question mark.
fn tame(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => '?',
        '\u{feff}' | '\u{fffd}' => '?',
        _ if c.is_control() => '?',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::Project;

    use super::*;

    fn drawn(text: &str, look: Look) -> String {
        draw(Path::new("skerry.toml"), text, &Project::parse(text).unwrap_err(), look)
    }

    const HEAD: &str = "name = \"a\"\ncomponent = \"a.wasm\"\n";

    #[test]
    fn a_mistake_is_drawn_with_its_line_and_what_was_meant() {
        assert_eq!(
            drawn(&format!("{HEAD}host = []\n"), Look::FILE),
            "  x host: is not a known key\n   ,-[skerry.toml:3:1]\n 3 | host = []\n   : ^^|^\n   :   `-- did you mean `hosts`?\n   `----"
        );
        assert_eq!(drawn("name = \"a\"\n", Look::FILE), "  x component: is missing");
    }

    #[test]
    fn no_line_is_wider_than_wanted_and_nothing_reaches_a_terminal_raw() {
        for columns in [40, 80, 100] {
            let look = Look { theme: Theme::Ascii, columns };
            for (before, wrong) in [(0, 500), (500, 1), (500, 500), (30, 30), (1, 0)] {
                let line = format!("config = {{ {} = \"\", k = {} }}", "b".repeat(before), "9".repeat(wrong));
                let shown = drawn(&format!("{HEAD}{line}  # {}\n", "c".repeat(500)), look);
                let source = shown.lines().find(|line| line.starts_with(" 3 |"));
                assert!(source.unwrap().chars().count() <= columns, "{columns}: {shown}");
            }
        }
        let shown = drawn(&format!("{HEAD}bad = \"\u{1b}[31m\u{202e}\u{9b}\"\n"), Look::FILE);
        assert!(shown.contains("3:8") && !shown.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{shown:?}");
        let shown = drawn(&format!("{HEAD}\"k\\u001b[31m\" = 1\n"), Look::FILE);
        assert!(shown.contains("is not a known key") && !shown.contains('\u{1b}'), "{shown:?}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let colours = Look { theme: Theme::Colours, columns: 80 };
        assert!(drawn("name = 3\n", colours).contains("\u{1b}["));
        let plain = Look { theme: Theme::Plain, columns: 80 };
        let shown = drawn("name = 3\n", plain);
        assert!(!shown.contains('\u{1b}') && shown.contains('╭'), "{shown}");
        assert!(drawn("name = 3\n", Look::FILE).is_ascii());
    }

    #[test]
    fn columns_are_characters_and_bytes_within_one_are_its_own() {
        assert_eq!(position("é = 1", 3), (1, 3));
        assert_eq!(position("é = 1", 1), (1, 1));
        assert_eq!(position("a\nb", 2), (2, 1));
        assert_eq!(position("a", 9), (1, 2));
    }

    #[test]
    fn of_many_mistakes_the_first_are_drawn() {
        let many: String = (0..60).map(|n| format!("k{n} = 1\n")).collect();
        assert!(drawn(&format!("{HEAD}{many}"), Look::FILE).ends_with("\n  and 10 more"));
    }
}
