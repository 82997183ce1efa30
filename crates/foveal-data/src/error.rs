//! What can go wrong between a config and a batch.

use std::path::PathBuf;

use foveal_coco::CocoError;
use foveal_image::ImageError;

use crate::CheckReport;

/// A data set that cannot be opened or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A path that the config must give.
    #[error("`{key}` is not set: {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A setting outside its range.
    #[error("`{key}` is {found}, expected {expected}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What makes sense.
        expected: &'static str,
    },
    /// Preprocessing settings that make no sense.
    #[error("data: {0}")]
    Preprocess(ImageError),
    /// The annotation file.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// The categories of an annotation file.
    #[error("{}: {source}", path.display())]
    Categories {
        /// The annotation file.
        path: PathBuf,
        /// What is wrong with them.
        source: CocoError,
    },
    /// A category that the training set does not know, or knows by another name.
    #[error("{}: category {id} is {found:?}, but {expected}", path.display())]
    Labels {
        /// The annotation file.
        path: PathBuf,
        /// The category.
        id: i64,
        /// Its name there.
        found: String,
        /// What the training set or the model says.
        expected: String,
    },
    /// `on_error = "fail"` and the checks found something.
    #[error("{0}\nset data.on_error = \"skip\" to leave these out")]
    Check(Box<CheckReport>),
    /// An image folder that is not there.
    #[error("{} is no folder (`{key}`)", path.display())]
    NoFolder {
        /// The key.
        key: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// An image that failed while a batch was made.
    #[error("image id {image_id}: {source}")]
    Image {
        /// Its id.
        image_id: i64,
        /// Why.
        source: ImageError,
    },
    /// An image whose size changed since the checks.
    #[error("image id {image_id}: {} is {found}, expected {expected}", path.display())]
    Size {
        /// Its id.
        image_id: i64,
        /// Its file.
        path: PathBuf,
        /// `width x height`.
        found: String,
        /// `width x height`.
        expected: String,
    },
    /// A defect of the program, not of the data.
    #[error("a loading thread panicked: {0}")]
    Worker(String),
    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image that cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    WriteImage {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An annotation file of another format that cannot be converted.
    #[error("{}: {reason}", path.display())]
    Convert {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
}
