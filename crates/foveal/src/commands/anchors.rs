//! `foveal anchors`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use foveal_anchors::{Anchors, Coverage, CoverageSummary, SizeBucket, coverage, grid_sizes};
use foveal_boxes::BBox;
use foveal_data::{Dataset, Opened};
use foveal_image::padded_length;
use foveal_train::RunConfig;
use rayon::prelude::*;
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
    let groups = measure(&config, &dataset);
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

/// Figures of all objects, of each size and of each class, by the sizes that the network sees.
fn measure(config: &RunConfig, dataset: &Dataset) -> Vec<(String, CoverageSummary)> {
    let preprocess = config.data.preprocess();
    // Images of one padded size share their anchors.
    let mut by_size: HashMap<[usize; 2], Vec<usize>> = HashMap::new();
    for index in 0..dataset.len() {
        let record = dataset.record(index);
        let (width, height) = preprocess.target_size(record.width, record.height);
        by_size.entry([padded_length(height as usize), padded_length(width as usize)]).or_default().push(index);
    }
    let mut per_image: Vec<(usize, Coverage)> = Vec::new();
    for ([height, width], members) in by_size {
        let Anchors { boxes, .. } = config.model.anchors.anchors(height, width, &grid_sizes(height, width));
        per_image.par_extend(members.into_par_iter().map(|index| {
            let record = dataset.record(index);
            let (width, height) = preprocess.target_size(record.width, record.height);
            let (sx, sy) = (width as f32 / record.width as f32, height as f32 / record.height as f32);
            let objects: Vec<BBox> = record.objects.iter().map(|object| object.bbox.scale(sx, sy)).collect();
            (index, coverage(&boxes, &objects))
        }));
    }
    per_image.sort_unstable_by_key(|(index, _)| *index);
    let mut all = Coverage::default();
    let mut classes = vec![Coverage::default(); dataset.label_map().categories().len()];
    for (index, found) in per_image {
        for (object, found) in dataset.record(index).objects.iter().zip(&found.objects) {
            classes[object.class as usize].objects.push(*found);
        }
        all.merge(found);
    }
    let mut groups = vec![("all".to_owned(), all.summary())];
    for (name, bucket) in ["small", "medium", "large"].into_iter().zip(SizeBucket::ALL) {
        groups.push((name.to_owned(), all.bucket(bucket)));
    }
    for (category, found) in dataset.label_map().categories().iter().zip(&classes) {
        groups.push((format!("class {}", category.name), found.summary()));
    }
    groups
}
