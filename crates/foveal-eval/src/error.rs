//! The errors of an evaluation.

use std::path::PathBuf;

use foveal_coco::CocoError;

/// The error of detections or a ground truth that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// An annotation or results file cannot be read or does not follow the COCO format.
    #[error(transparent)]
    File(#[from] CocoError),
    /// The detections of a results file cannot be evaluated against an annotation file.
    #[error("cannot evaluate {detections} against {annotations}: {source}")]
    Pair {
        /// Path of the annotation file.
        annotations: PathBuf,
        /// Path of the results file.
        detections: PathBuf,
        /// The reason why the detections cannot be evaluated.
        source: Box<EvalError>,
    },
    /// A detection is on an image that the ground truth does not list. Usually the detections belong to another data
    /// set. pycocotools refuses them as well.
    #[error(
        "detection {index} has image_id {image_id}, which is not among the {images} images of the ground truth; check \
         that the detections belong to this data set"
    )]
    UnknownImage {
        /// Index of the detection in the list, counted from 0.
        index: usize,
        /// Image id of the detection, which the ground truth does not list.
        image_id: i64,
        /// Number of images of the ground truth.
        images: usize,
    },
    /// A number of the box or the area of an annotation is NaN or infinite.
    #[error("annotation {annotation_id} (image {image_id}) has a box or area that is not finite")]
    AnnotationNotFinite {
        /// Id of the annotation that is not finite.
        annotation_id: i64,
        /// Id of the image of the annotation.
        image_id: i64,
    },
    /// A number of the box or the score of a detection is NaN or infinite.
    #[error("detection {index} (image {image_id}) has a box or score that is not finite")]
    DetectionNotFinite {
        /// Index of the detection in the list, counted from 0.
        index: usize,
        /// Id of the image of the detection.
        image_id: i64,
    },
    /// hotcoco, the library that computes the metrics, reported an error.
    #[error("the COCO evaluation failed: {0}")]
    Engine(#[from] hotcoco::Error),
}
