//! Groups of consecutive anchors that are skipped together where none of them can overlap a box.

use foveal_boxes::BBox;

/// Number of consecutive anchors of a tile.
pub(crate) const TILE: usize = 64;

/// What is known of the anchors of a tile without looking at each of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// The smallest box that contains all anchors.
    pub hull: BBox,
    /// Smallest area of an anchor in pixels.
    smallest: f32,
    /// Largest area of an anchor in pixels.
    largest: f32,
}

impl Tile {
    fn of(anchors: &[BBox]) -> Self {
        let hull = BBox::new(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
        anchors.iter().fold(
            Self { hull, smallest: f32::INFINITY, largest: 0.0 },
            |Self { hull: h, smallest, largest }, b| {
                let hull = BBox::new(h.x1.min(b.x1), h.y1.min(b.y1), h.x2.max(b.x2), h.y2.max(b.y2));
                Self { hull, smallest: smallest.min(b.area()), largest: largest.max(b.area()) }
            },
        )
    }

    /// An IoU that no anchor of the tile exceeds with this object.
    pub(crate) fn highest_iou(&self, object: &BBox) -> f32 {
        /// Covers the rounding of the IoU of an anchor.
        const MARGIN: f32 = 1.0 + 1e-5;
        // The intersection of an anchor is at most the smaller of its area and `shared`. With the same intersection,
        // the IoU falls with the area of the anchor; with an anchor inside of the object, it grows with it. The best
        // area is therefore the one nearest to `shared`.
        let (area, shared) = (object.area(), self.hull.intersection(object));
        let anchor = shared.max(self.smallest).min(self.largest);
        let intersection = shared.min(anchor);
        intersection / (area + anchor - intersection) * MARGIN
    }
}

/// The tiles of these anchors: one for each [`TILE`] consecutive ones.
pub(crate) fn tiles(anchors: &[BBox]) -> Vec<Tile> {
    anchors.chunks(TILE).map(Tile::of).collect()
}

/// Whether the intersection of two boxes has no area.
pub(crate) fn disjoint(a: &BBox, b: &BBox) -> bool {
    a.x2 <= b.x1 || a.x1 >= b.x2 || a.y2 <= b.y1 || a.y1 >= b.y2
}
