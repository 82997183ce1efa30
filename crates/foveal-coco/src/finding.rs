//! Defects of a set's content that a run can step over.

use std::fmt;

/// A record that cannot be used as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// Two categories share this id.
    DuplicateCategory {
        /// The id.
        category_id: i64,
    },
    /// Two images share this id, so that annotations cannot tell which is meant.
    DuplicateImage {
        /// The id.
        image_id: i64,
    },
    /// The image has no file name.
    NoFileName {
        /// The image.
        image_id: i64,
    },
    /// The image's width or height is absent or 0.
    NoSize {
        /// The image.
        image_id: i64,
    },
    /// Two annotations share this id.
    DuplicateAnnotation {
        /// The id.
        annotation_id: i64,
        /// The image of the later one.
        image_id: i64,
    },
    /// The annotation is on an image that is not in the file.
    UnknownImage {
        /// The annotation.
        annotation_id: i64,
        /// The image it names.
        image_id: i64,
    },
    /// The annotation is of a category that is not in the file.
    UnknownCategory {
        /// The annotation.
        annotation_id: i64,
        /// Its image.
        image_id: i64,
        /// The category it names.
        category_id: i64,
    },
    /// The annotation has no box, or a coordinate is NaN or infinite.
    NotFinite {
        /// The annotation.
        annotation_id: i64,
        /// Its image.
        image_id: i64,
    },
    /// The box's width or height is zero or negative.
    EmptyBox {
        /// The annotation.
        annotation_id: i64,
        /// Its image.
        image_id: i64,
        /// x, y, width, height as in the file.
        bbox: [f64; 4],
    },
}

impl Finding {
    /// The image concerned, where it is one (it need not be in the file).
    pub fn image_id(&self) -> Option<i64> {
        match *self {
            Finding::DuplicateCategory { .. } => None,
            Finding::DuplicateImage { image_id }
            | Finding::NoFileName { image_id }
            | Finding::NoSize { image_id }
            | Finding::DuplicateAnnotation { image_id, .. }
            | Finding::UnknownImage { image_id, .. }
            | Finding::UnknownCategory { image_id, .. }
            | Finding::NotFinite { image_id, .. }
            | Finding::EmptyBox { image_id, .. } => Some(image_id),
        }
    }

    /// The annotation concerned, where it is one.
    pub fn annotation_id(&self) -> Option<i64> {
        match *self {
            Finding::DuplicateAnnotation { annotation_id, .. }
            | Finding::UnknownImage { annotation_id, .. }
            | Finding::UnknownCategory { annotation_id, .. }
            | Finding::NotFinite { annotation_id, .. }
            | Finding::EmptyBox { annotation_id, .. } => Some(annotation_id),
            _ => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Finding::DuplicateCategory { category_id } => {
                write!(f, "category id {category_id} is used more than once")
            }
            Finding::DuplicateImage { image_id } => {
                write!(f, "image id {image_id} is used more than once")
            }
            Finding::NoFileName { image_id } => write!(f, "image {image_id} has no file name"),
            Finding::NoSize { image_id } => write!(f, "image {image_id} has no width or height"),
            Finding::DuplicateAnnotation { annotation_id, image_id } => {
                write!(f, "annotation id {annotation_id} is used more than once (image {image_id})")
            }
            Finding::UnknownImage { annotation_id, image_id } => {
                write!(f, "annotation {annotation_id} is on image {image_id}, which is not in the file")
            }
            Finding::UnknownCategory { annotation_id, image_id, category_id } => write!(
                f,
                "annotation {annotation_id} (image {image_id}) is of category {category_id}, which is not in the file"
            ),
            Finding::NotFinite { annotation_id, image_id } => {
                write!(f, "annotation {annotation_id} (image {image_id}) has no box of four finite numbers")
            }
            Finding::EmptyBox { annotation_id, image_id, bbox: [x, y, w, h] } => write!(
                f,
                "annotation {annotation_id} (image {image_id}) has an empty box: x {x}, y {y}, width {w}, height {h}"
            ),
        }
    }
}
