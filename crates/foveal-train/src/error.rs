//! The error type of training, evaluation and benchmarks.

use std::fmt;
use std::path::PathBuf;

use foveal_criterion::Fault;

use foveal_base::{SettingError, WriteError};

use crate::memory::DoesNotFit;

/// An error of training, evaluation or a benchmark. Each message names the file, key, image or step it is about.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// A batch is too large for the device.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// The batch size cannot be computed, because the device does not state how much memory it has.
    #[error(
        "the batch size cannot be computed from the memory, because the driver of this device does not state how much it \
         has; set train.batch_size instead"
    )]
    UnknownMemory,
    /// The device had no memory for a step or an evaluation.
    #[error(
        "the device ran out of memory {phase}: {found}. {demand}. {advice}{}",
        state.as_ref().map(|state| format!(". {state} --allow-changes, as settings change")).unwrap_or_default()
    )]
    OutOfMemory {
        /// What was computed.
        phase: Phase,
        /// The words of the driver.
        found: String,
        /// What a batch is expected to need.
        demand: String,
        /// What to do.
        advice: String,
        /// The newest saved training state, unless no step was made since the start of the run.
        state: Option<Box<SavedState>>,
    },
    /// The device failed or was lost during the training.
    #[error(
        "{} {phase}: {found}. {}If it happens again, look for messages of the driver in the system's log, update \
         the driver, or train with another --device",
        if *lost { "the device was lost" } else { "the device failed" },
        state.as_ref().map(|state| format!("{state}. ")).unwrap_or_default()
    )]
    Device {
        /// Whether the device is lost, so that nothing can be computed on it any more.
        lost: bool,
        /// What was computed.
        phase: Phase,
        /// The words of the driver.
        found: String,
        /// The newest saved training state, if there is one.
        state: Option<Box<SavedState>>,
    },
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
    /// Another process trains in the run folder.
    #[error(
        "{}: the run folder is in use by {}; wait until that run has ended, or choose another folder with --out",
        path.display(), process.map_or("another process".to_owned(), |id| format!("process {id}"))
    )]
    InUse {
        /// Path of the run folder.
        path: PathBuf,
        /// Number of the process, if it is known.
        process: Option<u32>,
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
    /// A run cannot be resumed, because settings or data differ that a run cannot change.
    #[error(
        "{}: the run cannot be resumed, because it cannot change these settings: {changes}. Use the values in {}, or start \
         a new run",
        path.display(), path.join("config.toml").display()
    )]
    Refused {
        /// Path of the run folder.
        path: PathBuf,
        /// The settings with their old and new values.
        changes: String,
    },
    /// A run is not resumed, because settings or data differ and the caller did not allow it.
    #[error(
        "{}: the run is not resumed, because these settings have changed: {changes}. Pass --allow-changes to go on with \
         them, or use the values in {}",
        path.display(), path.join("config.toml").display()
    )]
    Changed {
        /// Path of the run folder.
        path: PathBuf,
        /// The settings with their old and new values.
        changes: String,
    },
    /// A training state cannot be saved, because one of its values is NaN or infinite.
    #[error(
        "step {step}: the tensor {name} has a value that is NaN or infinite, so the training state is not saved; the last \
         saved state and checkpoints are unchanged. Try a lower train.lr, more train.warmup_steps or a limit in \
         train.clip_norm"
    )]
    NonFiniteState {
        /// Number of optimizer steps made so far.
        step: u64,
        /// Name of the tensor, with the part of the state that it belongs to.
        name: String,
    },
    /// An epoch ended without an optimizer step, because no image could be loaded.
    #[error(
        "epoch {epoch}: no image of the training set could be loaded, so no optimizer step was made; {} lists the reasons",
        list.display()
    )]
    NoStep {
        /// Number of the epoch, counted from 1.
        epoch: usize,
        /// Path of `skipped.json`.
        list: PathBuf,
    },
    /// More images were left out than `data.max_skipped` allows.
    #[error(
        "{skipped} of {images} images of the {set} set cannot be used, expected at most {limit} (data.max_skipped); the \
         first is: {first}. `foveal data check --decode` lists all of them"
    )]
    TooManySkipped {
        /// Name of the set: `training` or `validation`.
        set: &'static str,
        /// Number of images that were left out so far.
        skipped: usize,
        /// Number of images of the set, with those that were left out.
        images: usize,
        /// Largest number of images that may be left out.
        limit: usize,
        /// Why the first image was left out.
        first: String,
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
    /// The scores before the first optimizer step are not those of a new class head, or the class loss does not follow
    /// from them (`train.step0_check`). Losses are divided by the normalizer.
    #[error(
        "the class loss of the first step is {found:.6}, of which {positive:.6} comes from {positives} positive \
         anchors; expected {expected:.6} for the scores that the network gives, and about {at_prior:.6} for a new class \
         head, whose scores equal the prior. Diagnosis: {fault}. Pass --no-step0-check to train without this check"
    )]
    FirstLossCheck {
        /// Class loss of the first step.
        found: f64,
        /// Part of the class loss that comes from positive pairs of anchor and class.
        positive: f64,
        /// Number of positive anchors in the first step.
        positives: usize,
        /// Class loss in closed form for the logits and boxes of the first step.
        expected: f64,
        /// Class loss in closed form if every score equals `model.head.prior`.
        at_prior: f64,
        /// Likely cause of the difference.
        fault: Fault,
    },
    /// The output of a network that is evaluated is NaN or infinite, so that its detections are unknown.
    #[error(
        "the network's output (logits or deltas) is NaN or infinite for {}: its detections are unknown, because the \
         weights are damaged or their training diverged",
        images.join(", ")
    )]
    NonFiniteOutput {
        /// File name and COCO id of each image of the batch whose output is not finite.
        images: Vec<String>,
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
    /// Too many optimizer steps in a row were left out, because their loss or gradient norm is NaN or infinite in half
    /// precision (`train.precision = "f16"`). The steps did not change the weights.
    #[error(
        "step {step}: the loss or its gradient is not finite with train.precision = \"f16\" in this step and the {} \
         before it, which were left out; the loss scale is down to {scale:e}. Where: {}. Train with train.precision = \
         \"f32\", or with \"bf16\" on a device that supports it; if values grow there too, lower train.lr or set \
         train.clip_norm",
        count - 1, finding.as_deref().unwrap_or("unknown, because the step could not be run again")
    )]
    Overflow {
        /// Number of the last of these steps, counted from 1 over the whole run.
        step: u64,
        /// Number of steps that were left out in a row.
        count: u64,
        /// The loss scale of the last step.
        scale: f64,
        /// Where the values of the last step turned: a sentence that names the layer. `None` if the step could not
        /// be run again.
        finding: Option<String>,
    },
}

/// What a device computed when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The optimizer step with this number, counted from 1.
    Step(u64),
    /// The evaluation after the optimizer step with this number.
    Evaluation(u64),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "at step {step}"),
            Self::Evaluation(step) => write!(f, "in the evaluation after step {step}"),
        }
    }
}

/// A training state on disk, in the message of a run that ended without saving a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// Path of the file.
    pub path: PathBuf,
    /// Folder of the run.
    pub run: PathBuf,
    /// Number of optimizer steps of the state.
    pub step: u64,
    /// Age of the file in seconds.
    pub seconds: u64,
}

impl fmt::Display for SavedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, run, step, seconds } = self;
        let age = match seconds {
            0..120 => format!("{seconds} seconds"),
            120..7200 => format!("{} minutes", seconds / 60),
            _ => format!("{} hours", seconds / 3600),
        };
        write!(
            f,
            "The newest training state is {} of step {step}, saved {age} ago; continue with --resume --out {}",
            path.display(),
            run.display()
        )
    }
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
