//! The rule `matcher.kind = "iou"`: fixed thresholds of the IoU.

use foveal_boxes::{BBox, iou};

use super::tiles::{TILE, disjoint};
use super::{Match, MatcherConfig};

/// Matches every anchor with an object, with background or with nothing (Lin et al., arXiv 1708.02002, section 4;
/// low-quality matches as in torchvision's and Detectron2's `Matcher`).
///
/// Of two objects with the same IoU, the first is taken. An object that overlaps no anchor gets none; in torchvision,
/// every anchor without overlap would become positive for it. `tile_boxes` are those of the anchors; without objects
/// they are not used.
pub(super) fn assign(config: &MatcherConfig, anchors: &[BBox], tile_boxes: &[BBox], objects: &[BBox]) -> Vec<Match> {
    let mut best = vec![BestObject { iou: 0.0, object: 0 }; anchors.len()];
    let mut nearest: Vec<u32> = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let tied = update(&mut best, anchors, tile_boxes, object, index as u32);
        if config.low_quality {
            nearest.extend(tied);
        }
    }
    let mut matches: Vec<Match> = best.iter().map(|best| by_threshold(config, objects, *best)).collect();
    for anchor in nearest {
        matches[anchor as usize] = Match::Object(best[anchor as usize].object);
    }
    matches
}

/// The match of an anchor by the two thresholds, without low-quality matches.
fn by_threshold(config: &MatcherConfig, objects: &[BBox], best: BestObject) -> Match {
    if objects.is_empty() || best.iou < config.negative_iou {
        Match::Background
    } else if best.iou < config.positive_iou {
        Match::Ignore
    } else {
        Match::Object(best.object)
    }
}

/// The object with the highest IoU with an anchor so far.
#[derive(Clone, Copy)]
struct BestObject {
    iou: f32,
    object: u32,
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

#[cfg(test)]
mod tests {
    use super::super::tiles::tile_boxes;
    use super::*;

    const A: BBox = BBox::new(0.0, 0.0, 10.0, 10.0);

    fn wide(x: f32, width: f32) -> BBox {
        BBox::new(x, 0.0, x + width, 10.0)
    }

    fn matched(config: &MatcherConfig, anchors: &[BBox], objects: &[BBox]) -> Vec<Match> {
        assign(config, anchors, &tile_boxes(anchors), objects)
    }

    #[test]
    fn thresholds_are_inclusive_below() {
        // IoU with A: 1, 0.5, 0.45, 0.4, 0.35, 0.
        let anchors = [A, wide(0.0, 5.0), wide(0.0, 4.5), wide(0.0, 4.0), wide(0.0, 3.5), wide(20.0, 10.0)];
        let matches = matched(&MatcherConfig::default(), &anchors, &[A]);
        use Match::{Background, Ignore, Object};
        assert_eq!(matches, vec![Object(0), Object(0), Ignore, Ignore, Background, Background]);
    }

    #[test]
    fn nearest_anchors_get_their_own_best_object() {
        // Anchor 0 has the highest IoU with object 1 (0.1), but its own highest IoU is with object 0 (0.3), so it is
        // matched with object 0. Anchor 1 has the highest IoU with object 0.
        let anchors = [A, wide(0.0, 3.0)];
        let objects = [wide(0.0, 3.0), wide(9.0, 1.0)];
        let matches = matched(&MatcherConfig::default(), &anchors, &objects);
        assert_eq!(matches, vec![Match::Object(0), Match::Object(0)]);
        let strict = MatcherConfig { low_quality: false, ..MatcherConfig::default() };
        assert_eq!(matched(&strict, &anchors, &objects), vec![Match::Background, Match::Object(0)]);
    }

    #[test]
    fn ties_are_all_kept() {
        let anchors = [wide(0.0, 3.0), wide(7.0, 3.0), wide(4.0, 2.0)];
        let matches = matched(&MatcherConfig::default(), &anchors, &[A]);
        assert_eq!(matches, vec![Match::Object(0), Match::Object(0), Match::Background]);
    }

    #[test]
    fn an_object_that_nothing_touches_claims_nothing() {
        for far in [wide(100.0, 10.0), BBox::new(5.0, 5.0, 5.0, 5.0), BBox::new(f32::NAN, 0.0, 1.0, 1.0)] {
            let matches = matched(&MatcherConfig::default(), &[A, wide(20.0, 5.0)], &[far]);
            assert_eq!(matches, vec![Match::Background; 2]);
        }
        assert_eq!(matched(&MatcherConfig::default(), &[A], &[]), vec![Match::Background]);
    }
}
