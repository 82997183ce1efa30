//! Prediction: the composition of network, anchors and post-processing that the detector and the benchmark share, and
//! the way of images to the device.

use burn::tensor::{Device, Tensor, TensorData};
use foveal_image::{ImageBatch, ImageFrame};
use foveal_kernels::{is_gpu, normalise_bytes};

use crate::{Dense, Detection, ModelConfig, NonFiniteOutput, PostprocessConfig, RetinaNet, postprocess};

/// Raw predictions and detections of a batch of images.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// Class logits and box deltas of all anchors, on the device.
    pub dense: Dense,
    /// Detections of each image in descending order of score, with boxes in pixels of the original image.
    pub detections: Vec<Vec<Detection>>,
}

/// Detects objects in a batch of images: forward pass, anchors and [`postprocess()`]. Waits for the device in
/// [`postprocess()`] only, to read logits and deltas or, from a GPU, the candidates among them.
///
/// `model` is the config from which `network` was built; it determines the anchors and the class channels.
///
/// # Shapes
/// - images: `[batch, 3, height, width]`, normalised; height and width are multiples of 32
/// - frames: sizes before and after resizing in pixels, one entry per image
///
/// # Errors
/// [`NonFiniteOutput`] if a logit or a delta is NaN or infinite, with the images of the batch that have one.
///
/// # Panics
/// If `model` has other anchors or class channels than `network`, or if the number of `frames` is not the batch size.
pub fn predict(
    network: &RetinaNet,
    model: &ModelConfig,
    images: Tensor<4>,
    frames: &[ImageFrame],
    post: &PostprocessConfig,
) -> Result<Predicted, NonFiniteOutput> {
    let [_, _, height, width] = images.dims();
    let dense = network.forward(images);
    let anchors = model.anchor_boxes(height, width, &dense.grids);
    let detections = postprocess(&dense, &anchors, frames, post, model.class_channels.as_ref())?;
    Ok(Predicted { dense, detections })
}

/// Moves the images of a batch to a device and normalises them, if they are bytes. A GPU receives the bytes and
/// normalises them itself, to the same values as the host. Other devices receive normalised values.
///
/// # Shapes
/// - result: `[batch, 3, height, width]`, normalised; the padding is 0
pub fn image_tensor(images: impl Into<ImageBatch>, device: &Device) -> Tensor<4> {
    match images.into() {
        ImageBatch::Bytes(bytes) if is_gpu(device) => normalise_bytes(bytes.dims(), bytes.into_packed(), device),
        images => {
            let images = images.into_normalised();
            let shape = [images.batch, 3, images.height, images.width];
            Tensor::from_data(TensorData::new(images.data, shape), device)
        }
    }
}
