//! The lock of a run folder, which lets a single process train in it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::TrainError;

/// Takes the lock `path` of the run folder `run`, and writes the number of this process into it. The lock is held until
/// the returned file is dropped; the system releases it when the process dies. The file itself stays.
///
/// # Errors
/// [`TrainError::InUse`] when another process holds the lock; [`TrainError::Io`] when the file cannot be opened, or the
/// file system has no locks.
pub(super) fn take(run: &Path, path: &Path) -> Result<File, TrainError> {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(TrainError::io(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // The number of the process is only told; where it cannot be read, the message goes without it.
            let _ = file.read_to_string(&mut owner);
            return Err(TrainError::InUse { path: run.to_owned(), process: owner.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(TrainError::io(path)(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(TrainError::io(path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_has_one_owner_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(dir.path(), &path).unwrap();
        let refused = take(dir.path(), &path).unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, TrainError::InUse { process: Some(id), .. } if id == own), "{refused}");
        drop(first);
        assert!(take(dir.path(), &path).is_ok());
    }
}
