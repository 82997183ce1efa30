//! The memory that a training step takes, what a batch needs of a device, and the largest batch that fits.

mod auto;
mod demand;
mod input;
mod limits;

use foveal_detector::{BOX_VALUES, ComputePrecision, InputSize, NetworkCount};
use serde::Serialize;

use crate::config::{OptimizerKind, RunConfig, TrainConfig};
use crate::pass::Activations;

pub use auto::{AutoBatch, Bound, Room, auto_batch};
pub(crate) use demand::Demand;
pub use demand::{DoesNotFit, InferenceCheck, TooLarge};
pub(crate) use input::largest_input;
pub use limits::DeviceLimits;
#[cfg(test)]
pub(crate) use limits::tests::with_limits;

/// Bytes of an `f32`.
const F32: u64 = 4;
/// Bytes of the program, of its threads, and of freed memory that the allocator does not return, less the output of the
/// stem, which is counted but not kept on a CPU. Fitted to the resident memory that `foveal bench` measures with two
/// threads (ResNet-18 and ResNet-50 at 320x320 and 512x512), where the estimate is within 6 %.
const PROCESS: u64 = 20 << 20;

/// Expected peak memory of a training step in bytes, by purpose.
///
/// The estimate follows the fused CPU kernels of this project (backends `flex` and `ndarray`). On a GPU it is what a
/// step takes at least: it contains neither the copies that a change of a tensor's layout needs, nor the pixels between
/// the pyramid levels where the heads store them in one map, nor what the allocator and the driver reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Bytes of the network's parameters and buffers.
    pub weights: u64,
    /// Bytes of the gradients of the trained parameters.
    pub gradients: u64,
    /// Bytes of the optimizer's state: one f32 for each trained parameter with SGD, two with AdamW.
    pub optimizer: u64,
    /// Bytes of the moving average of the weights (`train.ema`); 0 without it.
    pub average: u64,
    /// Bytes of the feature maps that the forward pass stores for the backward pass.
    pub activations: u64,
    /// Bytes of the class logits and box deltas of a batch, and on a GPU of their gradients.
    pub losses: u64,
    /// Bytes of feature maps and buffers that exist only while an operation runs.
    pub working: u64,
    /// Bytes of the largest unfolded input of a convolution (im2col), which a GPU may hold while it computes the
    /// convolution as a matrix product; 0 on a CPU, whose kernels unfold one block of pixels at a time.
    pub columns: u64,
    /// Bytes of the program itself, of its threads, and of freed memory that the allocator does not return.
    pub process: u64,
}

impl TrainingMemory {
    /// Estimates the memory of a training step on a CPU with the settings of `config` on a batch of `size`. `count` is
    /// the count of the network's layers for that size and `classes` the number of classes.
    pub fn expected(config: &RunConfig, count: &NetworkCount, classes: usize, size: InputSize) -> Self {
        Self::on_cpu(&config.train, count, config.model.channels(classes), size.batch)
    }

    /// Estimates the memory that a training step takes at least on a GPU, with feature maps in `train.precision`; the
    /// arguments are those of [`TrainingMemory::expected`].
    pub fn expected_on_gpu(config: &RunConfig, count: &NetworkCount, classes: usize, size: InputSize) -> Self {
        Self::on_gpu(&config.train, count, config.model.channels(classes), size.batch)
    }

    /// The memory of a training step on a CPU, for a network with this number of class channels that was counted for a
    /// batch of this number of images.
    pub(crate) fn on_cpu(config: &TrainConfig, count: &NetworkCount, channels: usize, batch: usize) -> Self {
        let numbers: u64 = count.layers.iter().map(|layer| layer.parameters + layer.buffers).sum();
        let trained = F32 * count.trained_parameters;
        let rows = (batch * count.anchors) as u64;
        let outputs = rows * (channels as u64 + BOX_VALUES as u64);
        let moments = match config.optimizer {
            OptimizerKind::Sgd => 1,
            OptimizerKind::AdamW => 2,
        };
        let backbone = match config.activations() {
            Activations::Kept => count.stage_bytes.iter().sum(),
            // The outputs of all stages, and the maps of the one stage that is being recomputed.
            Activations::Recomputed => {
                let largest = count.stage_bytes.iter().max().copied().unwrap_or_default();
                count.stage_output_bytes.iter().sum::<u64>() + largest
            }
        };
        Self {
            weights: F32 * numbers,
            gradients: trained,
            optimizer: moments * trained,
            average: if config.ema > 0.0 { F32 * numbers } else { 0 },
            activations: backbone + count.head_bytes,
            // The gradient of the logits takes their memory.
            losses: F32 * outputs,
            working: count.largest_map_bytes,
            columns: 0,
            process: PROCESS,
        }
    }

    /// The memory that a training step takes at least on a GPU; the arguments are those of [`TrainingMemory::on_cpu`].
    /// Feature maps and unfolded inputs have `train.precision`; everything else is `f32`.
    pub(crate) fn on_gpu(config: &TrainConfig, count: &NetworkCount, channels: usize, batch: usize) -> Self {
        let columns = count.largest_columns.as_ref().map_or(0, |columns| columns.bytes);
        let in_f32 = Self::on_cpu(config, count, channels, batch);
        let of_maps = |bytes| in_precision(bytes, config.precision);
        Self {
            activations: of_maps(in_f32.activations),
            losses: 2 * in_f32.losses,
            working: of_maps(2 * in_f32.working),
            columns: of_maps(columns),
            process: 0,
            ..in_f32
        }
    }

    /// Bytes that are proportional to the number of images.
    fn of_images(&self) -> u64 {
        self.activations + self.losses + self.working + self.columns
    }

    /// Bytes that do not depend on the number of images.
    fn of_weights(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.average + self.process
    }

    /// Expected peak memory of a training step in bytes: the sum of all parts.
    pub fn total(&self) -> u64 {
        self.of_weights() + self.of_images()
    }
}

/// Bytes of values in `precision` that take `bytes` in `f32`.
fn in_precision(bytes: u64, precision: ComputePrecision) -> u64 {
    bytes / F32 * precision.bytes()
}

/// A number of bytes in GiB or MiB.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const MIB: f64 = (1u64 << 20) as f64;
    let mib = bytes as f64 / MIB;
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}
