//! `foveal anchors`.

use std::path::Path;

use anyhow::Result;
use foveal_anchors::CoverageSummary;
use foveal_coco::LabelMap;
use foveal_data::{Opened, SetCoverage};
use serde_json::{Map, Value, json};

use crate::args::{AnchorsCommand, Common, Split};
use crate::failure::DONE;
use crate::{config, output};

/// Runs one of the anchor commands.
///
/// # Errors
/// A configuration or data that cannot be used.
pub fn run(command: AnchorsCommand, common: &Common) -> Result<u8> {
    match command {
        AnchorsCommand::Coverage { config, split, json } => report(&config, split, json.as_deref(), common),
    }
}

fn report(path: &Path, split: Split, json: Option<&Path>, common: &Common) -> Result<u8> {
    let config = config::load(Some(path), &common.set)?;
    let Opened { dataset, report } = match split {
        Split::Train => config.data.open_train()?,
        Split::Val => config.data.open_val()?,
    };
    if !report.is_clean() {
        eprintln!("{}", report.summary());
    }
    let groups = named(&SetCoverage::new(&dataset, &config.data, &config.model.anchors), dataset.label_map());
    let mut table = format!(
        " {:<24}  {:>7}  {:>8}  {:>9}  {:>9}  {:>9}\n",
        "objects", "count", "IoU>=0.5", "best IoU", "positives", "untouched"
    );
    let mut figures = Map::new();
    for (name, summary) in &groups {
        let share = f64::from(summary.covered as u32) / f64::from(summary.objects.max(1) as u32);
        table += &format!(
            " {name:<24}  {:>7}  {share:>8.3}  {:>9.3}  {:>9.1}  {:>9}\n",
            summary.objects, summary.mean_best_iou, summary.mean_positives, summary.untouched
        );
        figures.insert(name.clone(), as_json(summary));
    }
    output::emit(json, &Value::Object(figures), &table)?;
    Ok(DONE)
}

fn as_json(summary: &CoverageSummary) -> Value {
    json!({
        "objects": summary.objects,
        "covered": summary.covered,
        "untouched": summary.untouched,
        "mean_best_iou": summary.mean_best_iou,
        "mean_positives": summary.mean_positives,
    })
}

/// Metrics of all objects, of each size and of each class, under their names in table and JSON.
fn named(found: &SetCoverage, labels: &LabelMap) -> Vec<(String, CoverageSummary)> {
    let sizes = ["small", "medium", "large"].map(str::to_owned).into_iter().zip(found.by_size);
    let classes = labels.categories().iter().map(|category| format!("class {}", category.name));
    let all = std::iter::once(("all".to_owned(), found.all));
    all.chain(sizes).chain(classes.zip(found.by_class.iter().copied())).collect()
}
