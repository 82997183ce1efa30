//! What can go wrong with an evaluation.

use std::path::PathBuf;

use foveal_coco::CocoError;

/// An evaluation that has no meaning.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file cannot be read as what it should be.
    #[error(transparent)]
    File(#[from] CocoError),
    /// The detections of a file do not fit the ground truth of another.
    #[error("{detections} against {annotations}: {source}")]
    Pair {
        /// The ground truth.
        annotations: PathBuf,
        /// The results file.
        detections: PathBuf,
        /// What does not fit.
        source: Box<EvalError>,
    },
    /// A detection on an image that the ground truth lacks; pycocotools refuses it as well, as
    /// it mostly means that the two are of different sets.
    #[error(
        "detection {index} is on image {image_id}, which is none of the ground truth's {images} images \
         (the results are of another set?)"
    )]
    UnknownImage {
        /// Position in the list of detections, from 0.
        index: usize,
        /// The unknown image.
        image_id: i64,
        /// How many images there are.
        images: usize,
    },
    /// An object's box or area is no number, so that nothing can match it.
    #[error("annotation {annotation_id} (image {image_id}) has no box and area of finite numbers")]
    AnnotationNotFinite {
        /// The annotation.
        annotation_id: i64,
        /// Its image.
        image_id: i64,
    },
    /// A detection's box or score is no number.
    #[error("detection {index} (image {image_id}) has a box or score that is not finite")]
    DetectionNotFinite {
        /// Position in the list of detections, from 0.
        index: usize,
        /// Its image.
        image_id: i64,
    },
    /// hotcoco refused the input.
    #[error("the COCO evaluation failed: {0}")]
    Engine(#[from] hotcoco::Error),
}
