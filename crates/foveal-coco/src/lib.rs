//! COCO JSON as others write it, and back.
//!
//! The schema keeps the file's own numbers: ids as `i64`, boxes as `f64`
//! `[x, y, width, height]`. This is the only crate that knows that layout;
//! everywhere else boxes are absolute corners ([`foveal_boxes::BBox`]), and
//! [`xywh_to_bbox`] / [`bbox_to_xywh`] stand between the two.
//!
//! Reading is tolerant of what tools differ in (missing optional fields, nulls,
//! integral floats as ids, crowd flags of any kind, gzip, a byte order mark,
//! Python's `NaN`) and strict about what has no meaning; defects that a
//! training run can step over are reported by [`CocoDataset::findings`].

mod dataset;
mod error;
mod file;
mod finding;
mod label_map;
mod names;
mod record;
mod results;
mod scalar;
mod xywh;

pub use dataset::CocoDataset;
pub use error::CocoError;
pub use finding::Finding;
pub use label_map::{CategoryInfo, LabelMap};
pub use names::coco_names;
pub use record::{Annotation, Category, CocoDetection, Image};
pub use results::{read_results, write_results};
pub use xywh::{bbox_to_xywh, xywh_to_bbox};
