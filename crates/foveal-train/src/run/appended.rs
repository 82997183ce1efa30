//! Files that grow at their end during a run.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use foveal_base::write_atomically;

/// A file of lines or records, which grows at its end.
#[derive(Debug)]
pub(super) struct AppendedFile {
    path: PathBuf,
    /// The open file; `None` before its first content was written.
    file: Option<File>,
    /// Length of the file in bytes, without a line or record that was written in part.
    length: u64,
    /// Content that is not in the file yet.
    unwritten: Vec<u8>,
    /// Whether the file is written anew, with `unwritten` as its whole content.
    renew: bool,
}

impl AppendedFile {
    /// A file at `path` that is replaced by `content` at the next write.
    pub(super) fn new(path: PathBuf, content: Vec<u8>) -> Self {
        Self { path, file: None, length: 0, unwritten: content, renew: true }
    }

    /// Adds a line or record, which the next write writes.
    pub(super) fn extend(&mut self, content: &[u8]) {
        self.unwritten.extend_from_slice(content);
    }

    /// The open file; `None` before its first content was written.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Writes what is not in the file yet. After an error the file ends with a whole line or record.
    ///
    /// # Errors
    /// If the file cannot be written; the error names it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let error =
            |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
        if self.renew {
            write_atomically(&self.path, &self.unwritten).map_err(io::Error::other)?;
            (self.renew, self.length) = (false, self.unwritten.len() as u64);
            self.unwritten.clear();
        }
        if self.file.is_none() {
            self.file = Some(File::options().append(true).open(&self.path).map_err(|e| error(&self.path, e))?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.unwritten.is_empty() {
            return Ok(());
        }
        match file.write_all(&self.unwritten) {
            Ok(()) => {
                self.length += self.unwritten.len() as u64;
                self.unwritten.clear();
                Ok(())
            }
            Err(e) => {
                // If the part of a line or record cannot be removed, it is left out when the run is resumed.
                let _ = file.set_len(self.length);
                Err(error(&self.path, e))
            }
        }
    }
}
