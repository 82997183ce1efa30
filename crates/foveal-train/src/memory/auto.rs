//! The largest batch that a device has memory for (`foveal train --auto-batch`), computed without trying any.

use std::fmt;

use super::demand::{Demand, one};
use super::input::largest_input;
use super::{DeviceLimits, TooLarge, TrainingMemory, bytes_text};
use crate::config::{MAX_BATCH, RunConfig};
use crate::error::TrainError;

/// Part of the free main memory that a training step on the CPU may take. Images that are loaded in advance and other
/// programs need the rest.
const CPU_SHARE: f64 = 0.8;
/// Part of an adapter's memory that a training step may take. The desktop and the driver need the rest.
const GPU_SHARE: f64 = 0.9;
/// Factor on the memory of each image on a GPU. The count knows the maps that are kept for the backward pass, but not
/// the copies that a change of layout needs, the candidates that tuning runs, nor pages that the allocator keeps.
const GPU_MARGIN: f64 = 1.5;
/// An epoch has at least so many optimizer steps, if the batch size alone decides it.
const LEAST_STEPS: usize = 16;

/// Memory that a training step may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Main memory, for the CPU backends.
    Cpu {
        /// Free bytes.
        free: u64,
    },
    /// The memory of an adapter, and the limits on its tensors.
    Gpu(DeviceLimits),
}

/// A batch size that was computed from the memory of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoBatch {
    /// Number of images in a batch, for `train.batch_size`.
    pub batch: usize,
    /// Padded height and width in pixels of the largest batch.
    pub size: [usize; 2],
    /// Bytes that a step is expected to take, with the margin for a GPU.
    pub needed: u64,
    /// Bytes that it may take.
    pub available: u64,
    /// What a larger batch would exceed.
    pub bound: Bound,
}

/// What keeps a batch from being larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The memory of the device.
    Memory,
    /// The largest tensor that the device can bind.
    Tensor,
    /// The number of training images: an epoch keeps at least 16 optimizer steps.
    Images,
    /// The largest batch size of a configuration.
    Setting,
}

impl fmt::Display for AutoBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, size: [height, width], needed, available, bound } = self;
        let bound = match bound {
            Bound::Memory => "by the memory".to_owned(),
            Bound::Tensor => "by the largest buffer that the device binds".to_owned(),
            Bound::Images => format!("by the number of training images (an epoch keeps {LEAST_STEPS} steps if it can)"),
            Bound::Setting => format!("by the largest train.batch_size, {MAX_BATCH}"),
        };
        write!(
            f,
            "train.batch_size = {batch} for images of {height}x{width} pixels, bounded {bound}: a step is expected to \
             take {}, of {} that it may take",
            bytes_text(*needed),
            bytes_text(*available)
        )
    }
}

/// Computes the batch size for training with `config` on a device with this room. Opens the training set, whose images
/// give the largest batch and whose categories the number of classes; `train.batch_size` is not used.
///
/// # Errors
/// [`TrainError::Config`] or [`TrainError::Data`] when the configuration or the training set cannot be used,
/// [`TrainError::Empty`] when it has no image, [`TrainError::UnknownMemory`] when the device does not state its memory,
/// [`TrainError::DoesNotFit`] when there is no room for one image.
pub fn auto_batch(config: &RunConfig, room: Room) -> Result<AutoBatch, TrainError> {
    config.validate()?;
    let set = config.data.open_train()?.dataset;
    if set.is_empty() {
        return Err(TrainError::Empty { set: "training" });
    }
    let classes = set.label_map().categories().len();
    let images = match config.train.overfit {
        0 => set.len(),
        limit => set.len().min(limit),
    };
    let channels = config.model.channels(classes);
    let of = |batch| {
        let size = largest_input(set.records(), &config.data, config.train.augments(), batch);
        let count = config.model.count(classes, one(size));
        let memory = match room {
            Room::Cpu { .. } => TrainingMemory::on_cpu(&config.train, &count, channels, 1),
            Room::Gpu(_) => TrainingMemory::on_gpu(&config.train, &count, channels, 1),
        };
        Demand::of_memory(&memory, &count, channels, size, config.train.precision)
    };
    let most = (images / (LEAST_STEPS * config.train.accumulate)).max(1);
    one_or_several(of, most, room)
}

