//! The error type of training, evaluation and benchmarks.

use std::path::PathBuf;

use foveal_criterion::Fault;

use foveal_base::{SettingError, WriteError};

/// An error of training, evaluation or a benchmark. Each message names the file, key, image or step it is about.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// A data set cannot be opened, or an image cannot be loaded.
    #[error(transparent)]
    Data(#[from] foveal_data::DataError),
    /// The network cannot be built, or a weight file or checkpoint cannot be read or written.
    #[error(transparent)]
    Model(#[from] foveal_detector::DetectorError),
    /// Detections cannot be evaluated against the ground truth.
    #[error(transparent)]
    Eval(#[from] foveal_eval::EvalError),
    /// A file of the run folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file or folder of the run could not be read, written, created or removed.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error that the operating system returned.
        source: std::io::Error,
    },
    /// A new run was to be created in a folder that is not empty.
    #[error(
        "{}: the run folder exists and is not empty; choose another with --out, or continue that run with --resume",
        path.display()
    )]
    RunExists {
        /// Path of the folder.
        path: PathBuf,
    },
    /// A folder to resume from has no training state.
    #[error(
        "{}: the run cannot be resumed: expected the training state {}, found no such file",
        path.display(), state.display()
    )]
    NoState {
        /// Path of the run folder.
        path: PathBuf,
        /// Path where the state file was expected.
        state: PathBuf,
    },
    /// A state file is damaged, or does not fit the configuration or data it is resumed with.
    #[error("{}: {found}", path.display())]
    State {
        /// Path of the state file.
        path: PathBuf,
        /// Description of what was expected and what was found.
        found: String,
    },
    /// The black box of a step is missing, damaged, or does not fit its network.
    #[error("{}: {found}", path.display())]
    BlackBox {
        /// Path of the file or folder.
        path: PathBuf,
        /// Description of what was expected and what was found.
        found: String,
    },
    /// No image of a data set can be used.
    #[error(
        "the {set} set has no usable image, expected at least one; `foveal data check` lists why images \
         are left out"
    )]
    Empty {
        /// Name of the set: `training` or `validation`.
        set: &'static str,
    },
    /// A target has a class that the label map does not have.
    #[error(
        "image id {image_id}: found an object of class {class} (counted from 0), expected a class below {classes}, the \
         number of categories in the label map"
    )]
    Class {
        /// COCO id of the image.
        image_id: i64,
        /// Class of the object, counted from 0.
        class: u32,
        /// Number of classes in the label map.
        classes: usize,
    },
    /// The class loss before the first optimizer step lies outside the range that follows from the prior, the loss and
    /// the targets (`train.step0_check`). Losses are divided by the normalizer.
    #[error(
        "the class loss of the first step is {found:.6}, of which {positive:.6} comes from {positives} positive \
         anchors; expected about {expected:.6} (between {low:.6} and {high:.6}, because the weights of the head are \
         random). Diagnosis: {fault}. Pass --no-step0-check to train without this check"
    )]
    FirstLossCheck {
        /// Class loss of the first step.
        found: f64,
        /// Part of the class loss that comes from positive pairs of anchor and class.
        positive: f64,
        /// Number of positive anchors in the first step.
        positives: usize,
        /// Class loss if every score equals `model.head.prior`.
        expected: f64,
        /// Smallest class loss that passes the check.
        low: f64,
        /// Largest class loss that passes the check.
        high: f64,
        /// Likely cause of the difference.
        fault: Fault,
    },
    /// The loss or the gradient norm of an optimizer step is NaN or infinite. The step did not change the weights.
    #[error(
        "step {step}: the loss or its gradient is not finite (class loss {class}, box loss {boxes}, gradient norm \
         {grad_norm}, learning rate {lr}); ids of the images of the batch: {}. Try a lower train.lr, more \
         train.warmup_steps or a limit in train.clip_norm, and check the boxes of these images",
        list(images)
    )]
    NonFinite {
        /// Number of the optimizer step, counted from 1.
        step: u64,
        /// Class loss of the step.
        class: f32,
        /// Box loss of the step, before `loss.box_weight`.
        boxes: f32,
        /// L2 norm of all gradients together, before clipping.
        grad_norm: f32,
        /// Learning rate of the step.
        lr: f64,
        /// COCO ids of the images of the step.
        images: Vec<i64>,
    },
}

fn list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

impl TrainError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
