//! Bad records, names of other systems, and sets of which nothing is left.

use std::path::PathBuf;

use foveal_data::{DataConfig, DataError, OnError, Problem, SetConfig};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A folder with images of 40x30 pixels.
    fn new(images: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in images {
            let path = dir.path().join("images").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::from_pixel(40, 30, Rgb([50, 100, 150])).save(path).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A configuration whose training and validation set is `json`.
    fn config(&self, json: &Value, on_error: OnError) -> DataConfig {
        std::fs::write(self.path("set.json"), json.to_string()).unwrap();
        let set = SetConfig { annotations: Some(self.path("set.json")), images: Some(self.path("images")) };
        DataConfig { train: set.clone(), val: set, on_error, ..DataConfig::default() }
    }
}

fn image(id: i64, name: &str) -> Value {
    json!({"id": id, "file_name": name, "width": 40, "height": 30})
}

fn annotation(id: i64, image: i64, bbox: Value) -> Value {
    json!({"id": id, "image_id": image, "category_id": 3, "bbox": bbox})
}

fn set(images: &[Value], annotations: &[Value]) -> Value {
    json!({"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "a"}]})
}

#[test]
fn bad_records_are_listed_with_line_and_id_and_left_out_with_skip() {
    let place = Place::new(&["a.png", "b.png"]);
    let json = set(
        &[image(1, "a.png"), json!({"id": 2, "file_name": "b.png", "width": "wide"}), json!("c.png")],
        &[
            annotation(1, 1, json!([1, 1, 5, 5])),
            annotation(2, 1, json!([])),
            annotation(3, 1, json!({"x": 1})),
            json!({"id": 4, "image_id": 1, "category_id": null, "bbox": [1, 1, 5, 5]}),
            json!(null),
            annotation(6, 2, json!([1, 1, 5, 5])),
        ],
    );
    let DataError::Check(report) = place.config(&json, OnError::Fail).open_train().unwrap_err() else { panic!() };
    assert_eq!((report.count(Problem::AnnotationRecord), report.count(Problem::ImageRecord)), (4, 2));
    assert_eq!(report.errors(), 6, "the annotation of image 2 is no defect of its own: {report}");
    let text = report.to_string();
    for part in
        ["annotation 2: `bbox` has 0 numbers", "(line 1, annotations[1])", "annotation 4: `category_id`", "image 2"]
    {
        assert!(text.contains(part), "{text}");
    }
    let ids: Vec<Option<i64>> = report.skipped.iter().map(|s| s.annotation_id).collect();
    assert_eq!(ids, [None, None, Some(2), Some(3), Some(4), None]);
    for opened in [
        place.config(&json, OnError::Skip).open_train().unwrap(),
        place.config(&json, OnError::Skip).open_val().unwrap(),
    ] {
        assert_eq!((opened.dataset.len(), opened.report.objects), (1, 1));
        assert_eq!(opened.dataset.coco().annotations.len(), 1);
    }
}

#[test]
fn an_unused_root_category_is_no_class_of_the_same_name() {
    let place = Place::new(&["a.png"]);
    let with = |name: &str, category: i64| {
        let mut json = set(&[image(1, "a.png")], &[annotation(1, 1, json!([1, 1, 5, 5]))]);
        json["annotations"][0]["category_id"] = json!(category);
        json["categories"] = json!([
            {"id": 0, "name": name, "supercategory": "none"},
            {"id": 1, "name": "fish", "supercategory": name},
            {"id": 2, "name": "trap", "supercategory": name},
        ]);
        json
    };
    for category in [1, 2] {
        let opened = place.config(&with("fish", category), OnError::Fail).open_train().unwrap();
        let classes: Vec<i64> = opened.dataset.label_map().categories().iter().map(|c| c.id).collect();
        assert_eq!(classes, [1, 2]);
        assert_eq!(opened.dataset.record(0).objects[0].class, category as u32 - 1);
        assert_eq!(opened.dataset.coco().categories.len(), 2, "an evaluation has no class for it either");
        let summary = opened.report.summary();
        assert!(summary.contains("category 0 \"fish\" has no objects and has the name of category 1"), "{summary}");
    }
    let config = place.config(&with("fish", 2), OnError::Fail);
    assert_eq!(config.open_val().unwrap().dataset.label_map().len(), 2);
    let opened = place.config(&with("project", 1), OnError::Fail).open_train().unwrap();
    assert_eq!(opened.dataset.label_map().len(), 3);
    assert!(opened.report.summary().contains("category 0 \"project\""), "{}", opened.report.summary());
    let mut both = with("fish", 1);
    both["annotations"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 2, "image_id": 1, "category_id": 0, "bbox": [1, 1, 5, 5]}));
    for on_error in [OnError::Fail, OnError::Skip] {
        let error = place.config(&both, on_error).open_train().unwrap_err().to_string();
        assert!(error.contains("\"fish\" is used twice: by the category ids 0 and 1"), "{error}");
    }
}

#[test]
fn boxes_in_fractions_are_an_error_whatever_on_error_is() {
    let place = Place::new(&["a.png", "b.png"]);
    for boxes in
        [[json!([0.1, 0.2, 0.5, 0.5]), json!([0.3, 0.3, 0.2, 0.1])], [json!([0, 0, 1, 1]), json!([0.5, 0, 0.5, 1])]]
    {
        let [one, two] = boxes;
        let json = set(&[image(1, "a.png"), image(2, "b.png")], &[annotation(1, 1, one), annotation(2, 2, two)]);
        for on_error in [OnError::Fail, OnError::Skip] {
            let config = place.config(&json, on_error);
            for error in [config.open_train().unwrap_err(), config.open_val_with(None).unwrap_err()] {
                let text = error.to_string();
                assert!(text.contains("fractions of the image") && text.contains("expected"), "{text}");
                let DataError::Unusable(report) = error else { panic!("{text}") };
                assert_eq!(report.count(Problem::Fractions), 2);
                assert!(report.errors() > 0);
            }
        }
    }
    // One box in pixels shows that the others are only small.
    let json = set(
        &[image(1, "a.png")],
        &[annotation(1, 1, json!([0.1, 0.2, 0.5, 0.5])), annotation(2, 1, json!([1, 1, 9, 9]))],
    );
    assert_eq!(place.config(&json, OnError::Fail).open_train().unwrap().report.objects, 1);
}

#[test]
fn a_training_set_without_a_usable_object_is_an_error_with_the_cause() {
    let place = Place::new(&["a.png"]);
    let one = |annotations: &[Value]| set(&[image(1, "a.png")], annotations);
    for (json, cause) in [
        (one(&[]), "the file has no annotations of objects"),
        (one(&[annotation(1, 1, json!([1, 1, 5]))]), "1 records of `annotations` that cannot be read"),
        (one(&[annotation(1, 9, json!([1, 1, 5, 5]))]), "1 annotations of images that are not in the file"),
        (one(&[annotation(1, 1, json!([100, 1, 5, 5]))]), "1 boxes completely outside their image"),
        (one(&[annotation(1, 1, json!([10, 1, 0.5, 0.5]))]), "1 objects smaller than data.min_box"),
    ] {
        for on_error in [OnError::Fail, OnError::Skip] {
            let error = place.config(&json, on_error).open_train().unwrap_err();
            assert!(matches!(error, DataError::Unusable(_)) && error.to_string().contains(cause), "{error}");
        }
    }
    // Images without objects are a validation set; one whose objects all have defects is none.
    assert_eq!(place.config(&one(&[]), OnError::Fail).open_val().unwrap().report.errors(), 0);
    let json = one(&[annotation(1, 1, json!([100, 1, 5, 5]))]);
    assert!(matches!(place.config(&json, OnError::Skip).open_val_with(None), Err(DataError::Unusable(_))));
}

#[test]
fn names_of_other_systems_are_read_where_one_file_has_them() {
    let place = Place::new(&["Caf\u{e9} 1.png", "cam1/a.PNG", "x%20y.png"]);
    let names = ["cafe\u{301} 1.png", "cam1\\a.png", "x y.png"];
    let images: Vec<Value> = (1..).zip(names).map(|(id, name)| image(id, name)).collect();
    let json = set(&images, &[annotation(1, 2, json!([1, 1, 5, 5]))]);
    let opened = place.config(&json, OnError::Fail).open_train().unwrap();
    assert_eq!((opened.dataset.len(), opened.report.count(Problem::OtherName)), (3, 3));
    assert!(opened.report.is_clean() && opened.report.to_string().contains("is read from"), "{}", opened.report);
    assert!((0..3).all(|i| opened.dataset.load(i).is_ok()));
}

#[test]
fn an_ambiguous_or_near_name_is_told_and_not_read() {
    let place = Place::new(&["A.png", "a.png", "b.png", "cam1/d.png"]);
    let one = [annotation(1, 3, json!([1, 1, 5, 5]))];
    // Two files have the first name, and the second name means the file of image 3.
    let json =
        set(&[image(1, "A.PNG"), image(2, "B.png"), image(3, "b.png"), image(4, "d.png"), image(5, "b.jpg")], &one);
    let DataError::Check(report) = place.config(&json, OnError::Fail).open_train().unwrap_err() else { panic!() };
    assert_eq!((report.count(Problem::MissingImage), report.count(Problem::OtherName)), (4, 0));
    let reason = |id: i64| report.skipped.iter().find(|s| s.image_id == id).unwrap().reason.clone();
    assert!(
        reason(1).contains("A.png") && reason(1).contains("a.png") && reason(1).contains("could mean"),
        "{}",
        reason(1)
    );
    assert!(reason(2).contains("image 3 means this file too"), "{}", reason(2));
    assert!(reason(4).contains("d.png") && !reason(4).contains("there is"), "a folder is not searched: {}", reason(4));
    assert!(reason(5).contains("there is") && reason(5).contains("b.png"), "{}", reason(5));
    let mut config = place.config(&json, OnError::Fail);
    config.train.images = Some(place.path("Images"));
    let error = config.open_train().unwrap_err().to_string();
    assert!(error.contains("data.train.images") && error.contains("there is"), "{error}");
}

#[test]
fn annotations_alone_are_checked_without_image_files() {
    let place = Place::new(&[]);
    let json = set(
        &[image(1, "none.png"), json!({"id": 2, "file_name": "b.png"})],
        &[annotation(1, 1, json!([1, 1, 5, 5])), annotation(2, 1, json!(7)), annotation(3, 2, json!([1, 1, 5, 5]))],
    );
    let config = place.config(&json, OnError::Fail);
    let report = config.inspect_annotations(&place.path("set.json")).unwrap().report;
    assert_eq!((report.images, report.objects, report.errors()), (1, 1, 2), "{report}");
    assert_eq!((report.count(Problem::SizeUnknown), report.count(Problem::AnnotationRecord)), (1, 1));
}
