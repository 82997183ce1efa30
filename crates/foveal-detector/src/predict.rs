//! From a batch of images to detections: the one composition of network, anchors and post-processing, which the
//! detector, the evaluation and the benchmark share.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_image::{ImageFrame, PaddedBatch};

use crate::{Dense, Detection, ModelConfig, PostprocessConfig, RetinaNet, postprocess};

/// The network's answer for a batch, and what it means.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// Logits and deltas of all anchors.
    pub dense: Dense,
    /// Detections of each image, best first, in pixels of the original image.
    pub detections: Vec<Vec<Detection>>,
}

/// Detects objects in a batch of images. Waits for the device once, to read logits and deltas.
///
/// `model` is the configuration that `network` was built from: it gives the anchors and the class channels.
///
/// # Shapes
/// - images: `[batch, 3, height, width]`, normalised, height and width multiples of 32
/// - frames: one for each image
///
/// # Panics
/// When `model` describes another network, or `frames` are those of another batch.
pub fn predict(
    network: &RetinaNet,
    model: &ModelConfig,
    images: Tensor<4>,
    frames: &[ImageFrame],
    post: &PostprocessConfig,
) -> Predicted {
    let [_, _, height, width] = images.dims();
    let dense = network.forward(images);
    let anchors = model.anchor_boxes(height, width, &dense.grids);
    let detections = postprocess(&dense, &anchors, frames, post, model.class_channels.as_ref());
    Predicted { dense, detections }
}

/// The images of a batch on a device, `[batch, 3, height, width]`.
pub fn image_tensor(images: PaddedBatch, device: &Device) -> Tensor<4> {
    let shape = [images.batch, 3, images.height, images.width];
    Tensor::from_data(TensorData::new(images.data, shape), device)
}
