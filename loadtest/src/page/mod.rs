//! A report for a browser: one HTML file without scripts, with nothing from elsewhere, so that it can be sent and kept.
//!
//! | Module | One job |
//! |---|---|
//! | [`plot`] | curves and bars, as SVG |
//!
//! What a target, a scenario or a peer calls itself is text here, never markup.

pub mod plot;

use std::fmt::Write as _;

use crate::machine::Machine;

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
    background:#fff}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;\
    border-bottom:1px solid #ddd;text-align:left;vertical-align:top}svg{width:100%;height:auto}\
    .void,.missed{color:#a00;font-weight:bold}.met{color:#060}.warning{color:#850}text{font:12px sans-serif;fill:#444}";

/// A page that is being written, from top to bottom.
pub struct Page(String);

impl Page {
    /// With its title, which is its heading too.
    pub fn new(title: &str) -> Page {
        let title = escaped(title);
        Page(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n\
             <body><h1>{title}</h1>\n"
        ))
    }

    pub fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escaped(text));
    }

    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escaped(text));
    }

    /// Why figures are void: `class` is `void`, or `warning`.
    pub fn told(&mut self, class: &str, text: &str) {
        let _ = writeln!(self.0, "<p class=\"{class}\">{}</p>", escaped(text));
    }

    /// Names and values, without a head.
    pub fn pairs<N: AsRef<str>>(&mut self, pairs: impl IntoIterator<Item = (N, String)>) {
        let rows: Vec<_> = pairs.into_iter().map(|(name, value)| vec![name.as_ref().into(), value]).collect();
        self.table(&[], rows);
    }

    pub fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.0 += "<table>\n";
        if !head.is_empty() {
            self.row("th", head);
        }
        for row in rows {
            self.row("td", &row);
        }
        self.0 += "</table>\n";
    }

    fn row(&mut self, tag: &str, cells: &[impl AsRef<str>]) {
        self.0 += "<tr>";
        for cell in cells {
            let _ = write!(self.0, "<{tag}>{}</{tag}>", escaped(cell.as_ref()));
        }
        self.0 += "</tr>\n";
    }

    /// A plot that [`plot`] made.
    pub fn plot(&mut self, svg: &str) {
        self.0 += svg;
    }

    pub fn finish(mut self) -> String {
        self.0 += "</body></html>\n";
        self.0
    }
}

/// Machine, commit and build, as names and values.
pub fn machine(machine: &Machine) -> Vec<(String, String)> {
    let text = machine.text();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), value.trim().to_owned())
    };
    text.lines().map(pair).collect()
}

/// Text, whatever is in it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What no page may hold: it needs no network, and runs nothing.
    pub fn stands_alone(page: &str) {
        for never in ["<script", "<img", "<b>", "src=", "href=", "url(", "@import", "NaN", "inf"] {
            assert!(!page.contains(never), "{never}");
        }
    }

    #[test]
    fn cells_are_text() {
        let mut page = Page::new("a & <b>");
        page.table(&["<script>"], [vec!["\"><img".to_owned()]]);
        page.pairs([("x", "y".to_owned())]);
        let page = page.finish();
        stands_alone(&page);
        assert!(page.contains("<h1>a &amp; &lt;b&gt;</h1>") && page.contains("<th>&lt;script&gt;</th>"));
        assert!(page.contains("<tr><td>x</td><td>y</td></tr>"));
    }
}
