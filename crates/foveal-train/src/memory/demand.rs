//! What a batch needs of a GPU, compared with its limits.

use std::fmt;

use foveal_backbone::STAGES;
use foveal_detector::{BOX_VALUES, ComputePrecision, InputSize, ModelConfig, NetworkCount};

use super::{DeviceLimits, F32, TrainingMemory, bytes_text, in_precision};
use crate::config::TrainConfig;

/// What the images of a batch need of a GPU. All sizes are proportional to the number of images, except for the weights
/// and what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Demand {
    /// Padded height and width of the images in pixels.
    size: [usize; 2],
    /// The largest tensor.
    tensor: TensorDemand,
    /// Bytes that do not depend on the number of images.
    fixed: u64,
    /// Bytes for each image.
    per_image: u64,
}

/// The largest tensor of a batch.
#[derive(Clone, Debug, PartialEq)]
struct TensorDemand {
    /// What it holds.
    what: String,
    /// Bytes for each image.
    per_image: u64,
}

impl Demand {
    /// The demand of a training step with these settings, for this network and number of classes.
    pub(crate) fn of_training(config: &TrainConfig, model: &ModelConfig, classes: usize, size: [usize; 2]) -> Self {
        let (count, channels) = (model.count(classes, one(size)), model.channels(classes));
        let memory = TrainingMemory::on_gpu(config, &count, channels, 1);
        Self::of_memory(&memory, &count, channels, size, config.precision)
    }

    /// The demand of a training step whose network was counted for one image of the given size, and whose `memory` was
    /// estimated from that count. Feature maps have `precision`.
    pub(super) fn of_memory(
        memory: &TrainingMemory,
        count: &NetworkCount,
        channels: usize,
        size: [usize; 2],
        precision: ComputePrecision,
    ) -> Self {
        let tensor = TensorDemand::largest(count, channels, precision);
        Self { size, tensor, fixed: memory.of_weights(), per_image: memory.of_images() }
    }

    /// The demand of a forward pass that keeps no maps for gradients, with feature maps in `precision`.
    pub(crate) fn of_inference(
        model: &ModelConfig,
        classes: usize,
        size: [usize; 2],
        precision: ComputePrecision,
    ) -> Self {
        // Only the gradient of a weight unfolds the input of a convolution with a stride, such as the stem's.
        let frozen = ModelConfig { freeze_stages: STAGES + 1, ..model.clone() };
        let (count, channels) = (frozen.count(classes, one(size)), model.channels(classes));
        let outputs = F32 * (count.anchors * (channels + BOX_VALUES)) as u64;
        let columns = count.largest_columns.as_ref().map_or(0, |columns| columns.bytes);
        Self {
            size,
            tensor: TensorDemand::largest(&count, channels, precision),
            fixed: F32 * count.layers.iter().map(|layer| layer.parameters + layer.buffers).sum::<u64>(),
            per_image: outputs + in_precision(columns + 2 * count.largest_map_bytes, precision),
        }
    }

    /// Padded height and width of the images in pixels.
    pub(super) fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Bytes that a step with `batch` images takes at least.
    pub(crate) fn memory(&self, batch: usize) -> u64 {
        self.memory_with(batch, 1.0)
    }

    /// Bytes of a step with `batch` images, with the memory of each image multiplied by `margin`.
    pub(super) fn memory_with(&self, batch: usize, margin: f64) -> u64 {
        self.fixed + (margin * (batch as u64 * self.per_image) as f64) as u64
    }

    /// The largest number of images whose tensors are not too large, and whose memory times `margin` fits into
    /// `memory` bytes; `None` without a limit.
    pub(crate) fn most(&self, limits: DeviceLimits, margin: f64) -> Option<usize> {
        let by_tensor = limits.tensor_bytes.map(|bytes| bytes / self.tensor.per_image.max(1));
        let by_memory = limits.memory_bytes.map(|bytes| {
            let room = bytes.saturating_sub(self.fixed) as f64;
            (room / (margin * self.per_image.max(1) as f64)) as u64
        });
        let most = [by_tensor, by_memory].into_iter().flatten().min()?;
        Some(most as usize)
    }

    /// Compares a batch with the limits of a device. `key` is the setting of the batch size.
    ///
    /// # Errors
    /// [`DoesNotFit`] when a tensor is too large for the device, or all together for its memory.
    pub(crate) fn check(&self, key: &'static str, batch: usize, limits: DeviceLimits) -> Result<(), DoesNotFit> {
        let bytes = batch as u64 * self.tensor.per_image;
        let too_large = match (limits.tensor_bytes, limits.memory_bytes) {
            (Some(limit), _) if bytes > limit => TooLarge::Tensor { what: self.tensor.what.clone(), bytes, limit },
            (_, Some(limit)) if self.memory(batch) > limit => TooLarge::Memory { bytes: self.memory(batch), limit },
            _ => return Ok(()),
        };
        let most = self.most(limits, 1.0).unwrap_or(0);
        Err(DoesNotFit { key, batch, size: self.size, most, too_large })
    }

