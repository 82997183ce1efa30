//! The inputs and outputs of the network that a benchmark times, as a file with which other programs are compared.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use foveal_base::write_atomically;
use foveal_detector::{Checkpoint, Dense};
use foveal_weights::{HostTensor, named_tensors};

use super::inputs::{Inputs, network};
use crate::blackbox::tensors_to_bytes;
use crate::config::RunConfig;
use crate::error::TrainError;

/// Writes the images of [`BenchPhases::Raw`](super::BenchPhases::Raw), what the network computes from them, and its
/// weights to a safetensors file.
///
/// # Shapes
/// - `images`: `[batch, 3, height, width]`, normalised
/// - `logits`: `[batch, anchors, class channels]`
/// - `deltas`: `[batch, anchors, 4]`
/// - weights and running statistics, under torchvision's names with the prefix `network.`
///
/// # Errors
/// [`TrainError::Config`] for an invalid configuration, [`TrainError::Model`] when `model.weights` cannot be used, and
/// [`TrainError::Write`] when the file cannot be written.
///
/// # Panics
/// When the device fails.
pub fn write_raw_outputs(
    config: &RunConfig,
    device: &Device,
    detector: Option<&Checkpoint>,
    path: &Path,
) -> Result<(), TrainError> {
    config.validate()?;
    let inputs = Inputs::new(config, device);
    let (network, _) = network(config, detector, &inputs.device)?;
    let network = network.valid();
    let images = inputs.with_images(|images| images());
    let Dense { logits, deltas, .. } = network.forward(config.train.precision.cast(images.clone()));
    let mut tensors = named_tensors(&network);
    tensors = tensors.into_iter().map(|(name, tensor)| (format!("network.{name}"), tensor)).collect();
    tensors.insert("images".to_owned(), host(images));
    tensors.insert("logits".to_owned(), host(logits));
    tensors.insert("deltas".to_owned(), host(deltas));
    Ok(write_atomically(path, &tensors_to_bytes(&tensors))?)
}

fn host<const D: usize>(tensor: Tensor<D>) -> HostTensor {
    let shape = tensor.dims().to_vec();
    let values = tensor.into_data().convert::<f32>().try_to_vec().expect("a float tensor is readable as f32");
    HostTensor { shape, values }
}
