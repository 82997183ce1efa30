//! Anchors in crowd regions, which are ignored instead of being trained as background.

use foveal_boxes::BBox;

use super::Match;
use super::tiles::{TILE, Tile, disjoint};

/// Fraction of the area of an anchor in a crowd region from which the anchor is ignored.
const CROWD_SHARE: f32 = 0.5;

/// Ignores the background anchors of which at least half lies within a crowd region. `tiles` are those of the
/// anchors; without crowd regions they are not used.
pub(super) fn ignore_within(matches: &mut [Match], anchors: &[BBox], tiles: &[Tile], crowds: &[BBox]) {
    for crowd in crowds {
        for ((matches, anchors), tile) in matches.chunks_mut(TILE).zip(anchors.chunks(TILE)).zip(tiles) {
            if disjoint(&tile.hull, crowd) {
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