/// The largest batch of at most `images` images, where `of` gives the demand of a batch of 1 image or of several.
fn one_or_several(of: impl Fn(usize) -> Demand, images: usize, room: Room) -> Result<AutoBatch, TrainError> {
    // A batch of several images can be padded to a larger size than any image. One image is then taken where two of
    // that size do not fit, and what does not fit is the bound.
    let several = choose(&of(2), images, room);
    let bound = match &several {
        Ok(several) if several.batch == 1 => several.bound,
        Err(TrainError::DoesNotFit(refused)) => match refused.too_large {
            TooLarge::Tensor { .. } => Bound::Tensor,
            TooLarge::Memory { .. } => Bound::Memory,
        },
        _ => return several,
    };
    Ok(AutoBatch { bound, ..choose(&of(1), 1, room)? })
}

/// The largest batch with this demand of at most `images` images.
fn choose(demand: &Demand, images: usize, room: Room) -> Result<AutoBatch, TrainError> {
    let (limits, available, margin) = match room {
        Room::Cpu { free } => (DeviceLimits::default(), share(free, CPU_SHARE), 1.0),
        Room::Gpu(limits) => {
            let memory = limits.memory_bytes.ok_or(TrainError::UnknownMemory)?;
            (limits, share(memory, GPU_SHARE), GPU_MARGIN)
        }
    };
    let by_memory = DeviceLimits { tensor_bytes: None, memory_bytes: Some(available) };
    let by_tensor = DeviceLimits { memory_bytes: None, ..limits };
    // Of equal bounds the first one is named.
    let bounds = [
        (demand.most(by_memory, margin), Bound::Memory),
        (demand.most(by_tensor, margin), Bound::Tensor),
        (Some(images), Bound::Images),
        (Some(MAX_BATCH as usize), Bound::Setting),
    ];
    let bounds = bounds.into_iter().filter_map(|(most, bound)| Some((most?, bound)));
    let (most, bound) = bounds.min_by_key(|(most, _)| *most).expect("two bounds are always known");
    // Where only the margin has no room for one image, one is taken.
    let batch = most.max(1);
    demand.check("train.batch_size", batch, DeviceLimits { memory_bytes: Some(available), ..limits })?;
    Ok(AutoBatch { batch, size: demand.size(), needed: demand.memory_with(batch, margin), available, bound })
}

