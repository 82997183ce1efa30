//! The settings of a run, and the course of its losses.

use std::path::Path;

use foveal_criterion::{ClassLossKind, ClassWeights};
use foveal_eval::{CERTAIN, Check};
use foveal_train::{OptimizerKind, RunConfig};

use crate::report::history::{History, Line};

/// Learning rates below which nothing is learned, with SGD and with AdamW.
const TINY_SGD: f64 = 1e-5;
const TINY_ADAMW: f64 = 1e-7;
/// Multiples of these from which a learning rate is very high, and below which it is low.
const HIGH: f64 = 5e4;
const LOW: f64 = 10.0;
/// Initial scores of a new class head that are usual.
const USUAL_PRIOR: std::ops::RangeInclusive<f64> = 1e-5..=0.3;
/// Fraction of `train.lr` that the highest learning rate must reach.
const WARM: f64 = 0.2;
/// Norm of all gradients below which they are taken for zero.
const NO_GRADIENT: f64 = 1e-7;
/// Number of log lines from which their course says something.
const FEWEST_LINES: usize = 8;
/// Ratio of the mean loss of the last to that of the first quarter, from which it does not fall or has diverged.
const NOT_FALLING: f64 = 0.97;
const DIVERGED: f64 = 1.5;
/// Numbers of optimizer steps below which a run is very short, short, and rather short, with the strengths.
const SHORT: [(u64, f64); 3] = [(50, 0.6), (200, 0.45), (1000, 0.2)];
/// Weights of losses below which a part is not learned.
const NO_WEIGHT: f64 = 0.01;
/// Strength of settings with which nothing can be learned.
const SURE: f64 = 0.98;

/// Checks the settings and the log of a run.
pub(super) fn checks(root: &Path, config: &RunConfig, history: &History) -> Vec<Check> {
    let mut checks = vec![
        learning_rate(config, history),
        frozen(config),
        losses(config),
        gradients(config, history),
        positives(history),
        not_finite(root, history),
        course(history),
        length(config, history),
    ];
    checks.extend([ended(config, history), overfitting(history), normalisation(config)].into_iter().flatten());
    checks
}

