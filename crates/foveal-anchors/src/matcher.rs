//! Matching of anchors with objects: which object each anchor is trained to detect.

use foveal_base::{SettingError, check};
use foveal_boxes::{BBox, iou};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The training target of an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The anchor is a negative: it is trained as background.
    Background,
    /// The anchor is ignored: it has no part in the loss.
    Ignore,
    /// The anchor is a positive: it is trained to detect the object with this index.
    Object(u32),
}

/// The rule that matches anchors with objects by their IoU (Lin et al., arXiv 1708.02002, section 4; low-quality
/// matches as in torchvision's and Detectron2's `Matcher`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatcherConfig {
    /// IoU from which an anchor is positive: it is trained to detect the object with the highest IoU (0 to 1, default
    /// 0.5).
    pub positive_iou: f32,
    /// IoU below which an anchor is background (0 to `positive_iou`, default 0.4). An anchor whose highest IoU lies
    /// between `negative_iou` and `positive_iou` is ignored.
    pub negative_iou: f32,
    /// Whether the best anchors of an object are positive even if their IoU is below `positive_iou` (default true).
    /// An anchor that has the highest IoU of all anchors with some object becomes positive. It is then matched with the
    /// object that it overlaps most, which can be another object.
    pub low_quality: bool,
    /// Whether an anchor is ignored if it is not positive and at least half of its area lies in a crowd region (default
    /// true).
    pub ignore_crowds: bool,
}

/// Fraction of the area of an anchor in a crowd region from which the anchor is ignored.
const CROWD_SHARE: f32 = 0.5;

impl Default for MatcherConfig {
    fn default() -> Self {
        Self { positive_iou: 0.5, negative_iou: 0.4, low_quality: true, ignore_crowds: true }
    }
}

impl MatcherConfig {
    /// Checks the IoU thresholds.
    ///
    /// # Errors
    /// [`SettingError`] if a threshold is not from 0 to 1, or `negative_iou` is above `positive_iou`.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::fraction("positive_iou", self.positive_iou)?;
        check::that(
            (0.0..=self.positive_iou).contains(&self.negative_iou),
            "negative_iou",
            &format!("a number from 0 to positive_iou, which is {}", self.positive_iou),
            &self.negative_iou,
        )
    }

    /// Matches every anchor of an image with an object, with background or with nothing.
    ///
    /// Of two objects with the same IoU, the first is taken. An object that overlaps no anchor gets none; in
    /// torchvision, every anchor without overlap would become positive for it.
    ///
    /// # Shapes
    /// - anchors, in pixels of the padded image: `[anchors]`
    /// - objects, in pixels of the padded image: `[objects]`
    /// - crowds, the crowd regions in pixels of the padded image: `[crowds]`
    /// - result, in the order of the anchors: `[anchors]`
    pub fn assign(&self, anchors: &[BBox], objects: &[BBox], crowds: &[BBox]) -> Vec<Match> {
        let mut best = vec![BestObject { iou: 0.0, object: 0 }; anchors.len()];
        let mut nearest: Vec<u32> = Vec::new();
        let nothing_to_match = objects.is_empty() && crowds.is_empty();
        let tile_boxes: Vec<BBox> =
            if nothing_to_match { Vec::new() } else { anchors.chunks(TILE).map(enclosing_box).collect() };
        for (index, object) in objects.iter().enumerate() {
            let tied = update(&mut best, anchors, &tile_boxes, object, index as u32);
            if self.low_quality {
                nearest.extend(tied);
            }
        }
        let mut matches: Vec<Match> = best.iter().map(|best| self.by_threshold(objects, *best)).collect();
        for anchor in nearest {
            matches[anchor as usize] = Match::Object(best[anchor as usize].object);
        }
        if self.ignore_crowds {
            ignore_within(&mut matches, anchors, &tile_boxes, crowds);
        }
        matches
    }

    /// The match of an anchor by the two thresholds, without low-quality matches.
    fn by_threshold(&self, objects: &[BBox], best: BestObject) -> Match {
        if objects.is_empty() || best.iou < self.negative_iou {
            Match::Background
        } else if best.iou < self.positive_iou {
            Match::Ignore
        } else {
            Match::Object(best.object)
        }
    }
}

/// The object with the highest IoU with an anchor so far.
#[derive(Clone, Copy)]
struct BestObject {
    iou: f32,
    object: u32,
}

/// Number of consecutive anchors that are skipped together if the box around them does not overlap an object.
const TILE: usize = 64;

