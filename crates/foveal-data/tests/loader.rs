//! The loading pipeline on the generated data set: order, determinism, errors, and dropping a loader early.

use std::sync::Arc;

use foveal_anchors::{AnchorConfig, MatcherConfig};
use foveal_data::{
    AugmentConfig, Batch, ColorJitter, DataConfig, DataError, Dataset, LoaderOptions, OnError, SetConfig, ShapesConfig,
    Source, loader, write_shapes,
};
use foveal_image::ImageFrame;

fn config() -> DataConfig {
    DataConfig {
        source: Source::Shapes,
        shapes: ShapesConfig { count: 13, val_count: 5, size: [48, 64], max_object: 0.4, ..ShapesConfig::default() },
        min_size: 48,
        max_size: 100,
        queue: 2,
        augment: AugmentConfig {
            color_jitter: ColorJitter { brightness: 0.2, contrast: 0.2, saturation: 0.2, hue: 0.05 },
            scale_jitter: [0.7, 1.4],
            min_sizes: vec![40, 48, 56],
            ..AugmentConfig::default()
        },
        ..DataConfig::default()
    }
}

fn with_workers(workers: usize) -> DataConfig {
    DataConfig { workers, ..config() }
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

#[test]
fn batches_do_not_depend_on_workers_but_on_epoch_and_seed() {
    let config = with_workers(1);
    let data = Arc::new(config.open_train().unwrap().dataset);
    let one = all(&data, &config, options(true), 3);
    let sizes: Vec<usize> = one.iter().map(|b| b.info.len()).collect();
    assert_eq!(sizes, [4, 4, 4, 1]);
    for workers in [2, 7] {
        let many = all(&data, &with_workers(workers), options(true), 3);
        assert_eq!(many.len(), one.len());
        for (a, b) in one.iter().zip(&many) {
            assert_eq!((&a.images, &a.targets, &a.info), (&b.images, &b.targets, &b.info));
        }
    }
    let order = |batches: &[Batch]| batches.iter().flat_map(|b| b.info.iter().map(|i| i.index)).collect::<Vec<_>>();
    let mut sorted = order(&one);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..13).collect::<Vec<_>>());
    assert_ne!(order(&all(&data, &config, options(true), 4)), order(&one));
    assert_ne!(order(&all(&data, &config, LoaderOptions { seed: 6, ..options(true) }, 3)), order(&one));
}

/// Every transform, each applied to some images.
const TRANSFORMS: &str = r#"{
    "transforms": [
        { "kind": "copy_paste", "probability": 0.5 },
        { "kind": "mosaic", "probability": 0.6 },
        { "kind": "random_crop", "probability": 0.5 },
        { "kind": "zoom_out", "probability": 0.4 },
        { "kind": "quarter_turns", "probability": 0.5 },
        { "kind": "affine", "probability": 0.5 },
        { "kind": "mixup", "probability": 0.4 },
        { "kind": "hsv" },
        { "kind": "gamma", "probability": 0.5 },
        { "kind": "grey", "probability": 0.3 },
        { "kind": "erasing", "probability": 0.5, "count": [1, 3] },
        { "kind": "blur", "probability": 0.5 },
        { "kind": "noise", "probability": 0.5 },
        { "kind": "jpeg", "probability": 0.5 },
        { "kind": "large_scale_jitter", "probability": 0.4, "size": [64, 96] }
    ],
    "scale_jitter": [0.7, 1.4],
    "min_sizes": [40, 48]
}"#;

fn with_transforms() -> DataConfig {
    let config = DataConfig { augment: serde_json::from_str(TRANSFORMS).unwrap(), ..config() };
    config.validate().unwrap();
    config
}

fn assert_equal(a: &[Batch], b: &[Batch]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.images, &a.targets, &a.info), (&b.images, &b.targets, &b.info));
    }
}

#[test]
fn batches_with_all_transforms_depend_neither_on_workers_nor_on_where_an_epoch_is_continued() {
    let config = with_transforms();
    let data = Arc::new(config.open_train().unwrap().dataset);
    let one = all(&data, &DataConfig { workers: 1, ..config.clone() }, options(true), 2);
    assert_eq!(one.iter().map(|b| b.info.len()).collect::<Vec<_>>(), [4, 4, 4, 1]);
    for workers in [2, 4] {
        assert_equal(&one, &all(&data, &DataConfig { workers, ..config.clone() }, options(true), 2));
    }
    for first in 1..4 {
        let rest = all(&data, &config, LoaderOptions { first, ..options(true) }, 2);
        assert_equal(&one[first..], &rest);
    }
    let plain = DataConfig { augment: AugmentConfig { transforms: Vec::new(), ..config.augment.clone() }, ..config };
    assert_ne!(all(&data, &plain, options(true), 2)[0].images, one[0].images);
}

