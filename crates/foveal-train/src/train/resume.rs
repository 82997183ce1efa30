//! Restores a run from its training state.

use std::path::PathBuf;

use burn::tensor::Device;
use foveal_base::excerpt;
use foveal_detector::CheckpointMeta;
use serde_json::Value;

use super::time;
use crate::config::{RunConfig, TrainConfig};
use crate::error::TrainError;
use crate::run::{
    Best, Evaluated, LogEnd, LogPosition, Premises, Progress, RunDir, StateMeta, TrainState, Waiting, compare,
};
use crate::session::Session;
use crate::sets::Sets;

/// A restored run.
pub(super) struct Resumed {
    pub session: Session,
    pub evaluated: Evaluated,
    /// The place up to which the log is kept.
    pub log_end: LogEnd,
}

/// Restores a run from its newest undamaged training state, after comparing what it was made with to `premises`.
///
/// # Errors
/// [`TrainError::State`] or [`TrainError::Io`] when no state can be used; [`TrainError::Refused`] or
/// [`TrainError::Changed`] when settings or data differ.
pub(super) fn resumed(
    config: &RunConfig,
    sets: &Sets,
    premises: Premises,
    device: &Device,
    run: &RunDir,
    allow_changes: bool,
    progress: &mut dyn Progress,
) -> Result<Resumed, TrainError> {
    let (path, mut state) = load(run, progress)?;
    let old = match state.meta.premises.take() {
        Some(old) => old,
        None => unrecorded(&premises, &state.meta, run, &path, progress)?,
    };
    compare(&old, &premises, config, run.root(), allow_changes, progress)?;
    state.meta.time_limit = time::kept(config, state.meta.time_limit, old.steps_per_epoch, premises.steps_per_epoch);
    let limited = time::limited(config, &state.meta, premises.steps_per_epoch);
    let config = limited.as_ref().unwrap_or(config);
    let evaluated = evaluated(run, &state.meta, config, &old.config, progress);
    let log_end = log_end(config, &state.meta, evaluated);
    move_position(&mut state.meta, &old.config, config);
    report(&state.meta, premises.steps_per_epoch, progress);
    state.meta.premises = Some(premises);
    let session = Session::resume(config, sets.categories().len(), device, &path, state)?;
    Ok(Resumed { session, evaluated, log_end })
}

/// The newest training state, or the one before it if the newest one is missing or damaged, and its path.
pub(super) fn load(run: &RunDir, progress: &mut dyn Progress) -> Result<(PathBuf, TrainState), TrainError> {
    let (newest, previous) = (run.state(), run.previous_state());
    // A process that was killed between two renames leaves the previous state alone.
    let newest_is_gone = !newest.is_file() && previous.is_file();
    let error = match newest_is_gone {
        true => None,
        false => match TrainState::load(&newest) {
            Ok(state) => return Ok((newest, state)),
            Err(error) => Some(error),
        },
    };
    match (TrainState::load(&previous), error) {
        (Ok(state), None) => Ok((previous, state)),
        (Ok(state), Some(error)) => {
            progress.message(&format!(
                "warning: {error}; the run goes on from the state before it, {}",
                previous.display()
            ));
            Ok((previous, state))
        }
        (Err(_), Some(error)) | (Err(error), None) => Err(error),
    }
}

/// What a run of an earlier version was made with, whose state does not record it: the settings of its `config.toml`
/// and the categories of its last checkpoint. What is not known is taken as unchanged, with a warning.
fn unrecorded(
    new: &Premises,
    meta: &StateMeta,
    run: &RunDir,
    state: &std::path::Path,
    progress: &mut dyn Progress,
) -> Result<Premises, TrainError> {
    let path = run.config();
    let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    let config = RunConfig::from_toml(&text).map_err(|e| TrainError::State {
        path: path.clone(),
        found: format!("expected the configuration of the saved run, found something else ({})", excerpt(e)),
    })?;
    let mut config = serde_json::to_value(config).expect("a configuration is JSON");
    config["train"]["seed"] = meta.seed.into();
    let categories = CheckpointMeta::read(&run.last()).map(|checkpoint| checkpoint.categories);
    progress.message(&format!(
        "warning: {}: an earlier version saved this training state, which does not record the data of the run; whether the \
         data sets{} have changed is not checked",
        state.display(),
        if categories.is_ok() { "" } else { " and their categories" }
    ));
    Ok(Premises { config, categories: categories.unwrap_or_else(|_| new.categories.clone()), ..new.clone() })
}

