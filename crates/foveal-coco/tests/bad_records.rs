//! One bad record does not refuse a file: it is listed with its place, and the other records are read.

use std::{fs, path::Path};

use foveal_coco::*;

/// A file with the given annotations, one a line, beginning with line 4.
fn with_annotations(annotations: &[&str]) -> String {
    format!(
        "{{\"images\": [{{\"id\": 7, \"file_name\": \"a.jpg\", \"width\": 10, \"height\": 20}}],\n\
         \"categories\": [{{\"id\": 3, \"name\": \"x\"}}],\n\"annotations\": [\n{}]}}",
        annotations.join(",\n")
    )
}

fn read(text: &str) -> CocoFile {
    CocoFile::from_bytes(text.as_bytes(), Path::new("set.json")).unwrap()
}

const GOOD: &str = r#"{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}"#;

#[test]
fn every_kind_of_bad_annotation_is_listed_and_left_out() {
    let bad = [
        (r#"{"id": 2, "image_id": 7, "category_id": 3, "bbox": []}"#, "annotation 2: `bbox` has 0 numbers"),
        (r#"{"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}"#, "annotation 2: `bbox` has 3 numbers"),
        (r#"{"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4, 5]}"#, "annotation 2: `bbox` has 5"),
        (r#"{"id": 2, "image_id": 7, "category_id": 3, "bbox": ["1", "2", "3", "4"]}"#, "contains the string \"1\""),
        (r#"{"id": 2, "image_id": 7, "category_id": 3, "bbox": {"x": 1}}"#, "annotation 2: `bbox` is an object"),
        (r#"{"id": 2, "image_id": 7, "category_id": null, "bbox": [0, 0, 1, 1]}"#, "`category_id` is missing"),
        (r#"{"id": 2, "image_id": null, "category_id": 3, "bbox": [0, 0, 1, 1]}"#, "`image_id` is missing"),
        (r#"{"id": null, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}"#, "annotation: `id` is missing"),
        (r#"{"id": 2, "id": [], "image_id": 7}"#, "annotation: `id` is a list"),
        ("null", "expected an annotation object {id, image_id, category_id, bbox}, found null"),
        ("[[1, 2], {}]", "found a list"),
        ("\"text\"", "found the string \"text\""),
        ("3.5", "found 3.5"),
        ("false", "found false"),
        ("{}", "annotation: `id` is missing"),
    ];
    for (record, message) in bad {
        let file = read(&with_annotations(&[
            GOOD,
            record,
            r#"{"id": 9, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}"#,
        ]));
        let ids: Vec<i64> = file.dataset.annotations.iter().map(|a| a.id).collect();
        assert_eq!(ids, [1, 9], "{record}");
        let [found] = &file.bad.described[..] else { panic!("{record}: {:?}", file.bad) };
        assert!(found.message.contains(message), "{:?} lacks {message:?}", found.message);
        assert_eq!(found.place, Place { list: List::Annotations, index: 1, line: 5 });
        assert_eq!((file.bad.count(List::Annotations), file.bad.count(List::Images)), (1, 0));
        assert_eq!(file.place(List::Annotations, 1), Some(Place { list: List::Annotations, index: 2, line: 6 }));
        let error = file.without_bad_records(Path::new("set.json")).unwrap_err().to_string();
        assert!(error.starts_with("set.json, line 5, column ") && error.contains("annotations[1]: "), "{error}");
    }
}

#[test]
fn bad_images_and_categories_are_listed_too() {
    let file = read(
        r#"{"images": [{"id": 1, "file_name": "a.jpg"}, 5, {"id": 2, "file_name": ["b"]}, {"file_name": "c.jpg"}],
           "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1]}],
           "categories": [{"id": "one", "name": "a"}, {"id": 1, "name": {}}, {"id": 1, "name": "b"}]}"#,
    );
    assert_eq!((file.dataset.images.len(), file.dataset.categories.len()), (1, 1));
    assert_eq!((file.bad.count(List::Images), file.bad.count(List::Categories), file.bad.total()), (3, 2, 5));
    assert_eq!(file.bad.image_ids().iter().collect::<Vec<_>>(), [&2]);
    let texts: Vec<String> = file.bad.described.iter().map(|b| format!("{} ({})", b.message, b.place)).collect();
    assert!(texts[1].starts_with("image 2: `file_name` is a list, expected a string (line 1, images[2])"), "{texts:?}");
    // The annotation of image 2 is no defect of its own.
    let findings: Vec<Finding> = file.findings().into_iter().map(|(finding, _)| finding).collect();
    assert_eq!(findings, [Finding::NoSize { image_id: 1 }]);
}

#[test]
fn findings_have_the_place_of_their_record() {
    let file = read(&with_annotations(&[
        "17",
        GOOD,
        r#"{"id": 4, "image_id": 7, "category_id": 8, "bbox": [0, 0, NaN, 1]}"#,
        r#"{"id": 5, "image_id": 70, "category_id": 3, "bbox": [0, 0, 1, 0]}"#,
    ]));
    let place = |index, line| Place { list: List::Annotations, index, line };
    assert_eq!(
        file.findings(),
        [
            (Finding::UnknownCategory { annotation_id: 4, image_id: 7, category_id: 8 }, place(2, 6)),
            (Finding::NotFinite { annotation_id: 4, image_id: 7 }, place(2, 6)),
            (Finding::UnknownImage { annotation_id: 5, image_id: 70 }, place(3, 7)),
            (Finding::EmptyBox { annotation_id: 5, image_id: 70, bbox: [0.0, 0.0, 1.0, 0.0] }, place(3, 7)),
        ]
    );
    assert_eq!(place(3, 7).to_string(), "line 7, annotations[3]");
}

#[test]
fn a_file_of_bad_records_alone_is_counted() {
    let annotations = vec!["0"; 30_000].join(",");
    let file = read(&format!(r#"{{"images": [], "categories": [], "annotations": [{annotations}]}}"#));
    assert_eq!((file.bad.total(), file.bad.described.len()), (30_000, 10_000));
    let error = file.without_bad_records(Path::new("x")).unwrap_err().to_string();
    assert!(error.contains("annotations[0]") && error.contains("and 29999 more records"), "{error}");
}

#[test]
fn a_list_that_is_something_else_is_an_error() {
    for (text, words) in [
        (r#"{"images": {}, "annotations": [], "categories": []}"#, ["the list `images`", "map"]),
        (r#"{"images": [], "annotations": "none", "categories": []}"#, ["the list `annotations`", "none"]),
        (r#"{"images": [], "annotations": [], "categories": 3}"#, ["the list `categories`", "3"]),
        (r#"{"images": [], "annotations": [{"id": 1,}], "categories": []}"#, ["trailing comma", "line 1"]),
        (r#"{"images": [], "annotations": [], "categories": []} x"#, ["trailing characters", "line 1"]),
    ] {
        let error = CocoFile::from_bytes(text.as_bytes(), Path::new("set.json")).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn image_names_need_neither_annotations_nor_categories() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image_info_test.json");
    for rest in ["", r#", "annotations": "none here", "categories": [{"id": {}}]"#] {
        let images = r#"[{"id": 11, "file_name": "a.jpg", "width": "wide"}, {"id": "x", "file_name": "b.jpg"}]"#;
        fs::write(&path, format!(r#"{{"info": {{}}, "images": {images}{rest}}}"#)).unwrap();
        let file = CocoFile::read_names(&path).unwrap();
        assert_eq!((file.dataset.images.len(), file.dataset.images[0].id), (1, 11));
        assert_eq!(file.bad.total(), 1);
    }
    assert!(CocoFile::read(&path).is_err());
    fs::write(&path, r#"{"categories": []}"#).unwrap();
    let error = CocoFile::read_names(&path).unwrap_err().to_string();
    assert!(error.contains("no `images`") && error.contains("image ids"), "{error}");
}

#[test]
fn a_bad_detection_is_named_with_its_index() {
    let good = r#"{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}"#;
    for (record, words) in [
        ("null", &["detections[1]", "found null"][..]),
        (r#"{"image_id": 42, "category_id": 1, "bbox": "x", "score": 1}"#, &["detections[1]", "image 42", "`bbox`"]),
        (
            r#"{"image_id": 42, "category_id": null, "bbox": [0, 0, 1, 1], "score": 1}"#,
            &["detections[1]", "image 42", "`category_id` is missing"],
        ),
    ] {
        let text = format!("[{good},\n{record},\n{good}, 5]");
        let error = results_from_bytes(text.as_bytes(), Path::new("results.json")).unwrap_err().to_string();
        for word in words.iter().chain(&["results.json, line 2, column", "one more record"]) {
            assert!(error.contains(word), "{error:?} lacks {word:?}");
        }
    }
}

fn category(id: i64, name: &str, supercategory: Option<&str>) -> Category {
    Category { id, name: name.into(), supercategory: supercategory.map(str::to_owned) }
}

fn set(categories: &[Category], used: &[i64]) -> CocoDataset {
    let annotations =
        (1..).zip(used).map(|(id, &category_id)| Annotation { id, category_id, ..Annotation::default() }).collect();
    CocoDataset { images: Vec::new(), annotations, categories: categories.to_vec() }
}

#[test]
fn an_unused_category_with_a_doubled_name_is_no_class() {
    let fish =
        [category(0, "fish", Some("none")), category(1, "fish", Some("fish")), category(2, "trap", Some("fish"))];
    let ids = |classes: &Classes| classes.labels.categories().iter().map(|c| c.id).collect::<Vec<_>>();
    for used in [&[1, 2][..], &[2], &[]] {
        let classes = Classes::of(&set(&fish, used), None).unwrap();
        assert_eq!(ids(&classes), [1, 2], "used: {used:?}");
        assert_eq!(classes.dropped, [DroppedCategory { category: fish[0].clone(), kept: Some(1) }]);
        assert_eq!(classes.unused_roots, []);
    }
    // Without a root category, the one with objects is the class, whatever its id.
    let plain = [category(4, "cat", None), category(5, "dog", None), category(9, "cat", None)];
    assert_eq!(ids(&Classes::of(&set(&plain, &[5, 9]), None).unwrap()), [5, 9]);
    assert_eq!(ids(&Classes::of(&set(&plain, &[4]), None).unwrap()), [4, 5]);
    // A model decides where the set does not.
    let model = Classes::of(&set(&plain, &[9]), None).unwrap().labels;
    assert_eq!(ids(&Classes::of(&set(&plain, &[5]), Some(&model)).unwrap()), [5, 9]);
    let error = Classes::of(&set(&plain, &[4, 9]), None).unwrap_err().to_string();
    assert!(error.contains("cat") && error.contains('4') && error.contains('9'), "{error}");
}

#[test]
fn an_unused_root_of_another_name_stays_a_class() {
    let set = set(&[category(0, "project", Some("none")), category(1, "a", Some("project"))], &[1]);
    let classes = Classes::of(&set, None).unwrap();
    assert_eq!((classes.labels.len(), classes.labels.class_of(1)), (2, Some(1)));
    assert_eq!((classes.unused_roots.len(), classes.unused_roots[0].id), (1, 0));
    // A model that does not know it has no class for it.
    let model = LabelMap::from_categories(&set.categories[1..]).unwrap();
    assert_eq!(Classes::of(&set, Some(&model)).unwrap().dropped.len(), 1);
}

#[test]
fn a_category_that_is_listed_twice_counts_once() {
    let twice = [category(1, "a", None), category(1, "a", Some("b")), category(2, "b", None)];
    assert_eq!(Classes::of(&set(&twice, &[1]), None).unwrap().labels.len(), 2);
    assert_eq!(set(&twice, &[]).findings(), []);
    let other = [category(1, "a", None), category(1, "b", None)];
    assert!(matches!(Classes::of(&set(&other, &[]), None), Err(CocoError::DuplicateCategory { id: 1, .. })));
}
