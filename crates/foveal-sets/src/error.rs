//! The errors of changes of data sets.

use std::path::PathBuf;

use foveal_base::WriteError;
use foveal_coco::{CocoError, Place};
use foveal_image::ImageError;

/// An error of reading, changing or writing a data set.
#[derive(Debug, thiserror::Error)]
pub enum SetsError {
    /// An annotation file cannot be read or written, or it is not a COCO file.
    #[error(transparent)]
    Coco(#[from] CocoError),
    /// An image cannot be read or decoded.
    #[error("image {image_id}: {source}{hint}")]
    Image {
        /// The COCO id of the image.
        image_id: i64,
        /// The reason, with the path of the file.
        source: ImageError,
        /// What exists in place of a missing file, with `; ` before it, or nothing.
        hint: String,
    },
    /// An image or annotation file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A folder cannot be created, or a list cannot be read.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was to be done, such as `create the folder`.
        what: &'static str,
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Records of an annotation file have no meaning, or their ids are ambiguous or unknown.
    #[error("{}, {place}: {message}{}; {}", path.display(), more(*count), LEAVE_OUT)]
    Record {
        /// Path of the annotation file.
        path: PathBuf,
        /// Place of the first such record.
        place: Place,
        /// The defect of the first such record.
        message: String,
        /// Number of such records.
        count: usize,
    },
    /// A value of an option cannot be used.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// The option, as the command line names it, such as `--parts`.
        option: &'static str,
        /// Description of the possible values.
        expected: String,
        /// The value that was found.
        found: String,
    },
    /// No class of a data set has this name.
    #[error("{}: expected the name of a class, found {name:?}{}; the classes are {known}", path.display(), nearest(near))]
    UnknownClass {
        /// Path of the annotation file.
        path: PathBuf,
        /// The name that no class has.
        name: String,
        /// The class with the most similar name.
        near: Option<String>,
        /// The names of the classes, or the first of them.
        known: String,
    },
    /// Classes cannot be changed as asked.
    #[error("{}: {message}", path.display())]
    Change {
        /// Path of the annotation file, or of the file that lists the changes.
        path: PathBuf,
        /// Which change it is, what was expected, and what was found.
        message: String,
    },
    /// No image belongs to a group.
    #[error("{}: {option} {rule:?} gives none of the {images} images a group: {found}", path.display())]
    NoGroups {
        /// Path of the annotation file.
        path: PathBuf,
        /// The option that forms the groups.
        option: &'static str,
        /// The pattern or key.
        rule: String,
        /// Number of images.
        images: usize,
        /// What the first image has instead.
        found: String,
    },
    /// There are fewer groups of images than parts.
    #[error("{}: expected at least {parts} groups of images, one for each part, found {groups}", path.display())]
    FewGroups {
        /// Path of the annotation file.
        path: PathBuf,
        /// Number of parts.
        parts: usize,
        /// Number of groups.
        groups: usize,
    },
    /// Several files have an image with the same name.
    #[error(
        "{} and {} both contain the image {name:?}{}; expected each image in one file. If they are one image, keep the \
         objects of the first file (--same-image first) or of all (--same-image both-objects); if they are different \
         images, name their folders with --images, or a prefix for each file with --prefix",
        first.display(), second.display(), more_images(*count)
    )]
    SameImage {
        /// The file that contains the image first.
        first: PathBuf,
        /// A later file that contains it too.
        second: PathBuf,
        /// The file name of the image.
        name: String,
        /// Number of such images.
        count: usize,
    },
    /// An image has different sizes in two files, so that their boxes cannot be joined.
    #[error(
        "the image {name:?} has {}x{} pixels in {} and {}x{} in {}; expected one size to join the objects of both",
        sizes[0].0, sizes[0].1, first.display(), sizes[1].0, sizes[1].1, second.display()
    )]
    Sizes {
        /// The file that contains the image first.
        first: PathBuf,
        /// A later file that contains it too.
        second: PathBuf,
        /// The file name of the image.
        name: String,
        /// Width and height in both files.
        sizes: [(u32, u32); 2],
    },
    /// The size of an image file is not that of its record.
    #[error(
        "image {image_id}: {} has {}x{} pixels, but the annotation file says {}x{}; expected boxes of this image",
        path.display(), found.0, found.1, expected.0, expected.1
    )]
    Size {
        /// The COCO id of the image.
        image_id: i64,
        /// The path of the image file.
        path: PathBuf,
        /// Width and height in the annotation file.
        expected: (u32, u32),
        /// Width and height of the file, with its EXIF orientation applied.
        found: (u32, u32),
    },
    /// The file name of an image leads out of the folder that the tiles are written to.
    #[error("image {image_id}: expected a file name inside the folder of the images, found {name:?}")]
    Name {
        /// The COCO id of the image.
        image_id: i64,
        /// The file name of the image.
        name: String,
    },
    /// No image, or no object, is left.
    #[error("{}: nothing is left: {message}", path.display())]
    Nothing {
        /// Path of the annotation file.
        path: PathBuf,
        /// What there was and what was asked for.
        message: String,
    },
}

const LEAVE_OUT: &str = "correct the file, or leave such records out with --on-error skip";

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " (and one more record)".to_owned(),
        _ => format!(" (and {} more records)", count - 1),
    }
}

fn more_images(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " (and one more image)".to_owned(),
        _ => format!(" (and {} more images)", count - 1),
    }
}

fn nearest(near: &Option<String>) -> String {
    near.as_ref().map_or_else(String::new, |near| format!(" (did you mean {near:?}?)"))
}
