//! Files that are whole or not there.

use std::path::Path;

use crate::error::TrainError;

/// Writes a file to a temporary name, syncs and renames it: a crash leaves the old one or the new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    Ok(foveal_base::write_atomically(path, bytes)?)
}
