//! Counts from annotations alone equal the counts of the targets that the loader makes.

use std::collections::BTreeMap;
use std::sync::Arc;

use foveal_anchors::{AnchorConfig, BACKGROUND, IGNORE, MatcherConfig, MatcherKind};
use foveal_data::{
    AugmentConfig, DataConfig, DataError, LoaderOptions, ObjectCounts, SetConfig, SetCoverage, TargetCounts, loader,
    shapes::Split,
};
use image::RgbImage;
use serde_json::{Value, json};

/// Anchors that are small enough to lie within a crowd region of a few pixels.
fn anchors() -> AnchorConfig {
    AnchorConfig { base_sizes: vec![4.0, 8.0, 16.0, 32.0, 64.0], scales: 1, ..AnchorConfig::default() }
}

/// Two images that are resized to 200x200 pixels, by factors of 2 and 1/2, and an image without objects.
///
/// With `min_box` 4, the first image has an object of class 1 and a crowd region of 3x3 pixels, which is below
/// `min_box` in the file. The second image has an object of class 0, an object of 6 pixels that has 3 after resizing,
/// and an object of 2 pixels in the file.
fn annotations() -> Value {
    let annotation = |id: i64, image: i64, category: i64, bbox: [f32; 4], crowd: i64| {
        let area = bbox[2] * bbox[3];
        json!({
            "id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd,
        })
    };
    json!({
        "images": [
            {"id": 1, "file_name": "small.png", "width": 100, "height": 100},
            {"id": 2, "file_name": "large.png", "width": 400, "height": 400},
            {"id": 3, "file_name": "empty.png", "width": 100, "height": 100},
        ],
        "annotations": [
            annotation(1, 1, 20, [40.0, 40.0, 30.0, 20.0], 0),
            annotation(2, 1, 20, [2.5, 2.5, 3.0, 3.0], 1),
            annotation(3, 2, 10, [100.0, 60.0, 80.0, 160.0], 0),
            annotation(4, 2, 10, [300.0, 300.0, 6.0, 60.0], 0),
            annotation(5, 2, 20, [10.0, 350.0, 2.0, 30.0], 0),
        ],
        "categories": [{"id": 10, "name": "a"}, {"id": 20, "name": "b"}],
    })
}

struct Place {
    dir: tempfile::TempDir,
    config: DataConfig,
}

impl Place {
    fn new(annotations: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("train.json");
        std::fs::write(&file, annotations.to_string()).unwrap();
        let config = DataConfig {
            train: SetConfig { annotations: Some(file), images: Some(dir.path().to_owned()) },
            min_size: 200,
            max_size: 200,
            min_box: 4.0,
            filter_empty: true,
            augment: AugmentConfig::off(),
            workers: 1,
            queue: 1,
            ..DataConfig::default()
        };
        Self { dir, config }
    }

    fn counts(&self) -> TargetCounts {
        self.counts_by(&MatcherConfig::default())
    }

    fn counts_by(&self, matcher: &MatcherConfig) -> TargetCounts {
        let opened = self.config.open_annotations(&self.dir.path().join("train.json"), Split::Train).unwrap();
        TargetCounts::new(&opened, &self.config, &anchors(), matcher, usize::MAX)
    }

    /// The numbers of anchors by class in the targets of a training run, and the numbers of its objects.
    fn trained(&self, matcher: MatcherConfig) -> (BTreeMap<i32, usize>, ObjectCounts) {
        for (name, side) in [("small.png", 100), ("large.png", 400), ("empty.png", 100)] {
            RgbImage::new(side, side).save(self.dir.path().join(name)).unwrap();
        }
        let options = LoaderOptions {
            batch_size: 1,
            seed: 0,
            training: true,
            anchors: anchors(),
            matcher,
            first: 0,
            epochs: None,
        };
        let dataset = Arc::new(self.config.open_train().unwrap().dataset);
        let (mut tally, mut objects) = (BTreeMap::new(), ObjectCounts::default());
        for batch in loader(dataset, &self.config, options, 0) {
            let batch = batch.unwrap();
            batch.targets.iter().flat_map(|t| &t.classes).for_each(|class| *tally.entry(*class).or_insert(0) += 1);
            objects += batch.objects;
        }
        (tally, objects)
    }
}

