//! Training sets of several files, classes that are renamed, joined and dropped, and folders of background images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use foveal_data::shapes::Split;
use foveal_data::{
    DataConfig, DataError, Dataset, DroppedObjects, MoreSet, Problem, Sampler, SetConfig, epoch_len, epoch_order,
    part_uses,
};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

/// A folder with the annotation files `a.json`, `b.json` and `val.json` and the images that they name.
struct Place {
    dir: tempfile::TempDir,
}

/// An annotation file with one image for each entry, which has one object of each of its categories. Image ids count
/// from 1, annotation ids too.
fn set(prefix: &str, categories: &[(i64, &str)], images: &[&[i64]]) -> Value {
    let (mut list, mut annotations) = (Vec::new(), Vec::new());
    for (id, objects) in (1..).zip(images) {
        list.push(json!({"id": id, "file_name": format!("{prefix}{id}.png"), "width": 32, "height": 24}));
        for (column, category) in objects.iter().enumerate() {
            let bbox = [1 + 10 * column, 2, 8, 9];
            annotations
                .push(json!({"id": annotations.len() + 1, "image_id": id, "category_id": category, "bbox": bbox}));
        }
    }
    let categories: Vec<Value> = categories.iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
    json!({"images": list, "annotations": annotations, "categories": categories})
}

