//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// Writes a file so that a reader sees the old content or the whole new one: under a temporary name in the same folder,
/// synced, then renamed. A link is followed, and its target replaced. What is no file, such as a pipe or a terminal,
/// is written to directly.
///
/// # Errors
/// When the folder or the file cannot be written; the temporary file is then removed and the old content stands.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_atomically_with(path, |out| out.write_all(bytes))
}

/// Writes a file like [`write_atomically`], with content that `fill` produces piece by piece.
///
/// # Errors
/// When the folder or the file cannot be written, or `fill` fails; the temporary file is then removed and the old
/// content stands.
pub fn write_atomically_with(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let error = |source| WriteError { path: path.to_owned(), source };
    let present = fs::metadata(path).ok();
    if present.as_ref().is_some_and(|known| !known.is_file()) {
        return write_to(path, fill, Sync::Skip).map_err(error);
    }
    let target = if present.is_some() { path.canonicalize().map_err(error)? } else { path.to_owned() };
    let temporary = temporary_name(&target);
    let result = write_to(&temporary, fill, Sync::Wait).and_then(|()| fs::rename(&temporary, &target));
    result.map_err(|source| {
        // Best effort: the error that matters is the one at hand.
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

/// Whether the disk must have the content before a function returns.
#[derive(PartialEq)]
enum Sync {
    Wait,
    /// For pipes and devices, which have no disk behind them.
    Skip,
}

fn write_to(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>, sync: Sync) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    fill(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if sync == Sync::Wait { file.sync_all() } else { Ok(()) }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_old_content_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_atomically(&path, b"old").unwrap();
        let error = write_atomically_with(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("the disk is full"))
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("a.txt") && text.contains("the disk is full"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = write_atomically(&dir.path().join("none/a.txt"), b"").unwrap_err().to_string();
        assert!(text.contains("none"), "{text}");
        assert!(write_atomically(dir.path(), b"").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        write_atomically(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
