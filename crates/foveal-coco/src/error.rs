//! The errors of reading and writing COCO files.

use std::path::PathBuf;

use foveal_base::WriteError;

/// The error of a COCO annotation or results file that cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
pub enum CocoError {
    /// The path is not a regular file, or the file cannot be opened, read, or unpacked with gzip.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Path of the file that cannot be read.
        path: PathBuf,
        /// Error of the operating system, of the gzip decoder or of the text encoding.
        source: std::io::Error,
    },
    /// The file cannot be written; see [`WriteError`].
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The text is not JSON, or a record does not follow the COCO format.
    #[error("{path}, line {line}, column {column}: {message}")]
    Json {
        /// Path of the file with the defect.
        path: PathBuf,
        /// Line of the defect, or of the end of the record that contains it, counted from 1.
        line: usize,
        /// Column of the defect in its line, counted from 1.
        column: usize,
        /// Description of the defect: the record, the field, the expected and the found value.
        message: String,
    },
    /// A list of a COCO annotation file that is needed (`images`, `annotations`, `categories`) is absent or null.
    #[error("{path} has no `{section}`: {expected}")]
    MissingSection {
        /// Path of the annotation file that lacks the list.
        path: PathBuf,
        /// Key of the absent list: `images`, `annotations` or `categories`.
        section: &'static str,
        /// What the file must contain.
        expected: &'static str,
    },
    /// Two categories share an id, so that the class of an annotation would be ambiguous.
    #[error("category id {id} is used twice: by {first:?} and {second:?}")]
    DuplicateCategory {
        /// The category id that occurs twice.
        id: i64,
        /// Name of the first category with the id.
        first: String,
        /// Name of the second category with the id.
        second: String,
    },
    /// Two categories share a name, so that tables and label files could not distinguish them.
    #[error("category name {name:?} is used twice: by the category ids {first} and {second}")]
    DuplicateName {
        /// The category name that occurs twice.
        name: String,
        /// Id of the first category with the name.
        first: i64,
        /// Id of the second category with the name.
        second: i64,
    },
    /// The list of categories is empty, so that there is no class to detect.
    #[error("the list of categories is empty, expected at least one category")]
    NoCategories,
    /// A detection has a NaN or infinite value, which JSON cannot represent.
    #[error("cannot write {path}: detection {index} (image {image_id}) has a box or score that is not finite")]
    NotFinite {
        /// Path of the results file that was to be written.
        path: PathBuf,
        /// Index of the detection in the list, counted from 0.
        index: usize,
        /// Id of the image of the detection.
        image_id: i64,
    },
}
