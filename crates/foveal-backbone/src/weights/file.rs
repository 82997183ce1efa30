//! Weight files: safetensors, and PyTorch's pickled state dicts (read without executing anything).

use std::path::Path;

use burn::store::pytorch_reader::{DType as TorchType, PytorchReader};
use burn::tensor::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::{HostTensor, TensorMap, WeightsError, bound};

/// The floating-point types that weight files use.
enum Float {
    F64,
    F32,
    F16,
    BF16,
}

/// The tensors of a weight file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightFile {
    /// Those of a floating-point type, as f32.
    pub tensors: TensorMap,
    /// Names and types of the others.
    pub others: Vec<OtherTensor>,
}

/// A tensor that is not of a floating-point type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherTensor {
    /// Its name.
    pub name: String,
    /// Its type, as the file's reader names it.
    pub dtype: String,
}

/// Reads every floating-point tensor of a `.safetensors` or `.pth` file as f32; the kind is told by the content.
/// Integer tensors (torch's `num_batches_tracked`) are left out.
///
/// # Errors
/// When the file cannot be read, is of neither kind, is damaged, or carries a non-finite value.
pub fn read_weights(path: &Path) -> Result<TensorMap, WeightsError> {
    Ok(read_weight_file(path)?.tensors)
}

/// As [`read_weights`], and tells which tensors were left out.
///
/// # Errors
/// As [`read_weights`].
pub fn read_weight_file(path: &Path) -> Result<WeightFile, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(io)?;
    let file = if looks_like_safetensors(&bytes) {
        parse_safetensors(path, &bytes)?
    } else {
        drop(bytes);
        tensors_from_torch(path)?
    };
    for (name, tensor) in &file.tensors {
        if let Some(element) = tensor.values.iter().position(|v| !v.is_finite()) {
            return Err(WeightsError::NonFinite { path: path.to_owned(), name: name.clone(), element });
        }
    }
    Ok(file)
}

/// A safetensors file opens with the length of its JSON header, then the header's brace.
fn looks_like_safetensors(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[8] == b'{'
}

/// The floating-point tensors of a safetensors file's bytes.
///
/// # Errors
/// [`WeightsError::Format`] when the bytes are not a whole safetensors file; `path` names it.
pub fn tensors_from_safetensors(path: &Path, bytes: &[u8]) -> Result<TensorMap, WeightsError> {
    Ok(parse_safetensors(path, bytes)?.tensors)
}

fn parse_safetensors(path: &Path, bytes: &[u8]) -> Result<WeightFile, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| WeightsError::Format {
        path: path.to_owned(),
        found: format!("a damaged safetensors file ({e})"),
    })?;
    let mut out = WeightFile::default();
    for (name, view) in file.iter() {
        let float = match view.dtype() {
            Dtype::F64 => Float::F64,
            Dtype::F32 => Float::F32,
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            other => {
                out.others.push(OtherTensor { name: name.to_owned(), dtype: format!("{other:?}") });
                continue;
            }
        };
        let tensor = HostTensor { shape: view.shape().to_vec(), values: floats(&float, view.data()) };
        out.tensors.insert(name.to_owned(), tensor);
    }
    Ok(out)
}

fn tensors_from_torch(path: &Path) -> Result<WeightFile, WeightsError> {
    let format = |found: String| WeightsError::Format { path: path.to_owned(), found };
    let open = |key: Option<&str>| match key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    bound::entries(path).map_err(format)?;
    let mut reader = open(None).map_err(|e| format(e.to_string()))?;
    // Checkpoints of training scripts wrap the state dict.
    for key in ["state_dict", "model", "model_state_dict"] {
        if reader.keys().iter().any(|k| k.starts_with(&format!("{key}."))) {
            reader = open(Some(key)).map_err(|e| format(e.to_string()))?;
            break;
        }
    }
    bound::tensors(path, reader.tensors().values()).map_err(format)?;
    let mut out = WeightFile::default();
    for (name, tensor) in reader.into_tensors() {
        let float = match tensor.dtype() {
            TorchType::F64 => Float::F64,
            TorchType::F32 => Float::F32,
            TorchType::F16 => Float::F16,
            TorchType::BF16 => Float::BF16,
            other => {
                out.others.push(OtherTensor { name, dtype: format!("{other:?}") });
                continue;
            }
        };
        let bytes = tensor.read().map_err(|e| format(format!("tensor {name} unreadable ({e})")))?;
        out.tensors.insert(name, HostTensor { shape: tensor.shape().to_vec(), values: floats(&float, &bytes) });
    }
    Ok(out)
}

fn floats(kind: &Float, bytes: &[u8]) -> Vec<f32> {
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
