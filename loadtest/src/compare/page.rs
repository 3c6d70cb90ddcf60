//! One HTML page of a comparison, for a reader who was not there.

use super::{
    goals::{self, Judged},
    report::{Report, Row, range, ratio},
};
use crate::{
    page::{
        self, Page,
        plot::{self, Scale},
    },
    run::page::{latency, throughput},
    servers::lineup::LeftOut,
    statistics::{Point, Summary},
    under_load::figures::Round,
};

/// The page.
pub fn html(report: &Report) -> String {
    let scenario = &report.method.scenario;
    let mut page = Page::new(&format!("Servers under {}: {}", scenario.name, report.method.wire.text()));
    what_is_wrong(&mut page, report);
    page.pairs(page::machine(&report.machine));
    page.pairs(report.method.rows());

    page.heading("CPU of the server for each request");
    page.paragraph(
        "User and system time of the server's processes in µs, median of the rounds with the least and the most. A \
         dashed line is the most that a goal allows beside the bare server; a red bar is beyond it.",
    );
    page.plot(&cpu(report));
    goals(&mut page, &report.goals);

    page.heading("Latency");
    page.paragraph(
        "From the start of a request (in an open loop: from its intended start) to the last byte of its answer, \
         median of the rounds. Client and server share the machine: in a closed loop this is what the machine takes, \
         in an open one what a user would see.",
    );
    let curves: Vec<_> = counting(report).map(|row| (row.name, curve(&row.rounds))).collect();
    let curves: Vec<_> = curves.iter().map(|(name, points)| (*name, points.as_slice())).collect();
    page.plot(&latency(&curves, Scale::Powers));

    page.heading("Answers in each second");
    page.paragraph("Whole seconds after the warm-up, median of the rounds.");
    let seconds: Vec<_> = counting(report).map(|row| (row.name, per_second(&row.rounds))).collect();
    page.plot(&throughput(&seconds));

    page.heading("All figures");
    figures(&mut page, report);
    left_out(&mut page, &report.left_out);
    page.finish()
}

fn what_is_wrong(page: &mut Page, report: &Report) {
    for row in &report.servers {
        if let Some(why) = &row.void {
            page.told("void", &format!("{} is void: {why}.", row.name));
        }
    }
    for warning in &report.warnings {
        page.told("warning", &format!("Warning: {warning}."));
    }
}

/// Servers that have figures.
fn counting(report: &Report) -> impl Iterator<Item = &Row> {
    report.servers.iter().filter(|row| row.figures.is_some())
}

fn cpu(report: &Report) -> String {
    let wire = report.method.wire;
    let bare = report.servers.iter().find(|row| row.name == wire.bare()).and_then(|row| row.figures);
    let bar = |row: &Row| {
        let figures = row.figures.as_ref()?;
        let times = row.cpu_ratio.map_or_else(String::new, |times| format!(", {times:.2} ×"));
        let goal = bare.and_then(|bare| goals::ceiling(wire, row.name, wire.bare(), bare.cpu_us.median));
        let text = format!("{}{times}", range(figures.cpu_us, 1));
        Some(plot::Bar { name: row.name, value: figures.cpu_us.median, text, goal })
    };
    let bars: Vec<_> = report.servers.iter().filter_map(bar).collect();
    plot::bars("CPU in µs for each request", &bars)
}

fn goals(page: &mut Page, goals: &[Judged]) {
    let row = |judged: &Judged| vec![judged.goal.clone(), judged.reached(), judged.verdict.text().to_owned()];
    page.table(&["goal", "reached", ""], goals.iter().map(row));
}

/// The median of each point.
fn curve(rounds: &[Round]) -> Vec<Point> {
    let Some(first) = rounds.first() else { return Vec::new() };
    let at = |number: usize| {
        let us: Vec<f64> = rounds.iter().filter_map(|round| Some(round.latency_us.get(number)?.us)).collect();
        Summary::of(&us).map_or(f64::NAN, |us| us.median)
    };
    let points = first.latency_us.iter().enumerate();
    points.map(|(number, point)| Point { us: at(number), ..*point }).collect()
}

