//! Atomic writing: a file has either its old content or the complete new content.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// The error of a file that could not be written. The message names the path and the reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// Path of the file that was to be written, as the caller gave it.
    pub path: PathBuf,
    /// Error of the operating system, or of the function that produced the content.
    pub source: io::Error,
}

/// Writes `bytes` to the file `path` atomically: a reader sees either the old content or the complete new content.
///
/// The content goes to a temporary file in the same folder, which is synced to the disk and then renamed. A symbolic
/// link is followed, and the file that it points to is replaced. A path that exists and is not a regular file, such as
/// a pipe or a terminal, is written directly.
///
/// # Errors
/// [`WriteError`] if the folder does not exist or the file cannot be written. The temporary file is then removed, and
/// the old content remains.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_atomically_with(path, |out| out.write_all(bytes))
}

/// Writes the file `path` atomically, with content that the function `fill` writes piece by piece to a buffered writer.
///
/// A reader sees either the old content or the complete new content: a temporary file in the same folder is filled,
/// synced to the disk and then renamed. A symbolic link is followed; a pipe or a terminal is written directly.
///
/// # Errors
/// [`WriteError`] if the folder does not exist, the file cannot be written, or `fill` returns an error. The temporary
/// file is then removed, and the old content remains.
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
        // An error of the removal is ignored: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

/// Whether a function waits until the content is on the disk.
#[derive(PartialEq)]
enum Sync {
    Wait,
    /// For pipes and devices, which cannot be synced.
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
