//! Estimate of the memory that a training step takes on a CPU.

use foveal_detector::{BOX_VALUES, InputSize, NetworkCount};
use serde::Serialize;

use crate::config::{OptimizerKind, RunConfig};
use crate::pass::Activations;

/// Bytes of an `f32`.
const F32: u64 = 4;
/// Bytes of the program, of its threads, and of freed memory that the allocator does not return. Fitted to the resident
/// memory that `foveal bench` measures with two threads (ResNet-18 and ResNet-50 at 320x320 and 512x512),
/// where the estimate is within 4 %.
const PROCESS: u64 = 92 << 20;

/// Expected peak memory of a training step in bytes, by purpose.
///
/// The estimate follows the fused CPU kernels of this project (backends `flex` and `ndarray`). It does not include
/// memory that a GPU's allocator reserves.
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
    /// Bytes of the class logits and box deltas of a batch, and of their gradients.
    pub losses: u64,
    /// Bytes of feature maps and buffers that exist only while an operation runs.
    pub working: u64,
    /// Bytes of the program itself, of its threads, and of freed memory that the allocator does not return.
    pub process: u64,
}

impl TrainingMemory {
    /// Estimates the memory of a training step with the settings of `config` on a batch of `size`. `count` is the count
    /// of the network's layers for that size and `classes` the number of classes.
    pub fn expected(config: &RunConfig, count: &NetworkCount, classes: usize, size: InputSize) -> Self {
        let numbers: u64 = count.layers.iter().map(|layer| layer.parameters + layer.buffers).sum();
        let trained = F32 * count.trained_parameters;
        let rows = (size.batch * count.anchors) as u64;
        let outputs = rows * (config.model.channels(classes) as u64 + BOX_VALUES as u64);
        let moments = match config.train.optimizer {
            OptimizerKind::Sgd => 1,
            OptimizerKind::AdamW => 2,
        };
        let backbone = match config.train.activations() {
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
            average: if config.train.ema > 0.0 { F32 * numbers } else { 0 },
            activations: backbone + count.head_bytes,
            losses: 2 * F32 * outputs,
            working: 2 * count.largest_map_bytes,
            process: PROCESS,
        }
    }

    /// Expected peak memory of a training step in bytes: the sum of all parts.
    pub fn total(&self) -> u64 {
        self.weights
            + self.gradients
            + self.optimizer
            + self.average
            + self.activations
            + self.losses
            + self.working
            + self.process
    }
}
