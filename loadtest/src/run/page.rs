//! One HTML page of a run: no script, nothing from elsewhere, so that it can be sent and kept.

use std::fmt::Write as _;

use super::report::{Point, Report, name};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
/// Around a plot, for its numbers.
const MARGIN: f64 = 60.0;

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
    background:#fff}table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;\
    text-align:left;vertical-align:top}svg{width:100%;height:auto}.void{color:#a00;font-weight:bold}\
    .warning{color:#850}text{font:12px sans-serif;fill:#444}";

/// The page.
pub fn html(report: &Report) -> String {
    let title = escaped(&format!("Load: {} on {}", report.scenario.name, report.authority));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n"
    );
    if let Some(void) = &report.void {
        let _ = writeln!(page, "<p class=\"void\">The run is void: {}.</p>", escaped(void));
    }
    for warning in &report.warnings {
        let _ = writeln!(page, "<p class=\"warning\">Warning: {}.</p>", escaped(warning));
    }
    page += "<table>\n";
    for line in report.machine.text().lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        row(&mut page, name, value.trim());
    }
    for (name, value) in report.rows() {
        row(&mut page, name, &value);
    }
    page += "</table>\n<h2>Latency</h2>\n";
    page += "<p>From the start of a request (in an open loop: from its intended start) to the last byte of its \
             answer.</p>\n";
    page += &latency(&report.latency_us);
    page += "<table><tr><th>part of answers</th><th>µs</th></tr>\n";
    for Point { quantile, us } in &report.latency_us {
        row(&mut page, &name(*quantile), &format!("{us:.1}"));
    }
    row(&mut page, "mean", &format!("{:.1}", report.latency_mean_us));
    page += "</table>\n<h2>Answers in each second</h2>\n";
    page += &throughput(&report.per_second);
    page += "</body></html>\n";
    page
}

fn row(page: &mut String, name: &str, value: &str) {
    let _ = writeln!(page, "<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
}

/// Each nine as wide as the one before: what is rare would else be a pixel.
fn latency(points: &[Point]) -> String {
    let most = points.iter().map(|point| point.us).fold(0.0, f64::max);
    let place = |quantile: f64| (1.0 - quantile).max(1e-5).log10() / -5.0;
    let places: Vec<_> = points.iter().map(|point| (place(point.quantile), point.us)).collect();
    let marks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0].map(|quantile| (place(quantile), name(quantile)));
    plot("latency in µs by part of answers", &places, most, &marks)
}

fn throughput(per_second: &[u64]) -> String {
    let most = per_second.iter().max().map_or(0.0, |most| *most as f64);
    let last = per_second.len().saturating_sub(1).max(1) as f64;
    let places: Vec<_> =
        per_second.iter().enumerate().map(|(second, count)| (second as f64 / last, *count as f64)).collect();
    let step = per_second.len().div_ceil(10).max(1);
    let marks: Vec<_> = (0..per_second.len())
        .step_by(step)
        .map(|second| (second as f64 / last, format!("{second} s")))
        .collect();
    plot("answers in each second", &places, most, &marks)
}

/// `places` are from 0 to 1 across, and from 0 to `most` up.
fn plot(title: &str, places: &[(f64, f64)], most: f64, marks: &[(f64, String)]) -> String {
    let across = |part: f64| MARGIN + part * (WIDTH - 2.0 * MARGIN);
    let up = |value: f64| HEIGHT - MARGIN / 2.0 - value / most.max(1.0) * (HEIGHT - MARGIN);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escaped(title));
    for quarter in 0..=4 {
        let value = most.max(1.0) * f64::from(quarter) / 4.0;
        let (left, right, y) = (across(0.0), across(1.0), up(value));
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            left - 6.0,
            y + 4.0
        );
    }
    for (part, text) in marks {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            across(*part),
            HEIGHT - 8.0,
            escaped(text)
        );
    }
    let line: Vec<_> =
        places.iter().map(|(part, value)| format!("{:.1},{:.1}", across(*part), up(*value))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>\n</svg>",
        line.join(" ")
    );
    svg
}

/// What a target or a scenario says is text, never markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        generate::{Outcome, Roots, Scenario, Target},
        machine::Machine,
    };

    fn report() -> Report {
        let mut scenario = Scenario::named("hello-h1").unwrap();
        scenario.request.path = "/<script>".into();
        let mut outcome = Outcome { answered: 1000, elapsed: Duration::from_secs(2), ..Outcome::empty() };
        outcome.per_second = vec![400, 600];
        outcome.errors.insert("answer: <b>".into(), 1);
        for us in 1..=1000 {
            outcome.latency_ns.record(us * 1000).unwrap();
        }
        let authority = "\"><img>".to_owned();
        let target = Target { address: "127.0.0.1:1".parse().unwrap(), authority, roots: Roots::Platform };
        Report::new(Machine::here(), scenario, &target, outcome, 0.0)
    }

    #[test]
    fn a_page_stands_alone_and_takes_names_for_text() {
        let page = html(&report());
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("<polyline points=\"60.0,").count(), 2);
        for never in ["<script", "<img", "<b>", "src=", "href=", "url(", "NaN", "inf"] {
            assert!(!page.contains(never), "{never}");
        }
        assert!(page.contains("/&lt;script&gt;") && page.contains("The run is void: 1 requests"));
    }

    #[test]
    fn a_known_row_has_known_quantiles() {
        let report = report();
        let us = |quantile: f64| {
            report.latency_us.iter().find(|point| point.quantile == quantile).map(|point| point.us).unwrap()
        };
        for (quantile, known) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            assert!((us(quantile) / known - 1.0).abs() < 0.002, "{quantile}: {}", us(quantile));
        }
        let text = report.text();
        for row in ["a second  500.0", "p99.9 ", "errors    answer: <b>: 1", "seed      0"] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }

    #[test]
    fn a_run_without_answers_has_a_page_too() {
        let mut empty = report();
        empty.per_second.clear();
        empty.latency_us.clear();
        assert!(!html(&empty).contains("NaN"));
    }
}
