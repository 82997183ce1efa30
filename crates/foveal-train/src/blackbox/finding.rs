//! What a replay found: where the values of a step turned, the likely cause, and what to do.

use std::fmt;

use foveal_detector::ComputePrecision;
use foveal_nn::{Operation, TensorStats, ValueStats};
use serde::{Deserialize, Serialize};

/// Magnitude of a weight above which it has certainly grown by a learning rate that is too high. Weights of trained
/// networks are below 10.
const GROWN: f32 = 1e3;
/// What to do when training diverged.
const SLOWER: &str = "lower train.lr, raise train.warmup_steps or set train.clip_norm (for example to 10), and start \
                      again from an earlier checkpoint";

/// What to do when values exceed the range of half precision.
const WIDER: &str = "train with train.precision = \"f32\", or with \"bf16\" on a device that supports it; if the values \
                      grow there too, lower train.lr or set train.clip_norm";

/// A part of the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossPart {
    /// The class loss, computed from the logits.
    Class,
    /// The box loss, computed from the deltas.
    Box,
    /// The sum of both.
    Total,
}

impl fmt::Display for LossPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "class loss",
            Self::Box => "box loss",
            Self::Total => "total loss",
        })
    }
}

/// The place in a step where the first value that is not finite came from. `Display` describes it in a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// The input of an image holds values that are not finite.
    Image {
        /// COCO id of the image.
        image_id: i64,
        /// Path of the image file; `None` for a generated image.
        file: Option<String>,
        /// Statistics of the input of the image.
        values: ValueStats,
    },
    /// The weights of a layer hold values that are not finite. Its input is finite.
    Weights {
        /// Full name of the first such layer in the order of the forward pass.
        layer: String,
        /// The tensors of the layer that are not finite.
        tensors: Vec<TensorStats>,
    },
    /// The output of a layer is not finite, although its input and its weights are.
    Layer {
        /// Full name of the first such layer in the order of the forward pass.
        layer: String,
        /// The operation of the layer whose result is not finite.
        operation: Operation,
        /// Statistics of the input of the operation.
        input: ValueStats,
        /// Largest magnitude of the weights of the layer; 0 for an operation without weights.
        largest_weight: f32,
    },
    /// The box targets of an image hold values that are not finite.
    Targets {
        /// COCO id of the image.
        image_id: i64,
    },
    /// A loss is not finite, although the outputs of the network are.
    Loss {
        /// The loss that is not finite.
        part: LossPart,
        /// Statistics of the outputs that the loss is computed from.
        outputs: ValueStats,
    },
    /// The forward pass is finite, but not the gradient of a loss with respect to the outputs of the network.
    LossGradient {
        /// The loss whose gradient is not finite.
        part: LossPart,
        /// Statistics of the gradient.
        gradient: ValueStats,
    },
    /// The forward pass is finite, but not the gradients of a layer.
    Gradient {
        /// Full name of the first such layer in the order of the backward pass.
        layer: String,
        /// Full name of its parameter whose gradient is not finite.
        tensor: String,
        /// Statistics of the gradient.
        gradient: ValueStats,
    },
    /// Losses and gradients of each batch are finite, but not their sum or the gradient norm.
    Sum,
    /// Every value is finite.
    Nothing,
}

impl Finding {
    /// Full name of the layer where the values turned; `None` if that was not in a layer.
    pub fn layer(&self) -> Option<&str> {
        match self {
            Self::Weights { layer, .. } | Self::Layer { layer, .. } | Self::Gradient { layer, .. } => Some(layer),
            _ => None,
        }
    }

