//! One HTML page of a run.

use super::report::Report;
use crate::{
    page::{
        self, Page,
        plot::{Curve, Scale, curves},
    },
    statistics::{Point, quantile_name},
};

/// The page.
pub fn html(report: &Report) -> String {
    let mut page = Page::new(&format!("Load: {} on {}", report.scenario.name, report.authority));
    if let Some(void) = &report.void {
        page.told("void", &format!("The run is void: {void}."));
    }
    for warning in &report.warnings {
        page.told("warning", &format!("Warning: {warning}."));
    }
    page.pairs(page::machine(&report.machine));
    page.pairs(report.rows());
    page.heading("Latency");
    page.paragraph(
        "From the start of a request (in an open loop: from its intended start) to the last byte of its answer.",
    );
    page.plot(&latency(&[("", &report.latency_us)], Scale::Linear));
    let point = |point: &Point| vec![point.name(), format!("{:.1}", point.us)];
    let mean = vec!["mean".to_owned(), format!("{:.1}", report.latency_mean_us)];
    page.table(&["part of answers", "µs"], report.latency_us.iter().map(point).chain([mean]));
    page.heading("Answers in each second");
    let counts: Vec<f64> = report.per_second.iter().map(|count| *count as f64).collect();
    page.plot(&throughput(&[("", counts)]));
    page.finish()
}

/// Each nine as wide as the one before: what is rare would else be a pixel.
pub fn latency(named: &[(&str, &[Point])], scale: Scale) -> String {
    let place = |quantile: f64| (1.0 - quantile).max(1e-5).log10() / -5.0;
    let all: Vec<_> = named
        .iter()
        .map(|(name, points)| Curve {
            name,
            places: points.iter().map(|point| (place(point.quantile), point.us)).collect(),
        })
        .collect();
    let marks =
        [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0].map(|quantile| (place(quantile), quantile_name(quantile)));
    curves("latency in µs by part of answers", &all, scale, &marks)
}

/// Of each second, from the first.
pub fn throughput(named: &[(&str, Vec<f64>)]) -> String {
    let seconds = named.iter().map(|(_, counts)| counts.len()).max().unwrap_or(0);
    let last = seconds.saturating_sub(1).max(1) as f64;
    let places = |counts: &[f64]| {
        (0..).zip(counts).map(|(second, count)| (f64::from(second) / last, *count)).collect()
    };
    let all: Vec<_> = named.iter().map(|(name, counts)| Curve { name, places: places(counts) }).collect();
    let step = seconds.div_ceil(10).max(1);
    let marks: Vec<_> =
        (0..seconds).step_by(step).map(|second| (second as f64 / last, format!("{second} s"))).collect();
    curves("answers in each second", &all, Scale::Linear, &marks)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        generate::{Outcome, Roots, Scenario, Target},
        machine::Machine,
        page::tests::stands_alone,
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
        stands_alone(&page);
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