/// The record of the evaluations up to the state `meta`. If the file is damaged, or evaluations are compared in another
/// way than before, the record is made from `log.jsonl`.
fn evaluated(
    run: &RunDir,
    meta: &StateMeta,
    config: &RunConfig,
    old: &Value,
    progress: &mut dyn Progress,
) -> Evaluated {
    // The last evaluation of a run that its time limit ended inside an epoch is that of this epoch.
    let over = time::is_over(config, meta);
    let epoch = if over && meta.epoch_steps > 0 { meta.epoch + 1 } else { meta.epoch };
    let logged = || from_log(&std::fs::read(run.log()).unwrap_or_default(), epoch, &config.train);
    let mut evaluated = Evaluated::load(&run.evaluated()).unwrap_or_else(|error| {
        progress.message(&format!("warning: {error}; the best evaluation is taken from {}", run.log().display()));
        logged().evaluated
    });
    let before: TrainConfig = serde_json::from_value(old["train"].clone()).unwrap_or_default();
    let rule = |train: &TrainConfig| (train.best_by.clone(), train.patience > 0, train.min_gain);
    if rule(&before) != rule(&config.train) {
        let logged = logged();
        evaluated.waiting = logged.evaluated.waiting;
        // The best checkpoint stays what it is until an evaluation is better than its own.
        let found = evaluated.best.and_then(|best| logged.all.into_iter().find(|other| other.epoch == best.epoch));
        if evaluated.best.is_some() && found.is_none() {
            progress.message(&format!(
                "warning: {}: found no {} of the best evaluation so far; the next evaluation makes the best checkpoint",
                run.log().display(),
                config.train.best_by
            ));
        }
        evaluated.best = found;
    }
    // An epoch after the state may have been evaluated already; it is trained again.
    evaluated.epoch = evaluated.epoch.min(epoch);
    evaluated
}

/// The evaluations in a log.
struct Logged {
    /// The record that they make.
    evaluated: Evaluated,
    /// Every evaluation whose value is defined.
    all: Vec<Best>,
}

/// The evaluations of the first `epochs` epochs in the lines of a log, compared as `train` says.
fn from_log(log: &[u8], epochs: usize, train: &TrainConfig) -> Logged {
    let (mut evaluated, mut all) = (Evaluated::default(), Vec::new());
    let mut waiting = Waiting::default();
    for line in log.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let epoch = line["epoch"].as_u64().unwrap_or_default() as usize;
        if line["event"] != "evaluation" || epoch > epochs {
            continue;
        }
        evaluated.epoch = evaluated.epoch.max(epoch);
        let value = train.best_by.value(&line["metrics"], line["losses"]["total"].as_f64());
        waiting.count(value, train.min_gain);
        let Some(value) = value else { continue };
        let best = Best::new(&train.best_by, epoch, line["metrics"]["AP"].as_f64().unwrap_or(UNDEFINED), value);
        if evaluated.best.is_none_or(|known| best.compared() > known.compared()) {
            evaluated.best = Some(best);
        }
        all.push(best);
    }
    evaluated.waiting = (train.patience > 0).then_some(waiting);
    Logged { evaluated, all }
}

/// COCO's value for metrics that are undefined.
const UNDEFINED: f64 = -1.0;

/// The place up to which the log is kept. If no step is left to be made, it is kept as a whole.
pub(super) fn log_end(config: &RunConfig, meta: &StateMeta, evaluated: Evaluated) -> LogEnd {
    let most = config.train.max_steps as u64;
    if most > 0 && meta.step >= most {
        return LogEnd { step: u64::MAX, epoch: usize::MAX, evaluated: usize::MAX };
    }
    let unwritten = meta.log.as_ref().map_or(0, LogPosition::unwritten) as u64;
    LogEnd { step: meta.step - unwritten, epoch: meta.epoch, evaluated: evaluated.epoch }
}

