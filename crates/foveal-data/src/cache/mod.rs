//! A cache of decoded and resized images (`data.cache`), in memory or on disk.
//!
//! A cache changes no batch: an image from it has the same bytes as one that was decoded and resized again. The key of
//! an image contains the length and the time of modification of its file, so that a file that changes is decoded again,
//! and one that is gone is an error as without a cache.

mod config;
mod disk;
mod key;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foveal_image::RgbImage;

use crate::augment::Size;
use crate::{DataConfig, DataError, Dataset};
use disk::Folder;
use key::Key;

pub use config::{CacheConfig, CacheKind};
pub(crate) use key::Stage;

/// One part of this many of the limit is added to a folder before its size is measured again, because other processes
/// add files too.
const PARTS: u64 = 32;
/// Bytes of a pixel.
const RGB_BYTES: u64 = 3;

/// A cache of images, which all loaders of a run share. It is made by [`ImageCache::open`] and given to
/// [`cached_loader`](crate::cached_loader).
///
/// An image that does not fit into the limit is not added, and none is removed for it. Several processes can share the
/// folder of a cache on disk. Together they can exceed the limit by up to a part of 32 of it for each process.
pub struct ImageCache {
    store: Store,
    limit: u64,
    room: Mutex<Room>,
    /// Whether images are still added: none did not fit, and all could be written.
    open: AtomicBool,
    counts: Counts,
    notes: Mutex<Vec<String>>,
}

/// Numbers of images that were asked for since the cache was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Images that were in the cache.
    pub found: u64,
    /// Images that were decoded and added.
    pub added: u64,
    /// Images that were decoded and not added, because the cache was full or could not be written.
    pub left_out: u64,
    /// Entries that were damaged. Their images are counted in `added` or `left_out` too.
    pub damaged: u64,
}

#[derive(Default)]
struct Counts {
    found: AtomicU64,
    added: AtomicU64,
    left_out: AtomicU64,
    damaged: AtomicU64,
}

enum Store {
    Memory(Mutex<HashMap<Key, Arc<RgbImage>>>),
    Disk(Folder),
}

/// The bytes that a cache takes.
#[derive(Default)]
struct Room {
    used: u64,
    /// Bytes that were added since the size of the folder was measured.
    unmeasured: u64,
    /// Bytes of the images that threads are adding.
    unwritten: u64,
}

/// What a cache has for a key.
enum Found {
    Image(RgbImage),
    Absent,
    Damaged,
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ImageCache").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl ImageCache {
    /// Opens the cache of a configuration, and creates the folder of a cache on disk. `None` if `data.cache.kind` is
    /// `off`.
    ///
    /// # Errors
    /// [`DataError::Setting`] if `data.cache` is invalid, [`DataError::Io`] if the folder cannot be created or read.
    pub fn open(config: &DataConfig) -> Result<Option<Arc<Self>>, DataError> {
        let settings = &config.cache;
        settings.validate(config.source).map_err(|error| error.within("data.cache"))?;
        let (store, used) = match (settings.kind, &settings.dir) {
            (CacheKind::Off, _) | (CacheKind::Disk, None) => return Ok(None),
            (CacheKind::Memory, _) => (Store::Memory(Mutex::default()), 0),
            (CacheKind::Disk, Some(dir)) => {
                let folder = Folder(dir.clone());
                let used = std::fs::create_dir_all(dir).and_then(|()| folder.bytes());
                (Store::Disk(folder), used.map_err(|source| DataError::Io { path: dir.clone(), source })?)
            }
        };
        Ok(Some(Arc::new(Self {
            store,
            limit: settings.limit_bytes(),
            room: Mutex::new(Room { used, ..Room::default() }),
            open: AtomicBool::new(true),
            counts: Counts::default(),
            notes: Mutex::default(),
        })))
    }

    /// Returns the numbers of images that were asked for since the cache was opened.
    pub fn counts(&self) -> CacheCounts {
        let Counts { found, added, left_out, damaged } = &self.counts;
        let [found, added, left_out, damaged] =
            [found, added, left_out, damaged].map(|count| count.load(Ordering::Relaxed));
        CacheCounts { found, added, left_out, damaged }
    }

