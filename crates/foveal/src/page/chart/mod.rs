//! Charts as SVG inside a page. Their colours are those of the style sheet, so that they follow light and dark.

mod axis;
mod bars;
mod frame;
mod heat;
mod histogram;
mod lines;

pub(crate) use axis::Axis;
pub(crate) use bars::{BarChart, Bars};
pub(crate) use heat::HeatMap;
pub(crate) use histogram::{Bin, Histogram};
pub(crate) use lines::{LineChart, Series};

use super::html::{Element, Html, el};

/// Number of colours of series in the style sheet (`s0`, `s1`, …).
pub(super) const COLORS: usize = 7;

/// A number with at most four significant digits, without trailing zeros: `0.1235`, `1200`, `1.5e-5`.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.2e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A length in an SVG image, with a tenth of a unit.
fn px(value: f64) -> String {
    trimmed(&format!("{value:.1}")).to_owned()
}

/// An SVG image of this size that screen readers read as `description`.
fn svg(width: f64, height: f64, description: &str) -> Element {
    el("svg")
        .attr("viewBox", format!("0 0 {} {}", px(width), px(height)))
        .attr("role", "img")
        .attr("aria-label", description)
}

/// A figure: its title, the names of the series, the image, and what else belongs to it.
fn figure(title: &str, names: &[String], image: Element, rest: Html) -> Html {
    let legend = (names.len() > 1).then(|| {
        let item = |(index, name): (usize, &String)| el("li").class(format!("s{}", index % COLORS)).text(name);
        el("ul").class("legend").children(names.iter().enumerate().map(item))
    });
    el("figure").class("chart").child(el("figcaption").text(title)).children(legend).child(image).child(rest).into()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.123456, 1200.0, 1.0, 99.99, 0.00001536, 1.5e9, -0.5, 0.002].map(number);
        assert_eq!(shown, ["0", "0.1235", "1200", "1", "99.99", "1.54e-5", "1.5e9", "-0.5", "0.002"]);
    }
}
