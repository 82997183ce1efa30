//! What can go wrong with a COCO file.

use std::path::PathBuf;

use foveal_base::WriteError;

/// A COCO or results file that cannot be used, or written.
#[derive(Debug, thiserror::Error)]
pub enum CocoError {
    /// The file cannot be opened, read or unpacked.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The text is no JSON, or a record in it is not what COCO defines.
    #[error("{path}, line {line}, column {column}: {message}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the defect, or of the end of the record that has it; from 1.
        line: usize,
        /// Column in that line, from 1.
        column: usize,
        /// The record, the field, what was expected and what was found.
        message: String,
    },
    /// One of the three lists that a COCO file consists of is absent or null.
    #[error("{path} has no `{section}`: a COCO file holds the lists `images`, `annotations` and `categories`")]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// The absent list.
        section: &'static str,
    },
    /// Two categories share an id.
    #[error("category id {id} is used twice: by {first:?} and {second:?}")]
    DuplicateCategory {
        /// The id.
        id: i64,
        /// Name of the first.
        first: String,
        /// Name of the second.
        second: String,
    },
    /// Two categories share a name, so that a table or a label file could not tell them apart.
    #[error("category name {name:?} is used twice: by the ids {first} and {second}")]
    DuplicateName {
        /// The name.
        name: String,
        /// Id of the first.
        first: i64,
        /// Id of the second.
        second: i64,
    },
    /// There is no category at all.
    #[error("the list of categories is empty, expected at least one")]
    NoCategories,
    /// A number that JSON cannot hold.
    #[error("cannot write {path}: detection {index} (image {image_id}) has a box or score that is not finite")]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
        /// Position in the list.
        index: usize,
        /// Its image.
        image_id: i64,
    },
}
