//! Groups of consecutive anchors that are skipped together where none of them can overlap a box.

use foveal_boxes::BBox;

/// Number of consecutive anchors of a tile.
pub(crate) const TILE: usize = 64;

/// The smallest box around each [`TILE`] consecutive anchors.
pub(crate) fn tile_boxes(anchors: &[BBox]) -> Vec<BBox> {
    anchors.chunks(TILE).map(enclosing_box).collect()
}

/// The smallest box that contains all boxes.
fn enclosing_box(boxes: &[BBox]) -> BBox {
    let first = BBox::new(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
    boxes.iter().fold(first, |h, b| BBox::new(h.x1.min(b.x1), h.y1.min(b.y1), h.x2.max(b.x2), h.y2.max(b.y2)))
}

/// Whether the intersection of two boxes has no area.
pub(crate) fn disjoint(a: &BBox, b: &BBox) -> bool {
    a.x2 <= b.x1 || a.x1 >= b.x2 || a.y2 <= b.y1 || a.y1 >= b.y2
}