/// The values of the lines that have one.
fn values(lines: &[Line], value: impl Fn(&Line) -> Option<f64>) -> Vec<f64> {
    lines.iter().filter_map(value).filter(|value| value.is_finite()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The means of the first and the last quarter of values.
fn quarters(values: &[f64]) -> (f64, f64) {
    let quarter = (values.len() / 4).max(1).min(values.len());
    (mean(&values[..quarter]), mean(&values[values.len() - quarter..]))
}

fn learning_rate(config: &RunConfig, history: &History) -> Check {
    const CAUSE: &str = "learning_rate";
    let train = &config.train;
    let base = train.base_lr();
    let logged = values(&history.steps, |line| line.lr);
    let logged = if logged.is_empty() { values(&history.epochs, |line| line.last_lr) } else { logged };
    let most = if logged.is_empty() { base } else { highest(&logged) };
    let measured = format!(
        "The highest learning rate in {} lines of the log is {most:.2e}; train.lr is {:.2e}, and {base:.2e} for the batch \
         size",
        logged.len(),
        train.lr
    );
    let tiny = match train.optimizer {
        OptimizerKind::Sgd => TINY_SGD,
        OptimizerKind::AdamW => TINY_ADAMW,
    };
    if base < tiny {
        return Check::found(
            CAUSE,
            CERTAIN,
            measured,
            "The network hardly learns. Raise train.lr (0.01 for SGD, 0.0001 for \
                            AdamW, for 16 images with train.scale_lr)",
        );
    }
    if most < WARM * base {
        let strength = if most < tiny { CERTAIN } else { 0.85 };
        let advice = "The warm-up is longer than the run: shorten train.warmup_steps, or train longer";
        return Check::found(
            CAUSE,
            strength,
            format!("{measured}; train.warmup_steps is {}", train.warmup_steps),
            advice,
        );
    }
    if base >= HIGH * tiny {
        let advice = "The learning rate is very high: 0.01 for SGD and 0.0001 for AdamW are usual, for 16 images with \
                      train.scale_lr";
        return Check::found(CAUSE, if base >= 10.0 * HIGH * tiny { 0.9 } else { 0.66 }, measured, advice);
    }
    if base < LOW * tiny {
        let (first, last) = quarters(&values(&history.steps, |line| line.loss));
        let advice = "The learning rate is very low: 0.01 for SGD and 0.0001 for AdamW are usual, for 16 images with \
                      train.scale_lr";
        return Check::found(CAUSE, if last > 0.8 * first { 0.7 } else { 0.3 }, measured, advice);
    }
    let shrunk = logged.iter().filter(|lr| **lr < 0.001 * base).count();
    if logged.len() >= FEWEST_LINES && 10 * shrunk > 7 * logged.len() {
        let measured = format!("{measured}; it was below a thousandth of that in {shrunk} lines");
        let advice =
            "The learning rate decreases too early: check train.schedule, train.milestones and train.cosine_epochs";
        return Check::found(CAUSE, 0.8, measured, advice);
    }
    Check::nothing(CAUSE, measured)
}

fn frozen(config: &RunConfig) -> Check {
    let (train, model) = (&config.train, &config.model);
    let pretrained = model.weights.is_some();
    let measured = format!(
        "train.backbone_lr is {}, train.new_layers_lr is {}, model.freeze_stages is {}, and model.weights is {}",
        train.backbone_lr,
        train.new_layers_lr,
        model.freeze_stages,
        if pretrained { "set" } else { "not set" }
    );
    let advice = "Train the layers: set train.backbone_lr and train.new_layers_lr to 1, and model.freeze_stages to 2 or less \
                  with pretrained weights and to 0 without";
    if pretrained && train.new_layers_lr < 1e-3 {
        let strength = if train.backbone_lr < 1e-3 { SURE } else { 0.8 };
        return Check::found("frozen_layers", strength, measured, advice);
    }
    if !pretrained && (model.freeze_stages >= 2 || train.backbone_lr < 1e-3) {
        return Check::found(
            "frozen_layers",
            0.7,
            format!("{measured}: layers with random weights are not trained"),
            advice,
        );
    }
    Check::nothing("frozen_layers", measured)
}

fn losses(config: &RunConfig) -> Check {
    let loss = &config.loss;
    let extremes = |values: &[f64]| {
        values.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(*v), high.max(*v)])
    };
    let ([alpha_low, alpha_high], [_, gamma]) = (extremes(loss.alpha.values()), extremes(loss.gamma.values()));
    let weights = match &loss.class_weights {
        ClassWeights::Each(weights) => extremes(weights),
        ClassWeights::Rule(_) => [1.0; 2],
    };
    let measured = format!(
        "loss.box_weight is {}, loss.alpha from {alpha_low} to {alpha_high}, loss.gamma up to {gamma}, loss.class_weights \
         from {} to {}, and model.head.prior is {}",
        loss.box_weight, weights[0], weights[1], config.model.head.prior
    );
    let found = |strength, advice: &'static str| Check::found("loss_weights", strength, measured.clone(), advice);
    if loss.box_weight < NO_WEIGHT {
        return found(SURE, "Boxes are not learned: set loss.box_weight to 1");
    }
    let has_alpha = matches!(loss.kind, ClassLossKind::Focal | ClassLossKind::BalancedCrossEntropy);
    if has_alpha && alpha_low < NO_WEIGHT {
        return found(SURE, "Objects hardly count in the class loss: set loss.alpha to 0.25");
    }
    if has_alpha && alpha_high > 1.0 - 1e-3 {
        return found(0.9, "Background hardly counts in the class loss: set loss.alpha to 0.25");
    }
    if gamma > 8.0 && matches!(loss.kind, ClassLossKind::Focal | ClassLossKind::QualityFocal) {
        return found(0.8, "Only the worst pairs count in the class loss: set loss.gamma to 2");
    }
    if weights[0] < NO_WEIGHT * weights[1] {
        return found(0.8, "Some classes hardly count in the class loss: set loss.class_weights to numbers near 1");
    }
    if !USUAL_PRIOR.contains(&config.model.head.prior) {
        return found(0.62, "The initial scores are far from usual: set model.head.prior to 0.01");
    }
    Check::nothing("loss_weights", measured)
}

