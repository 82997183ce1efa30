//! The training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Device;
use foveal_anchors::ImageTargets;
use foveal_backbone::STAGES;
use foveal_criterion::{Normalizer, NormalizerKind, SmoothedPositives};
use foveal_data::{Batch, LoaderOptions, epoch_len, loader};
use foveal_detector::CheckpointMeta;

use crate::config::RunConfig;
use crate::device::is_host;
use crate::error::TrainError;
use crate::evaluate::{Evaluation, Evaluator};
use crate::first_loss::FirstLoss;
use crate::log::{EpochEvent, EpochRecord, EvaluationRecord, RunLog};
use crate::optim::Scale;
use crate::pass::{self, Activations};
use crate::progress::{EpochStart, EvaluationReport, Progress};
use crate::rundir::RunDir;
use crate::schedule::learning_rate;
use crate::start::{Session, Sets};
use crate::state::{Best, Evaluated};
use crate::step_log::{Step, StepBreakdown, StepLog};
use update::Passes;

#[cfg(test)]
mod tests;
mod update;

/// Steps between reads of a GPU's losses where the config leaves it open.
const GPU_LOG_EVERY: usize = 20;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs, or `train.max_steps`, are done.
    Finished(Summary),
    /// It was asked to stop; `--resume` continues after `epoch`, the last finished one.
    Interrupted {
        /// Finished epochs.
        epoch: usize,
    },
}

/// What a finished run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The best evaluation.
    pub best: Option<Best>,
    /// The last evaluation, where this call made one.
    pub evaluation: Option<Evaluation>,
    /// Optimizer steps made.
    pub step: u64,
}

/// Trains, evaluates and keeps checkpoints as the configuration says.
///
/// With `resume` it continues after the last finished epoch of the run, with the same losses as if it had never
/// stopped. Setting `stop` ends it after the step under way. Both leave a state to resume from.
///
/// # Errors
/// When configuration, data, weights or files are unusable, or a loss is not finite.
pub fn train(
    config: &RunConfig,
    device: &Device,
    run: &RunDir,
    resume: bool,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let reading = if is_host(device) { Reading::EachStep } else { Reading::WithTheLog };
    train_reading(reading, config, device, run, resume, progress, stop)
}

/// When a step's losses come to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Before the update, which costs nothing where tensors lie in host memory.
    EachStep,
    /// With the next line of the log, so that a device is not waited for.
    WithTheLog,
}