    /// Compares the batches of a data set of `images` images with the limits of a device. No batch has more images than
    /// the set, whatever `batch`, the setting `key`, is.
    ///
    /// # Errors
    /// [`DoesNotFit`] when the largest batch does not fit; its numbers are those of a whole batch of `batch` images.
    pub(crate) fn check_of_set(
        &self,
        key: &'static str,
        batch: usize,
        images: usize,
        limits: DeviceLimits,
    ) -> Result<(), DoesNotFit> {
        self.check(key, batch.min(images), limits).or_else(|_| self.check(key, batch, limits))
    }
}

/// Compares batches of a network that only detects with the limits of a device. Each size of images is counted once.
#[derive(Clone, Debug)]
pub struct InferenceCheck {
    model: ModelConfig,
    classes: usize,
    limits: DeviceLimits,
    precision: ComputePrecision,
    counted: Vec<Demand>,
}

impl InferenceCheck {
    /// A check for a network with this configuration and number of classes, which computes its feature maps in
    /// `precision`, on a device with these limits.
    pub fn new(model: &ModelConfig, classes: usize, limits: DeviceLimits, precision: ComputePrecision) -> Self {
        Self { model: model.clone(), classes, limits, precision, counted: Vec::new() }
    }

    /// Compares a batch of `batch` images of the padded height and width `size` with the limits.
    ///
    /// # Errors
    /// [`DoesNotFit`] when it is too large; its key is `eval.batch_size`.
    pub fn check(&mut self, batch: usize, size: [usize; 2]) -> Result<(), DoesNotFit> {
        if self.limits.is_empty() {
            return Ok(());
        }
        if !self.counted.iter().any(|demand| demand.size == size) {
            self.counted.push(Demand::of_inference(&self.model, self.classes, size, self.precision));
        }
        let demand = self.counted.iter().find(|demand| demand.size == size).expect("it was counted");
        demand.check("eval.batch_size", batch, self.limits)
    }
}

impl TensorDemand {
    /// The largest tensor, where the heads convolve the pyramid levels one by one. Levels in one map have larger
    /// tensors, but the heads use such a map only where the device can bind these (`canvas_limit` of foveal-kernels).
    fn largest(count: &NetworkCount, channels: usize, precision: ComputePrecision) -> Self {
        let logits = Self {
            what: format!("the class logits of {} anchors with {channels} channels", count.anchors),
            per_image: F32 * (count.anchors * channels) as u64,
        };
        let of_maps = |bytes| in_precision(bytes, precision);
        let map = Self { what: "the largest feature map".to_owned(), per_image: of_maps(count.largest_map_bytes) };
        let columns = count.largest_columns.iter().map(|columns| Self {
            what: format!("the unfolded input of the convolution {}", columns.layer),
            per_image: of_maps(columns.bytes),
        });
        columns
            .chain([logits])
            .fold(map, |largest, other| if other.per_image > largest.per_image { other } else { largest })
    }
}

/// The input of one image of this height and width.
pub(super) fn one([height, width]: [usize; 2]) -> InputSize {
    InputSize { batch: 1, height, width }
}

/// A batch is too large for the device. The message names the settings that make it smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoesNotFit {
    /// Setting of the batch size: `train.batch_size`, `eval.batch_size` or `bench.batch_size`.
    pub key: &'static str,
    /// Number of images of the batch.
    pub batch: usize,
    /// Padded height and width of its images in pixels.
    pub size: [usize; 2],
    /// The largest number of images that fits; 0 if not even one does.
    pub most: usize,
    /// What is too large.
    pub too_large: TooLarge,
}

/// What exceeds a limit of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TooLarge {
    /// A single tensor.
    Tensor {
        /// What it holds.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The size in bytes of the largest buffer that the device can bind.
        limit: u64,
    },
    /// All tensors together.
    Memory {
        /// Bytes that they take at least.
        bytes: u64,
        /// Bytes of the device's memory.
        limit: u64,
    },
}

impl std::error::Error for DoesNotFit {}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, batch, size: [height, width], most, too_large } = self;
        match most {
            0 => write!(f, "{key}: not even one image of {height}x{width} pixels fits on this device: ")?,
            _ => write!(
                f,
                "{key}: expected at most {most} for images of {height}x{width} pixels on this device, found {batch}: "
            )?,
        }
        match too_large {
            TooLarge::Tensor { what, bytes, limit } => write!(
                f,
                "with {batch} images, {what} takes {}, but the device binds buffers of at most {}. ",
                bytes_text(*bytes),
                bytes_text(*limit)
            )?,
            TooLarge::Memory { bytes, limit } => write!(
                f,
                "{batch} images need at least {}, but the device has {} of memory. ",
                bytes_text(*bytes),
                bytes_text(*limit)
            )?,
        }
        let sizes = match *key {
            "bench.batch_size" => "lower bench.height and bench.width",
            _ => "lower data.min_size and data.max_size (or data.fixed_size)",
        };
        match (*most, *key) {
            (0, _) => write!(f, "To go on, {sizes}"),
            (most, "train.batch_size") => write!(
                f,
                "Set train.batch_size = {most} and raise train.accumulate to keep the size of an update, or {sizes}"
            ),
            (most, key) => write!(f, "Set {key} = {most}, or {sizes}"),
        }
    }
}

#[cfg(test)]
mod tests;
