//! The assignment of locations to objects, and the losses.

use super::Setting;
use super::input::Input;
use crate::commands::init::facts::{Facts, WeightFacts};

/// The key of the kind of assignment, and its values.
const MATCHER_KIND: &str = "matcher.kind";
/// The key of the number of candidates of ATSS for each level.
const MATCHER_CANDIDATES: &str = "matcher.candidates";
/// The key of the learnt factors of the box outputs.
const LEVEL_SCALES: &str = "model.head.level_scales";
/// The number of candidates in the paper (arXiv 1912.02424, table 4: 7 to 17 differ by at most 0.2 AP).
const CANDIDATES: i64 = 9;
/// Strides of the levels P3 to P7 in pixels.
const STRIDES: [i64; 5] = [8, 16, 32, 64, 128];
/// Median side in pixels of the objects, after resizing, below which the anchors are halved.
const SMALL_MEDIAN: f64 = 24.0;

pub(super) fn explain(facts: &Facts, input: &Input, settings: &mut Vec<Setting>) {
    let mut add = |key: &str, value: toml::Value, reason: String| settings.push(Setting::new(key, value, reason));
    match &facts.weights {
        Some(WeightFacts::Checkpoint { anchors_per_location, .. }) if *anchors_per_location > 1 => {
            let reason = format!("The heads of the checkpoint have {anchors_per_location} anchors at each location.");
            add(MATCHER_KIND, "iou".into(), reason);
        }
        checkpoint => {
            let reason = "ATSS (arXiv 1912.02424) adapts the IoU threshold to each object, so that the sizes of the \
                          anchors need not be fitted to the objects.";
            add(MATCHER_KIND, "atss".into(), reason.to_owned());
            let reason = "The number of anchors of each level among which ATSS chooses for an object, as in arXiv \
                          1912.02424. AP hardly depends on it (table 4).";
            add(MATCHER_CANDIDATES, CANDIDATES.into(), reason.to_owned());
            if !matches!(checkpoint, Some(WeightFacts::Checkpoint { .. })) {
                anchors(facts, input, &mut add);
            }
        }
    }
    let reason = "With the quality focal loss (arXiv 2006.04388), the score is trained to be the IoU of the predicted \
                  box with the object, so that detections are ordered by how well their boxes fit.";
    add("loss.kind", "quality_focal".into(), reason.to_owned());
    let reason = "The GIoU of the decoded boxes (arXiv 1902.09630) does not depend on the size of the objects.";
    add("loss.box", "giou".into(), reason.to_owned());
    let most = facts.data.objects_per_image[2];
    if most > 100.0 {
        let reason = format!(
            "An image has up to {most:.0} objects. COCO's AP counts only the 100 detections with the highest scores."
        );
        add("eval.max_detections", (2 * most as i64).into(), reason);
    }
}

/// One anchor at each location.
fn anchors(facts: &Facts, input: &Input, add: &mut impl FnMut(&str, toml::Value, String)) {
    let median = f64::from(facts.data.sides[2]) * f64::from(input.size);
    let factor = if median < SMALL_MEDIAN { 2 } else { 4 };
    let sizes: Vec<toml::Value> = STRIDES.iter().map(|stride| (factor * stride).into()).collect();
    let reason = format!(
        "The anchors have sides of {factor} times the stride of their level, because half of the objects have a side \
         above {median:.0} px after resizing."
    );
    add("model.anchors.base_sizes", sizes.into(), reason);
    let reason = "With ATSS, nine anchors at each location are no better than one (arXiv 1912.02424, table 7).";
    add("model.anchors.scales", 1.into(), reason.to_owned());
    let reason = "With ATSS, several ratios are no better than square anchors alone (arXiv 1912.02424, table 7).";
    add("model.anchors.ratios", vec![toml::Value::from(1.0)].into(), reason.to_owned());
    let reason = "The box outputs of each level have a learnt factor, because all levels share the box head (arXiv \
                  1912.02424, table 1).";
    add(LEVEL_SCALES, true.into(), reason.to_owned());
}
