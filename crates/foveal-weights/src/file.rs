//! Reading of weight files: safetensors and, in `torch.rs`, PyTorch.

use std::io::Read;
use std::path::Path;

use foveal_base::{excerpt, text::open_data};
use safetensors::{Dtype, SafeTensors};

use crate::tensors::{Float, floats};
use crate::{HostTensor, OtherTensor, TensorMap, WeightFile, WeightsError, torch};

/// Reads all floating-point tensors of a `.safetensors` or `.pth` file as `f32`. The file type is recognised by its
/// content. Tensors of other types, such as torch's `num_batches_tracked`, are left out.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be read; [`WeightsError::Format`] if it has another format or is damaged;
/// [`WeightsError::NonFinite`] if a tensor contains NaN or an infinite value.
pub fn read_weights(path: &Path) -> Result<TensorMap, WeightsError> {
    Ok(read_weight_file(path)?.tensors)
}

/// Reads all floating-point tensors of a `.safetensors` or `.pth` file as `f32`, together with the names of the tensors
/// of other types and the network's name, if the file has one. The file type is recognised by its content.
///
/// # Errors
/// [`WeightsError::Io`] if the file cannot be read; [`WeightsError::Format`] if it has another format or is damaged;
/// [`WeightsError::NonFinite`] if a tensor contains NaN or an infinite value.
pub fn read_weight_file(path: &Path) -> Result<WeightFile, WeightsError> {
    let io = |source| WeightsError::Io { path: path.to_owned(), source };
    let mut opened = open_data(path).map_err(io)?;
    let mut bytes = Vec::new();
    opened.by_ref().take(SNIFFED).read_to_end(&mut bytes).map_err(io)?;
    let file = if looks_like_safetensors(&bytes) {
        opened.read_to_end(&mut bytes).map_err(io)?;
        parse_safetensors(path, &bytes)?
    } else {
        torch::read(path, &bytes)?
    };
    check_names(path, &file)?;
    for (name, tensor) in &file.tensors {
        if let Some(element) = tensor.values.iter().position(|v| !v.is_finite()) {
            return Err(WeightsError::NonFinite { path: path.to_owned(), name: name.clone(), element });
        }
    }
    Ok(file)
}

/// Largest length of the name of a tensor in bytes. Those of published networks have fewer than 100.
const LONGEST_NAME: usize = 500;
/// Number of bytes that are read to recognise the file type. The magic number of tar archives is at byte 257.
const SNIFFED: u64 = 512;

/// Whether the file could be a safetensors file: eight bytes with the length of the JSON header, then its brace.
fn looks_like_safetensors(bytes: &[u8]) -> bool {
    bytes.len() > 8 && bytes[8] == b'{'
}

/// Parses the bytes of a safetensors file and returns its floating-point tensors as `f32`. `path` is only used in error
/// messages. Values may be non-finite.
///
/// # Errors
/// [`WeightsError::Format`] if the bytes are not a complete safetensors file.
pub fn tensors_from_safetensors(path: &Path, bytes: &[u8]) -> Result<TensorMap, WeightsError> {
    let file = parse_safetensors(path, bytes)?;
    check_names(path, &file)?;
    Ok(file.tensors)
}

/// Refuses names that no network has, which would fill messages.
fn check_names(path: &Path, file: &WeightFile) -> Result<(), WeightsError> {
    let others = file.others.iter().map(|other| &other.name);
    match file.tensors.keys().chain(others).chain(&file.arch).map(String::len).find(|length| *length > LONGEST_NAME) {
        Some(length) => {
            let found = format!("a name of {length} bytes, where names have at most {LONGEST_NAME}");
            Err(WeightsError::Format { path: path.to_owned(), found })
        }
        None => Ok(()),
    }
}

fn parse_safetensors(path: &Path, bytes: &[u8]) -> Result<WeightFile, WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| WeightsError::Format {
        path: path.to_owned(),
        found: format!("a damaged safetensors file ({})", excerpt(e)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn names_that_would_fill_messages_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = |length: usize, dtype: Dtype| {
            let path = dir.path().join(format!("{length}.safetensors"));
            let view = TensorView::new(dtype, vec![1], &[0; 4]).unwrap();
            std::fs::write(&path, safetensors::serialize([("n".repeat(length), view)], None).unwrap()).unwrap();
            path
        };
        for dtype in [Dtype::F32, Dtype::I32] {
            let path = file(LONGEST_NAME + 1, dtype);
            let text = read_weight_file(&path).unwrap_err().to_string();
            assert!(text.contains("501.safetensors") && text.contains("501 bytes") && text.len() < 500, "{text}");
            let bytes = std::fs::read(&path).unwrap();
            assert!(tensors_from_safetensors(&path, &bytes).is_err());
            assert!(read_weight_file(&file(LONGEST_NAME, dtype)).is_ok());
        }
    }
}
