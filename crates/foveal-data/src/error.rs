//! What can go wrong between a config and a batch.

use std::path::PathBuf;

use foveal_base::{SettingError, WriteError};
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
    #[error(transparent)]
    Setting(#[from] SettingError),
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
    /// An image of a set that was opened by its annotations alone.
    #[error("image id {image_id}: the set was opened by its annotations alone, expected a folder of images")]
    NoImages {
        /// Its id.
        image_id: i64,
    },
    /// An image whose size nothing tells.
    #[error(
        "{}: image {image_id} has no width or height, expected both, since no image is read to measure them",
        path.display()
    )]
    NoImageSize {
        /// The annotation file.
        path: PathBuf,
        /// Its id.
        image_id: i64,
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
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An image that cannot be encoded.
    #[error("cannot encode {}: {reason}", path.display())]
    Encode {
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