impl Place {
    /// `a.json` has a car, a bus and both; `b.json` a lorry with a car, and a tree; `val.json` a bus with a lorry.
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("a", &set("a", &[(2, "car"), (5, "bus")], &[&[2], &[5], &[2, 5]]));
        place.write("b", &set("b", &[(1, "lorry"), (2, "tree"), (9, "car")], &[&[1, 9], &[2]]));
        place.write("val", &set("v", &[(1, "bus"), (2, "lorry")], &[&[1, 2]]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes an annotation file and its images.
    fn write(&self, name: &str, file: &Value) {
        for image in file["images"].as_array().unwrap() {
            self.image(image["file_name"].as_str().unwrap());
        }
        std::fs::write(self.path(&format!("{name}.json")), file.to_string()).unwrap();
    }

    fn image(&self, name: &str) {
        let path = self.path("images").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(32, 24, Rgb([90, 60, 30])).save(path).unwrap();
    }

    fn set(&self, name: &str) -> SetConfig {
        let annotations = Some(self.path(&format!("{name}.json")));
        SetConfig { annotations, images: Some(self.path("images")) }
    }

    /// `a.json` for training and `val.json` for validation.
    fn one(&self) -> DataConfig {
        DataConfig { train: self.set("a"), val: self.set("val"), ..DataConfig::default() }
    }

    /// `a.json` and `b.json` with this weight for training.
    fn two(&self, weight: f64) -> DataConfig {
        let more = MoreSet { annotations: self.path("b.json"), images: self.path("images"), weight };
        DataConfig { more_train: vec![more], ..self.one() }
    }
}

fn ids(dataset: &Dataset) -> Vec<(i64, &str)> {
    dataset.label_map().categories().iter().map(|c| (c.id, c.name.as_str())).collect()
}

/// The categories of the ground truth of each image, by its id.
fn truth(dataset: &Dataset) -> Vec<(i64, Vec<i64>)> {
    let of = |id: i64| dataset.coco().annotations.iter().filter(move |a| a.image_id == id).map(|a| a.category_id);
    dataset.records().iter().map(|record| (record.image_id, of(record.image_id).collect())).collect()
}

fn error(config: &DataConfig) -> String {
    config.open_train().unwrap_err().to_string()
}

#[test]
fn several_sets_are_one_with_classes_by_name_and_unique_ids() {
    let place = Place::new();
    let config = place.two(1.0);
    let opened = config.open_train().unwrap();
    let data = &opened.dataset;
    assert_eq!(ids(data), [(2, "car"), (5, "bus"), (6, "lorry"), (7, "tree")]);
    // The images of b.json have the ids 1 and 2 in it, the largest id is 3.
    assert_eq!(truth(data), [(1, vec![2]), (2, vec![5]), (3, vec![2, 5]), (4, vec![6, 2]), (5, vec![7])]);
    let mut annotations: Vec<i64> = data.coco().annotations.iter().map(|a| a.id).collect();
    annotations.dedup();
    assert_eq!(annotations, [1, 2, 3, 4, 5, 6, 7]);
    let classes = |index: usize| data.record(index).objects.iter().map(|o| o.class).collect::<Vec<_>>();
    assert_eq!([classes(2), classes(3), classes(4)], [vec![0, 1], vec![2, 0], vec![3]]);
    let (part, id) = data.origin(4).unwrap();
    assert_eq!((part.key.as_str(), id), ("data.more_train[0]", 2));
    assert!((0..5).all(|index| data.load(index).is_ok()));
    assert_eq!((opened.report.images, opened.report.objects), (5, 7));
    assert!(opened.report.set.contains("a.json") && opened.report.set.contains("b.json"));
    // A validation class is found by name, with the id of the training.
    let val = config.open_val().unwrap().dataset;
    assert_eq!((ids(&val), truth(&val)), (ids(data), vec![(1, vec![5, 6])]));
    assert_eq!(config.open_train().unwrap().dataset.digest(), data.digest());
    // The annotations alone give the same.
    assert_eq!(config.inspect_train_annotations().unwrap().dataset.digest(), data.digest());
    assert_eq!(config.open_train_annotations().unwrap().dataset.digest(), data.digest());
    assert_eq!(config.mapped_annotations(&place.path("val.json"), data.label_map()).unwrap().annotations, {
        val.coco().annotations.clone()
    });
}

#[test]
fn a_single_set_stays_as_it_is() {
    let place = Place::new();
    let opened = place.one().open_train().unwrap();
    assert!(opened.dataset.parts().is_empty() && opened.dataset.origin(0).is_none());
    assert_eq!(ids(&opened.dataset), [(2, "car"), (5, "bus")]);
    assert_eq!(opened.report.set, place.path("a.json").display().to_string());
    assert!(part_uses(&opened.dataset, &place.one()).is_empty());
    // The categories of the validation set must have the ids of the training set.
    assert!(matches!(place.one().open_val(), Err(DataError::Labels { .. })));
    let files = place.one();
    assert_eq!(files.annotation_files(), [&place.path("a.json"), &place.path("val.json")]);
    assert_eq!(files.image_folders(), [&place.path("images"), &place.path("images")]);
}

#[test]
fn weights_are_how_often_images_are_used() {
    let place = Place::new();
    for (weight, images) in [(1.0, 5), (2.0, 7), (0.5, 4), (2.25, 8)] {
        let config = place.two(weight);
        let data = config.open_train().unwrap().dataset;
        assert_eq!(epoch_len(&data, &config), images, "{weight}");
        let epochs = 400;
        let mut counts = [0; 5];
        for epoch in 0..epochs {
            let order = epoch_order(&data, &config, 3, epoch);
            assert_eq!((order.len(), &order), (images, &epoch_order(&data, &config, 3, epoch)));
            order.iter().for_each(|index| counts[*index] += 1);
            let of_b = order.iter().filter(|index| **index >= 3).count() as f64;
            assert!((of_b - 2.0 * weight).abs() < 1.0, "{weight}: {order:?}");
        }
        for (index, count) in counts.into_iter().enumerate() {
            // The length of an epoch is rounded.
            let scale = images as f64 / (3.0 + 2.0 * weight);
            let expected = scale * if index < 3 { 1.0 } else { weight };
            assert!((f64::from(count) / epochs as f64 - expected).abs() < 0.1, "{weight}: {counts:?}");
        }
        let uses: Vec<f64> = part_uses(&data, &config).iter().map(|used| used.per_epoch).collect();
        assert_eq!(uses, [3.0, 2.0 * weight]);
    }
}

#[test]
fn weights_multiply_repeat_factors() {
    let place = Place::new();
    let config = DataConfig { sampler: Sampler::Oversample, repeat_threshold: 0.6, ..place.two(2.0) };
    let data = config.open_train().unwrap().dataset;
    // Three of five images have a car, two a bus, one a lorry and one a tree: factors 1, 1.5, 3 and 3.
    let uses: Vec<f64> = part_uses(&data, &config).iter().map(|used| used.per_epoch).collect();
    assert!((uses[0] - 4.0).abs() < 1e-9 && (uses[1] - 12.0).abs() < 1e-9, "{uses:?}");
    assert_eq!(epoch_len(&data, &config), 16);
}

#[test]
fn classes_are_filtered_joined_and_renamed_in_all_sets() {
    let place = Place::new();
    let mut config = place.two(1.0);
    config.classes = serde_json::from_value(json!({
        "drop": ["tree"], "rename": {"lorry": "truck"}, "join": {"vehicle": ["car", "bus"]},
    }))
    .unwrap();
    // Without `on_error = "skip"` a set without objects would be an error; b.json still has one image with objects.
    let opened = config.open_train().unwrap();
    let data = &opened.dataset;
    assert_eq!(ids(data), [(2, "vehicle"), (6, "truck")]);
    let truth_of = |data: &Dataset| truth(data).into_iter().map(|(_, all)| all).collect::<Vec<_>>();
    assert_eq!(truth_of(data), [vec![2], vec![2], vec![2, 2], vec![6, 2], vec![]]);
    assert_eq!(opened.report.count(Problem::DroppedClass), 1);
    assert!(opened.report.is_clean() && data.record(4).objects.is_empty() && data.record(4).crowds.is_empty());
    let val = config.open_val().unwrap().dataset;
    assert_eq!((ids(&val), truth_of(&val)), (ids(data), vec![vec![2, 6]]));
    let filtered = DataConfig { filter_empty: true, ..config.clone() }.open_train().unwrap().dataset;
    assert_eq!(filtered.len(), 4);

    // Ignored objects are crowd regions of every class.
    config.classes.dropped = DroppedObjects::Ignored;
    let opened = config.open_train().unwrap();
    let data = &opened.dataset;
    assert_eq!((data.record(4).objects.len(), data.record(4).crowds.len(), opened.report.crowds), (0, 1, 1));
    let regions: Vec<(i64, bool)> = {
        let id = data.record(4).image_id;
        let all = data.coco().annotations.iter().filter(|a| a.image_id == id);
        all.map(|a| (a.category_id, a.iscrowd)).collect()
    };
    assert_eq!(regions, [(2, true), (6, true)]);
    let mut ids: Vec<i64> = data.coco().annotations.iter().map(|a| a.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), data.coco().annotations.len());
}

#[test]
fn one_set_with_classes_is_mapped_too() {
    let place = Place::new();
    let mut config = place.one();
    config.classes.keep = vec!["bus".to_owned()];
    place.write("val", &set("v", &[(8, "bus"), (9, "car")], &[&[8, 9], &[9]]));
    let data = config.open_train().unwrap().dataset;
    assert_eq!((ids(&data), data.len(), data.objects_by_class()), (vec![(5, "bus")], 3, vec![2]));
    let val = config.open_val().unwrap().dataset;
    assert_eq!(truth(&val), [(1, vec![5]), (2, vec![])]);
    let counted = config.open_annotations(&place.path("a.json"), Split::Train).unwrap().dataset;
    assert_eq!(counted.objects_by_class(), [2]);
    // An unknown category is a defect of its file, also where a class has its number.
    let mut file = set("a", &[(2, "car"), (5, "bus")], &[&[2], &[5], &[2, 5]]);
    file["annotations"][0]["category_id"] = json!(7);
    place.write("a", &file);
    let report = config.inspect_train().unwrap().report;
    assert_eq!(report.count(Problem::UnknownCategory), 1, "{report}");
}

#[test]
fn errors_name_the_files_and_the_nearest_class() {
    let place = Place::new();
    let mut config = place.two(1.0);
    config.classes.drop = vec!["tre".to_owned()];
    let text = error(&config);
    for part in ["data.classes.drop", "\"tre\"", "\"tree\"", "a.json", "b.json"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    config.classes.drop = vec!["car".to_owned(), "bus".to_owned(), "lorry".to_owned(), "tree".to_owned()];
    assert!(matches!(config.open_train(), Err(DataError::NoClasses { .. })));

    place.write("val", &set("v", &[(1, "bus"), (4, "cart")], &[&[1, 4]]));
    let text = place.two(1.0).open_val().unwrap_err().to_string();
    for part in ["val.json", "category 4", "\"cart\"", "\"car\"", "a.json", "b.json"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    place.write("b", &set("b", &[(1, "Car")], &[&[1]]));
    let text = error(&place.two(1.0));
    for part in ["b.json", "\"Car\"", "a.json", "\"car\"", "rename"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut config = place.two(1.0);
    config.more_train[0].images = place.path("nowhere");
    assert!(error(&config).contains("data.more_train[0].images"));
    assert!(error(&place.two(0.0)).contains("data.more_train[0].weight"));
}

#[test]
fn defects_name_the_set_and_its_own_ids() {
    let place = Place::new();
    std::fs::remove_file(place.path("images/b1.png")).unwrap();
    let text = error(&place.two(1.0));
    assert!(text.contains("b.json: image 1: ") && text.contains("b1.png"), "{text}");
    let report = place.two(1.0).inspect_train().unwrap().report;
    let [skipped] = &report.skipped[..] else { panic!("{report}") };
    assert_eq!((skipped.image_id, skipped.set.as_deref()), (1, place.path("b.json").to_str()));
    // An image that fails after the checks.
    let data = place.two(1.0);
    place.image("b1.png");
    let data = data.open_train().unwrap().dataset;
    std::fs::write(place.path("images/b2.png"), "no image").unwrap();
    let text = data.load(4).unwrap_err().to_string();
    assert!(text.starts_with("image id 2: ") && text.contains("b2.png"), "{text}");
}

#[test]
fn backgrounds_are_in_order_and_have_at_most_their_share() {
    let place = Place::new();
    for name in ["../street/z.png", "../street/deep/b.png", "../street/deep/a.png", "../street/m.png"] {
        place.image(name);
    }
    std::fs::write(place.path("street/notes.txt"), "no image").unwrap();
    let folder = place.path("street");
    let mut config = DataConfig { backgrounds: vec![folder.clone()], filter_empty: true, ..place.one() };
    let opened = config.open_train().unwrap();
    let data = &opened.dataset;
    let names: Vec<&str> = data.records()[3..].iter().map(|record| record.file_name.as_str()).collect();
    assert_eq!(names, ["deep/a.png", "deep/b.png", "m.png", "z.png"]);
    assert_eq!(data.records().iter().map(|record| record.image_id).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7, 4]);
    assert_eq!((opened.report.images, opened.report.empty_images, opened.report.objects), (7, 4, 4));
    assert_eq!(ids(data), [(2, "car"), (5, "bus")]);
    assert!((0..7).all(|index| data.load(index).is_ok()));
    assert_eq!(epoch_len(data, &config), 7);
    assert_eq!(config.image_folders()[1], &folder);

    config.backgrounds_share = Some(0.25);
    // Three images with objects and one background image.
    assert_eq!(epoch_len(data, &config), 4);
    let mut used: BTreeMap<usize, usize> = BTreeMap::new();
    for epoch in 0..200 {
        let order = epoch_order(data, &config, 1, epoch);
        let background: Vec<usize> = order.iter().copied().filter(|index| *index >= 3).collect();
        assert_eq!((order.len(), background.len()), (4, 1), "{order:?}");
        *used.entry(background[0]).or_default() += 1;
    }
    assert!(used.len() == 4 && used.values().all(|count| (30..70).contains(count)), "{used:?}");
    // A share that they do not reach changes nothing.
    config.backgrounds_share = Some(0.9);
    let mut order = epoch_order(data, &config, 1, 0);
    order.sort_unstable();
    assert_eq!(order, [0, 1, 2, 3, 4, 5, 6]);

    // Background images do not count in the fractions of the classes: 2 of 3 images have a bus.
    config = DataConfig { sampler: Sampler::Oversample, repeat_threshold: 1.0, backgrounds_share: None, ..config };
    let uses: Vec<f64> = part_uses(data, &config).iter().map(|used| used.per_epoch).collect();
    assert!((uses[0] - 4.5).abs() < 1e-9 && (uses[1] - 4.0).abs() < 1e-9, "{uses:?}");
}

#[test]
fn backgrounds_that_cannot_be_used_are_errors() {
    let place = Place::new();
    let with = |name: &str| DataConfig { backgrounds: vec![place.path(name)], ..place.one() };
    assert!(error(&with("nowhere")).contains("data.backgrounds[0]"));
    std::fs::create_dir_all(place.path("empty/deep")).unwrap();
    let text = error(&with("empty"));
    assert!(text.contains("data.backgrounds[0]") && text.contains("empty"), "{text}");
    std::fs::write(place.path("empty/deep/broken.jpg"), "no image").unwrap();
    let text = error(&with("empty"));
    assert!(text.contains("deep/broken.jpg"), "{text}");
    let share = DataConfig { backgrounds_share: Some(1.0), ..place.one() };
    assert!(error(&share).contains("data.backgrounds_share"));
}
