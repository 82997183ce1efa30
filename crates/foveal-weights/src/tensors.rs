//! Tensors on the host, as weight files hold them.

use std::collections::BTreeMap;

use burn::tensor::{bf16, f16};

/// A tensor on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, as many as the shape's product.
    pub values: Vec<f32>,
}

/// Tensors by name, in the order of their names.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// The tensors of a weight file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightFile {
    /// Those of a floating-point type, as f32.
    pub tensors: TensorMap,
    /// Names and types of the others.
    pub others: Vec<OtherTensor>,
    /// The name that a training script gave the network (`arch`), where it wrote one.
    pub arch: Option<String>,
}

/// A tensor that is not of a floating-point type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTensor {
    /// Its name.
    pub name: String,
    /// Its type, as the file's reader names it.
    pub dtype: String,
}

/// The floating-point types that weight files use.
pub(crate) enum Float {
    F64,
    F32,
    F16,
    BF16,
}

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