    /// Returns what a user should know, and has not been returned before: that the cache is full, that it cannot be
    /// written, or that files were damaged. Warnings begin with `warning: `.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.notes))
    }

    /// The image of a stage of image `index`, from the cache or from `make`, which gives it the size in pixels that is
    /// named.
    ///
    /// # Errors
    /// The error of `make`.
    pub(crate) fn get_or_make(
        &self,
        dataset: &Dataset,
        index: usize,
        (stage, size): (Stage, Size),
        make: impl FnOnce() -> Result<RgbImage, DataError>,
    ) -> Result<RgbImage, DataError> {
        let Some(key) = Key::of(dataset, index, stage) else { return make() };
        let found = match &self.store {
            Store::Memory(images) => {
                let image = lock(images).get(&key).cloned();
                image.map_or(Found::Absent, |image| Found::Image(RgbImage::clone(&image)))
            }
            Store::Disk(folder) => folder.get(&key, size),
        };
        let is_damaged = match found {
            Found::Image(image) => {
                self.counts.found.fetch_add(1, Ordering::Relaxed);
                return Ok(image);
            }
            Found::Absent => false,
            Found::Damaged => true,
        };
        if is_damaged {
            self.tell_of_damage();
        }
        let image = make()?;
        let may_add = is_damaged || self.open.load(Ordering::Relaxed);
        let is_added = may_add && self.add(key, &image, is_damaged);
        let count = if is_added { &self.counts.added } else { &self.counts.left_out };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(image)
    }

    /// Adds an image if there is room for it, in place of a file if that was damaged. Returns whether it did.
    fn add(&self, key: Key, image: &RgbImage, replaces: bool) -> bool {
        let header = if matches!(self.store, Store::Disk(_)) { disk::HEADER } else { 0 };
        let bytes = (header + image.as_raw().len()) as u64;
        if !replaces && !self.reserve(bytes) {
            return false;
        }
        let written = match &self.store {
            Store::Memory(images) => {
                // Two threads can have decoded the same image.
                if lock(images).insert(key, Arc::new(image.clone())).is_some() {
                    lock(&self.room).used -= bytes;
                }
                Ok(())
            }
            Store::Disk(folder) => folder.put(&key, image),
        };
        if !replaces {
            lock(&self.room).unwritten -= bytes;
        }
        if let Err(error) = &written {
            self.close(format!("warning: data.cache: {error}; no more images are added to the cache"));
        }
        written.is_ok()
    }

    /// Takes room for this number of bytes. Returns whether there was enough; if not, no more images are added.
    fn reserve(&self, bytes: u64) -> bool {
        let mut room = lock(&self.room);
        if let Store::Disk(folder) = &self.store
            && room.unmeasured > self.limit / PARTS
        {
            // A folder that cannot be read keeps the size that is known.
            room.used = folder.bytes().map_or(room.used, |measured| measured + room.unwritten);
            room.unmeasured = 0;
        }
        if room.used + bytes > self.limit {
            drop(room);
            self.close(format!(
                "data.cache: the limit of {} MiB is reached (data.cache.limit_mb), so that further images are decoded in \
                 every epoch",
                self.limit >> 20
            ));
            return false;
        }
        room.used += bytes;
        room.unmeasured += bytes;
        room.unwritten += bytes;
        true
    }

    /// Ends the adding of images, and says why, once.
    fn close(&self, why: String) {
        if self.open.swap(false, Ordering::Relaxed) {
            lock(&self.notes).push(why);
        }
    }

    /// Counts a damaged file, and says so once.
    fn tell_of_damage(&self) {
        if self.counts.damaged.fetch_add(1, Ordering::Relaxed) == 0
            && let Store::Disk(Folder(dir)) = &self.store
        {
            lock(&self.notes).push(format!(
                "warning: data.cache: at least one file in {} was damaged; its image was decoded again",
                dir.display()
            ));
        }
    }
}

/// Loads image `index` of a data set, from a cache if there is one.
///
/// # Errors
/// Those of [`Dataset::load`].
pub(crate) fn load(cache: Option<&ImageCache>, dataset: &Dataset, index: usize) -> Result<RgbImage, DataError> {
    let Some(cache) = cache else { return dataset.load(index) };
    let record = dataset.record(index);
    let size = Size { width: record.width, height: record.height };
    cache.get_or_make(dataset, index, (Stage::Decoded, size), || dataset.load(index))
}

/// Bytes of the pixels of an image of this size.
fn pixel_bytes(size: Size) -> u64 {
    RGB_BYTES * size.pixels()
}

/// Locks a mutex, also one whose thread panicked: no panic can leave the values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
