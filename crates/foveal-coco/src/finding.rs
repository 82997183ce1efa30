//! Defects of single records in a data set, which a training run can skip.

use std::fmt;

/// A defect of one record of a COCO annotation file. The record cannot be used, but the rest of the file can.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finding {
    /// Two categories share an id, so that it is unknown to which of them an annotation belongs.
    DuplicateCategory {
        /// The category id that occurs more than once.
        category_id: i64,
    },
    /// Two images share an id, so that it is unknown to which of them an annotation belongs.
    DuplicateImage {
        /// The image id that occurs more than once.
        image_id: i64,
    },
    /// An image has no file name, so that it cannot be loaded.
    NoFileName {
        /// Id of the image without a file name.
        image_id: i64,
    },
    /// The width or height of an image is absent or 0.
    NoSize {
        /// Id of the image without a size.
        image_id: i64,
    },
    /// Two annotations share an id, which has to be unique in a COCO annotation file.
    DuplicateAnnotation {
        /// The annotation id that occurs more than once.
        annotation_id: i64,
        /// Id of the image of the later annotation.
        image_id: i64,
    },
    /// The image of an annotation is not in the file.
    UnknownImage {
        /// Id of the annotation with the unknown image.
        annotation_id: i64,
        /// The image id that the annotation refers to.
        image_id: i64,
    },
    /// The category of an annotation is not in the file.
    UnknownCategory {
        /// Id of the annotation with the unknown category.
        annotation_id: i64,
        /// Id of the image of the annotation.
        image_id: i64,
        /// The category id that the annotation refers to.
        category_id: i64,
    },
    /// An annotation has no box, or a number of its box is NaN or infinite.
    NotFinite {
        /// Id of the annotation without a finite box.
        annotation_id: i64,
        /// Id of the image of the annotation.
        image_id: i64,
    },
    /// The width or height of the box of an annotation is zero or negative.
    EmptyBox {
        /// Id of the annotation with the empty box.
        annotation_id: i64,
        /// Id of the image of the annotation.
        image_id: i64,
        /// `[x, y, width, height]` in pixels as in the file.
        bbox: [f64; 4],
    },
}

impl Finding {
    /// Id of the image that the defect concerns, or `None` if it concerns a category. The image need not be in the
    /// file.
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

    /// Id of the annotation that the defect concerns, or `None` if it concerns an image or a category.
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
                write!(f, "annotation {annotation_id} belongs to image {image_id}, which is not in the file")
            }
            Finding::UnknownCategory { annotation_id, image_id, category_id } => write!(
                f,
                "annotation {annotation_id} (image {image_id}) has category {category_id}, which is not in the file"
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
