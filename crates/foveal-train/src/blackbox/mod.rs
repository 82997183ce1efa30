//! The black box of an optimizer step whose loss or gradient norm is not finite: what is needed to run the step again,
//! in the folder `blackbox/` of a run.
//!
//! | file | contents |
//! |---|---|
//! | `report.json` | [`Report`]: step, losses, learning rate, images, device, statistics by layer, finding |
//! | `batch.safetensors` | images and targets of the step's batches, as the network received them |
//! | `weights.safetensors` | all weights and running statistics before the step, by parameter path |
//! | `config.toml` | the configuration of the run, with class weights computed from the training set |
//!
//! [`BlackBox::replay`] runs forward pass, loss and backward pass again and finds where the values turned.

mod batch;
mod examine;
mod files;
mod finding;
mod number;
mod replay;
mod report;
#[cfg(test)]
mod tests;

pub use batch::RecordedBatch;
pub(crate) use batch::tensors_to_bytes;
pub use examine::{BatchTrace, LayerRecord};
pub use finding::{Finding, LossPart};
pub use number::Number;
pub use replay::Replay;
pub use report::{RecordedImage, RecordedNormalizer, ReplacedImage, Report, StepLosses};

use foveal_weights::TensorMap;

use crate::config::RunConfig;

/// Everything that the folder of a black box holds, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct BlackBox {
    /// The step, its images, and what was found about it.
    pub report: Report,
    /// The configuration of the run, with class weights computed from the training set, and without augmentation under
    /// `train.overfit`.
    pub config: RunConfig,
    /// The weights and running statistics before the step, by parameter path.
    pub weights: TensorMap,
    /// The batches of the step as the network received them; empty if they could not be loaded again
    /// ([`Report::missing_batch`]).
    pub batches: Vec<RecordedBatch>,
}
