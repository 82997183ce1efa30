//! Charts of horizontal bars for a terminal.

use foveal_base::{first_chars, printable};
use unicode_width::UnicodeWidthStr;

/// Largest number of characters of a names.iter().map(|name| name.width()).max().
const NAME: usize = 24;
/// Largest number of rows of a chart; what the others have is in the table.
const ROWS: usize = 40;
/// Narrowest bar of the largest value, in columns.
const LEAST: usize = 10;
/// Parts of a column, from an eighth to seven eighths.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// The escape sequences that begin and end a colour (ECMA-48, SGR): blue.
const COLOR: [&str; 2] = ["\u{1b}[34m", "\u{1b}[0m"];

/// How charts are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether bars have a colour.
    pub color: bool,
}

/// A chart with a title and a row for each name and number.
pub(super) fn chart(title: &str, rows: &[(String, usize)], style: Style) -> String {
    let drawn = &rows[..rows.len().min(ROWS)];
    let names: Vec<String> = drawn.iter().map(|(name, _)| first_chars(printable(name), NAME).to_string()).collect();
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let most = drawn.iter().map(|(_, value)| *value).max().unwrap_or(0);
    let digits = most.to_string().len();
    let room = style.width.saturating_sub(widest + digits + 5).max(LEAST);
    let mut text = format!("{title}\n");
    for (name, (_, value)) in names.iter().zip(drawn) {
        let space = " ".repeat(widest - name.width());
        let bar = bar(*value as f64 / most.max(1) as f64, room);
        let bar = if style.color && !bar.is_empty() { format!("{}{bar}{}", COLOR[0], COLOR[1]) } else { bar };
        text += format!("  {space}{name} {value:>digits$} {bar}").trim_end();
        text.push('\n');
    }
    if rows.len() > drawn.len() {
        text += &format!("  … and {} more\n", rows.len() - drawn.len());
    }
    text
}

/// A bar of this share of `room` columns. Every share above 0 can be seen.
fn bar(share: f64, room: usize) -> String {
    let mut eighths = (share * room as f64 * 8.0).round() as usize;
    if share > 0.0 {
        eighths = eighths.max(1);
    }
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|part| EIGHTHS[part]));
    bar
}

/// Counts values in intervals that begin at `starts`, in ascending order; the last has no end. What is below the first
/// is counted in it. Each interval has a name, such as `8 to 16`.
pub(super) fn counts(
    values: impl IntoIterator<Item = f32>,
    starts: &[f32],
    name: impl Fn(f32) -> String,
) -> Vec<(String, usize)> {
    let mut counts = vec![0; starts.len()];
    for value in values {
        counts[starts.iter().rposition(|start| value >= *start).unwrap_or(0)] += 1;
    }
    let named = starts.iter().enumerate().map(|(index, start)| match (index, starts.get(index + 1)) {
        (0, Some(next)) => format!("below {}", name(*next)),
        (_, Some(next)) => format!("{} to {}", name(*start), name(*next)),
        (_, None) => format!("{} or more", name(*start)),
    });
    named.zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        assert_eq!([bar(1.0, 4), bar(0.5, 4), bar(0.0, 4)], ["████", "██", ""]);
        // 0.3 of 4 columns are 9.6 eighths, and the smallest bar is an eighth.
        assert_eq!([bar(0.3, 4), bar(1e-9, 4)], ["█▎", "▏"]);
    }

    #[test]
    fn a_chart_fits_the_terminal_and_escapes_names() {
        let rows: Vec<(String, usize)> = vec![("a\u{1b}[2J".to_owned(), 4), ("青".to_owned(), 8), ("c".repeat(90), 0)];
        let style = Style { width: 60, color: false };
        let text = chart("objects", &rows, style);
        assert!(text.lines().all(|line| line.width() <= 60), "{text}");
        assert!(text.lines().nth(2).unwrap().ends_with(&"█".repeat(20)) && !text.contains('\u{1b}'), "{text}");
        let colored = chart("objects", &rows, Style { color: true, ..style });
        assert_eq!(colored.matches('\u{1b}').count(), 4, "{colored}");
        let narrow = chart("objects", &rows, Style { width: 5, color: false });
        assert!(narrow.contains(&"█".repeat(10)), "{narrow}");
    }

    #[test]
    fn rows_that_are_not_drawn_are_counted() {
        let rows: Vec<(String, usize)> = (0..50).map(|n| (n.to_string(), n)).collect();
        let text = chart("t", &rows, Style { width: 80, color: false });
        assert_eq!(text.lines().count(), 42);
        assert!(text.ends_with("… and 10 more\n"));
    }

    #[test]
    fn values_are_counted_once() {
        let found = counts([0.5, 1.0, 7.9, 8.0, 300.0], &[0.0, 1.0, 8.0], |v| v.to_string());
        let expected = [("below 1", 1), ("1 to 8", 2), ("8 or more", 2)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(found, expected);
    }
}
