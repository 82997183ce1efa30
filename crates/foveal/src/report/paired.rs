//! Differences between runs that were evaluated on the same images, with bootstrap intervals.

use anyhow::{Result, bail};
use foveal_coco::{CocoDataset, CocoDetection};
use foveal_data::Dataset;
use foveal_eval::{Analyzer, CONFIDENCE, Interval, Resamples};

use super::run::Run;
use crate::page::{Cell, Html, Table};
use crate::resamples::{COMPARED, draw};

/// The metrics whose differences are shown.
const METRICS: [&str; 7] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"];

/// The differences of the last evaluation of each run to that of the first run, and why a run is left out.
pub(super) fn differences(runs: &[Run]) -> (Html, Vec<String>) {
    let [first, others @ ..] = runs else { return (Html::new(), Vec::new()) };
    let mut notes = Vec::new();
    let mut warn = |run: &Run, error: anyhow::Error| {
        notes.push(format!("the comparison is without intervals for {}: {error:#}", run.root.display()));
    };
    let (of_first, val) = match evaluated(first).and_then(|(val, found)| Ok((resamples(val.coco(), found)?, val))) {
        Ok(found) => found,
        Err(error) => {
            warn(first, error);
            return (Html::new(), notes);
        }
    };
    let mut rows = Vec::new();
    for run in others {
        match compared(run, first, val.coco()) {
            Ok(of_run) => rows.extend(rows_of(run, &of_run, &of_first)),
            Err(error) => warn(run, error),
        }
    }
    if rows.is_empty() {
        return (Html::new(), notes);
    }
    let columns = ["run", "metric", "value", "difference", "from", "to"].map(str::to_owned).to_vec();
    let caption = format!(
        "The last evaluation of each run minus that of {}, with {:.0} % intervals of {COMPARED} resamples of the images",
        first.name,
        100.0 * CONFIDENCE
    );
    (Table { caption, columns, rows }.html(true), notes)
}

/// The validation set of a run and its detections.
fn evaluated(run: &Run) -> Result<(Dataset, &[CocoDetection])> {
    let Some(detections) = &run.detections else {
        bail!("found no {} in its folder, which an evaluation writes", foveal_train::DETECTIONS);
    };
    Ok((run.validation()?, detections))
}

/// The resamples of a run.
///
/// # Errors
/// If the run has no detections, or another validation set than the first run.
fn compared(run: &Run, first: &Run, truth: &CocoDataset) -> Result<Resamples> {
    let (val, detections) = evaluated(run)?;
    if !are_same(val.coco(), truth) {
        bail!("its validation set has other images, objects or classes than that of {}", first.root.display());
    }
    resamples(truth, detections)
}

fn resamples(truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Resamples> {
    let analyzer = Analyzer::new(truth, detections, &[])?;
    Ok(analyzer.resamples(COMPARED as usize, draw(analyzer.images())))
}

/// Whether two data sets have the same images and categories, by their ids, and the same objects. Paths and names may
/// differ.
fn are_same(a: &CocoDataset, b: &CocoDataset) -> bool {
    a.images.iter().map(|image| image.id).eq(b.images.iter().map(|image| image.id))
        && a.categories.iter().map(|category| category.id).eq(b.categories.iter().map(|category| category.id))
        && a.annotations == b.annotations
}

/// A row for each metric of a run.
fn rows_of(run: &Run, of_run: &Resamples, first: &Resamples) -> Vec<Vec<Cell>> {
    let (values, differences) = (of_run.intervals(), of_run.minus(first));
    let index = |key: &str| of_run.names().iter().position(|name| name.category.is_none() && name.key == key);
    let row = |key: &str| -> Option<Vec<Cell>> {
        let index = index(key)?;
        let Interval { value, low, high } = differences[index];
        let numbers = [values[index].value, value, low, high].map(|value| Cell::Number(value, 3));
        Some([Cell::text(&run.name), Cell::text(key)].into_iter().chain(numbers).collect())
    };
    METRICS.into_iter().filter_map(row).collect()
}
