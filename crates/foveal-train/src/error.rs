//! What can go wrong with training and evaluation.

use std::path::PathBuf;

use foveal_criterion::Fault;

use foveal_base::{SettingError, WriteError};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// The data.
    #[error(transparent)]
    Data(#[from] foveal_data::DataError),
    /// The network, its weights or a checkpoint.
    #[error(transparent)]
    Model(#[from] foveal_detector::DetectorError),
    /// The evaluation.
    #[error(transparent)]
    Eval(#[from] foveal_eval::EvalError),
    /// A file of the run could not be written whole.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file of the run could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A new run would overwrite what is there.
    #[error("{}: the run directory exists and is not empty; take another, or --resume to continue that run", path.display())]
    RunExists {
        /// The directory.
        path: PathBuf,
    },
    /// There is nothing to resume from.
    #[error("{}: no training state to resume from (expected {})", path.display(), state.display())]
    NoState {
        /// The run directory.
        path: PathBuf,
        /// The file looked for.
        state: PathBuf,
    },
    /// The training state is damaged or of another run.
    #[error("{}: {found}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A set without a single usable image.
    #[error("the {set} set has no usable image")]
    Empty {
        /// Which set.
        set: &'static str,
    },
    /// An object of a class that the network does not have.
    #[error("image {image_id}: an object of class {class}, but the label map has {classes} classes")]
    Class {
        /// The image's COCO id.
        image_id: i64,
        /// The class, from 0.
        class: u32,
        /// Classes.
        classes: usize,
    },
    /// The class loss before the first update is not what prior, loss and data make it.
    #[error(
        "the first class loss is {found:.6}, of which {positive:.6} from {positives} positives; expected {expected:.6} (from \
         {low:.6} to {high:.6} with the head's random weights): {fault}. --no-step0-check trains all the same"
    )]
    FirstLossCheck {
        /// The class loss.
        found: f64,
        /// The class loss's part from positives.
        positive: f64,
        /// Positive anchors.
        positives: usize,
        /// The class loss where every score is the prior.
        expected: f64,
        /// The smallest class loss that passes.
        low: f64,
        /// The largest class loss that passes.
        high: f64,
        /// The likely cause.
        fault: Fault,
    },
    /// A loss or a gradient is NaN or infinite. The weights are still those of the step before.
    #[error(
        "step {step}: the loss or its gradient is not finite (class {class}, box {boxes}, gradient norm {grad_norm}; learning rate {lr}); \
         images of the batch: {}. A lower train.lr, a longer train.warmup_steps or train.clip_norm may help; \
         check those images' boxes too",
        list(images)
    )]
    NonFinite {
        /// Optimizer step, from 1.
        step: u64,
        /// Class loss.
        class: f32,
        /// Box loss.
        boxes: f32,
        /// Norm of all gradients.
        grad_norm: f32,
        /// Learning rate.
        lr: f64,
        /// COCO ids of the images.
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