fn share(bytes: u64, part: f64) -> u64 {
    (bytes as f64 * part) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny;

    const GIB: u64 = 1 << 30;

    fn gpu(memory: u64, tensor: u64) -> Room {
        Room::Gpu(DeviceLimits { tensor_bytes: Some(tensor), memory_bytes: Some(memory) })
    }

    /// The demand of a training step of the configuration's network on images of 64x64 pixels.
    fn demand(config: &RunConfig) -> Demand {
        Demand::of_training(&config.train, &config.model, 3, [64, 64])
    }

    #[test]
    fn the_smallest_bound_decides_and_is_named() {
        let demand = demand(&tiny());
        let of = |images, room| choose(&demand, images, room).map(|auto| (auto.batch, auto.bound)).unwrap();
        assert_eq!(of(7, gpu(GIB, GIB)), (7, Bound::Images));
        assert_eq!(of(1_000_000, gpu(4000 * GIB, 4000 * GIB)), (MAX_BATCH as usize, Bound::Setting));
        let (batch, bound) = of(1_000_000, gpu(GIB / 8, GIB));
        assert!(batch > 1 && batch < MAX_BATCH as usize && bound == Bound::Memory, "{batch} {bound:?}");
        // One image more would not fit with the margin.
        let available = share(GIB / 8, GPU_SHARE);
        assert!(demand.memory_with(batch, GPU_MARGIN) <= available);
        assert!(demand.memory_with(batch + 1, GPU_MARGIN) > available);
        let (batch, bound) = of(1_000_000, gpu(GIB, GIB / 512));
        assert!(batch > 1 && bound == Bound::Tensor, "{batch} {bound:?}");
    }

    /// Two images are padded to 96x96 pixels, one image to 64x96.
    #[test]
    fn the_bound_of_one_image_is_what_keeps_two_from_fitting() {
        let config = tiny();
        let of = |batch: usize| {
            let size = if batch == 1 { [64, 96] } else { [96, 96] };
            Demand::of_training(&config.train, &config.model, 3, size)
        };
        let auto = |images, room| one_or_several(of, images, room).map(|auto| (auto.batch, auto.bound, auto.size));
        let memory = |batch: usize, images| {
            Room::Gpu(DeviceLimits {
                tensor_bytes: None,
                memory_bytes: Some((of(batch).memory_with(images, GPU_MARGIN) as f64 / GPU_SHARE) as u64 + 1),
            })
        };
        assert_eq!(auto(9, memory(2, 2)).unwrap(), (2, Bound::Memory, [96, 96]));
        // One image fits in the size of two, and then not even that.
        assert_eq!(auto(9, memory(2, 1)).unwrap(), (1, Bound::Memory, [64, 96]));
        assert_eq!(auto(9, memory(1, 1)).unwrap(), (1, Bound::Memory, [64, 96]));
        let tensor = |bytes| gpu(GIB, bytes);
        let per_image = 4 * 147 * 32 * 48;
        assert_eq!(auto(9, tensor(per_image)).unwrap(), (1, Bound::Tensor, [64, 96]));
        assert_eq!(auto(1, gpu(GIB, GIB)).unwrap(), (1, Bound::Images, [64, 96]));
        let refused = auto(9, tensor(per_image - 1)).unwrap_err();
        assert!(matches!(refused, TrainError::DoesNotFit(_)), "{refused}");
    }

    #[test]
    fn the_batch_grows_with_16_bit_numbers() {
        let config = tiny();
        let mut half = config.clone();
        half.train.precision = foveal_detector::ComputePrecision::F16;
        let most = |config: &RunConfig| auto_batch_of(config, gpu(GIB / 8, GIB));
        assert!(most(&half) > most(&config), "{} {}", most(&half), most(&config));
    }

    /// The largest batch of images of 64x64 pixels, without the bound of the training set.
    fn auto_batch_of(config: &RunConfig, room: Room) -> usize {
        choose(&demand(config), 1_000_000, room).unwrap().batch
    }

    #[test]
    fn no_batch_is_taken_without_room_or_without_a_known_memory() {
        let demand = demand(&tiny());
        let unknown = Room::Gpu(DeviceLimits { tensor_bytes: Some(GIB), memory_bytes: None });
        assert!(matches!(choose(&demand, 8, unknown), Err(TrainError::UnknownMemory)));
        let refused = choose(&demand, 8, Room::Cpu { free: 1 << 10 }).unwrap_err().to_string();
        assert!(refused.starts_with("train.batch_size: not even one image of 64x64 pixels fits"), "{refused}");
    }

    #[test]
    fn the_batch_follows_from_the_training_set() {
        let mut config = tiny();
        config.train.batch_size = 999;
        let auto = auto_batch(&config, Room::Cpu { free: 64 * GIB }).unwrap();
        // The tiny set has fewer than 32 images, so that 16 steps leave one image each.
        assert_eq!((auto.batch, auto.bound), (1, Bound::Images));
        let text = auto.to_string();
        assert!(text.starts_with("train.batch_size = 1 for images of ") && text.contains("16 steps"), "{text}");
    }
}
