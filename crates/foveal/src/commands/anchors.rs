//! `foveal anchors`: measures how well anchors fit a data set.

use std::path::Path;

use anyhow::Result;
use foveal_anchors::CoverageSummary;
use foveal_base::printable;
use foveal_coco::LabelMap;
use foveal_data::{Opened, SetCoverage};
use serde_json::{Map, Value, json};

use crate::args::{AnchorsCommand, Common, SplitArg};
use crate::config::{self, Loaded};
use crate::console::note;
use crate::failure::DONE;
use crate::output;
use crate::outputs::Files;

/// Runs a subcommand of `foveal anchors` and returns its exit code.
///
/// # Errors
/// If the configuration or the data cannot be used, or a file cannot be written.
pub(super) fn run(command: AnchorsCommand, common: &Common) -> Result<u8> {
    match command {
        AnchorsCommand::Coverage { config, split, json } => report(&config, split, json.as_deref(), common),
    }
}

fn report(path: &Path, split: SplitArg, json: Option<&Path>, common: &Common) -> Result<u8> {
    let Loaded { config, files } = config::open(Some(path), &common.set)?;
    Files::new().read("configuration", &files).read_config(&config).write("--json", json).check()?;
    let Opened { dataset, report } = match split {
        SplitArg::Train => config.data.open_train()?,
        SplitArg::Val => config.data.open_val()?,
    };
    if !report.is_clean() {
        note!("warning: {}: {}", report.set, report.summary());
    }
    let groups = named(&SetCoverage::new(&dataset, &config.data, &config.model.anchors), dataset.label_map());
    let mut table = format!(
        " {:<24}  {:>7}  {:>8}  {:>9}  {:>9}  {:>10}\n",
        "objects", "count", "IoU>=0.5", "best IoU", "positives", "no overlap"
    );
    let mut groups_json = Map::new();
    for (name, summary) in &groups {
        let share = f64::from(summary.covered as u32) / f64::from(summary.objects.max(1) as u32);
        table += &format!(
            " {:<24}  {:>7}  {share:>8.3}  {:>9.3}  {:>9.1}  {:>10}\n",
            printable(name),
            summary.objects,
            summary.mean_best_iou,
            summary.mean_positives,
            summary.untouched
        );
        groups_json.insert(name.clone(), as_json(summary));
    }
    output::emit(json, &Value::Object(groups_json), &table)?;
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

/// The coverage of all objects, of each size and of each class, with the names of the groups.
fn named(found: &SetCoverage, labels: &LabelMap) -> Vec<(String, CoverageSummary)> {
    let sizes = ["small", "medium", "large"].map(str::to_owned).into_iter().zip(found.by_size);
    let classes = labels.categories().iter().map(|category| format!("class {}", category.name));
    let all = std::iter::once(("all".to_owned(), found.all));
    all.chain(sizes).chain(classes.zip(found.by_class.iter().copied())).collect()
}