    /// The likely cause in a step that was computed with `precision`, as a sentence.
    pub fn cause(&self, precision: ComputePrecision) -> String {
        match self {
            Self::Image { .. } => {
                "The values come from reading or preprocessing the image: damaged pixels, or a value in data.mean or \
                 data.std that does not fit."
                    .to_owned()
            }
            Self::Weights { tensors, .. } if overflowed(tensors) => {
                "An earlier update moved the weights beyond the largest single-precision number, 3.4e38: the learning \
                 rate was too high."
                    .to_owned()
            }
            Self::Weights { .. } => {
                "A weight file, a state or a checkpoint brought these values in: an optimizer step whose loss is not \
                 finite does not change the weights."
                    .to_owned()
            }
            Self::Layer { largest_weight, .. } if *largest_weight >= GROWN => format!(
                "The weights of the layer have grown to a magnitude of {largest_weight:e}: the learning rate of an \
                 earlier step was too high, and training diverged."
            ),
            Self::Layer { input, .. } if precision == ComputePrecision::F16 => format!(
                "The result exceeds the largest half-precision number, {}, or is undefined; the largest magnitude of the \
                 input is {:e}.",
                precision.largest(),
                input.largest()
            ),
            Self::Layer { input, .. } => format!(
                "The result exceeds the largest single-precision number, 3.4e38, or is undefined; the largest \
                 magnitude of the input is {:e}. The weights before this layer have grown: training diverged.",
                input.largest()
            ),
            Self::Targets { .. } => {
                "A box of the image has no width or height, or its coordinates are not numbers.".to_owned()
            }
            Self::Loss { outputs, .. } | Self::LossGradient { gradient: outputs, .. } => format!(
                "The outputs of the network or their gradients are too large for single precision (largest magnitude \
                 {:e}): training diverged.",
                outputs.largest()
            ),
            Self::Gradient { .. } if precision == ComputePrecision::F16 => format!(
                "The gradients of the scaled loss exceed the largest half-precision number, {}, or are undefined.",
                precision.largest()
            ),
            Self::Gradient { .. } | Self::Sum => {
                "The gradients exceed the largest single-precision number, 3.4e38: training diverged.".to_owned()
            }
            Self::Nothing => {
                "The step is finite when it is run again: the device computed something else before, or this device \
                 rounds differently."
                    .to_owned()
            }
        }
    }

    /// What to do about it in a run with `precision`, as a sentence that begins in lower case.
    pub fn remedy(&self, precision: ComputePrecision) -> String {
        match self {
            Self::Image { file, .. } => format!(
                "look at {} and check data.mean and data.std",
                file.as_deref().unwrap_or("the settings of the generated images")
            ),
            Self::Weights { tensors, .. } if !overflowed(tensors) => {
                "start from another weight file, checkpoint or state".to_owned()
            }
            Self::Targets { image_id } => {
                format!("run `foveal data check` and correct the boxes of the image with id {image_id}")
            }
            Self::Nothing => {
                "run `foveal replay` on the device of the run, more than once; if the results differ from time to \
                 time, suspect the driver or the memory of the device"
                    .to_owned()
            }
            Self::Layer { .. } | Self::Gradient { .. } if precision == ComputePrecision::F16 => WIDER.to_owned(),
            _ => SLOWER.to_owned(),
        }
    }
}

/// Whether tensors hold infinite values, which an update leaves behind that is too large.
fn overflowed(tensors: &[TensorStats]) -> bool {
    tensors.iter().any(|tensor| tensor.stats.infinite > 0)
}

/// `n values that are not finite (a NaN, b infinite)`.
fn counted(stats: &ValueStats) -> String {
    format!(
        "{} of {} values that are not finite ({} NaN, {} infinite)",
        stats.non_finite(),
        stats.count,
        stats.nan,
        stats.infinite
    )
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { image_id, file, values } => {
                let file = file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
                write!(f, "the input of the image with id {image_id}{file} holds {}", counted(values))
            }
            Self::Weights { layer, tensors } => {
                let each: Vec<String> = tensors.iter().map(|t| format!("{} holds {}", t.name, counted(&t.stats))).collect();
                write!(f, "the weights of {layer} are not finite: {}", each.join("; "))
            }
            Self::Layer { layer, operation, input, .. } => write!(
                f,
                "the output of {layer} ({operation}) is the first in the forward pass that is not finite; its input \
                 and its weights are finite (largest magnitude of the input {:e})",
                input.largest()
            ),
            Self::Targets { image_id } => {
                write!(f, "the box targets of the image with id {image_id} hold values that are not finite")
            }
            Self::Loss { part, .. } => write!(f, "the {part} is not finite, although the outputs of the network are"),
            Self::LossGradient { part, gradient } => write!(
                f,
                "the forward pass is finite, but the gradient of the {part} with respect to the outputs of the network \
                 holds {}",
                counted(gradient)
            ),
            Self::Gradient { layer, tensor, gradient } => write!(
                f,
                "the forward pass is finite; {layer} is the first trained layer in the backward pass whose gradient is \
                 not: that of {tensor} holds {}",
                counted(gradient)
            ),
            Self::Sum => f.write_str(
                "losses and gradients of every batch are finite, but not their sum over the batches or the gradient norm",
            ),
            Self::Nothing => f.write_str("all values of the step are finite"),
        }
    }
}
