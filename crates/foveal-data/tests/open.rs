//! Opening real-world data sets: tolerant reading, and one report of all defects.

use std::path::{Path, PathBuf};

use foveal_boxes::BBox;
use foveal_data::{DataConfig, DataError, OnError, Problem, SetConfig};
use image::{GrayImage, Rgb, RgbImage};
use serde_json::{Value, json};

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, json: &Value) -> &Self {
        std::fs::write(self.path(name), json.to_string()).unwrap();
        self
    }

    fn image(&self, name: &str, width: u32, height: u32) -> &Self {
        RgbImage::from_pixel(width, height, Rgb([50, 100, 150])).save(self.path(name)).unwrap();
        self
    }

    fn config(&self, on_error: OnError) -> DataConfig {
        let set =
            |name: &str| SetConfig { annotations: Some(self.path(name)), images: Some(self.dir.path().to_owned()) };
        DataConfig { train: set("train.json"), val: set("val.json"), on_error, ..DataConfig::default() }
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../foveal-image/tests/fixtures").join(name)
}

fn categories() -> Value {
    json!([{"id": 7, "name": "Hähnchen"}, {"id": 3, "name": "猫", "supercategory": null}])
}

#[test]
fn a_messy_but_sound_set_opens_clean() {
    let folder = Folder::new();
    folder.image("a.png", 40, 30).image("ünïcode 图.png", 20, 20);
    GrayImage::new(16, 16).save(folder.path("empty.png")).unwrap();
    let json = json!({
        "info": null,
        "images": [
            {"id": 900, "file_name": "a.png", "width": 40, "height": 30, "license": null},
            {"id": -4, "file_name": "ünïcode 图.png", "width": null},
            {"id": 12, "file_name": "empty.png", "width": 16, "height": 16},
        ],
        "annotations": [
            {"id": 1, "image_id": 900, "category_id": 3, "bbox": [1, 2, 10, 12.5], "segmentation": null, "area": null},
            {"id": 5, "image_id": 900, "category_id": 7, "bbox": [30, 20, 20, 20], "iscrowd": false, "area": 77.0},
            {"id": 2, "image_id": 900, "category_id": 7, "bbox": [0, 0, 8, 8], "iscrowd": 1,
             "segmentation": {"counts": "abc", "size": [30, 40]}},
            {"id": 9, "image_id": -4, "category_id": 7, "bbox": [3, 3, 0.5, 9], "extra": [1]},
        ],
        "categories": categories(),
    });
    let mut gz =
        flate2::write::GzEncoder::new(std::fs::File::create(folder.path("train.json")).unwrap(), Default::default());
    std::io::Write::write_all(&mut gz, json.to_string().as_bytes()).unwrap();
    gz.finish().unwrap();
    let opened = folder.config(OnError::Fail).open_train().unwrap();
    let (data, report) = (&opened.dataset, &opened.report);
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.images, report.objects, report.crowds, report.empty_images), (3, 2, 1, 2));
    assert_eq!(
        (report.count(Problem::ClippedBox), report.count(Problem::SmallBox), report.count(Problem::NoSize)),
        (1, 1, 1)
    );
    let first = data.record(0);
    assert_eq!((first.image_id, first.objects.len(), first.crowds.len()), (900, 2, 1));
    // Classes are in the order of the category ids, 3 and 7.
    assert_eq!((first.objects[0].class, first.objects[1].class), (0, 1));
    assert_eq!(first.objects[0].bbox, BBox::new(1.0, 2.0, 11.0, 14.5));
    assert_eq!(first.objects[1].bbox, BBox::new(30.0, 20.0, 40.0, 30.0));
    assert_eq!(data.label_map().category(0).name, "猫");
    assert_eq!((data.record(1).width, data.record(1).height), (20, 20));
    assert!((0..3).all(|i| data.load(i).is_ok()));
    // An evaluation uses the boxes of the file, including small ones.
    assert_eq!((data.coco().images.len(), data.coco().annotations.len()), (3, 4));
    assert_eq!(data.subset(1).len(), 1);
    let crowds_dropped = DataConfig { drop_crowds: true, filter_empty: true, ..folder.config(OnError::Fail) };
    let opened = crowds_dropped.open_train().unwrap();
    assert_eq!((opened.report.crowds, opened.dataset.len()), (0, 1));
}

fn annotation(id: i64, image: i64, category: i64, bbox: Value) -> Value {
    json!({"id": id, "image_id": image, "category_id": category, "bbox": bbox})
}

