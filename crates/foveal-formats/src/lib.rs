//! Annotations in other formats than COCO's, read and written: Pascal VOC, YOLO, CVAT, LabelMe, CSV, Open Images, and
//! COCO files of other programs.
//!
//! ```text
//! convert_voc, convert_yolo, convert_cvat, ... -> Converted { dataset, notes, images }
//! export_yolo, export_voc, export_cvat, export_csv -> Exported { images, objects, classes, notes }
//! ```
//!
//! Nothing is dropped in silence: what cannot be converted is an error that lists it, or a note that counts it
//! ([`OnError`]), and what the other format has no field for is counted in a note. Boxes keep the numbers of their file
//! in `f64`; between the formats they are corners in pixels.

mod coco;
mod converted;
mod corners;
mod cvat;
mod defect;
mod draft;
mod error;
mod export;
mod images;
mod labelme;
mod lines;
mod notes;
mod table;
mod tally;
mod voc;
mod yolo;

pub use coco::{CocoOptions, convert_coco};
pub use converted::Converted;
pub use cvat::{CvatOptions, convert_cvat};
pub use error::{FormatError, OnError};
pub use export::{ExportOptions, Exported, Placement, export_csv, export_cvat, export_voc, export_yolo};
pub use labelme::{LabelmeOptions, convert_labelme};
pub use table::csv_file::{CsvOptions, convert_csv};
pub use table::open_images::{OpenImagesOptions, convert_open_images};
pub use voc::{Difficult, VocOptions, convert_voc};
pub use yolo::{YoloOptions, convert_yolo};
