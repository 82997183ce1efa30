//! `--explain` of `foveal eval` and `foveal score`: the likely causes of low metrics.

mod categories;
mod coverage;
mod history;
mod images;
mod settings;

use std::path::{Path, PathBuf};

use anyhow::Result;
use foveal_coco::{CocoDataset, CocoDetection, read_results};
use foveal_data::{DataError, Dataset};
use foveal_detector::CheckpointMeta;
use foveal_eval::{CERTAIN, Check, Explanation};
use foveal_train::{DETECTIONS, Evaluation, RunConfig};
use serde_json::Value;

use super::eval::Evaluated;
use crate::config;
use crate::report::history::History;

/// AP50 from which the settings and the course of a run are no causes, unless they are certain.
const GOOD: f64 = 0.5;
/// Strength of a missing detection where the run is known: it follows from another cause.
const SYMPTOM: f64 = 0.1;

/// A run whose course is examined.
#[derive(Clone, Debug)]
pub(super) struct RunFolder {
    root: PathBuf,
    /// The configuration of the run; `None` if it cannot be read.
    config: Option<RunConfig>,
    history: History,
}

impl RunFolder {
    /// Reads the configuration and the log of the run with a configuration file. What cannot be read is left out.
    pub(super) fn read(settings: &Path) -> Option<Self> {
        let root = settings.parent()?.to_owned();
        let history = History::read(&root.join("log.jsonl")).unwrap_or_default();
        Some(Self { config: config::load(Some(settings), &[]).ok(), history, root })
    }

    /// The checks of the settings and the course of the run.
    fn checks(&self) -> Vec<Check> {
        let checks = self.config.as_ref().map(|config| history::checks(&self.root, config, &self.history));
        checks.unwrap_or_default()
    }

    /// The detections of the last evaluation of the run, if they can be read.
    fn detections(&self) -> Vec<CocoDetection> {
        read_results(&self.root.join(DETECTIONS)).unwrap_or_default()
    }
}

/// The JSON and the text of an explanation.
pub(super) fn output(explanation: &Explanation) -> Result<(Value, String)> {
    Ok((serde_json::to_value(explanation)?, explanation.list()))
}

/// An evaluation that was possible only after a change of the data, or that was not possible.
pub(super) struct Rescued {
    /// The evaluation after the change; `None` if it is not possible.
    pub(super) evaluated: Option<Evaluated>,
    /// Why the first evaluation failed.
    pub(super) check: Check,
}

/// Turns the error of an evaluation into a cause. If the categories of the annotations differ from those of the
/// checkpoint, the evaluation is repeated with the categories that correspond. `None` if it was interrupted.
///
/// # Errors
/// If a temporary file cannot be written.
pub(super) fn rescue(
    error: &anyhow::Error,
    config: &RunConfig,
    meta: &CheckpointMeta,
    evaluate: impl Fn(&RunConfig) -> Result<Option<Evaluated>>,
) -> Result<Option<Rescued>> {
    let failed = |error: &anyhow::Error| {
        Check::found(
            "evaluation_failed",
            CERTAIN - 0.01,
            format!("The evaluation failed: {}", sentence(&format!("{error:#}"))),
            "Correct what the message names",
        )
    };
    let annotations = config.data.val.annotations.as_deref();
    if let (Some(DataError::Labels { .. }), Some(annotations)) = (error.downcast_ref(), annotations) {
        let truth = CocoDataset::read(annotations)?;
        let (check, renamed) = categories::compare(&meta.categories, truth);
        let folder = tempfile::tempdir()?;
        let mut config = config.clone();
        let path = folder.path().join("annotations.json");
        renamed.write(&path)?;
        config.data.val.annotations = Some(path);
        return Ok(match evaluate(&config) {
            Ok(None) => None,
            Ok(Some(evaluated)) => Some(Rescued { evaluated: Some(evaluated), check }),
            Err(again) => {
                let measured = format!("{}. With the categories that correspond, {again:#}", check.measured);
                Some(Rescued { evaluated: None, check: Check { measured, ..check } })
            }
        });
    }
    Ok(Some(Rescued { evaluated: None, check: failed(error) }))
}

/// A message as part of a sentence: without line breaks and the full stop.
fn sentence(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    foveal_base::printable(line.trim_end_matches('.')).into_owned()
}

/// What the causes of an evaluation are looked for in.
pub(super) struct Subject<'a> {
    pub(super) evaluation: &'a Evaluation,
    pub(super) dataset: &'a Dataset,
    /// The annotations of the images that the metrics are of.
    pub(super) truth: &'a CocoDataset,
    pub(super) config: &'a RunConfig,
    pub(super) meta: &'a CheckpointMeta,
    pub(super) run: Option<&'a RunFolder>,
}

/// Explains the metrics of an evaluation. `again` evaluates the checkpoint with other settings; it returns `None` if it
/// was interrupted.
///
/// # Errors
/// If an evaluation fails.
pub(super) fn of_evaluation(
    subject: &Subject,
    again: impl Fn(&RunConfig) -> Result<Option<Evaluation>>,
) -> Result<Explanation> {
    let Subject { evaluation, dataset, truth, config, meta, run } = subject;
    let mut explanation = foveal_eval::explain(truth, &evaluation.detections)?;
    let ap50 = evaluation.metrics.ap50;
    if evaluation.metrics.is_defined() && ap50 < GOOD {
        explanation.add(settings::checks(evaluation, config, meta, again)?);
        explanation.add(coverage::checks(dataset, config, *run));
    }
    if let Some(run) = run {
        add_run(&mut explanation, run, Some(ap50));
    }
    Ok(explanation)
}

/// Explains a run, or an evaluation that failed, without a checkpoint that can be evaluated.
///
/// # Errors
/// If the detections of the run cannot be evaluated.
pub(super) fn without_evaluation(config: &RunConfig, run: Option<&RunFolder>, check: Check) -> Result<Explanation> {
    let mut explanation = Explanation::new(None, vec![check]);
    let truth = config.data.val.annotations.as_deref().and_then(|path| annotations(config, path));
    let detections = run.map(RunFolder::detections).unwrap_or_default();
    if let Some(truth) = truth {
        let mut found = foveal_eval::explain(&truth, &detections)?;
        found.checked.retain(|check| !(detections.is_empty() && check.cause == "no_detections"));
        explanation.measured = found.measured.filter(|_| !detections.is_empty());
        explanation.add(found.checked);
    }
    if let Some(run) = run {
        add_run(&mut explanation, run, None);
    }
    Ok(explanation)
}

/// The content of an annotation file, with the classes of the training; `None` if it cannot be read.
fn annotations(config: &RunConfig, path: &Path) -> Option<CocoDataset> {
    if config.data.maps_classes() {
        let labels = config.data.training_labels().ok()??;
        return config.data.mapped_annotations(path, &labels).ok();
    }
    CocoDataset::read(path).ok()
}

/// Adds the checks of a run. Where the metrics are good, only causes of strength [`CERTAIN`] remain.
fn add_run(explanation: &mut Explanation, run: &RunFolder, ap50: Option<f64>) {
    let mut checks = run.checks();
    if ap50.is_some_and(|ap50| ap50 >= GOOD) {
        for check in checks.iter_mut().filter(|check| check.strength < CERTAIN) {
            *check = Check::nothing(check.cause, check.measured.clone());
        }
    }
    explanation.add(checks);
    explanation.weaken("no_detections", SYMPTOM);
}
