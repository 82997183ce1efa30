//! Reading and writing of COCO JSON: annotation files ([`CocoDataset`]), results files ([`read_results`],
//! [`write_results`]), and the map between category ids and classes ([`LabelMap`]).
//!
//! The types keep the numbers of the file: ids are `i64`, boxes are `[x, y, width, height]` in `f64`. This is the only
//! crate that uses that layout. Everywhere else, boxes are absolute corners ([`foveal_boxes::BBox`]);
//! [`xywh_to_bbox`] and [`bbox_to_xywh`] convert between the two.
//!
//! The reader accepts the differences between tools (missing optional fields, nulls, integral floats as ids, crowd
//! flags of several types, gzip, a byte order mark, Python's `NaN`) and refuses values without a meaning. Defects of
//! single records, which a training run can skip, are reported by [`CocoDataset::findings`].

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
