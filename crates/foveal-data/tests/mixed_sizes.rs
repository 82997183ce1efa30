//! Loading images of different sizes: batches of like shape, and the cache of decoded and resized images. Neither the
//! number of loading threads, nor a continued epoch, nor a cache changes a batch.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foveal_anchors::{AnchorConfig, MatcherConfig};
use foveal_data::{
    AugmentConfig, Batch, CacheConfig, CacheCounts, CacheKind, ColorJitter, DataConfig, Dataset, ImageCache,
    LoaderOptions, OnError, SetConfig, Source, Stream, Transform, cached_loader, loader,
};
use foveal_image::{ResizeMode, RgbImage};

/// Sizes in pixels, `[width, height]`, that the images have in turn.
const SIZES: [[u32; 2]; 6] = [[192, 96], [96, 192], [128, 128], [160, 120], [90, 120], [200, 80]];
const IMAGES: usize = 22;

/// A folder with images of random pixels, and annotations of one object on each.
struct Folder {
    dir: tempfile::TempDir,
    config: DataConfig,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for id in 0..IMAGES {
            let [width, height] = SIZES[id % SIZES.len()];
            draw(&dir.path().join(format!("{id}.png")), [width, height], id as u64);
            images.push(serde_json::json!({
                "id": id, "file_name": format!("{id}.png"), "width": width, "height": height
            }));
            annotations.push(serde_json::json!({
                "id": id, "image_id": id, "category_id": 1, "bbox": [10, 8, 50, 40], "area": 2000, "iscrowd": 0
            }));
        }
        let set = serde_json::json!({
            "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]
        });
        let annotations = dir.path().join("set.json");
        fs::write(&annotations, set.to_string()).unwrap();
        let set = SetConfig { annotations: Some(annotations), images: Some(dir.path().to_owned()) };
        let config = DataConfig {
            train: set.clone(),
            val: set,
            min_size: 64,
            max_size: 128,
            queue: 2,
            workers: 2,
            ..DataConfig::default()
        };
        Self { dir, config }
    }

    fn image(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("{id}.png"))
    }

    /// The configuration with this cache; one on disk has the folder `cache`.
    fn cached(&self, kind: CacheKind, limit_mb: u64) -> DataConfig {
        let dir = Some(self.cache_dir());
        DataConfig { cache: CacheConfig { kind, limit_mb, dir }, ..self.config.clone() }
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The files of the cache, sorted.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<PathBuf> = fs::read_dir(self.cache_dir()).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries
    }
}

/// Writes an image of random pixels.
fn draw(path: &Path, [width, height]: [u32; 2], seed: u64) {
    let mut random = Stream::new(&[seed]);
    RgbImage::from_fn(width, height, |_, _| image::Rgb(std::array::from_fn(|_| random.bits() as u8)))
        .save(path)
        .unwrap();
}

fn open(config: &DataConfig) -> Arc<Dataset> {
    config.validate().unwrap();
    Arc::new(config.open_train().unwrap().dataset)
}

fn options(training: bool) -> LoaderOptions {
    LoaderOptions {
        batch_size: 4,
        seed: 5,
        training,
        anchors: AnchorConfig::default(),
        matcher: MatcherConfig::default(),
        first: 0,
        epochs: None,
    }
}

fn all(data: &Arc<Dataset>, config: &DataConfig, options: LoaderOptions, epoch: u64) -> Vec<Batch> {
    loader(Arc::clone(data), config, options, epoch).map(Result::unwrap).collect()
}

fn with_cache(
    data: &Arc<Dataset>,
    config: &DataConfig,
    training: bool,
    epoch: u64,
    cache: &Arc<ImageCache>,
) -> Vec<Batch> {
    let cache = Some(Arc::clone(cache));
    cached_loader(Arc::clone(data), config, options(training), epoch, cache).map(Result::unwrap).collect()
}

fn assert_equal(a: &[Batch], b: &[Batch]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.images, &a.targets, &a.info), (&b.images, &b.targets, &b.info));
        assert_eq!((&a.placed, a.skipped.len()), (&b.placed, b.skipped.len()));
    }
}