fn gradients(config: &RunConfig, history: &History) -> Check {
    let mut norms = values(&history.steps, |line| line.grad_norm);
    norms.sort_by(f64::total_cmp);
    let Some(middle) = norms.get(norms.len() / 2).copied() else {
        return Check::nothing("gradients", "The log has no gradient norms");
    };
    let train = &config.train;
    let measured = format!(
        "The median gradient norm of {} lines of the log is {middle:.2e}; train.clip_norm is {}, and train.weight_decay is {}",
        norms.len(),
        train.clip_norm,
        train.weight_decay
    );
    if middle < NO_GRADIENT {
        let advice =
            "No loss reaches the network: check the annotations of the training set and the weights of the losses";
        return Check::found("gradients", SURE, measured, advice);
    }
    let sgd = train.optimizer == OptimizerKind::Sgd;
    if sgd && train.clip_norm > 0.0 && middle > 100.0 * train.clip_norm {
        let advice = "Nearly all of the gradient is clipped away: raise train.clip_norm, or set it to 0";
        return Check::found("gradients", 0.85, measured, advice);
    }
    if train.weight_decay > 0.3 {
        let advice =
            "The weight decay removes what is learned: set train.weight_decay to 0.0001 with SGD, 0.05 with AdamW";
        return Check::found("gradients", 0.85, measured, advice);
    }
    Check::nothing("gradients", measured)
}

fn positives(history: &History) -> Check {
    const CAUSE: &str = "training_objects";
    let positives = values(&history.steps, |line| line.positives);
    let sum = |value: fn(&Line) -> Option<f64>| values(&history.epochs, value).iter().sum::<f64>();
    let (objects, without) = (sum(|line| line.objects), sum(|line| line.objects_without_anchor));
    let measured = format!(
        "A training step has {:.1} positive anchors on average; the epochs had {objects:.0} objects, of which {without:.0} had \
         no anchor",
        mean(&positives)
    );
    if !positives.is_empty() && mean(&positives) < 0.5 {
        let advice = "Almost nothing is there to be learned: check the annotations of the training set, the sizes of the \
                      anchors and the matcher with `foveal anchors coverage`";
        return Check::found(CAUSE, SURE, measured, advice);
    }
    if objects > 0.0 && without > 0.25 * objects {
        let advice =
            "Fit the anchors and the matcher to the objects: `foveal anchors coverage` shows how well they fit";
        return Check::found(CAUSE, 0.9 * without / objects, measured, advice);
    }
    Check::nothing(CAUSE, measured)
}

fn not_finite(root: &Path, history: &History) -> Check {
    const CAUSE: &str = "not_finite";
    let lost = history.steps.iter().filter(|line| line.loss.is_none()).count();
    let black_box = root.join("blackbox").is_dir();
    let measured = format!(
        "{} steps were left out or rewound and {lost} lines of the log have no loss, because it was not finite; the run has \
         {} black box",
        history.non_finite,
        if black_box { "a" } else { "no" }
    );
    if history.non_finite == 0 && lost == 0 && !black_box {
        return Check::nothing(CAUSE, measured);
    }
    let advice = "Find the layer with `foveal replay`, and lower the learning rate or clip gradients (train.clip_norm)";
    let strength = if black_box && history.non_finite == 0 { 0.9 } else { 0.7 };
    Check::found(CAUSE, strength, measured, advice)
}

