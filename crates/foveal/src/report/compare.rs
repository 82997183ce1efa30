//! Several runs beside each other.

use anyhow::Result;

use super::curves::over_steps;
use super::history::{History, Line, points};
use super::paired;
use super::run::Run;
use super::settings::differences;
use crate::page::{Axis, Cell, Html, Page, Section, Series, Table, el};

/// COCO's metrics in the table of runs.
const METRICS: [&str; 6] = ["AP", "AP50", "AP75", "APs", "APm", "APl"];

/// The page that compares runs, and what is missing from it.
///
/// # Errors
/// If a configuration cannot be converted to TOML, which would be a bug.
pub(super) fn page(runs: &[Run]) -> Result<(Page, Vec<String>)> {
    let (differences_of_metrics, warnings) = paired::differences(runs);
    let section = |id: &'static str, title: &'static str, body| Section { id: id.into(), title: title.into(), body };
    let sections = vec![
        section("runs", "Runs", table(runs)),
        section("differences", "Differences", differences_of_metrics),
        section("curves", "Course of the training", curves(runs)),
        section("classes", "Classes", classes(runs)),
        section("configuration", "Configuration", differences(runs)?),
    ];
    let sentences = [format!("{} runs are compared.", runs.len())].into_iter().chain(warnings.iter().cloned());
    let lead = sentences.map(|text| el("p").class("note").text(text)).collect();
    Ok((Page { title: "Comparison of runs".to_owned(), lead, sections }, warnings))
}

/// A row for each run, with the evaluation that has the highest AP.
fn table(runs: &[Run]) -> Html {
    let row = |run: &Run| {
        let best = run.history.best();
        let metrics = METRICS.map(|name| Cell::metric(best.and_then(|line| line.metric(name))));
        let seconds: f64 = run.history.epochs.iter().filter_map(|line| line.seconds).sum();
        let loss = best.and_then(|line| line.validation_loss("total"));
        let rest = [
            Cell::Number(loss, 4),
            Cell::Number(best.map(|line| line.epoch as f64), 0),
            Cell::Number(Some(run.history.last_step() as f64), 0),
            Cell::Number(Some(seconds / 60.0), 1),
        ];
        [Cell::text(&run.name)].into_iter().chain(metrics).chain(rest).collect()
    };
    let names = METRICS.into_iter().chain(["validation loss", "epoch", "steps of the run", "minutes of training"]);
    let columns = ["run"].into_iter().chain(names).map(str::to_owned).collect();
    let caption = "The evaluation of each run with the highest AP".to_owned();
    Table { caption, columns, rows: runs.iter().map(row).collect() }.html(true)
}

fn curves(runs: &[Run]) -> Html {
    let chart = |title: &str, axis: &str, values: fn(&History) -> Vec<[f64; 2]>| {
        let series = runs.iter().map(|run| Series::new(&run.name, values(&run.history))).collect();
        over_steps(title, Axis::over(axis, [0.0, 0.0]), series)
    };
    let charts = [
        chart("AP on the validation set", "AP", |h| points(&h.evaluations, |line| line.metric("AP"))),
        chart("AP50 on the validation set", "AP50", |h| points(&h.evaluations, |line| line.metric("AP50"))),
        chart("Loss on the validation set", "loss", |h| points(&h.evaluations, |line| line.validation_loss("total"))),
        chart("Loss of the training, mean of an epoch", "loss", |h| points(&h.epochs, |line| line.mean_loss)),
        chart("Learning rate", "learning rate", |h| points(&h.steps, |line| line.lr)),
        chart("Images per second", "images/s", |h| points(&h.steps, |line| line.images_per_second)),
    ];
    el("div").class("charts").children(charts).into()
}

/// The AP of each class, with a column for each run. Classes of different runs are the same if they have the same name.
fn classes(runs: &[Run]) -> Html {
    let of_run = |run: &Run| run.history.best().map_or_else(Vec::new, class_aps);
    let aps: Vec<Vec<(String, Option<f64>)>> = runs.iter().map(of_run).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in aps.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Html::new();
    }
    let row = |name: &&String| {
        let ap = |aps: &Vec<(String, Option<f64>)>| aps.iter().find(|(own, _)| own == *name).and_then(|(_, ap)| *ap);
        [Cell::text(name)].into_iter().chain(aps.iter().map(|aps| Cell::metric(ap(aps)))).collect()
    };
    let columns = ["class".to_owned()].into_iter().chain(runs.iter().map(|run| run.name.clone())).collect();
    let caption = "AP of each class in the evaluation with the highest AP of all classes".to_owned();
    Table { caption, columns, rows: names.iter().map(row).collect() }.html(true)
}

fn class_aps(line: &Line) -> Vec<(String, Option<f64>)> {
    let classes = line.metrics.get("per_category").and_then(serde_json::Value::as_object);
    let ap = |class: &serde_json::Value| {
        let name = class.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        (name.to_owned(), class.get("AP").and_then(serde_json::Value::as_f64))
    };
    classes.into_iter().flatten().map(|(_, class)| ap(class)).collect()
}