#[test]
fn grouped_batches_depend_neither_on_workers_nor_on_where_an_epoch_is_continued() {
    let folder = Folder::new();
    let data = open(&folder.config);
    let with = |workers| DataConfig { group_by_aspect: true, workers, ..folder.config.clone() };
    let one = all(&data, &with(1), options(true), 3);
    assert_eq!(one.iter().map(|b| b.info.len()).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 2]);
    for workers in [2, 4] {
        assert_equal(&one, &all(&data, &with(workers), options(true), 3));
    }
    for first in 1..=6 {
        assert_equal(&one[first..], &all(&data, &with(2), LoaderOptions { first, ..options(true) }, 3));
    }
    let mut images: Vec<usize> = one.iter().flat_map(|batch| batch.info.iter().map(|info| info.index)).collect();
    images.sort_unstable();
    assert_eq!(images, (0..IMAGES).collect::<Vec<_>>());
    // The canvases are smaller, and those of evaluations stay.
    let pixels = |batches: &[Batch]| -> usize {
        batches.iter().map(|batch| batch.info.len() * batch.images.height() * batch.images.width()).sum()
    };
    let plain = all(&data, &folder.config, options(true), 3);
    assert!(pixels(&one) < pixels(&plain), "{} {}", pixels(&one), pixels(&plain));
    assert_equal(&all(&data, &with(2), options(false), 0), &all(&data, &folder.config, options(false), 0));
}

/// Settings of which some keep resized images and some keep decoded ones.
fn augmentations() -> Vec<(&'static str, DataConfig)> {
    let folder = Folder::new();
    let with = |augment| DataConfig { augment, ..folder.config.clone() };
    let flips = AugmentConfig { flip_horizontal: 0.5, flip_vertical: 0.5, ..AugmentConfig::off() };
    let jitter = ColorJitter { brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.05 };
    let transforms = r#"[{"kind": "mosaic", "probability": 0.5}, {"kind": "quarter_turns", "probability": 0.5},
                         {"kind": "copy_paste", "probability": 0.5}, {"kind": "hsv"}]"#;
    let transforms: Vec<Transform> = serde_json::from_str(transforms).unwrap();
    vec![
        ("flips", with(flips.clone())),
        ("larger", DataConfig { min_size: 200, max_size: 300, ..with(flips.clone()) }),
        ("fixed", DataConfig { fixed_size: Some([48, 64]), ..with(flips.clone()) }),
        ("torchvision", DataConfig { resize: ResizeMode::Torchvision, ..with(flips.clone()) }),
        ("scales", with(AugmentConfig { scale_jitter: [0.7, 1.4], ..flips.clone() })),
        ("sizes", with(AugmentConfig { min_sizes: vec![40, 56], ..flips.clone() })),
        ("colours", with(AugmentConfig { color_jitter: jitter, ..flips.clone() })),
        ("transforms", with(AugmentConfig { transforms, ..flips })),
    ]
}

#[test]
fn a_cache_changes_no_batch() {
    let folder = Folder::new();
    for (name, settings) in augmentations() {
        let sets = folder.config.clone();
        for kind in [CacheKind::Memory, CacheKind::Disk] {
            let dir = Some(folder.dir.path().join(format!("cache-{name}")));
            let cache = CacheConfig { kind, dir, ..CacheConfig::default() };
            let config = DataConfig { train: sets.train.clone(), val: sets.val.clone(), cache, ..settings.clone() };
            let data = open(&config);
            let cache = ImageCache::open(&config).unwrap().unwrap();
            for epoch in [0, 1, 2, 1] {
                assert_equal(
                    &with_cache(&data, &config, true, epoch, &cache),
                    &all(&data, &config, options(true), epoch),
                );
            }
            for _ in 0..2 {
                assert_equal(&with_cache(&data, &config, false, 0, &cache), &all(&data, &config, options(false), 0));
            }
            let CacheCounts { found, added, left_out, damaged } = cache.counts();
            assert!(
                found > 0 && added >= IMAGES as u64 && (left_out, damaged) == (0, 0),
                "{name} {:?}",
                cache.counts()
            );
            assert_eq!(cache.notes(), Vec::<String>::new());
            if kind == CacheKind::Disk {
                // Another run finds all images.
                let again = ImageCache::open(&config).unwrap().unwrap();
                assert_equal(&with_cache(&data, &config, true, 1, &again), &all(&data, &config, options(true), 1));
                assert_eq!(again.counts().added, 0, "{name}");
            }
        }
    }
}