#[test]
fn counts_equal_those_of_the_targets_in_training() {
    let place = Place::new(&annotations());
    let counts = place.counts();
    let (trained, objects) = place.trained(MatcherConfig::default());
    // The object that resizing makes smaller than `min_box` is ignored.
    assert_eq!(objects, ObjectCounts { objects: 2, without_anchor: 0 });
    assert_eq!(counts.objects_without_anchor, 0);
    let of = |class: i32| trained.get(&class).copied().unwrap_or(0);
    assert_eq!((counts.background, counts.ignored), (of(BACKGROUND), of(IGNORE)));
    let positives: Vec<usize> = counts.classes.iter().map(|class| class.positives).collect();
    assert_eq!(positives, [of(0), of(1)]);
    assert!(positives.iter().all(|n| *n > 0) && counts.ignored > 0, "{counts:?}");
    // Objects are counted as in the annotations, without the one below `min_box`. The image without objects is left
    // out.
    assert_eq!((counts.images, counts.empty_images, counts.objects), (2, 1, 3));
    assert_eq!(counts.classes.iter().map(|class| (class.objects, class.images)).collect::<Vec<_>>(), [(2, 1), (1, 1)]);
    assert_eq!(counts.by_image, [vec![1], vec![0, 0]]);
}

#[test]
fn objects_without_an_anchor_are_counted_with_every_rule() {
    // Without anchors in the middle of its 60x40 pixels, the object of class 1 has none of 64 pixels above an IoU of
    // 0.9.
    let strict = MatcherConfig { positive_iou: 0.9, low_quality: false, ..MatcherConfig::default() };
    let atss = MatcherConfig { kind: MatcherKind::Atss, ..MatcherConfig::default() };
    // After resizing, this object is 4 pixels wide and lies between the columns of centres at 84 and 88.
    let mut narrow = annotations();
    narrow["annotations"][2]["bbox"] = json!([168.0, 60.0, 8.0, 160.0]);
    for (annotations, matcher, lost) in [
        (annotations(), strict, [1, 1]),
        (annotations(), atss, [0, 0]),
        (narrow.clone(), atss, [1, 0]),
        (narrow, MatcherConfig::default(), [0, 0]),
    ] {
        let place = Place::new(&annotations);
        let (counts, (trained, objects)) = (place.counts_by(&matcher), place.trained(matcher));
        let of: Vec<usize> = counts.classes.iter().map(|class| class.objects_without_anchor).collect();
        assert_eq!((of, counts.objects_without_anchor), (lost.to_vec(), lost.iter().sum()), "{matcher:?}");
        assert_eq!(objects, ObjectCounts { objects: 2, without_anchor: counts.objects_without_anchor }, "{matcher:?}");
        let of = |class: i32| trained.get(&class).copied().unwrap_or(0);
        assert_eq!((counts.background, counts.ignored), (of(BACKGROUND), of(IGNORE)), "{matcher:?}");
        let opened = place.config.open_annotations(&place.dir.path().join("train.json"), Split::Train).unwrap();
        let found = SetCoverage::new(&opened.dataset, &place.config, &anchors(), &matcher);
        let positives = (found.all.mean_matched * found.all.objects as f32).round() as usize;
        assert_eq!((found.all.without_anchor, positives), (counts.objects_without_anchor, counts.positives));
        assert_eq!(found.by_class.iter().map(|class| class.without_anchor).collect::<Vec<_>>(), lost);
    }
}

#[test]
fn small_crowds_and_shrunken_objects_are_ignored() {
    let ignored = |without: i64| {
        let mut changed = annotations();
        changed["annotations"].as_array_mut().unwrap().retain(|a| a["id"] != without);
        Place::new(&changed).counts().ignored
    };
    let all = ignored(0);
    assert!(ignored(2) < all, "the crowd region must make anchors ignored");
    assert!(ignored(4) < all, "the object of 3 pixels must make anchors ignored");
    assert_eq!(ignored(5), all, "the object of 2 pixels in the file must be dropped");
}

#[test]
fn coverage_has_the_objects_that_are_trained() {
    let place = Place::new(&annotations());
    let opened = place.config.open_annotations(&place.dir.path().join("train.json"), Split::Train).unwrap();
    let found = SetCoverage::new(&opened.dataset, &place.config, &anchors(), &MatcherConfig::default());
    assert_eq!(found.all.objects, 2);
    assert_eq!(found.by_class.iter().map(|class| class.objects).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(found.by_size.iter().map(|size| size.objects).sum::<usize>(), 2);
}

#[test]
fn without_image_files_the_annotations_must_have_sizes() {
    let mut changed = annotations();
    changed["images"][1]["width"] = Value::Null;
    let place = Place::new(&changed);
    let path = place.dir.path().join("train.json");
    let error = place.config.open_annotations(&path, Split::Train).unwrap_err();
    assert!(matches!(error, DataError::NoImageSize { image_id: 2, .. }), "{error}");
    let opened = Place::new(&annotations());
    let dataset = opened.config.open_annotations(&opened.dir.path().join("train.json"), Split::Val).unwrap().dataset;
    assert_eq!(dataset.len(), 3, "only a training set is filtered");
    assert!(matches!(dataset.load(0), Err(DataError::NoImages { image_id: 1 })));
}
