//! Conversion between the box layout of COCO and that of the rest of the workspace.

use foveal_boxes::BBox;

/// Converts a box from COCO's `[x, y, width, height]` in pixels to its corners. The right and bottom edges are computed
/// in `f64` and then rounded to `f32`.
pub fn xywh_to_bbox(xywh: &[f64; 4]) -> BBox {
    let [x, y, width, height] = *xywh;
    BBox::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32)
}

/// Converts a box from its corners to COCO's `[x, y, width, height]` in pixels. Width and height are computed in `f64`.
pub fn bbox_to_xywh(bbox: &BBox) -> [f64; 4] {
    let [x1, y1, x2, y2] = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(f64::from);
    [x1, y1, x2 - x1, y2 - y1]
}