#[test]
fn what_is_first_resized_to_half_of_its_pixels_is_kept_so() {
    let folder = Folder::new();
    let plain = DataConfig { augment: AugmentConfig::off(), min_size: 40, ..folder.cached(CacheKind::Disk, 10) };
    let data = open(&plain);
    let pixels = || folder.entries().iter().map(|path| fs::metadata(path).unwrap().len() as usize - 52).sum::<usize>();
    let expected = |kept: fn([u32; 2], [u32; 2]) -> u32| -> usize {
        let size = |record: &foveal_data::Record| [record.width, record.height];
        let each = data.records().iter().map(|record| {
            let (width, height) = plain.preprocess().target_size(record.width, record.height);
            3 * kept(size(record), [width, height]) as usize
        });
        each.sum()
    };
    with_cache(&data, &plain, true, 0, &ImageCache::open(&plain).unwrap().unwrap());
    assert_eq!(pixels(), expected(|_, [width, height]| width * height));
    fs::remove_dir_all(folder.cache_dir()).unwrap();
    // A scale jitter needs the images in their original size.
    let jittered = AugmentConfig { scale_jitter: [0.9, 1.1], ..AugmentConfig::off() };
    let jittered = DataConfig { augment: jittered, ..plain.clone() };
    with_cache(&data, &jittered, true, 0, &ImageCache::open(&jittered).unwrap().unwrap());
    assert_eq!(pixels(), expected(|[width, height], _| width * height));
}

#[test]
fn damaged_files_are_replaced() {
    let folder = Folder::new();
    let config = folder.cached(CacheKind::Disk, 100);
    let data = open(&config);
    let expected = all(&data, &config, options(true), 0);
    let load = || {
        let cache = ImageCache::open(&config).unwrap().unwrap();
        assert_equal(&with_cache(&data, &config, true, 0, &cache), &expected);
        (cache.counts(), cache.notes())
    };
    load();
    let entries = folder.entries();
    assert_eq!(entries.len(), IMAGES);
    let whole: Vec<Vec<u8>> = entries.iter().map(|path| fs::read(path).unwrap()).collect();
    // One byte of the pixels, of the key, of the size and of the checksum; shortened, emptied, lengthened, swapped.
    for (entry, place) in [(0, 2000), (1, 20), (2, 41), (3, 49), (4, 3)] {
        let mut bytes = whole[entry].clone();
        bytes[place] ^= 1;
        fs::write(&entries[entry], bytes).unwrap();
    }
    fs::write(&entries[5], &whole[5][..whole[5].len() - 7]).unwrap();
    fs::write(&entries[6], b"").unwrap();
    fs::write(&entries[7], [&whole[7][..], b"more"].concat()).unwrap();
    fs::write(&entries[8], &whole[9]).unwrap();
    let (counts, notes) = load();
    assert_eq!((counts.damaged, counts.added, counts.found), (9, 9, IMAGES as u64 - 9));
    assert!(
        notes.len() == 1 && notes[0].starts_with("warning: data.cache: ") && notes[0].contains("damaged"),
        "{notes:?}"
    );
    let restored: Vec<Vec<u8>> = folder.entries().iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(restored == whole);
    assert_eq!(load().0, CacheCounts { found: IMAGES as u64, ..CacheCounts::default() });
    // With a limit that is reached, damaged files are replaced too.
    fs::write(&entries[3], b"").unwrap();
    let full = folder.cached(CacheKind::Disk, 1);
    fs::write(folder.cache_dir().join("other"), vec![0; 1 << 20]).unwrap();
    let cache = ImageCache::open(&full).unwrap().unwrap();
    assert_equal(&with_cache(&data, &full, true, 0, &cache), &expected);
    let counts = cache.counts();
    assert_eq!((counts.damaged, counts.added, counts.left_out), (1, 1, 0));
    assert_eq!(fs::read(&entries[3]).unwrap(), whole[3]);
}

#[test]
fn the_limit_is_kept() {
    let folder = Folder::new();
    // Decoded, the images take 1.2 MB.
    let decoded = AugmentConfig { scale_jitter: [0.9, 1.1], ..AugmentConfig::off() };
    for kind in [CacheKind::Memory, CacheKind::Disk] {
        let config = DataConfig { augment: decoded.clone(), ..folder.cached(kind, 1) };
        let data = open(&config);
        let cache = ImageCache::open(&config).unwrap().unwrap();
        for epoch in 0..2 {
            assert_equal(&with_cache(&data, &config, true, epoch, &cache), &all(&data, &config, options(true), epoch));
        }
        let CacheCounts { found, added, left_out, .. } = cache.counts();
        assert!(added < IMAGES as u64 && found == added && left_out > 0, "{:?}", cache.counts());
        let notes = cache.notes();
        assert!(
            notes.len() == 1 && notes[0].contains("1 MiB") && notes[0].contains("data.cache.limit_mb"),
            "{notes:?}"
        );
        assert_eq!(cache.notes(), Vec::<String>::new());
    }
    let bytes: u64 = folder.entries().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(bytes > 900_000 && bytes <= 1 << 20, "{bytes}");
}

