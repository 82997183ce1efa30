//! Export of COCO annotations to other formats.

mod csv_file;
mod cvat;
mod source;
mod tree;
mod voc;
mod xml;
mod yolo;

use std::path::PathBuf;

use crate::OnError;

pub use csv_file::export_csv;
pub use cvat::export_cvat;
pub use voc::export_voc;
pub use yolo::export_yolo;

/// Options of the exports.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// The folder of the images. It gives the sizes that the annotations lack. The exports that have a folder of images
    /// link them there.
    pub images: Option<PathBuf>,
    /// How images come into a folder that an export writes.
    pub placement: Placement,
    /// Whether records that cannot be written are an error, or left out with a note.
    pub on_error: OnError,
}

/// How images come into a folder that an export writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// As symbolic links to the images. This is the default.
    #[default]
    Link,
    /// As copies.
    Copy,
}

/// The result of an export.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Number of images that were written, those without objects included.
    pub images: usize,
    /// Number of objects that were written.
    pub objects: usize,
    /// Number of classes that were written.
    pub classes: usize,
    /// Number of images that were linked or copied.
    pub placed: usize,
    /// What was left out or decided, one sentence for each kind with its count and the first instance.
    pub notes: Vec<String>,
}
