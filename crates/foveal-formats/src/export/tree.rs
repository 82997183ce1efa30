//! The folders that an export writes: annotation files and links or copies of images.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use foveal_base::{WriteError, write_atomically};

use super::Placement;
use super::source::Picture;
use crate::FormatError;

/// Checks that a folder is new or empty.
///
/// # Errors
/// [`FormatError::Convert`] if it has entries, [`FormatError::Io`] if it cannot be read.
pub(super) fn is_new(folder: &Path) -> Result<(), FormatError> {
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FormatError::io(folder, error)),
    };
    if entries.next().is_some() {
        let reason = "the folder exists and is not empty; expected a new or empty folder";
        return Err(FormatError::convert(folder, reason));
    }
    Ok(())
}

/// Creates a folder and those that contain it.
pub(super) fn create(folder: &Path) -> Result<(), FormatError> {
    std::fs::create_dir_all(folder).map_err(|source| FormatError::io(folder, source))
}

/// Writes a file that may be replaced, and creates its folder.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    if let Some(parent) = path.parent() {
        create(parent)?;
    }
    Ok(write_atomically(path, bytes)?)
}

/// Writes a file in a folder that was new. Syncing each of thousands of small files would take minutes, and an export
/// that is interrupted is repeated in another folder.
///
/// # Errors
/// [`FormatError::Write`] if the file exists or cannot be written.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    if let Some(parent) = path.parent() {
        create(parent)?;
    }
    let file = std::fs::File::options().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    Ok(written.map_err(|source| WriteError { path: path.to_owned(), source })?)
}

/// Links or copies the images whose files are known into a folder, under their names. Returns their number.
///
/// # Errors
/// [`FormatError::Write`] if a link or a copy cannot be made.
pub(super) fn place(folder: &Path, pictures: &[Picture], placement: Placement) -> Result<usize, FormatError> {
    let mut count = 0;
    for picture in pictures {
        let Some(from) = &picture.path else { continue };
        let to = folder.join(&picture.name);
        if let Some(parent) = to.parent() {
            create(parent)?;
        }
        let done = match placement {
            Placement::Link => std::path::absolute(from).and_then(|from| link(&from, &to)),
            Placement::Copy => std::fs::copy(from, &to).map(drop),
        };
        done.map_err(|source| WriteError { path: to.clone(), source })?;
        count += 1;
    }
    Ok(count)
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Symbolic links need a privilege on Windows; a second name of the file needs none.
#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)
}

/// The path of the annotation file of an image, with another extension.
pub(super) fn beside(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(format!("{}.{extension}", stem(name)))
}

/// The name of an image without its extension, with its folders.
pub(super) fn stem(name: &str) -> String {
    Path::new(name).with_extension("").to_string_lossy().into_owned()
}
