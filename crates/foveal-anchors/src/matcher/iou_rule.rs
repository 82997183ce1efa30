//! The rule `matcher.kind = "iou"`: fixed thresholds of the IoU.

use foveal_boxes::{BBox, iou};

use super::tiles::{TILE, Tile, disjoint};
use super::{Match, MatcherConfig};

/// Matches every anchor with an object, with background or with nothing (Lin et al., arXiv 1708.02002, section 4;
/// low-quality matches as in torchvision's and Detectron2's `Matcher`).
///
/// Of two objects with the same IoU, the first is taken. An object that overlaps no anchor gets none; in torchvision,
/// every anchor without overlap would become positive for it. `tiles` are those of the anchors; without objects they
/// are not used.
pub(super) fn assign(config: &MatcherConfig, anchors: &[BBox], tiles: &[Tile], objects: &[BBox]) -> Vec<Match> {
    if objects.is_empty() {
        return vec![Match::Background; anchors.len()];
    }
    let mut search = Search { best: vec![BestObject::NONE; anchors.len()], anchors, tiles };
    let mut nearest: Vec<u32> = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let ties = search.update(object, index as u32, config.negative_iou, config.low_quality);
        nearest.extend(ties);
    }
    let mut best = search.best;
    for &anchor in &nearest {
        // Objects with an IoU below the threshold may have been passed over.
        let place = &mut best[anchor as usize];
        if place.iou < config.negative_iou {
            *place = BestObject::of(&anchors[anchor as usize], objects);
        }
    }
    let mut matches: Vec<Match> = best.iter().map(|best| by_threshold(config, *best)).collect();
    for anchor in nearest {
        matches[anchor as usize] = Match::Object(best[anchor as usize].object);
    }
    matches
}

/// The match of an anchor by the two thresholds, without low-quality matches.
fn by_threshold(config: &MatcherConfig, best: BestObject) -> Match {
    if best.iou < config.negative_iou {
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

impl BestObject {
    const NONE: Self = Self { iou: 0.0, object: 0 };

    /// The object with the highest IoU with an anchor, the first of several.
    fn of(anchor: &BBox, objects: &[BBox]) -> Self {
        let ious = (0..).zip(objects).map(|(index, object)| Self { iou: iou(object, anchor), object: index });
        ious.fold(Self::NONE, |best, found| if found.iou > best.iou { found } else { best })
    }
}

/// The anchors with the highest IoU with one object.
#[derive(Default)]
struct Nearest {
    iou: f32,
    anchors: Vec<u32>,
}

/// The search for the best object of each anchor.
struct Search<'a> {
    best: Vec<BestObject>,
    anchors: &'a [BBox],
    tiles: &'a [Tile],
}

impl Search<'_> {
    /// Updates the best objects of all anchors with one object, except that an IoU below `least` may be left out. If
    /// `nearest`, returns the indices of the anchors with the highest IoU with this object; none if no anchor overlaps
    /// it.
    fn update(&mut self, object: &BBox, index: u32, least: f32, nearest: bool) -> Vec<u32> {
        let mut found = Nearest::default();
        let mut rest = Vec::new();
        for (tile, bounds) in self.tiles.iter().enumerate() {
            if disjoint(&bounds.hull, object) {
                continue;
            }
            match bounds.highest_iou(object) {
                highest if highest < least => rest.push((tile, highest)),
                _ => self.update_tile(tile, object, index, &mut found),
            }
        }
        if !nearest {
            return Vec::new();
        }
        for (tile, highest) in rest {
            if highest >= found.iou {
                self.update_tile(tile, object, index, &mut found);
            }
        }
        found.anchors
    }

    fn update_tile(&mut self, tile: usize, object: &BBox, index: u32, nearest: &mut Nearest) {
        let first = tile * TILE;
        let last = self.anchors.len().min(first + TILE);
        for (i, (best, anchor)) in (first..).zip(self.best[first..last].iter_mut().zip(&self.anchors[first..last])) {
            let iou = iou(object, anchor);
            if iou > best.iou {
                *best = BestObject { iou, object: index };
            }
            if iou > nearest.iou {
                nearest.iou = iou;
                nearest.anchors.clear();
            }
            if iou == nearest.iou && iou > 0.0 {
                nearest.anchors.push(i as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiles::tiles;
    use super::*;

    const A: BBox = BBox::new(0.0, 0.0, 10.0, 10.0);

    fn wide(x: f32, width: f32) -> BBox {
        BBox::new(x, 0.0, x + width, 10.0)
    }

    fn matched(config: &MatcherConfig, anchors: &[BBox], objects: &[BBox]) -> Vec<Match> {
        assign(config, anchors, &tiles(anchors), objects)
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
