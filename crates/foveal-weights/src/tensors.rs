//! Tensors in host memory, as they are stored in weight files.

use std::collections::BTreeMap;

use burn::tensor::{bf16, f16};

/// Tensor in host memory: a shape and `f32` values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Shape of the tensor, outermost axis first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values in row-major order; their number is the product of `shape`.
    pub values: Vec<f32>,
}

/// Tensors by full parameter name, such as `layer1.0.conv1.weight`, sorted by name.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// Contents of a weight file, as returned by [`read_weight_file`](crate::read_weight_file).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightFile {
    /// Floating-point tensors, converted to `f32`.
    pub tensors: TensorMap,
    /// Names and types of the tensors that are not of a floating-point type.
    pub others: Vec<OtherTensor>,
    /// Name of the network that a training script stored under the key `arch`, such as timm's `resnet50`, if any.
    pub arch: Option<String>,
}

/// Name and type of a tensor that is not of a floating-point type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTensor {
    /// Full name of the tensor in the file.
    pub name: String,
    /// Name of the element type, such as `I64`, as the reader of the file format gives it.
    pub dtype: String,
}

/// The floating-point types that weight files use.
pub(crate) enum Float {
    F64,
    F32,
    F16,
    BF16,
}

/// Converts little-endian bytes of the given type to `f32`.
pub(crate) fn floats(kind: &Float, bytes: &[u8]) -> Vec<f32> {
    fn map<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    match kind {
        Float::F64 => map(bytes, |c| f64::from_le_bytes(c) as f32),
        Float::F32 => map(bytes, f32::from_le_bytes),
        Float::F16 => map(bytes, |c| f16::from_le_bytes(c).to_f32()),
        Float::BF16 => map(bytes, |c| bf16::from_le_bytes(c).to_f32()),
    }
}
