//! Settings of an evaluation that lose detections, found by evaluating again with others.

use anyhow::Result;
use foveal_detector::{CheckpointMeta, PostprocessConfig};
use foveal_eval::Check;
use foveal_train::{Evaluation, RunConfig};

/// A score threshold above this is high, whatever the detections are.
const HIGH_THRESHOLD: f32 = 0.2;
/// The score threshold of the second evaluation.
const LOW_THRESHOLD: f32 = 0.001;
/// Number of detections for each object below which they are few.
const FEW: f64 = 1.0;
/// Range of the IoU of non-maximum suppression that is usual.
const USUAL_NMS: std::ops::RangeInclusive<f32> = 0.3..=0.8;
/// Difference and ratio of AP50 from which a setting is a cause.
const GAIN: f64 = 0.03;
const TIMES: f64 = 1.2;
/// Strength of a setting that is certainly wrong.
const SURE: f64 = 0.96;

/// A setting that may lose detections, with its usual value.
struct Suspect {
    cause: &'static str,
    measured: String,
    config: RunConfig,
    /// Whether the value is so unusual that it is a cause even if AP50 does not rise much.
    unusual: bool,
    advice: &'static str,
}

/// Checks the settings of the evaluation.
///
/// # Errors
/// If an evaluation fails.
pub(super) fn checks(
    evaluation: &Evaluation,
    config: &RunConfig,
    meta: &CheckpointMeta,
    again: impl Fn(&RunConfig) -> Result<Option<Evaluation>>,
) -> Result<Vec<Check>> {
    let objects: usize = evaluation.metrics.per_category.iter().map(|c| c.objects).sum();
    let few = (evaluation.detections.len() as f64) < FEW * objects as f64;
    let mut checks = Vec::new();
    let before = evaluation.metrics.ap50.max(0.0);
    for Suspect { cause, measured, config, unusual, advice } in suspects(config, meta, few) {
        let Some(other) = again(&config)? else { break };
        let ap50 = other.metrics.ap50;
        let highest = other.detections.iter().map(|d| d.score).fold(0.0, f64::max);
        let measured = format!(
            "{measured}: {} detections and AP50 {before:.3}. With the usual value there are {} with scores up to \
             {highest:.3}, and AP50 is {ap50:.3}",
            evaluation.detections.len(),
            other.detections.len()
        );
        let gain = ap50 >= before + GAIN && ap50 >= TIMES * before;
        let lost = unusual && few && other.detections.len() > 2 * evaluation.detections.len().max(1);
        checks.push(if gain || lost {
            let strength = if unusual { SURE } else { 0.9 * ap50.max(0.2) };
            Check::found(cause, strength, measured, advice).with_ap50(Some(ap50))
        } else {
            Check::nothing(cause, measured)
        });
    }
    Ok(checks)
}

/// The settings that differ from usual ones in a way that can lose detections.
fn suspects(config: &RunConfig, meta: &CheckpointMeta, few: bool) -> Vec<Suspect> {
    let usual = PostprocessConfig::default();
    let eval = config.eval;
    let mut suspects = Vec::new();
    let mut add = |cause, unusual, measured: String, advice, change: &dyn Fn(&mut RunConfig)| {
        let mut config = config.clone();
        change(&mut config);
        suspects.push(Suspect { cause, measured, config, unusual, advice });
    };
    let high = eval.score_threshold >= HIGH_THRESHOLD;
    if high || (few && eval.score_threshold > LOW_THRESHOLD) {
        add(
            "score_threshold",
            high,
            format!("eval.score_threshold is {}", eval.score_threshold),
            "Evaluate with a low score threshold (eval.score_threshold, 0.05 by default), and choose thresholds for use \
             with --thresholds",
            &|config| config.eval.score_threshold = LOW_THRESHOLD,
        );
    }
    if !USUAL_NMS.contains(&eval.nms) {
        add(
            "nms",
            true,
            format!("eval.nms is {}", eval.nms),
            "Set eval.nms to about 0.5: with low values neighbouring objects are lost, with high ones objects are found \
             several times",
            &|config| config.eval.nms = usual.nms,
        );
    }
    if eval.max_detections < usual.max_detections {
        add(
            "max_detections",
            eval.max_detections < usual.max_detections / 10,
            format!("eval.max_detections is {}", eval.max_detections),
            "Set eval.max_detections to 100, as in COCO's metrics",
            &|config| config.eval.max_detections = usual.max_detections,
        );
    }
    if eval.pre_nms < usual.pre_nms / 10 {
        add("pre_nms", true, format!("eval.pre_nms is {}", eval.pre_nms), "Set eval.pre_nms to 1000", &|config| {
            config.eval.pre_nms = usual.pre_nms
        });
    }
    let prepare = &meta.preprocess;
    if config.data.preprocess() != *prepare {
        add(
            "preprocess",
            true,
            "The images are resized or normalised in another way than in training (data.min_size, max_size, fixed_size, \
             mean, std)"
                .to_owned(),
            "Evaluate with the settings of the training, which the checkpoint has",
            &|config| {
                let data = &mut config.data;
                (data.min_size, data.max_size, data.fixed_size) = (prepare.min_size, prepare.max_size, prepare.fixed_size);
                (data.resize, data.mean, data.std) = (prepare.resize, prepare.mean, prepare.std);
            },
        );
    }
    suspects
}