/// Moves the position inside an epoch to where it is with another batch size: the images that were used stay used,
/// except those of a batch that is not full.
fn move_position(meta: &mut StateMeta, old: &Value, config: &RunConfig) {
    let before = |key: &str| old["train"][key].as_u64().filter(|n| *n > 0).map(|n| n as usize);
    let (batch_size, accumulate) = (config.train.batch_size, config.train.accumulate);
    let (Some(old_batch_size), Some(old_accumulate)) = (before("batch_size"), before("accumulate")) else { return };
    if (old_batch_size, old_accumulate) != (batch_size, accumulate) {
        let updates = meta.batch * old_batch_size / (batch_size * accumulate);
        (meta.batch, meta.epoch_steps) = (updates * accumulate, updates as u64);
    }
}

/// Says where the run goes on.
fn report(meta: &StateMeta, steps_per_epoch: usize, progress: &mut dyn Progress) {
    let inside = match meta.epoch_steps {
        0 => String::new(),
        steps => format!(" and {steps} of the {steps_per_epoch} steps of epoch {}", meta.epoch + 1),
    };
    progress.message(&format!("resuming at step {}, after {} epochs{inside}", meta.step, meta.epoch));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BestBy;
    use crate::testing::tiny;
    use foveal_detector::ModelConfig;

    #[test]
    fn the_best_evaluation_is_found_in_the_log() {
        let log = br#"{"step":1}
{"event":"evaluation","epoch":1,"metrics":{"AP":0.25}}
{"event":"evaluation","epoch":2,"metrics":{"AP":0.5}}
{"event":"epoch","epoch":3}
{"event":"evaluation","epoch":3,"metrics":{"AP":0.75}}
{"event":"eva"#;
        let config = TrainConfig::default();
        let found = |epochs| from_log(log, epochs, &config).evaluated;
        let best = |epoch, ap| {
            let best = Some(Best { epoch, ap, value: None });
            Evaluated { epoch, best, ..Evaluated::default() }
        };
        assert_eq!(found(2), best(2, 0.5));
        assert_eq!(found(9), best(3, 0.75));
        assert_eq!(from_log(b"", 9, &config).evaluated, Evaluated::default());
    }

    #[test]
    fn another_comparison_finds_another_best_evaluation_in_the_log() {
        let log = br#"{"event":"evaluation","epoch":1,"losses":{"total":1.0},"metrics":{"AP":0.25,"AP50":0.5}}
{"event":"evaluation","epoch":2,"losses":{"total":0.5},"metrics":{"AP":0.5,"AP50":0.25}}
{"event":"evaluation","epoch":3,"losses":{"total":0.75},"metrics":{"AP":-1.0,"AP50":-1.0}}
"#;
        let found = |best_by: BestBy, patience| {
            let config = TrainConfig { best_by, patience, ..TrainConfig::default() };
            let evaluated = from_log(log, 9, &config).evaluated;
            (evaluated.best, evaluated.waiting)
        };
        let best = |epoch, ap, value| Some(Best { epoch, ap, value });
        let waiting = |reference, evaluations| Some(Waiting { reference: Some(reference), evaluations });
        assert_eq!(found(BestBy::Ap, 0), (best(2, 0.5, None), None));
        assert_eq!(found(BestBy::Ap50, 4), (best(1, 0.25, Some(0.5)), waiting(0.5, 2)));
        assert_eq!(found(BestBy::Loss, 1), (best(2, 0.5, Some(-0.5)), waiting(-0.5, 1)));
    }

    #[test]
    fn a_position_counts_images_when_the_batch_size_changes() {
        let mut config = tiny();
        (config.train.batch_size, config.train.accumulate) = (2, 3);
        let old = serde_json::to_value(&config).unwrap();
        let moved = |batch_size, accumulate| {
            let mut meta = StateMeta::start(0, ModelConfig::default(), Vec::new());
            (meta.batch, meta.epoch_steps) = (12, 4);
            let mut config = config.clone();
            (config.train.batch_size, config.train.accumulate) = (batch_size, accumulate);
            move_position(&mut meta, &old, &config);
            (meta.batch, meta.epoch_steps)
        };
        assert_eq!(moved(2, 3), (12, 4));
        assert_eq!(moved(4, 1), (6, 6));
        assert_eq!(moved(5, 2), (4, 2));
    }
}