#[test]
fn images_that_change_or_disappear_are_noticed() {
    let folder = Folder::new();
    for kind in [CacheKind::Memory, CacheKind::Disk] {
        let config = DataConfig { on_error: OnError::Skip, ..folder.cached(kind, 100) };
        let data = open(&config);
        let cache = ImageCache::open(&config).unwrap().unwrap();
        let before = with_cache(&data, &config, false, 0, &cache);
        draw(&folder.image(2), SIZES[2], 77);
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(folder.image(2)).unwrap().set_modified(later).unwrap();
        let after = with_cache(&data, &config, false, 0, &cache);
        assert_equal(&after, &all(&data, &config, options(false), 0));
        assert_ne!(before[0].images, after[0].images);
        // An image of another size, and none.
        draw(&folder.image(7), [50, 60], 7);
        fs::remove_file(folder.image(9)).unwrap();
        let without = with_cache(&data, &config, false, 0, &cache);
        assert_equal(&without, &all(&data, &config, options(false), 0));
        let skipped: HashSet<i64> = without.iter().flat_map(|b| &b.skipped).map(|skipped| skipped.image_id).collect();
        assert_eq!(skipped, HashSet::from([7, 9]));
        draw(&folder.image(7), SIZES[1], 7);
        draw(&folder.image(9), SIZES[3], 9);
        draw(&folder.image(2), SIZES[2], 2);
    }
}

#[test]
fn several_processes_can_share_a_folder() {
    let folder = Folder::new();
    let config = folder.cached(CacheKind::Disk, 100);
    let data = open(&config);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = ImageCache::open(&config).unwrap().unwrap();
                for epoch in 0..3 {
                    let found = with_cache(&data, &config, true, epoch, &cache);
                    assert_equal(&found, &all(&data, &config, options(true), epoch));
                }
                assert_eq!(cache.counts().damaged, 0);
            });
        }
    });
    assert!(folder.entries().iter().all(|path| path.extension().is_some_and(|end| end == "fovealimage")));
}

#[test]
fn a_folder_that_cannot_be_written_ends_no_run() {
    let folder = Folder::new();
    let config = folder.cached(CacheKind::Disk, 100);
    let data = open(&config);
    let cache = ImageCache::open(&config).unwrap().unwrap();
    fs::remove_dir(folder.cache_dir()).unwrap();
    assert_equal(&with_cache(&data, &config, true, 0, &cache), &all(&data, &config, options(true), 0));
    let notes = cache.notes();
    assert!(notes.len() == 1 && notes[0].starts_with("warning: data.cache: cannot write "), "{notes:?}");
    // A file in the place of the folder is an error at once.
    fs::write(folder.cache_dir(), b"").unwrap();
    let error = ImageCache::open(&config).unwrap_err().to_string();
    assert!(error.contains("cache"), "{error}");
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_their_reason() {
    let folder = Folder::new();
    let error = |config: DataConfig| ImageCache::open(&config).unwrap_err().to_string();
    let without_folder = CacheConfig { kind: CacheKind::Disk, ..CacheConfig::default() };
    let text = error(DataConfig { cache: without_folder, ..folder.config.clone() });
    assert!(text.starts_with("data.cache.dir: expected the path of a folder, because kind is \"disk\""), "{text}");
    let text = error(folder.cached(CacheKind::Memory, 0));
    assert!(text.starts_with("data.cache.limit_mb: expected at least 1"), "{text}");
    let shapes = DataConfig { source: Source::Shapes, ..folder.cached(CacheKind::Memory, 1) };
    assert!(shapes.validate().unwrap_err().to_string().starts_with("cache.kind: "));
    let text = error(shapes);
    assert!(text.contains("shapes") && text.contains("kept in memory"), "{text}");
    assert!(ImageCache::open(&folder.config).unwrap().is_none());
    let parsed: Result<CacheConfig, _> = serde_json::from_str(r#"{"kind": "ram"}"#);
    assert!(parsed.unwrap_err().to_string().contains("ram"));
}
