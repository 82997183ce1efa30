//! Errors of opening, checking, loading and writing data sets.

use std::path::PathBuf;

use foveal_base::{SettingError, WriteError};
use foveal_coco::CocoError;
use foveal_image::ImageError;

use crate::CheckReport;

/// An error of opening, loading or writing a data set.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A path that the configuration must set is missing.
    #[error("`{key}` is not set: expected {expected}")]
    Missing {
        /// The full configuration key, for example `data.train.images`.
        key: String,
        /// What the key must be set to.
        expected: &'static str,
    },
    /// A value of the configuration is outside its range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The annotation file cannot be read, or it is not a valid COCO file.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// The categories of an annotation file cannot be used, for example because two have the same id.
    #[error("{}: {source}", path.display())]
    Categories {
        /// Path of the annotation file.
        path: PathBuf,
        /// The defect of the categories.
        source: CocoError,
    },
    /// A category of an annotation file has an id or a name that differs from the training set.
    #[error(
        "{}: category {id} is named {found:?}, but {expected}; expected the ids and names of the training set",
        path.display()
    )]
    Labels {
        /// Path of the annotation file.
        path: PathBuf,
        /// The id of the category in the annotation file.
        id: i64,
        /// The name of the category in the annotation file.
        found: String,
        /// What the training set has instead: the name of this id, the id of this name, or neither.
        expected: String,
    },
    /// The name of a category is none of the classes, or almost the name of one. Only with several training sets or
    /// `data.classes`.
    #[error("{}: category {id} is named {name:?}: {reason}", path.display())]
    ClassName {
        /// Path of the annotation file.
        path: PathBuf,
        /// The id of the category in the annotation file.
        id: i64,
        /// The name of the category in the annotation file.
        name: String,
        /// What was expected, with the other annotation files.
        reason: String,
    },
    /// `data.classes` names a class that no training set has.
    #[error("`{key}`: expected the name of a class of the training sets ({files}), found {name:?}{near}")]
    UnknownClass {
        /// The full configuration key, for example `data.classes.keep`.
        key: String,
        /// The unknown name.
        name: String,
        /// The annotation files of the training sets.
        files: String,
        /// The end of the message: the class that is most similar, if one is similar.
        near: String,
    },
    /// `data.classes` drops every class of the training sets.
    #[error("data.classes: expected at least one class of {files} to be kept, found none")]
    NoClasses {
        /// The annotation files.
        files: String,
    },
    /// A folder of background images contains no image.
    #[error("`{key}`: expected a folder with JPEG, PNG, WebP or BMP images, found none in {} and its subfolders", path.display())]
    NoBackgrounds {
        /// The full configuration key, for example `data.backgrounds[0]`.
        key: String,
        /// The path of the folder.
        path: PathBuf,
    },
    /// The checks found images or boxes that cannot be used, and `data.on_error` is `fail`.
    #[error("{0}\nset data.on_error = \"skip\" to leave these images and boxes out")]
    Check(Box<CheckReport>),
    /// No object of the data set can be used, or all boxes look like fractions of the image. `data.on_error` makes no
    /// difference.
    #[error("{0}\nthe data set cannot be used, whatever data.on_error is")]
    Unusable(Box<CheckReport>),
    /// The folder of the images does not exist, or the path is not a folder.
    #[error("`{key}`: expected an existing folder, found {}{}", path.display(), or_near(path))]
    NoFolder {
        /// The full configuration key, for example `data.train.images`.
        key: String,
        /// The path that the key is set to.
        path: PathBuf,
    },
    /// The file of an image cannot be read or decoded.
    #[error("image id {image_id}: {source}")]
    Image {
        /// The COCO id of the image.
        image_id: i64,
        /// The reason, with the path of the file.
        source: ImageError,
    },
    /// The size of an image file has changed since the data set was checked.
    #[error(
        "image id {image_id}: {} has {found} pixels, expected {expected}; the file has changed since the checks",
        path.display()
    )]
    Size {
        /// The COCO id of the image.
        image_id: i64,
        /// Path of the image file.
        path: PathBuf,
        /// The size of the file now, `WIDTHxHEIGHT` in pixels.
        found: String,
        /// The size when the data set was checked, `WIDTHxHEIGHT` in pixels.
        expected: String,
    },
    /// An image cannot be loaded, because the data set was opened from its annotations alone
    /// ([`DataConfig::open_annotations`](crate::DataConfig::open_annotations)).
    #[error("image id {image_id}: the data set was opened from its annotations alone, expected a folder of images")]
    NoImages {
        /// The COCO id of the image.
        image_id: i64,
    },
    /// The annotation file does not give the size of an image, and the image files are not read.
    #[error(
        "{}: image {image_id} has no width or height; expected both, because the image files are not read here",
        path.display()
    )]
    NoImageSize {
        /// Path of the annotation file.
        path: PathBuf,
        /// The COCO id of the image.
        image_id: i64,
    },
    /// A loading thread panicked. This is a defect of the program, not of the data. The field is the message of the
    /// panic.
    #[error("a loading thread panicked, which is a defect of foveal: {0}")]
    Worker(String),
    /// A file or folder cannot be read or created.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The reason that the operating system gives.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An image cannot be encoded.
    #[error("cannot encode {}: {reason}", path.display())]
    Encode {
        /// The file that the image was to be written to.
        path: PathBuf,
        /// The reason that the encoder gives.
        reason: String,
    },
}

/// The end of a message about a path that does not exist: a path that may have been meant.
fn or_near(path: &std::path::Path) -> String {
    foveal_base::names::hint(path).map_or_else(String::new, |hint| format!("; {hint}"))
}
