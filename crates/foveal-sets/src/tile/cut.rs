//! What is left of an object on a tile.

use foveal_coco::Annotation;

use super::grid::Window;
use super::{CutRule, TileOptions};

/// What is left of an object on a tile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    /// `[x, y, width, height]` in pixels of the tile.
    pub bbox: [f64; 4],
    /// Share of the area of the object that is left, above 0 and at most 1.
    pub share: f64,
    /// Whether it is a crowd region of the tile.
    pub iscrowd: bool,
}

/// Cuts an object of an image of this width and height at the edges of a tile. Returns `None` if nothing is left, or if
/// too little is left and the rule drops it.
pub(super) fn cut(record: &Annotation, size: (u32, u32), window: &Window, options: &TileOptions) -> Option<Cut> {
    let [x, y, width, height] = record.bbox;
    let corners = [x, y, x + width, y + height];
    let image = Window { x: 0, y: 0, width: size.0, height: size.1 };
    let whole = area(&within(corners, &image));
    let left = within(corners, window);
    // A box that is not finite or empty has no area.
    if !(whole > 0.0 && area(&left) > 0.0) {
        return None;
    }
    let share = (area(&left) / whole).min(1.0);
    let is_enough = share >= options.min_area;
    if !is_enough && !record.iscrowd && options.cut == CutRule::Drop {
        return None;
    }
    let (x, y) = (f64::from(window.x), f64::from(window.y));
    let bbox = [left[0] - x, left[1] - y, left[2] - left[0], left[3] - left[1]];
    Some(Cut { bbox, share, iscrowd: record.iscrowd || !is_enough })
}

/// The part of a box, given by its corners, that lies in a window.
fn within([x1, y1, x2, y2]: [f64; 4], window: &Window) -> [f64; 4] {
    let (left, top) = (f64::from(window.x), f64::from(window.y));
    let (right, bottom) = (left + f64::from(window.width), top + f64::from(window.height));
    [x1.max(left), y1.max(top), x2.min(right), y2.min(bottom)]
}

/// The area of a box, given by its corners: 0 if it has none, NaN if a corner is NaN.
fn area([x1, y1, x2, y2]: &[f64; 4]) -> f64 {
    if x2 <= x1 || y2 <= y1 { 0.0 } else { (x2 - x1) * (y2 - y1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TileFormat;
    use foveal_image::ImageLimit;

    fn options(min_area: f64, cut: CutRule) -> TileOptions {
        let (size, overlap, empty, quality, seed) = (10, 0.0, 1.0, 90, 0);
        let (format, limit) = (TileFormat::Same, ImageLimit::default());
        TileOptions { size, overlap, min_area, cut, empty, format, quality, limit, seed }
    }

    fn object(bbox: [f64; 4], iscrowd: bool) -> Annotation {
        Annotation { bbox, iscrowd, ..Annotation::default() }
    }

    #[test]
    fn boxes_are_cut_and_kept_from_a_share_on() {
        let window = Window { x: 10, y: 0, width: 10, height: 10 };
        // 6 of 10 columns are on the tile.
        let record = object([6.0, 2.0, 10.0, 4.0], false);
        let at = |min_area, rule| cut(&record, (40, 10), &window, &options(min_area, rule));
        let kept = at(0.6, CutRule::Drop).unwrap();
        assert_eq!((kept.bbox, kept.share, kept.iscrowd), ([0.0, 2.0, 6.0, 4.0], 0.6, false));
        assert!(at(0.61, CutRule::Crowd).unwrap().iscrowd);
        assert_eq!(at(0.61, CutRule::Drop), None);
        // Columns outside the image do not count.
        let outside = object([-10.0, 0.0, 30.0, 10.0], false);
        assert_eq!(cut(&outside, (20, 10), &window, &options(0.5, CutRule::Drop)).unwrap().share, 0.5);
    }

    #[test]
    fn crowd_regions_stay_and_boxes_without_area_do_not() {
        let window = Window { x: 0, y: 0, width: 10, height: 10 };
        let at = |bbox, iscrowd| cut(&object(bbox, iscrowd), (40, 10), &window, &options(0.9, CutRule::Drop));
        assert!(at([9.0, 0.0, 30.0, 10.0], true).unwrap().iscrowd);
        for bbox in
            [[12.0, 0.0, 5.0, 5.0], [10.0, 0.0, 5.0, 5.0], [0.0, 0.0, 0.0, 5.0], [f64::NAN; 4], [5.0, 5.0, -2.0, 2.0]]
        {
            assert_eq!(at(bbox, false), None, "{bbox:?}");
        }
    }
}
