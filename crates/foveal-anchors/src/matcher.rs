//! Which object each anchor answers for.

use foveal_base::{SettingError, check};
use foveal_boxes::{BBox, iou};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an anchor is trained as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// No object.
    Background,
    /// Nothing: left out of the loss.
    Ignore,
    /// The object of that index.
    Object(u32),
}

/// The assignment rule (Lin et al., arXiv 1708.02002, section 4; low-quality matches as in torchvision and Detectron2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MatcherConfig {
    /// From this IoU on an anchor belongs to its best object.
    pub positive_iou: f32,
    /// Below this IoU an anchor is background; between the two it is ignored.
    pub negative_iou: f32,
    /// Whether the anchors nearest to an object are kept for training even below `positive_iou`: each anchor that
    /// reaches some object's highest IoU gets its *own* best object.
    pub low_quality: bool,
    /// Whether an anchor that is not positive and lies at least half within a crowd region is ignored.
    pub ignore_crowds: bool,
}

/// Share of an anchor inside a crowd region from which it is ignored.
const CROWD_SHARE: f32 = 0.5;

impl Default for MatcherConfig {
    fn default() -> Self {
        Self { positive_iou: 0.5, negative_iou: 0.4, low_quality: true, ignore_crowds: true }
    }
}

impl MatcherConfig {
    /// Refuses thresholds that contradict each other.
    ///
    /// # Errors
    /// A threshold that is not from 0 to 1, or `negative_iou` above `positive_iou`.
    pub fn validate(&self) -> Result<(), SettingError> {
        check::fraction("positive_iou", self.positive_iou)?;
        check::that(
            (0.0..=self.positive_iou).contains(&self.negative_iou),
            "negative_iou",
            &format!("a number from 0 to positive_iou, which is {}", self.positive_iou),
            &self.negative_iou,
        )
    }

    /// Assigns every anchor. Of two objects with the same IoU the first wins. An object that no anchor touches (highest
    /// IoU 0) claims none; torchvision would make every anchor without overlap positive.
    ///
    /// # Shapes
    /// One entry an anchor; all boxes in pixels of the same image.
    pub fn assign(&self, anchors: &[BBox], objects: &[BBox], crowds: &[BBox]) -> Vec<Match> {
        let mut best = vec![Best { iou: 0.0, object: 0 }; anchors.len()];
        let mut nearest: Vec<u32> = Vec::new();
        let idle = objects.is_empty() && crowds.is_empty();
        let hulls: Vec<BBox> = if idle { Vec::new() } else { anchors.chunks(TILE).map(hull).collect() };
        for (index, object) in objects.iter().enumerate() {
            let tied = update(&mut best, anchors, &hulls, object, index as u32);
            if self.low_quality {
                nearest.extend(tied);
            }
        }
        let mut matches: Vec<Match> = best.iter().map(|best| self.by_threshold(objects, *best)).collect();
        for anchor in nearest {
            matches[anchor as usize] = Match::Object(best[anchor as usize].object);
        }
        if self.ignore_crowds {
            ignore_within(&mut matches, anchors, &hulls, crowds);
        }
        matches
    }

    /// The assignment by the two thresholds alone.
    fn by_threshold(&self, objects: &[BBox], best: Best) -> Match {
        if objects.is_empty() || best.iou < self.negative_iou {
            Match::Background
        } else if best.iou < self.positive_iou {
            Match::Ignore
        } else {
            Match::Object(best.object)
        }
    }
}

/// An anchor's best object so far.
#[derive(Clone, Copy)]
struct Best {
    iou: f32,
    object: u32,
}

/// So many consecutive anchors are passed over at once where all of them lie beside an object.
const TILE: usize = 64;

/// The smallest box around all.
fn hull(boxes: &[BBox]) -> BBox {
    let first = BBox::new(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
    boxes.iter().fold(first, |h, b| BBox::new(h.x1.min(b.x1), h.y1.min(b.y1), h.x2.max(b.x2), h.y2.max(b.y2)))
}

/// Whether the two do not even touch from inside: their intersection has no area.
fn beside(a: &BBox, b: &BBox) -> bool {
    a.x2 <= b.x1 || a.x1 >= b.x2 || a.y2 <= b.y1 || a.y1 >= b.y2
}

/// Enters one object into all anchors' best; returns the anchors that reach this object's highest IoU, none if it is 0.
fn update(best: &mut [Best], anchors: &[BBox], hulls: &[BBox], object: &BBox, index: u32) -> Vec<u32> {
    let mut highest = 0.0;
    let mut tied = Vec::new();
    for (tile, ((best, anchors), hull)) in best.chunks_mut(TILE).zip(anchors.chunks(TILE)).zip(hulls).enumerate() {
        if beside(hull, object) {
            continue;
        }
        for (i, (best, anchor)) in best.iter_mut().zip(anchors).enumerate() {
            // Most anchors do not touch the object: their IoU is 0 and changes nothing.
            if beside(anchor, object) {
                continue;
            }
            let iou = iou(object, anchor);
            if iou > best.iou {
                *best = Best { iou, object: index };
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

/// Ignores the anchors that lie half or more within a crowd region, unless they have an object.
fn ignore_within(matches: &mut [Match], anchors: &[BBox], hulls: &[BBox], crowds: &[BBox]) {
    for crowd in crowds {
        for ((matches, anchors), hull) in matches.chunks_mut(TILE).zip(anchors.chunks(TILE)).zip(hulls) {
            if beside(hull, crowd) {
                continue;
            }
            for (matched, anchor) in matches.iter_mut().zip(anchors) {
                let free = *matched == Match::Background;
                if free && anchor.intersection(crowd) >= CROWD_SHARE * anchor.area() && anchor.area() > 0.0 {
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
        // Anchor 0 is the nearest of object 1 (IoU 0.1), but overlaps object 0 better (IoU 0.3): object 0 it is.
        // Anchor 1 is object 0's nearest.
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
