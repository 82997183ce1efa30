//! The result of an import.

use std::path::PathBuf;

use foveal_coco::CocoDataset;

/// The result of an import: a data set in COCO format.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The data set. [`CocoDataset::write`] writes it to a file.
    pub dataset: CocoDataset,
    /// What was left out or decided, one sentence for each kind with its count and the first instance.
    pub notes: Vec<String>,
    /// The folder that the file names of the images are relative to, if it is known. It is the value of
    /// `data.train.images` or `data.val.images` in a configuration.
    pub images: Option<PathBuf>,
}
