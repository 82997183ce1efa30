//! Limits that keep a small `.pth` file from becoming a large allocation.

use std::io::{Read, Seek};
use std::path::Path;

use burn::store::pytorch_reader::Tensor as TorchTensor;
use zip::{CompressionMethod, ZipArchive};

/// Limit of the memory of all tensors, as a multiple of the file size. A few tensors may share one storage, as tied
/// weights do, but not hundreds.
const SHARING: u64 = 4;
/// Number of bytes that the tensors of a file may always take, however small the file is.
const SMALL: u64 = 1 << 20;

/// Refuses compressed zip entries, which could grow without limit when read. `torch.save` does not compress its
/// entries.
pub(crate) fn entries(archive: &mut ZipArchive<impl Read + Seek>) -> Result<(), String> {
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(|e| format!("a damaged zip archive ({e})"))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!(
                "a zip archive with a compressed entry {} ({} bytes that expand to {}), which torch.save never writes; \
                 save the weights again with torch.save",
                entry.name().unwrap_or_default(),
                entry.compressed_size(),
                entry.size()
            ));
        }
    }
    Ok(())
}

/// Refuses tensors that together are far larger than their file, such as many overlapping views of a small storage.
pub(crate) fn tensors<'a>(path: &Path, tensors: impl Iterator<Item = &'a TorchTensor>) -> Result<(), String> {
    let file = path.metadata().map_err(|e| e.to_string())?.len();
    let limit = file.saturating_mul(SHARING).saturating_add(SMALL);
    let total = tensors.map(|t| t.byte_len() as u64).fold(0, u64::saturating_add);
    if total > limit {
        return Err(format!("tensors of {total} bytes in a file of {file} bytes"));
    }
    Ok(())
}
