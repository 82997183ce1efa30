//! The memory that a training step is expected to take on a CPU.

use foveal_detector::{BOX_VALUES, InputSize, NetworkCount};
use serde::Serialize;

use crate::config::{OptimizerKind, RunConfig};
use crate::pass::Activations;

/// Bytes of an `f32`.
const F32: u64 = 4;
/// Bytes of the program itself, its threads and their buffers, as measured on Linux with two threads.
const PROCESS: u64 = 64 << 20;

/// Bytes that a training step takes at most, by what they are for.
///
/// The parts follow the fused CPU kernels (`flex` and `ndarray`). What a GPU's allocator holds back is not in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Parameters and buffers.
    pub weights: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// The optimizer's moments: one number for each trained parameter with SGD, two with AdamW.
    pub optimizer: u64,
    /// The moving average of the weights, with `train.ema`.
    pub average: u64,
    /// Maps that stay from the forward to the backward pass.
    pub activations: u64,
    /// Logits and deltas, their gradients, and the copies of them in anchor order.
    pub losses: u64,
    /// Maps and buffers that an operation needs while it runs.
    pub working: u64,
    /// The program itself.
    pub process: u64,
}

impl TrainingMemory {
    /// The memory of a step of `config` over a batch of `size`.
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
            // The ends of all stages, and the maps of the one that is computed again.
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
            losses: 3 * F32 * outputs,
            working: 3 * count.largest_map_bytes,
            process: PROCESS,
        }
    }

    /// The sum of all parts.
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
