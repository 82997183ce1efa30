//! Reading and writing of COCO JSON: annotation files ([`CocoDataset`]), results files ([`read_results`],
//! [`write_results`]), and the map between category ids and classes ([`LabelMap`]).
//!
//! The types keep the numbers of the file: ids are `i64`, boxes are `[x, y, width, height]` in `f64`. This is the only
//! crate that uses that layout. Everywhere else, boxes are absolute corners ([`foveal_boxes::BBox`]);
//! [`xywh_to_bbox`] and [`bbox_to_xywh`] convert between the two.
//!
//! The reader accepts the differences between tools (missing optional fields, nulls, integral floats as ids, crowd
//! flags of several types, gzip, UTF-16, a byte order mark, Python's `NaN`). A record is read as the text goes by, and
//! one that has no meaning does not prevent the use of the others: [`CocoFile`] lists it as a [`BadRecord`] with its
//! place. Defects of records that can be read, which a training run can skip, are its findings. [`Classes`] decides
//! which categories are classes. [`CocoFile::read_whole`] also keeps what the records have no fields for, for commands
//! that write files again ([`WholeDataset`]).

mod classes;
mod coco_file;
mod dataset;
mod error;
mod finding;
mod json;
mod label_map;
mod meaning;
mod members;
mod names;
mod raw;
mod record;
mod results;
mod scalar;
mod source;
mod whole;
mod xywh;

pub use classes::{Classes, DroppedCategory};
pub use coco_file::{BadRecords, CocoFile};
pub use dataset::CocoDataset;
pub use error::CocoError;
pub use finding::Finding;
pub use json::{List, Place};
pub use label_map::{CategoryInfo, LabelMap};
pub use meaning::BadRecord;
pub use members::Members;
pub use names::coco_names;
pub use record::{Annotation, Category, CocoDetection, Image};
pub use results::{read_results, results_from_bytes, write_results};
pub use whole::{Whole, WholeDataset};
pub use xywh::{bbox_to_xywh, xywh_to_bbox};
