//! `foveal anchors`: measures how well anchors fit a data set, and fits them to it.

mod fit;
mod fragment;
mod tables;

use std::path::Path;

use anyhow::Result;
use foveal_anchors::{CoverageSummary, MatcherConfig, MatcherKind};
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
        AnchorsCommand::Fit(args) => fit::run(&args, common),
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
    let found = SetCoverage::new(&dataset, &config.data, &config.model.anchors, &config.matcher);
    let groups = named(&found, dataset.label_map());
    let mut table = format!(
        " {:<24}  {:>7}  {:>8}  {:>9}  {:>9}  {:>10}  {:>9}  {:>9}\n",
        "objects", "count", "IoU>=0.5", "best IoU", "positives", "no overlap", "matched", "no anchor"
    );
    let mut groups_json = Map::new();
    for (name, summary) in &groups {
        let share = f64::from(summary.covered as u32) / f64::from(summary.objects.max(1) as u32);
        table += &format!(
            " {:<24}  {:>7}  {share:>8.3}  {:>9.3}  {:>9.1}  {:>10}  {:>9.1}  {:>9}\n",
            printable(name),
            summary.objects,
            summary.mean_best_iou,
            summary.mean_positives,
            summary.untouched,
            summary.mean_matched,
            summary.without_anchor
        );
        groups_json.insert(name.clone(), as_json(summary));
    }
    table += &legend(&config.matcher);
    output::emit(json, &Value::Object(groups_json), &table)?;
    Ok(DONE)
}

/// What the last two columns of the table count, with the rule that decides it.
fn legend(matcher: &MatcherConfig) -> String {
    let rule = match matcher.kind {
        MatcherKind::Iou => format!(
            "\"iou\": an anchor is trained to detect an object from an IoU of {}{}",
            matcher.positive_iou,
            if matcher.low_quality { ", or if none overlaps the object more (low_quality)" } else { "" }
        ),
        MatcherKind::Atss => format!(
            "\"atss\": the threshold of each object is that of its {} nearest anchors of each level",
            matcher.candidates
        ),
    };
    format!(
        "\nmatched: mean number of anchors that are trained to detect an object; no anchor: objects without any.\n\
         matcher.kind = {rule}.\n"
    )
}

fn as_json(summary: &CoverageSummary) -> Value {
    json!({
        "objects": summary.objects,
        "covered": summary.covered,
        "untouched": summary.untouched,
        "mean_best_iou": summary.mean_best_iou,
        "mean_positives": summary.mean_positives,
        "mean_matched": summary.mean_matched,
        "without_anchor": summary.without_anchor,
    })
}

/// The coverage of all objects, of each size and of each class, with the names of the groups.
fn named(found: &SetCoverage, labels: &LabelMap) -> Vec<(String, CoverageSummary)> {
    let sizes = ["small", "medium", "large"].map(str::to_owned).into_iter().zip(found.by_size);
    let classes = labels.categories().iter().map(|category| format!("class {}", category.name));
    let all = std::iter::once(("all".to_owned(), found.all));
    all.chain(sizes).chain(classes.zip(found.by_class.iter().copied())).collect()
}
