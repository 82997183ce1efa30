//! `foveal data stats`: counts images, objects and classes, with charts on a terminal and in a page.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use foveal_data::{DataConfig, Dataset, Stats};
use serde_json::{Map, Value};

use super::bars::{Style, chart, counts};
use super::opened::{self, Sets};
use crate::args::{Common, StatsArgs};
use crate::console::note;
use crate::failure::DONE;
use crate::page::{Html, Page, Section};
use crate::{output, report};

/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;
/// Largest number of columns of a chart. Longer bars are hard to read.
const MOST_COLUMNS: usize = 120;
/// Lower ends of the intervals of the sides of objects in pixels. 32 and 96 divide COCO's sizes.
const SIDES: [f32; 9] = [0.0, 8.0, 16.0, 32.0, 64.0, 96.0, 128.0, 256.0, 512.0];
/// Lower ends of the intervals of height over width.
const RATIOS: [f32; 8] = [0.0, 0.25, 0.5, 0.75, 1.0, 1.333, 2.0, 4.0];
/// Lower ends of the intervals of the number of objects in an image.
const OBJECTS: [f32; 9] = [0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Prints the statistics of the data sets: a table, and charts if stdout is a terminal.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(args: &StatsArgs, common: &Common) -> Result<u8> {
    super::check_page_name(args.html.as_deref())?;
    let Sets { sets, config } = opened::open(&args.set, args.html.as_ref(), common, true, DataConfig::inspect_val)?;
    let style = style();
    let (mut text, mut charts) = (String::new(), String::new());
    let mut all = Map::new();
    for (name, opened) in &sets {
        if !opened.report.is_clean() {
            note!("warning: {name}: {}", opened.report.summary());
        }
        let stats = Stats::of(&opened.dataset);
        let gap = if text.is_empty() { "" } else { "\n" };
        text += &format!("{gap}{name}: {stats}\n");
        if let Some(style) = style {
            charts += &charts_of(name, &opened.dataset, &stats, style);
        }
        all.insert(name.clone(), serde_json::to_value(&stats)?);
    }
    let named: Vec<(&str, &Dataset)> = sets.iter().map(|(name, opened)| (title(name), &opened.dataset)).collect();
    if let Some(path) = &args.html {
        let body = report::statistics(config.as_ref(), &named);
        let sections = vec![Section { id: "data".into(), title: "Data".into(), body }];
        let page = Page { title: "Statistics of the data".to_owned(), lead: Html::new(), sections };
        output::write_file(path, page.html().as_bytes())?;
    }
    let json = args.set.json.as_deref();
    output::emit(json, &Value::Object(all), &text)?;
    if !output::is_stdout(json) {
        output::print_exact(&charts)?;
    }
    Ok(DONE)
}

/// The name of a set on the page.
fn title(name: &str) -> &str {
    match name {
        "train" => "training",
        "val" => "validation",
        other => other,
    }
}

/// How charts are drawn; `None` if stdout is not a terminal, so that other programs read the table alone. The variable
/// `NO_COLOR`, if it is not empty, turns colours off (https://no-color.org).
fn style() -> Option<Style> {
    if !stdout().is_terminal() {
        return None;
    }
    let width = terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| usize::from(width.0));
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Some(Style { width: width.min(MOST_COLUMNS), color })
}

/// The charts of a data set, each after an empty line.
fn charts_of(name: &str, dataset: &Dataset, stats: &Stats, style: Style) -> String {
    let objects = || dataset.records().iter().flat_map(|record| &record.objects);
    let mut classes: Vec<(String, usize)> =
        stats.classes.iter().map(|class| (class.name.clone(), class.objects)).collect();
    classes.sort_by_key(|(_, objects)| std::cmp::Reverse(*objects));
    let pixels = |value: f32| format!("{value} px");
    let plain = |value: f32| format!("{value:.2}");
    let whole = |value: f32| value.to_string();
    let sides = counts(objects().map(|object| object.bbox.area().sqrt()), &SIDES, pixels);
    let ratios = counts(objects().map(|object| object.bbox.height() / object.bbox.width()), &RATIOS, plain);
    let in_image = counts(dataset.records().iter().map(|record| record.objects.len() as f32), &OBJECTS, whole);
    let charts = [
        ("objects of each class", classes),
        ("sides of the objects (square root of the area)", sides),
        ("height / width of the objects", ratios),
        ("images by their number of objects", in_image),
    ];
    let chart =
        |(title, rows): (&str, Vec<(String, usize)>)| format!("\n{}", chart(&format!("{name}: {title}"), &rows, style));
    charts.into_iter().map(chart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use foveal_data::Source;

    #[test]
    fn charts_count_every_object_and_image() {
        let mut config = DataConfig { source: Source::Shapes, ..DataConfig::default() };
        config.shapes.count = 20;
        let dataset = config.open_train().unwrap().dataset;
        let stats = Stats::of(&dataset);
        let text = charts_of("train", &dataset, &stats, Style { width: 80, color: false });
        let sums: Vec<usize> = text
            .split("\n\n")
            .map(|chart| {
                let rows = chart.lines().filter(|line| line.starts_with("  "));
                let number = |line: &str| {
                    let mut words =
                        line.split_whitespace().filter(|word| !word.contains(['█', '▏', '▎', '▍', '▌', '▋', '▊', '▉']));
                    words.next_back().and_then(|word| word.parse::<usize>().ok()).unwrap()
                };
                rows.map(number).sum()
            })
            .collect();
        assert_eq!(sums, [stats.objects, stats.objects, stats.objects, stats.images], "{text}");
    }
}