#[test]
fn everything_wrong_is_in_one_summary() {
    let folder = Folder::new();
    folder.image("good.png", 40, 30).image("size.png", 40, 30);
    std::fs::write(folder.path("text.jpg"), "no image").unwrap();
    std::fs::copy(fixture("truncated.jpg"), folder.path("truncated.jpg")).unwrap();
    let image = |id: i64, name: &str| json!({"id": id, "file_name": name, "width": 40, "height": 30});
    folder.write(
        "train.json",
        &json!({
            "images": [
                image(1, "good.png"), image(2, "missing.png"), image(3, "text.jpg"), image(4, "truncated.jpg"),
                {"id": 5, "file_name": "size.png", "width": 99, "height": 30}, image(1, "good.png"), {"id": 8},
            ],
            "annotations": [
                annotation(1, 1, 3, json!([1, 1, 5, 5])),
                annotation(2, 1, 3, json!([1, 1, 0, 5])),
                annotation(3, 1, 3, json!([50, 1, 5, 5])),
                annotation(4, 1, 99, json!([1, 1, 5, 5])),
                annotation(5, 77, 3, json!([1, 1, 5, 5])),
                annotation(1, 1, 3, json!([9, 9, 5, 5])),
                annotation(6, 1, 3, Value::Null),
                annotation(7, 2, 3, json!([1, 1, 5, 5])),
            ],
            "categories": categories(),
        }),
    );
    let error = folder.config(OnError::Fail).open_train().unwrap_err();
    let text = error.to_string();
    for part in ["missing.png", "text.jpg", "truncated.jpg", "size.png", "on_error"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let DataError::Check(report) = error else { panic!("{text}") };
    let opened = folder.config(OnError::Skip).open_train().unwrap();
    assert_eq!(opened.report, *report);
    for (problem, count) in [
        (Problem::MissingImage, 1),
        (Problem::BrokenImage, 2),
        (Problem::SizeMismatch, 1),
        (Problem::DuplicateImage, 1),
        (Problem::NoFileName, 1),
        (Problem::DuplicateAnnotation, 1),
        (Problem::UnknownImage, 1),
        (Problem::UnknownCategory, 1),
        (Problem::NotFinite, 1),
        (Problem::EmptyBox, 1),
        (Problem::OutsideBox, 1),
    ] {
        assert_eq!(report.count(problem), count, "{problem:?}: {report}");
    }
    assert_eq!(report.skipped.len(), 12);
    let data = opened.dataset;
    assert_eq!((data.len(), data.record(0).objects.len()), (1, 1));
    assert_eq!((data.coco().images.len(), data.coco().annotations.len()), (1, 1));
}

#[test]
fn rotated_images_match_their_boxes() {
    let folder = Folder::new();
    std::fs::copy(fixture("rotated.jpg"), folder.path("rotated.jpg")).unwrap();
    for (width, height, notes) in [(24, 16, 0), (16, 24, 1)] {
        folder.write(
            "train.json",
            &json!({
                "images": [{"id": 1, "file_name": "rotated.jpg", "width": width, "height": height}],
                "annotations": [annotation(1, 1, 3, json!([1, 1, 5, 5]))], "categories": categories(),
            }),
        );
        let opened = folder.config(OnError::Fail).open_train().unwrap();
        assert_eq!(opened.report.count(Problem::StoredOrientation), notes);
        assert_eq!(opened.dataset.load(0).unwrap().dimensions(), (width, height));
    }
}

#[test]
fn validation_must_have_the_categories_of_training() {
    let folder = Folder::new();
    folder.image("a.png", 40, 30);
    let set = |categories: Value| {
        let images = json!([{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]);
        let category = categories[0]["id"].as_i64().unwrap();
        let annotations = [annotation(1, 1, category, json!([1, 1, 5, 5]))];
        json!({"images": images, "annotations": annotations, "categories": categories})
    };
    folder.write("train.json", &set(categories()));
    folder.write("val.json", &set(json!([{"id": 7, "name": "Hähnchen"}])));
    let config = folder.config(OnError::Fail);
    let val = config.open_val().unwrap().dataset;
    assert_eq!(val.label_map(), config.open_train().unwrap().dataset.label_map());
    assert_eq!(val.coco().categories.len(), 2);
    for wrong in [
        json!([{"id": 7, "name": "Hahnchen"}]),
        json!([{"id": 8, "name": "Hähnchen"}]),
        json!([{"id": 1, "name": "x"}]),
    ] {
        folder.write("val.json", &set(wrong));
        assert!(matches!(config.open_val(), Err(DataError::Labels { .. })));
    }
}

#[test]
fn errors_of_settings_and_paths_name_the_key() {
    let folder = Folder::new();
    folder.write("train.json", &json!({"images": [], "annotations": [], "categories": categories()}));
    let good = folder.config(OnError::Fail);
    let text = |config: DataConfig| config.open_train().unwrap_err().to_string();
    assert!(text(DataConfig::default()).contains("data.train.annotations"));
    let mut config = good.clone();
    config.train.images = Some(folder.path("nowhere"));
    assert!(text(config).contains("data.train.images"));
    let mut config = good.clone();
    config.augment.flip_horizontal = 1.5;
    assert!(text(config).contains("data.augment.flip_horizontal"));
    let mut config = good.clone();
    config.augment.scale_jitter = [2.0, 1.0];
    assert!(text(config).contains("data.augment.scale_jitter"));
    let config = DataConfig { min_size: 0, ..good };
    assert!(text(config).contains("min_size"));
    assert!(serde_json::from_value::<DataConfig>(json!({"augment": {"flip": 1}})).is_err());
    let round: DataConfig = serde_json::from_value(serde_json::to_value(DataConfig::default()).unwrap()).unwrap();
    assert_eq!(round, DataConfig::default());
}

/// Loads two real data sets completely. FOVEAL_SHARED names the folder that contains `data/`.
#[test]
#[ignore = "needs data outside the repository"]
fn real_sets_load_completely() {
    let shared = PathBuf::from(std::env::var("FOVEAL_SHARED").expect("FOVEAL_SHARED names a folder"));
    for name in ["coco_open", "bccd"] {
        let root = shared.join("data").join(name);
        let set = |split: &str| SetConfig {
            annotations: Some(root.join("annotations").join(split)),
            images: Some(root.join("images")),
        };
        let config = DataConfig { train: set("train.json"), val: set("val.json"), ..DataConfig::default() };
        for opened in [config.open_train().unwrap(), config.open_val().unwrap()] {
            println!("{}\n{}", opened.report, foveal_data::Stats::of(&opened.dataset));
            for i in 0..opened.dataset.len() {
                opened.dataset.load(i).unwrap();
            }
        }
    }
}
