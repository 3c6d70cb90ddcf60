//! Curves and bars as SVG, with every number in text beside them: whoever cannot see the colours reads the names.

use std::fmt::Write as _;

use super::escaped;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
/// Around a plot, for its numbers.
const MARGIN: f64 = 60.0;
/// Of one line of a legend, and of a name beside a bar.
const LINE: f64 = 18.0;
const BAR: f64 = 26.0;
/// Room for the names of bars, and for their numbers.
const NAMES: f64 = 130.0;
const NUMBERS: f64 = 190.0;
/// Ten that are told apart by most eyes; more begin anew, and their names still stand beside them.
const COLOURS: [&str; 10] =
    ["#06c", "#d55e00", "#009e73", "#a3519f", "#b8860b", "#222", "#56b4e9", "#c00", "#7a7a7a", "#5b8c00"];

/// One curve: its name, and places from 0 to 1 across with values up.
pub struct Curve<'a> {
    pub name: &'a str,
    pub places: Vec<(f64, f64)>,
}

/// How values go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// In powers of ten, for what differs by orders of magnitude.
    Powers,
}

/// One bar.
pub struct Bar<'a> {
    pub name: &'a str,
    /// Its length: the value.
    pub value: f64,
    /// Beside it.
    pub text: String,
    /// Where a line is drawn across it: what it is not to exceed.
    pub goal: Option<f64>,
}

/// Curves in one frame. `marks` are texts along the lower edge. A single curve needs no legend.
pub fn curves(title: &str, curves: &[Curve<'_>], scale: Scale, marks: &[(f64, String)]) -> String {
    let values = || curves.iter().flat_map(|curve| curve.places.iter().map(|(_, value)| *value));
    let axis = Axis::of(values(), scale);
    let legend = if curves.len() > 1 { LINE * curves.len() as f64 + 6.0 } else { 0.0 };
    let across = |part: f64| MARGIN + part * (WIDTH - 2.0 * MARGIN);
    let up = |value: f64| HEIGHT - MARGIN / 2.0 - axis.part(value) * (HEIGHT - MARGIN);
    let mut svg = head(title, HEIGHT + legend);
    for value in axis.lines() {
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
        let (x, y) = (across(*part), HEIGHT - 8.0);
        let text = escaped(text);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>");
    }
    for (number, curve) in curves.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let line: Vec<_> = curve
            .places
            .iter()
            .map(|(part, value)| format!("{:.1},{:.1}", across(*part), up(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        if curves.len() > 1 {
            let y = HEIGHT + LINE * (number as f64 + 0.8);
            let _ = writeln!(
                svg,
                "<rect x=\"{MARGIN}\" y=\"{:.1}\" width=\"24\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 6.0,
                MARGIN + 32.0,
                escaped(curve.name)
            );
        }
    }
    svg + "</svg>\n"
}

/// Bars below each other, from 0. A goal is a line across its bar.
pub fn bars(title: &str, bars: &[Bar<'_>]) -> String {
    let all = bars.iter().flat_map(|bar| [Some(bar.value), bar.goal]).flatten();
    let most = all.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let long = |value: f64| value / most * (WIDTH - NAMES - NUMBERS);
    let mut svg = head(title, BAR * bars.len().max(1) as f64);
    for (number, bar) in bars.iter().enumerate() {
        let y = BAR * number as f64;
        let colour = if bar.goal.is_some_and(|goal| bar.value > goal) { "#c00" } else { "#06c" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            NAMES - 8.0,
            y + 17.0,
            escaped(bar.name),
            y + 4.0,
            long(bar.value),
            BAR - 8.0
        );
        let mut end = NAMES + long(bar.value);
        if let Some(goal) = bar.goal {
            let x = NAMES + long(goal);
            end = end.max(x);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\" stroke=\"#222\" stroke-width=\"2\" \
                 stroke-dasharray=\"4 2\"/>",
                y + BAR
            );
        }
        let text = escaped(&bar.text);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", end + 8.0, y + 17.0);
    }
    svg + "</svg>\n"
}

fn head(title: &str, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n", escaped(title))
}

/// Where a value is between the lower and the upper edge.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64> + Clone, scale: Scale) -> Axis {
        let most = values.clone().fold(1.0, f64::max);
        match scale {
            Scale::Linear => Axis { scale, least: 0.0, most },
            Scale::Powers => {
                let least = values.filter(|value| *value >= 1.0).fold(most, f64::min);
                let (least, most) = (least.log10().floor(), most.log10().ceil());
                Axis { scale, least, most: most.max(least + 1.0) }
            }
        }
    }

    fn part(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Powers { value.max(1.0).log10() } else { value };
        ((value - self.least) / (self.most - self.least)).clamp(0.0, 1.0)
    }

    /// Values that get a line.
    fn lines(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => (0..=4).map(|quarter| self.most * f64::from(quarter) / 4.0).collect(),
            Scale::Powers => (self.least as i32..=self.most as i32).map(|power| 10_f64.powi(power)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_are_evenly_apart() {
        let axis = Axis::of([30.0, 4_000.0].into_iter(), Scale::Powers);
        assert_eq!(axis.lines(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert!((axis.part(100.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!((axis.part(0.0), axis.part(1e9)), (0.0, 1.0));
        let none = Axis::of([].into_iter(), Scale::Powers);
        assert!(none.part(0.0).is_finite() && none.lines().len() == 2);
    }

    #[test]
    fn each_curve_has_its_name_and_a_single_one_needs_none() {
        let curve = |name| Curve { name, places: vec![(0.0, 1.0), (1.0, 2.0)] };
        let svg = curves("t", &[curve("a<b"), curve("c")], Scale::Linear, &[(0.5, "half".into())]);
        assert_eq!(svg.matches("<polyline points=\"60.0,").count(), 2);
        assert!(svg.contains(">a&lt;b</text>") && svg.contains(">half</text>"), "{svg}");
        assert!(!curves("t", &[curve("alone")], Scale::Linear, &[]).contains("alone"));
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_and_its_goal_a_line_at_its_own() {
        let bar = |value, goal| Bar { name: "a", value, text: format!("{value} µs"), goal };
        let svg = bars("t", &[bar(10.0, Some(20.0)), bar(5.0, None), bar(8.0, Some(4.0))]);
        for part in ["width=\"200.0\"", "x1=\"530.0\"", "width=\"100.0\"", "5 µs", "fill=\"#c00\""] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert_eq!(svg.matches("<line").count(), 2);
        assert!(!bars("t", &[bar(0.0, None)]).contains("NaN"));
    }
}