#[test]
fn the_last_epochs_leave_out_the_strong_transforms_alone() {
    let mut closing = with_transforms();
    closing.augment.close_epochs = 2;
    let data = Arc::new(closing.open_train().unwrap().dataset);
    // The same list in which strong transforms are never applied: the others keep their random values.
    let text = TRANSFORMS.replace("\"copy_paste\", \"probability\": 0.5", "\"copy_paste\", \"probability\": 0");
    let text = text.replace("\"mosaic\", \"probability\": 0.6", "\"mosaic\", \"probability\": 0");
    let text = text.replace("\"mixup\", \"probability\": 0.4", "\"mixup\", \"probability\": 0");
    let weak = DataConfig { augment: serde_json::from_str(&text).unwrap(), ..config() };
    assert_eq!(weak.augment.transforms.iter().filter(|t| t.is_strong()).count(), 3);
    let run = LoaderOptions { epochs: Some(5), ..options(true) };
    for (epoch, is_closing) in [(2, false), (3, true), (4, true)] {
        let found = all(&data, &closing, run.clone(), epoch);
        assert_equal(&found, &all(&data, if is_closing { &weak } else { &closing }, options(true), epoch));
    }
    let (open, weak) = (all(&data, &closing, options(true), 4), all(&data, &weak, options(true), 4));
    assert_ne!(open[0].images, weak[0].images);
}

#[test]
fn evaluation_uses_the_order_of_the_set_without_augmentation() {
    let config = with_workers(2);
    let data = Arc::new(config.open_train().unwrap().dataset);
    let batches = all(&data, &config, options(false), 0);
    let info: Vec<_> = batches.iter().flat_map(|b| &b.info).collect();
    assert_eq!(info.iter().map(|i| i.index).collect::<Vec<_>>(), (0..13).collect::<Vec<_>>());
    let frame = ImageFrame { width: 64, height: 48, original_width: 64, original_height: 48 };
    assert!(info.iter().all(|i| i.frame == frame));
    for batch in &batches {
        assert_eq!((batch.images.height(), batch.images.width()), (64, 64));
        for (targets, info) in batch.targets.iter().zip(&batch.info) {
            let objects = &data.record(info.index).objects;
            // Low-quality matches give every object an anchor, unless two objects have the same best anchor.
            assert_eq!(targets.positives.is_empty(), objects.is_empty());
            assert!(targets.positives.iter().all(|p| objects.iter().any(|o| o.bbox == p.object && o.class == p.class)));
        }
    }
}

#[test]
fn dropping_a_loader_early_does_not_hang() {
    let config = DataConfig { queue: 0, ..with_workers(3) };
    let data = Arc::new(config.open_train().unwrap().dataset);
    for taken in [0, 1, 3] {
        let options = LoaderOptions { batch_size: 1, ..options(true) };
        let mut batches = loader(Arc::clone(&data), &config, options, 0);
        assert_eq!(batches.batches(), 13);
        assert_eq!(batches.by_ref().take(taken).filter(Result::is_ok).count(), taken);
    }
    let empty = Arc::new(data.subset(0));
    assert_eq!(loader(empty, &config, options(true), 0).count(), 0);
}

#[test]
fn an_image_that_breaks_during_a_run_fails_or_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = config().shapes;
    write_shapes(&shapes, dir.path()).unwrap();
    let set = |split: &str| SetConfig {
        annotations: Some(dir.path().join("annotations").join(format!("{split}.json"))),
        images: Some(dir.path().join("images").join(split)),
    };
    let mut config = DataConfig { source: Source::Coco, train: set("train"), val: set("val"), ..with_workers(2) };
    let opened = config.open_train().unwrap();
    assert!(opened.report.is_clean(), "{}", opened.report);
    let data = Arc::new(opened.dataset);
    // The data set that was written equals the data set in memory.
    let memory = DataConfig { source: Source::Shapes, ..config.clone() }.open_train().unwrap().dataset;
    assert_eq!(data.len(), memory.len());
    for i in 0..data.len() {
        assert_eq!(data.load(i).unwrap(), memory.load(i).unwrap());
        assert_eq!(data.record(i), memory.record(i));
    }
    let broken = dir.path().join("images/train/000004.png");
    std::fs::write(&broken, "gone").unwrap();
    let results: Vec<_> = loader(Arc::clone(&data), &config, options(false), 0).collect();
    assert_eq!(results.len(), 2);
    let text = results[1].as_ref().unwrap_err().to_string();
    assert!(text.contains("000004.png") && text.contains("id 5"), "{text}");
    assert!(matches!(results[1], Err(DataError::Image { image_id: 5, .. })));

    config.on_error = OnError::Skip;
    let left_out = all(&data, &config, options(false), 0);
    let skipped: Vec<_> = left_out.iter().flat_map(|b| &b.skipped).collect();
    assert_eq!((skipped.len(), skipped[0].image_id), (1, 5));
    assert_eq!(left_out.iter().map(|b| b.info.len()).sum::<usize>(), 12);
    let replaced = all(&data, &config, options(true), 0);
    assert_eq!(replaced.iter().map(|b| b.info.len()).sum::<usize>(), 13);
    assert!(replaced.iter().flat_map(|b| &b.info).all(|i| i.image_id != 5));
}
