//! The outputs of the network that the losses are computed from.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The logits and deltas of a batch.
pub(crate) struct Predicted<'a> {
    /// Class logits, `[batch, anchors, classes]`.
    pub(crate) logits: &'a Tensor<3>,
    /// Box deltas, `[batch, anchors, 4]`.
    pub(crate) deltas: &'a Tensor<3>,
}

/// Copies class ids or indices to a device, `[values]`.
pub(crate) fn int_tensor(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}
