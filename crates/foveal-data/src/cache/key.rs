//! What an image of a cache is found by.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::Dataset;
use crate::augment::Size;
use crate::dataset::ImageSource;

/// Changes when an image of the same key would have other pixels, although the version of the package is the same.
const FORMAT: u32 = 1;

/// The work that was done for an image of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The file was decoded, and its EXIF orientation applied unless the data set refers to the stored pixels.
    Decoded,
    /// The decoded image was flipped and then resized with antialiasing.
    Resized {
        /// Size in pixels after resizing.
        size: Size,
        /// Whether left and right, and top and bottom, were swapped before.
        flips: [bool; 2],
    },
}

/// The SHA-256 of everything that the pixels depend on: the path of the file, its length and time of modification, its
/// size in pixels, the work that was done, and the version of foveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub [u8; 32]);

impl Key {
    /// The key of image `index` of a data set. `None` if the image has no file, or if the system does not tell the time
    /// of its modification; loading the image then says what is wrong.
    pub(crate) fn of(dataset: &Dataset, index: usize, stage: Stage) -> Option<Self> {
        let ImageSource::File { path, stored, .. } = &dataset.sources[index] else { return None };
        let found = fs::metadata(path).ok()?;
        let modified = found.modified().ok()?;
        // Seconds and nanoseconds before or after 1970.
        let (before, time) = match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => (0, after),
            Err(error) => (1, error.duration()),
        };
        let record = dataset.record(index);
        let work = match stage {
            Stage::Decoded => [0; 5],
            Stage::Resized { size, flips: [horizontal, vertical] } => {
                [1, size.width, size.height, u32::from(horizontal), u32::from(vertical)]
            }
        };
        let mut hash = Sha256::new();
        let mut text = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        text(env!("CARGO_PKG_VERSION").as_bytes());
        text(absolute(path).as_os_str().as_encoded_bytes());
        for number in [found.len(), before, time.as_secs(), u64::from(time.subsec_nanos())] {
            hash.update(number.to_le_bytes());
        }
        for number in [FORMAT, record.width, record.height, u32::from(*stored)].into_iter().chain(work) {
            hash.update(number.to_le_bytes());
        }
        Some(Self(hash.finalize().into()))
    }

    /// The key in hexadecimal digits.
    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The path from the root, so that runs in different folders share their entries. Links are not resolved.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
