//! What the losses are computed from.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// A batch's logits and deltas.
pub(crate) struct Predicted<'a> {
    /// `[batch, anchors, classes]`
    pub(crate) logits: &'a Tensor<3>,
    /// `[batch, anchors, 4]`
    pub(crate) deltas: &'a Tensor<3>,
}

/// Class ids or indices on a device, `[values]`.
pub(crate) fn int_tensor(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}