fn train_reading(
    reading: Reading,
    config: &RunConfig,
    device: &Device,
    run: &RunDir,
    resume: bool,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    config.validate()?;
    let settings = &config.train;
    let device = device.clone().without_autodiff().autodiff();
    device.seed(settings.seed);

    // Data, network and optimizer: new, or as the last finished epoch left them.
    let mut sets = Sets::open(config, run, progress)?;
    let classes = sets.categories().len();
    let (mut session, mut evaluated) = if resume {
        let session = Session::resume(config, classes, &device, run)?;
        let mut evaluated = Evaluated::load(&run.evaluated())?;
        evaluated.epoch = evaluated.epoch.min(session.meta.epoch);
        (session, evaluated)
    } else {
        (Session::start(config, sets.categories(), &device, run, progress)?, Evaluated::default())
    };
    run.write_config(config)?;
    if !resume {
        session.save(run)?;
    }
    let mut log = RunLog::open(run, session.meta.step, evaluated.epoch)?;
    let log_every = match (settings.log_every, reading) {
        (0, Reading::EachStep) => 1,
        (0, Reading::WithTheLog) => GPU_LOG_EVERY,
        (n, _) => n,
    };
    let mut step_log = StepLog::new(log_every);
    // Class weights in numbers, from the training set's.
    let loss = config.loss.with_counts(&sets.objects_by_class());
    loss.validate_lists(session.channels(classes)).map_err(|e| e.within("loss"))?;
    let mut check_first = settings.step0_check && session.new_class_head;
    let mut checkpoint = CheckpointMeta::new(
        session.meta.model.clone(),
        sets.categories().to_vec(),
        sets.data.preprocess(),
        config.eval.post(),
    );
    checkpoint.loss = Some(serde_json::to_value(&loss).expect("plain data is JSON"));
    let evaluator = Evaluator {
        model: &session.meta.model.clone(),
        dataset: &sets.val,
        data: &sets.data,
        eval: &config.eval,
        loss: &loss,
        matcher: &config.matcher,
        device: &device,
    };
    let batches_per_epoch = epoch_len(&sets.train, &sets.data).div_ceil(settings.batch_size);
    let steps_per_epoch = batches_per_epoch.div_ceil(settings.accumulate);
    let steps = steps_per_epoch * settings.epochs;
    if 2 * settings.warmup_steps > steps && !resume {
        progress.message(&format!(
            "the warm-up takes {} of {steps} steps: train.warmup_steps",
            settings.warmup_steps.min(steps)
        ));
    }
    if settings.activations() == Activations::Recomputed {
        let stages = pass::checkpointed_stages(&session.model.backbone.body);
        if stages < STAGES {
            progress.message(&format!(
                "train.activation_checkpointing: {stages} of the backbone's {STAGES} stages; those from layer{} on are \
                 kept, since it has trained batch norms",
                stages + 1
            ));
        }
    }
    let mut last_evaluation = None;

    // An epoch whose steps are done and whose evaluation is not comes again for that alone.
    let is_due = |epoch: usize| {
        epoch == settings.epochs || (settings.eval_every > 0 && epoch.is_multiple_of(settings.eval_every))
    };
    let pending = session.meta.epoch > 0 && is_due(session.meta.epoch) && evaluated.epoch < session.meta.epoch;
    let first_epoch = session.meta.epoch - usize::from(pending);

    for epoch in first_epoch..settings.epochs {
        let mut out_of_steps = settings.max_steps > 0 && session.meta.step >= settings.max_steps as u64;
        if session.meta.epoch == epoch && !out_of_steps {
            let options = LoaderOptions {
                batch_size: settings.batch_size,
                seed: settings.seed,
                workers: sets.data.workers,
                queue: sets.data.queue,
                training: true,
                drop_last: false,
                anchors: session.meta.model.anchors.clone(),
                matcher: config.matcher,
                with_targets: true,
            };
            let mut batches = loader(Arc::clone(&sets.train), &sets.data, options, epoch as u64);
            let started = Instant::now();
            step_log.start_epoch();
            progress.epoch_start(&EpochStart { epoch: epoch + 1, epochs: settings.epochs, steps: steps_per_epoch });
            loop {
                // All batches of one update at once: their positives are the normalizer of each.
                let waiting = Instant::now();
                let mut group = batches.by_ref().take(settings.accumulate).collect::<Result<Vec<Batch>, _>>()?;
                step_log.waited(waiting.elapsed().as_secs_f64());
                if group.is_empty() {
                    break;
                }
                if stop.load(Ordering::Relaxed) {
                    return Ok(Outcome::Interrupted { epoch: session.meta.epoch });
                }
                let images: Vec<i64> = group.iter().flat_map(|b| b.info.iter().map(|i| i.image_id)).collect();
                for batch in &mut group {
                    sets.skipped.add_loading(&batch.skipped, progress)?;
                    check_classes(batch, classes)?;
                    if let Some(channels) = &session.meta.model.class_channels {
                        channels.retarget(&mut batch.targets);
                    }
                }
                let targets = || group.iter().flat_map(|b| &b.targets);
                let normalizer = match loss.normalizer {
                    NormalizerKind::Ema => {
                        let mut average = SmoothedPositives(session.meta.positives_average);
                        let smoothed = average.update(targets().map(|t| t.positives.len()).sum());
                        session.meta.positives_average = smoothed;
                        Normalizer::Smoothed(smoothed)
                    }
                    kind => Normalizer::of(kind, targets()),
                };
                let first_loss = check_first.then(|| {
                    let targets: Vec<ImageTargets> = targets().cloned().collect();
                    let classes = session.channels(classes);
                    FirstLoss::new(&loss, &session.meta.model, classes, &targets, normalizer)
                });

                // Forward, loss, backward. On a CPU the breakdown is part of the pass over the logits; elsewhere it takes
                // operations of its own, and is made for steps that end a line.
                let passes = Passes {
                    model: &session.model,
                    loss: &loss,
                    normalizer,
                    device: &device,
                    anchors_per_location: session.meta.model.anchors.anchors_per_location(),
                    activations: settings.activations(),
                    breakdown: reading == Reading::EachStep || step_log.will_be_due() || check_first,
                };
                let mut sums = passes.run(group);

                // The norm of all gradients, what clipping makes of them, and whether all is finite.
                let (values, scale) = sums.values(reading, settings.clip_norm);
                let mut class = sums.class.map(|class| StepBreakdown::OnDevice(Box::new(class)));
                if reading == Reading::EachStep || first_loss.is_some() {
                    // Host memory, or the first step of a run: the device is waited for once.
                    class = class.map(|class| StepBreakdown::Read(Box::new(class.read())));
                }
                let lr = learning_rate(settings, steps_per_epoch, session.meta.step);
                session.meta.step += 1;
                let step = Step {
                    step: session.meta.step,
                    epoch: epoch + 1,
                    lr,
                    positives: sums.positives,
                    images,
                    values,
                    class,
                };
                // A loss that is not finite ends the run here, before the update, where it has been read; elsewhere
                // the update is masked by `finite`, and the run ends when the breakdown is read.
                step.check_if_read()?;
                if let (Some(first_loss), Some(class)) = (first_loss, &step.class) {
                    first_loss.check(&class.read().record())?;
                    check_first = false;
                }
                step_log.push(step);

                // The update.
                session.model = session.optimizer.step(session.model, sums.grads, lr, &scale);
                if let Some(ema) = &mut session.ema {
                    let finite = match &scale {
                        Scale::Device(scale) => Some(&scale.finite),
                        Scale::Host(_) => None,
                    };
                    ema.update(&session.model, finite);
                }

                // Waits for the device, every `log_every` steps.
                let record = if step_log.is_due() { step_log.read()? } else { None };
                if let Some(record) = &record {
                    log.line(record)?;
                }
                progress.step(session.meta.step, record.as_ref());
                out_of_steps = settings.max_steps > 0 && session.meta.step >= settings.max_steps as u64;
                if out_of_steps {
                    break;
                }
            }
            // Waits for the device: the epoch's last steps.
            if let Some(record) = step_log.read()? {
                log.line(&record)?;
            }
            progress.epoch_end();
            if !out_of_steps {
                session.meta.epoch = epoch + 1;
            }
            log.epoch(&EpochRecord {
                event: EpochEvent::Epoch,
                epoch: epoch + 1,
                step: session.meta.step,
                mean_loss: step_log.epoch_mean(),
                seconds: started.elapsed().as_secs_f64(),
                breakdown: step_log.epoch_record(),
            })?;

            // The checkpoint, then the state: a finished epoch is never lost. Both read all weights.
            checkpoint.save(&session.network(), &run.last())?;
            if settings.keep > 0 {
                checkpoint.save(&session.network(), &run.epoch(epoch + 1))?;
                run.forget_epoch((epoch + 1).saturating_sub(settings.keep))?;
            }
            if !out_of_steps {
                session.save(run)?;
            }
        }

        // The evaluation, and the best checkpoint.
        if is_due(epoch + 1) || out_of_steps {
            let started = Instant::now();
            let network = session.network();
            let Some(evaluation) = evaluator.run(&network, progress, stop)? else {
                return Ok(Outcome::Interrupted { epoch: session.meta.epoch });
            };
            let ap = evaluation.metrics.ap;
            let best = evaluated.best.is_none_or(|b| ap > b.ap);
            if best {
                evaluated.best = Some(Best { epoch: epoch + 1, ap });
                checkpoint.save(&network, &run.best())?;
            }
            log.evaluation(&EvaluationRecord::new(epoch + 1, session.meta.step, &evaluation))?;
            progress.evaluation(&EvaluationReport {
                epoch: epoch + 1,
                metrics: &evaluation.metrics,
                losses: &evaluation.losses,
                best,
                seconds: started.elapsed().as_secs_f64(),
            });
            evaluated.epoch = epoch + 1;
            evaluated.save(&run.evaluated())?;
            last_evaluation = Some(evaluation);
        }
        if out_of_steps {
            break;
        }
    }
    Ok(Outcome::Finished(Summary { best: evaluated.best, evaluation: last_evaluation, step: session.meta.step }))
}

/// That every object's class is one of the network's.
fn check_classes(batch: &Batch, classes: usize) -> Result<(), TrainError> {
    for (targets, info) in batch.targets.iter().zip(&batch.info) {
        if let Some(positive) = targets.positives.iter().find(|p| p.class as usize >= classes) {
            return Err(TrainError::Class { image_id: info.image_id, class: positive.class, classes });
        }
    }
    Ok(())
}
