//! The files of a cache on disk.
//!
//! A file has a header, and the RGB pixels row by row:
//!
//! | bytes | content |
//! |---|---|
//! | 0 to 7 | `fovealC1` |
//! | 8 to 39 | the key |
//! | 40 to 47 | width and height in pixels, u32 little-endian |
//! | 48 to 51 | CRC-32 of the bytes 8 to 47 and of the pixels, u32 little-endian |
//! | from 52 on | pixels |
//!
//! Files are written under another name and renamed, so that several processes can share a folder. They are not synced
//! to the disk: what a power failure damages is found by the checksum, and made again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foveal_base::{WriteError, replace_unsynced};
use foveal_image::RgbImage;

use super::Found;
use super::key::Key;
use crate::augment::Size;

/// The first bytes of a file.
const MAGIC: &[u8; 8] = b"fovealC1";
/// Where the header has the key, the size, the checksum, and where it ends.
const KEY: usize = MAGIC.len();
const SIZE: usize = KEY + 32;
const CHECKSUM: usize = SIZE + 8;
pub(super) const HEADER: usize = CHECKSUM + 4;
/// End of the names of the files.
const SUFFIX: &str = ".fovealimage";

/// The folder of a cache.
#[derive(Debug)]
pub(super) struct Folder(pub PathBuf);

impl Folder {
    fn path(&self, key: &Key) -> PathBuf {
        self.0.join(key.hex() + SUFFIX)
    }

    /// The image of this key and size in pixels.
    pub(super) fn get(&self, key: &Key, size: Size) -> Found {
        match fs::read(self.path(key)) {
            Ok(bytes) => decode(bytes, key, size).map_or(Found::Damaged, Found::Image),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Absent,
            Err(_) => Found::Damaged,
        }
    }

    /// Writes an image, in place of an earlier file of this key.
    pub(super) fn put(&self, key: &Key, image: &RgbImage) -> Result<(), WriteError> {
        replace_unsynced(&self.path(key), &encode(key, image))
    }

    /// Number of bytes of all files in the folder, also of those that killed processes have left half written.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        bytes(&self.0)
    }
}

fn bytes(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        // Another process may have renamed the file in the meantime.
        sum += entry?.metadata().map_or(0, |found| found.len());
    }
    Ok(sum)
}

fn encode(key: &Key, image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + image.as_raw().len());
    bytes.extend(MAGIC);
    bytes.extend(key.0);
    bytes.extend(image.width().to_le_bytes());
    bytes.extend(image.height().to_le_bytes());
    bytes.extend(checksum(&bytes[KEY..], image.as_raw()).to_le_bytes());
    bytes.extend(image.as_raw());
    bytes
}

/// The image of a file; `None` if the file is damaged or has another key or size.
fn decode(mut bytes: Vec<u8>, key: &Key, size: Size) -> Option<RgbImage> {
    let (header, pixels) = bytes.split_at_checked(HEADER)?;
    let number = |at: usize| Some(u32::from_le_bytes(*header[at..].first_chunk()?));
    let whole = header.starts_with(MAGIC)
        && header[KEY..SIZE] == key.0
        && Size { width: number(SIZE)?, height: number(SIZE + 4)? } == size
        && checksum(&header[KEY..CHECKSUM], pixels) == number(CHECKSUM)?;
    if !whole {
        return None;
    }
    bytes.drain(..HEADER);
    RgbImage::from_raw(size.width, size.height, bytes).filter(|image| {
        // `from_raw` accepts more bytes than the image needs.
        image.as_raw().len() as u64 == super::pixel_bytes(size)
    })
}

fn checksum(header: &[u8], pixels: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(pixels);
    crc.finalize()
}
