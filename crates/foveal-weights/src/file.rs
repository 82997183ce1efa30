//! Weight files: safetensors, and PyTorch's (`torch.rs`).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::tensors::{Float, floats};
use crate::{HostTensor, OtherTensor, TensorMap, WeightFile, WeightsError, torch};

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
    let mut opened = File::open(path).map_err(io)?;
    let metadata = opened.metadata().map_err(io)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a device or a pipe" }.to_owned();
        return Err(WeightsError::Format { path: path.to_owned(), found });
    }
    let mut bytes = Vec::new();
    opened.by_ref().take(SNIFFED).read_to_end(&mut bytes).map_err(io)?;
    let file = if looks_like_safetensors(&bytes) {
        opened.read_to_end(&mut bytes).map_err(io)?;
        parse_safetensors(path, &bytes)?
    } else {
        torch::read(path, &bytes)?
    };
    for (name, tensor) in &file.tensors {
        if let Some(element) = tensor.values.iter().position(|v| !v.is_finite()) {
            return Err(WeightsError::NonFinite { path: path.to_owned(), name: name.clone(), element });
        }
    }
    Ok(file)
}

/// Bytes that tell the kind of a file: a tar archive's magic number stands at 257.
const SNIFFED: u64 = 512;

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