/// The median of each second that every round has.
fn per_second(rounds: &[Round]) -> Vec<f64> {
    let seconds = rounds.iter().map(|round| round.per_second.len()).min().unwrap_or(0);
    let at = |second: usize| {
        let counts: Vec<f64> = rounds.iter().map(|round| round.per_second[second] as f64).collect();
        Summary::of(&counts).map(|counts| counts.median)
    };
    (0..seconds).filter_map(at).collect()
}

fn figures(page: &mut Page, report: &Report) {
    let head = [
        "server",
        "CPU µs",
        "ratio",
        "requests/s",
        "ratio",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "switches",
        "MiB",
        "peak",
    ];
    let row = |row: &Row| {
        let figures = row.figures.as_ref()?;
        let whole = |value: Summary| format!("{:.0}", value.median);
        Some(vec![
            row.what.clone(),
            range(figures.cpu_us, 1),
            ratio(row.cpu_ratio),
            range(figures.requests_per_second, 0),
            ratio(row.rate_ratio),
            whole(figures.p50_us),
            whole(figures.p99_us),
            whole(figures.p999_us),
            format!("{:.2}", figures.switches.median),
            whole(figures.rss_mib),
            whole(figures.peak_mib),
        ])
    };
    page.table(&head, report.servers.iter().filter_map(row));
}

fn left_out(page: &mut Page, left_out: &[LeftOut]) {
    if left_out.is_empty() {
        return;
    }
    page.heading("Left out");
    let row =
        |one: &LeftOut| vec![one.name.to_owned(), one.why.clone(), one.cure.clone().unwrap_or_default()];
    page.table(&["server", "why", "what would help"], left_out.iter().map(row));
}

#[cfg(test)]
mod tests {
    use super::{super::report::tests::report, *};
    use crate::{page::tests::stands_alone, under_load::figures::tests::round};

    #[test]
    fn a_page_has_bars_with_goals_curves_by_server_and_who_was_left_out() {
        let mut report = report();
        report.servers[1].what = "skerry <script>".into();
        let page = html(&report);
        stands_alone(&page);
        assert_eq!((page.matches("<svg").count(), page.matches("<polyline").count()), (3, 2 + 2));
        // One goal line: hyper has none, and wasi-hello is void.
        assert_eq!(page.matches("stroke-dasharray").count(), 1);
        for part in [
            "15.0 [15.0..16.0], 1.88 ×",
            "wasi-hello is void: round 2 of 2: 3 requests were not answered 200.",
            "<td>fastly-hello ≤ 2 × the CPU of hyper</td><td>1.88</td><td>met</td>",
            "<td>deno is not installed</td><td>npm i -g deno</td>",
            "Warning: fastly-hello, round 2: the machine was noisy",
            "skerry &lt;script&gt;",
            "<td>seed</td><td>0</td>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn curves_are_medians_of_rounds() {
        let with = |us: f64, count| {
            let latency_us = vec![Point { quantile: 0.5, us }];
            Round { latency_us, per_second: vec![count, count * 2], ..round() }
        };
        let rounds = [with(10.0, 1), with(30.0, 3), with(20.0, 2)];
        assert_eq!(curve(&rounds), [Point { quantile: 0.5, us: 20.0 }]);
        assert_eq!(per_second(&rounds), [2.0, 4.0]);
        assert!(curve(&[]).is_empty() && per_second(&[]).is_empty());
    }

    #[test]
    fn a_comparison_that_was_stopped_at_once_has_a_page_too() {
        let mut report = report();
        report.servers.clear();
        report.method.stopped = true;
        let page = html(&report);
        stands_alone(&page);
        assert!(page.contains("<td>stopped</td>"));
    }
}