/// The check of the training loss.
fn course(history: &History) -> Check {
    const CAUSE: &str = "loss_not_falling";
    let losses = values(&history.steps, |line| line.loss);
    if losses.len() < FEWEST_LINES {
        return Check::nothing(CAUSE, format!("The log has {} lines with a loss, too few for a course", losses.len()));
    }
    let (first, last) = quarters(&losses);
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let measured = format!(
        "The mean training loss is {first:.4} in the first quarter of {} lines of the log and {last:.4} in the last; the lowest \
         is {lowest:.4}",
        losses.len()
    );
    if last > DIVERGED * first || (last > 100.0 && last > first) {
        let advice = "The training has diverged: lower train.lr, lengthen train.warmup_steps or set train.clip_norm";
        return Check::found("loss_diverged", 0.95, measured, advice);
    }
    if last > NOT_FALLING * first {
        let advice =
            "The training does not learn: try another train.lr, and `foveal train --overfit 8`, which must succeed";
        return Check::found(CAUSE, 0.65, measured, advice);
    }
    Check::nothing(CAUSE, measured)
}

/// The check of the length of the run.
fn length(config: &RunConfig, history: &History) -> Check {
    let steps = history.last_step();
    let measured = format!("The run made {steps} optimizer steps of {} images", images(config));
    match SHORT.iter().find(|(limit, _)| steps < *limit) {
        Some((_, strength)) => {
            let advice = "Train longer (train.epochs, train.max_steps): a detector needs some thousand steps, or some hundred \
                          with pretrained weights";
            Check::found("few_steps", *strength, measured, advice)
        }
        None => Check::nothing("few_steps", measured),
    }
}

fn images(config: &RunConfig) -> usize {
    config.train.batch_size * config.train.accumulate
}

/// The check of a run that did not reach its end; `None` if its length was not planned in epochs.
fn ended(config: &RunConfig, history: &History) -> Option<Check> {
    let planned = config.train.epochs;
    if history.ended_by_itself || config.train.max_steps > 0 || config.train.time_limit > 0.0 {
        return None;
    }
    let measured = format!("{} of {planned} epochs are in the log", history.epochs.len());
    if history.epochs.len() >= planned {
        return Some(Check::nothing("ended_early", measured));
    }
    let strength = 0.4 * (1.0 - history.epochs.len() as f64 / planned as f64);
    Some(Check::found("ended_early", strength, measured, "Go on with `foveal train --resume`"))
}

/// The check of a validation loss that rises while the training loss falls; `None` with too few evaluations.
fn overfitting(history: &History) -> Option<Check> {
    let validation = values(&history.evaluations, |line| line.validation_loss("total"));
    let training = values(&history.epochs, |line| line.mean_loss);
    let (&last, &trained) = validation.last().zip(training.last())?;
    if validation.len() < 3 || training.len() < 3 {
        return None;
    }
    let lowest = validation.iter().copied().fold(f64::INFINITY, f64::min);
    let measured = format!(
        "The validation loss is {last:.4} at the end and was {lowest:.4} at its lowest; the training loss went from {:.4} to \
         {trained:.4}",
        training[0]
    );
    if last < 1.15 * lowest || trained > 0.9 * training[0] {
        return Some(Check::nothing("overfitting", measured));
    }
    let advice = "The run overfits: use more images, more augmentation (data.augment), fewer epochs, or train.patience";
    Some(Check::found("overfitting", 0.45 * (1.0 - lowest / last).max(0.3), measured, advice))
}

/// The check of the normalisation of images for pretrained weights; `None` without them.
fn normalisation(config: &RunConfig) -> Option<Check> {
    config.model.weights.as_ref()?;
    let (prepare, usual) = (config.data.preprocess(), RunConfig::default().data.preprocess());
    let measured = format!("data.mean is {:?}, and data.std is {:?}", prepare.mean, prepare.std);
    let close = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.05);
    if close(prepare.mean, usual.mean) && close(prepare.std, usual.std) {
        return Some(Check::nothing("normalisation", measured));
    }
    let advice = "Pretrained weights need the mean and standard deviation of their training; most have ImageNet's, which are \
                  the defaults";
    Some(Check::found("normalisation", 0.45, measured, advice))
}
