//! The likely causes of low metrics, ranked, with what each check measured.
//!
//! Most checks test a reading: a different meaning of the boxes, the category ids, the image ids or the scores. A
//! reading under which many more objects are found is a cause. If one is found, the checks that follow work on the
//! corrected detections, so that several mistakes in one file are found one after another.

mod annotations;
mod boxes;
mod classes;
mod context;
mod fitted;
mod image_fit;
mod image_ids;
mod measured;
mod reading;
mod scores;
mod text;

use std::borrow::Cow;
use std::collections::HashSet;

use foveal_coco::{CocoDataset, CocoDetection};
use serde::Serialize;

pub use measured::{ApAtIou, Measured};

use crate::EvalError;
use context::Context;

/// Strength of a cause that is certain.
pub const CERTAIN: f64 = 1.0;
/// Largest strength of a cause that is found by a test, below that of certain causes.
const TESTED: f64 = 0.97;

/// A check of one possible cause of low metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Key of the cause.
    pub cause: &'static str,
    /// How strongly the cause explains the metrics, from 0 (not found) to 1 (certain). For a reading it is the fraction
    /// of the objects that are found under it.
    pub strength: f64,
    /// What the check measured, as a sentence.
    pub measured: String,
    /// What to do, as a sentence; empty if the cause was not found.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub advice: Cow<'static, str>,
    /// AP50 with the correction, from 0 to 1, if it can be computed.
    #[serde(rename = "AP50", skip_serializing_if = "Option::is_none")]
    pub ap50: Option<f64>,
}

impl Check {
    /// A check that found nothing.
    pub fn nothing(cause: &'static str, measured: impl Into<String>) -> Self {
        Self { cause, strength: 0.0, measured: measured.into(), advice: Cow::Borrowed(""), ap50: None }
    }

    /// A check that found its cause. The strength is limited to 0 to 1.
    pub fn found(
        cause: &'static str,
        strength: f64,
        measured: impl Into<String>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Self {
        let strength = if strength.is_finite() { strength.clamp(0.0, CERTAIN) } else { 0.0 };
        Self { cause, strength, measured: measured.into(), advice: advice.into(), ap50: None }
    }

    /// The check with the AP50 of the corrected detections.
    #[must_use]
    pub fn with_ap50(self, ap50: Option<f64>) -> Self {
        Self { ap50, ..self }
    }
}

/// The causes of low metrics that were found, and all checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The measured numbers; `None` if nothing could be evaluated.
    pub measured: Option<Measured>,
    /// The causes that were found, the strongest first.
    pub causes: Vec<Check>,
    /// All checks, also those that found nothing, in the order in which they were made.
    pub checked: Vec<Check>,
}

impl Explanation {
    /// An explanation from checks.
    pub fn new(measured: Option<Measured>, checked: Vec<Check>) -> Self {
        let mut explanation = Self { measured, causes: Vec::new(), checked: Vec::new() };
        explanation.add(checked);
        explanation
    }

    /// Adds more checks and ranks the causes again. Of equal strengths, the check that was made first comes first; of
    /// several checks of one cause, the strongest counts.
    pub fn add(&mut self, checked: impl IntoIterator<Item = Check>) {
        self.checked.extend(checked);
        self.causes = self.checked.iter().filter(|check| check.strength > 0.0).cloned().collect();
        self.causes.sort_by(|a, b| b.strength.total_cmp(&a.strength));
        let mut seen = HashSet::new();
        self.causes.retain(|check| seen.insert(check.cause));
    }

    /// Limits the strength of a cause that turned out to follow from another one, and ranks the causes again, if others
    /// were found.
    pub fn weaken(&mut self, cause: &str, limit: f64) {
        if self.causes.iter().all(|check| check.cause == cause) {
            return;
        }
        for check in self.checked.iter_mut().filter(|check| check.cause == cause) {
            check.strength = check.strength.min(limit);
        }
        self.add([]);
    }

    /// The causes as a numbered list, and what the other checks measured.
    pub fn list(&self) -> String {
        text::list(self)
    }
}

/// Finds the likely causes of low metrics of detections.
///
/// Detections may be on images that the ground truth does not list, and annotations may be defective: both are causes.
/// Searches use at most 500 images, and the search for permuted images 200.
///
/// # Errors
/// [`EvalError::DetectionNotFinite`] if a box or score of a detection is not finite, [`EvalError::Engine`] if hotcoco
/// reports an error.
pub fn explain(ground_truth: &CocoDataset, detections: &[CocoDetection]) -> Result<Explanation, EvalError> {
    let not_finite = |d: &CocoDetection| !d.score.is_finite() || d.bbox.iter().any(|v| !v.is_finite());
    if let Some(index) = detections.iter().position(not_finite) {
        return Err(EvalError::DetectionNotFinite { index, image_id: detections[index].image_id });
    }
    let (truth, mut checks) = annotations::check(ground_truth);
    if truth.annotations.iter().all(|a| a.iscrowd) {
        return Ok(Explanation::new(None, checks));
    }
    if detections.is_empty() {
        checks.push(Check::found(
            "no_detections",
            CERTAIN - 0.01,
            format!("There are no detections on {} images", truth.images.len()),
            "Lower the score threshold (eval.score_threshold, or that of the program that wrote the detections). If there \
             are still none, the training has barely started or has diverged",
        ));
        return Ok(Explanation::new(Some(Measured::nothing(&truth)), checks));
    }
    checks.push(Check::nothing("no_detections", format!("There are {} detections", detections.len())));
    let mut context = Context::new(truth, detections.to_vec())?;
    let measured = Measured::new(&context)?;
    image_ids::check(&mut context, &mut checks)?;
    boxes::check(&mut context, &mut checks)?;
    classes::check(&mut context, &mut checks)?;
    scores::check(&mut context, &mut checks)?;
    Ok(Explanation::new(Some(measured), checks))
}
