//! The label map, results files, and the box layouts.

use std::fs;

use foveal_boxes::BBox;
use foveal_coco::*;
use proptest::prelude::*;

fn category(id: i64, name: &str) -> Category {
    Category { id, name: name.into(), supercategory: None }
}

#[test]
fn classes_follow_the_ids() {
    let map = LabelMap::from_categories(&[category(90, "c"), category(-1, "a"), category(7, "b")]).unwrap();
    assert_eq!(map.len(), 3);
    assert_eq!([-1, 7, 90].map(|id| map.class_of(id)), [Some(0), Some(1), Some(2)]);
    assert_eq!(map.class_of(8), None);
    assert_eq!(map.category(2), &CategoryInfo { id: 90, name: "c".into() });
    assert_eq!(LabelMap::new(map.categories().to_vec()).unwrap(), map);
}

#[test]
fn ambiguous_categories_are_refused() {
    let ids = LabelMap::from_categories(&[category(3, "cat"), category(3, "dog")]).unwrap_err().to_string();
    assert!(ids.contains("3") && ids.contains("cat") && ids.contains("dog"), "{ids}");
    let names = LabelMap::from_categories(&[category(3, "cat"), category(8, "cat")]).unwrap_err().to_string();
    assert!(names.contains("cat") && names.contains("3") && names.contains("8"), "{names}");
    assert!(matches!(LabelMap::from_categories(&[]), Err(CocoError::NoCategories)));
}

#[test]
fn coco_has_80_categories() {
    let names = coco_names();
    assert_eq!((names.len(), names[0].id, names[79].id), (80, 1, 90));
    assert_eq!(LabelMap::new(names).unwrap().class_of(13), Some(11));
}

#[test]
fn results_survive_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let detections = [
        CocoDetection { image_id: -4, category_id: 90, bbox: [0.1, 1e-17, 1.0 / 3.0, 5.0], score: 0.1 + 0.2 },
        CocoDetection { image_id: 1 << 60, category_id: 1, bbox: [258.15, 41.29, 348.26, 243.78], score: 1.0 },
    ];
    write_results(&path, &[]).unwrap();
    assert_eq!(read_results(&path).unwrap(), []);
    write_results(&path, &detections).unwrap();
    assert_eq!(read_results(&path).unwrap(), detections);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let nan = [CocoDetection { score: f64::NAN, ..detections[0] }];
    assert!(write_results(&path, &nan).unwrap_err().to_string().contains("image -4"));
    assert_eq!(read_results(&path).unwrap(), detections, "a refused write leaves the file alone");
    let nowhere = folder.path().join("none/results.json");
    assert!(write_results(&nowhere, &detections).unwrap_err().to_string().contains("results.json"));
}

#[test]
fn bad_results_are_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    for (text, parts) in [
        (r#"[{"image_id": 42, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]"#, &["image 42", "`bbox` has 3"][..]),
        (
            r#"[{"image_id": 42, "category_id": 1, "bbox": [1, 2, 3, 4]}]"#,
            &["image 42", "`score` is missing, expected a finite number"],
        ),
        (r#"[{"image_id": 42, "category_id": 1, "bbox": [1, 2, 3, 4], "score": NaN}]"#, &["image 42", "`score`"]),
        (r#"[{"image_id": 42, "category_id": 1, "score": 0.5}]"#, &["image 42", "`bbox`"]),
        (r#"[{"image_id": "a.jpg", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]"#, &["`image_id`", "a.jpg"]),
        (r#"{"annotations": []}"#, &["map", "list of detections"]),
    ] {
        fs::write(&path, text).unwrap();
        let message = read_results(&path).unwrap_err().to_string();
        for part in parts.iter().chain(&["results.json, line 1"]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
}

#[test]
fn boxes_in_both_layouts() {
    assert_eq!(xywh_to_bbox(&[1.5, 2.0, 3.0, 4.25]), BBox::new(1.5, 2.0, 4.5, 6.25));
    assert_eq!(bbox_to_xywh(&BBox::new(1.5, 2.0, 4.5, 6.25)), [1.5, 2.0, 3.0, 4.25]);
}

proptest! {
    #[test]
    fn corners_survive_the_coco_layout(x1 in -1e4f32..1e4, y1 in -1e4f32..1e4, w in 0f32..1e4, h in 0f32..1e4) {
        let bbox = BBox::new(x1, y1, x1 + w, y1 + h);
        prop_assert_eq!(xywh_to_bbox(&bbox_to_xywh(&bbox)), bbox);
    }
}
