//! Writing a file of the run so that it is never left half written.

use std::path::Path;

use crate::error::TrainError;

/// Writes a file under a temporary name, syncs it to the disk and renames it. After a crash the file has its old or its
/// new content, never a part of it.
///
/// # Errors
/// [`TrainError::Write`] when the file cannot be written; the old content is then kept.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    Ok(foveal_base::write_atomically(path, bytes)?)
}
