//! The rule `matcher.kind = "atss"`: adaptive training sample selection.

use foveal_boxes::{BBox, iou};

use super::Match;
use super::nearest::NearestLocations;
use crate::Anchors;

/// Distance in pixels from the edges of an object that the centre of a positive anchor must exceed, as in the authors'
/// code (`min(l, t, r, b) > 0.01` in github.com/sfzhang15/ATSS) and in MMDetection.
const INSIDE: f32 = 0.01;

/// An anchor near the centre of an object.
struct Candidate {
    anchor: usize,
    iou: f32,
    /// Whether the centre of the anchor lies inside the object.
    inside: bool,
}

/// An anchor that is positive for an object.
struct Claim {
    anchor: usize,
    object: u32,
    iou: f32,
}

/// Matches every anchor with an object or with background (Zhang et al., arXiv 1912.02424, algorithm 1).
///
/// The candidates of an object are, of each pyramid level, the `candidates` anchors with the centres nearest to its own
/// centre by L2 distance, or all anchors of a level that has fewer. Of anchors at the same distance, those with the
/// lower index are taken. The number counts anchors, as in the paper and in MMDetection; the authors' code multiplies
/// it by the number of anchors per location. A candidate is positive if its IoU with the object is at least the mean
/// plus the standard deviation of the IoUs of all candidates, and its centre lies inside the object. An anchor that is
/// positive for several objects is matched with that of the highest IoU, and with the first of several such objects.
///
/// An object gets no anchor if no candidate with its centre inside reaches the threshold, or if other objects take all
/// its positives. Degenerate objects get none.
pub(super) fn assign(candidates: usize, anchors: &Anchors, objects: &[BBox]) -> Vec<Match> {
    let (mut nearest, mut pool) = (NearestLocations::default(), Vec::new());
    let mut claims: Vec<Claim> = Vec::new();
    for (index, object) in objects.iter().enumerate().filter(|(_, object)| !object.is_degenerate()) {
        gather(&mut pool, &mut nearest, candidates, anchors, object);
        let threshold = threshold(&pool);
        let positive = |c: &&Candidate| c.inside && c.iou > 0.0 && f64::from(c.iou) >= threshold;
        let claim = |c: &Candidate| Claim { anchor: c.anchor, object: index as u32, iou: c.iou };
        claims.extend(pool.iter().filter(positive).map(claim));
    }
    // The claims on an anchor lie side by side, that of the highest IoU first.
    claims.sort_unstable_by(|a, b| a.anchor.cmp(&b.anchor).then(b.iou.total_cmp(&a.iou)).then(a.object.cmp(&b.object)));
    claims.dedup_by_key(|claim| claim.anchor);
    let mut matches = vec![Match::Background; anchors.boxes.len()];
    for Claim { anchor, object, .. } in claims {
        matches[anchor] = Match::Object(object);
    }
    matches
}

/// Replaces `pool` by the candidates of an object.
fn gather(
    pool: &mut Vec<Candidate>,
    nearest: &mut NearestLocations,
    candidates: usize,
    anchors: &Anchors,
    object: &BBox,
) {
    pool.clear();
    let middle = |low: f32, high: f32| f64::midpoint(f64::from(low), f64::from(high));
    let centre = [middle(object.x1, object.x2), middle(object.y1, object.y2)];
    let per_location = anchors.anchors_per_location;
    for (grid, first) in anchors.grids.iter().zip(&anchors.level_offsets) {
        // The anchors of a location have the same centre. Only some of those of the last location may be candidates.
        let mut left = candidates;
        for location in nearest.of(grid, centre, candidates.div_ceil(per_location)) {
            let [x, y] = grid.center(location.row, location.column);
            let inside = (x - object.x1).min(y - object.y1).min(object.x2 - x).min(object.y2 - y) > INSIDE;
            let at = first + (location.row * grid.size.width + location.column) * per_location;
            let taken = left.min(per_location);
            left -= taken;
            let candidate = |anchor: usize| Candidate { anchor, iou: iou(object, &anchors.boxes[anchor]), inside };
            pool.extend((at..at + taken).map(candidate));
        }
    }
}

/// The mean of the IoUs of the candidates plus their standard deviation with Bessel's correction, as `torch.std`
/// computes it. The deviation of a single candidate, which torch leaves undefined, is 0.
fn threshold(pool: &[Candidate]) -> f64 {
    let count = pool.len() as f64;
    let mean = pool.iter().map(|c| f64::from(c.iou)).sum::<f64>() / count;
    let squares: f64 = pool.iter().map(|c| (f64::from(c.iou) - mean).powi(2)).sum();
    mean + (squares / (count - 1.0).max(1.0)).sqrt()
}