/// The smallest box that contains all boxes.
fn enclosing_box(boxes: &[BBox]) -> BBox {
    let first = BBox::new(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
    boxes.iter().fold(first, |h, b| BBox::new(h.x1.min(b.x1), h.y1.min(b.y1), h.x2.max(b.x2), h.y2.max(b.y2)))
}

/// Whether the intersection of two boxes has no area.
fn disjoint(a: &BBox, b: &BBox) -> bool {
    a.x2 <= b.x1 || a.x1 >= b.x2 || a.y2 <= b.y1 || a.y1 >= b.y2
}

/// Updates the best objects of all anchors with one object. Returns the indices of the anchors with the highest IoU
/// with this object, or none if no anchor overlaps it.
fn update(best: &mut [BestObject], anchors: &[BBox], tile_boxes: &[BBox], object: &BBox, index: u32) -> Vec<u32> {
    let mut highest = 0.0;
    let mut tied = Vec::new();
    for (tile, ((best, anchors), tile_box)) in
        best.chunks_mut(TILE).zip(anchors.chunks(TILE)).zip(tile_boxes).enumerate()
    {
        if disjoint(tile_box, object) {
            continue;
        }
        for (i, (best, anchor)) in best.iter_mut().zip(anchors).enumerate() {
            // Most anchors do not overlap the object; their IoU of 0 changes nothing.
            if disjoint(anchor, object) {
                continue;
            }
            let iou = iou(object, anchor);
            if iou > best.iou {
                *best = BestObject { iou, object: index };
            }
            if iou > highest {
                highest = iou;
                tied.clear();
            }
            if iou == highest && iou > 0.0 {
                tied.push((tile * TILE + i) as u32);
            }
        }
    }
    tied
}

/// Ignores the background anchors of which at least half lies within a crowd region.
fn ignore_within(matches: &mut [Match], anchors: &[BBox], tile_boxes: &[BBox], crowds: &[BBox]) {
    for crowd in crowds {
        for ((matches, anchors), tile_box) in matches.chunks_mut(TILE).zip(anchors.chunks(TILE)).zip(tile_boxes) {
            if disjoint(tile_box, crowd) {
                continue;
            }
            for (matched, anchor) in matches.iter_mut().zip(anchors) {
                let background = *matched == Match::Background;
                if background && anchor.intersection(crowd) >= CROWD_SHARE * anchor.area() && anchor.area() > 0.0 {
                    *matched = Match::Ignore;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BBox = BBox::new(0.0, 0.0, 10.0, 10.0);

    fn wide(x: f32, width: f32) -> BBox {
        BBox::new(x, 0.0, x + width, 10.0)
    }

    #[test]
    fn thresholds_are_inclusive_below() {
        // IoU with A: 1, 0.5, 0.45, 0.4, 0.35, 0.
        let anchors = [A, wide(0.0, 5.0), wide(0.0, 4.5), wide(0.0, 4.0), wide(0.0, 3.5), wide(20.0, 10.0)];
        let matches = MatcherConfig::default().assign(&anchors, &[A], &[]);
        use Match::{Background, Ignore, Object};
        assert_eq!(matches, vec![Object(0), Object(0), Ignore, Ignore, Background, Background]);
    }

    #[test]
    fn nearest_anchors_get_their_own_best_object() {
        // Anchor 0 has the highest IoU with object 1 (0.1), but its own highest IoU is with object 0 (0.3), so it is
        // matched with object 0. Anchor 1 has the highest IoU with object 0.
        let anchors = [A, wide(0.0, 3.0)];
        let objects = [wide(0.0, 3.0), wide(9.0, 1.0)];
        let matches = MatcherConfig::default().assign(&anchors, &objects, &[]);
        assert_eq!(matches, vec![Match::Object(0), Match::Object(0)]);
        let strict = MatcherConfig { low_quality: false, ..MatcherConfig::default() };
        assert_eq!(strict.assign(&anchors, &objects, &[]), vec![Match::Background, Match::Object(0)]);
    }

    #[test]
    fn ties_are_all_kept() {
        let anchors = [wide(0.0, 3.0), wide(7.0, 3.0), wide(4.0, 2.0)];
        let matches = MatcherConfig::default().assign(&anchors, &[A], &[]);
        assert_eq!(matches, vec![Match::Object(0), Match::Object(0), Match::Background]);
    }

    #[test]
    fn an_object_that_nothing_touches_claims_nothing() {
        for far in [wide(100.0, 10.0), BBox::new(5.0, 5.0, 5.0, 5.0), BBox::new(f32::NAN, 0.0, 1.0, 1.0)] {
            assert_eq!(MatcherConfig::default().assign(&[A, wide(20.0, 5.0)], &[far], &[]), vec![Match::Background; 2]);
        }
        assert_eq!(MatcherConfig::default().assign(&[A], &[], &[]), vec![Match::Background]);
    }

    #[test]
    fn crowds_hide_background() {
        let anchors = [A, wide(20.0, 10.0), wide(26.0, 10.0)];
        let crowd = BBox::new(0.0, 0.0, 30.0, 10.0);
        let matches = MatcherConfig::default().assign(&anchors, &[A], &[crowd]);
        assert_eq!(matches, vec![Match::Object(0), Match::Ignore, Match::Background]);
        let off = MatcherConfig { ignore_crowds: false, ..MatcherConfig::default() };
        assert_eq!(off.assign(&anchors, &[A], &[crowd])[1], Match::Background);
    }

    #[test]
    fn thresholds_out_of_order_are_named() {
        let config = MatcherConfig { negative_iou: 0.6, ..MatcherConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "negative_iou: expected a number from 0 to positive_iou, which is 0.5, found 0.6"
        );
        let config = MatcherConfig { positive_iou: 1.5, ..MatcherConfig::default() };
        assert_eq!(config.validate().unwrap_err().key, "positive_iou");
    }
}
