//! Boxes and the operations of detectors on them: overlap measures, the coding of a box relative to an anchor, and
//! non-maximum suppression. All values are `f32` on the host. A box is `x1, y1, x2, y2` in absolute pixels.
//!
//! ```
//! use foveal_boxes::{BBox, decode, encode, iou};
//! let anchor = BBox::new(0.0, 0.0, 32.0, 32.0);
//! let object = BBox::new(4.0, 8.0, 36.0, 40.0);
//! let back = decode(&anchor, encode(&anchor, &object));
//! assert!(iou(&object, &back) > 0.9999);
//! ```

mod bbox;
mod delta;
mod nms;
mod overlap;

pub use bbox::BBox;
pub use delta::{Delta, MAX_LOG_RATIO, decode, encode};
pub use nms::{class_nms, nms};
pub use overlap::{ciou, diou, giou, iou, iou_matrix};
