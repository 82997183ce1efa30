//! Files of other tools are read; files without a meaning are refused with an error that names the place.

use std::{fs, io::Write, path::Path};

use foveal_coco::*;

fn parse(text: &str) -> Result<CocoDataset, CocoError> {
    CocoDataset::from_bytes(text.as_bytes(), Path::new("set.json"))
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn with_annotation(annotation: &str) -> String {
    format!(
        "{{\"images\": [{{\"id\": 7, \"file_name\": \"a.jpg\", \"width\": 10, \"height\": 20}}],\n\
         \"categories\": [{{\"id\": 3, \"name\": \"x\"}}],\n\"annotations\": [{annotation}]}}"
    )
}

const VARIED: &str = r#"{
    "info": {"year": 2026}, "licenses": null,
    "images": [
        {"id": 900.0, "file_name": "äö/图 1.jpg", "width": 640.0, "height": 480, "license": null, "coco_url": 3},
        {"id": -5, "file_name": "b.png", "width": 1, "height": 1}
    ],
    "annotations": [
        {"id": 0, "image_id": 900, "category_id": 90, "bbox": [1, 2.5, 3, 4], "area": null, "iscrowd": null,
         "segmentation": {"counts": [3, 4], "size": [2, 2]}},
        {"id": 12, "image_id": 9e2, "category_id": 1.0, "bbox": [0, 0, 10, 10], "area": 50.25, "iscrowd": true,
         "segmentation": [[1, 2, 3, 4]], "keypoints": [[{}]]},
        {"id": 13, "image_id": 900, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 1, "segmentation": []},
        {"id": 14, "image_id": 900, "category_id": 1, "bbox": [0, 0, 10, 10], "iscrowd": 0.0}
    ],
    "categories": [
        {"id": 90, "name": "Zahnbürste", "supercategory": null},
        {"id": 1, "name": "\u732b", "supercategory": "animal", "keypoints": ["nose"]},
        {"id": 44}
    ]
}"#;

#[test]
fn varied_spellings_are_read() {
    let set = parse(VARIED).unwrap();
    assert_eq!(set.images[0], Image { id: 900, file_name: "äö/图 1.jpg".into(), width: 640, height: 480 });
    assert_eq!(set.images[1].id, -5);
    let [a, b, c, d] = &set.annotations[..] else { panic!("four annotations") };
    assert_eq!((a.id, a.area, a.iscrowd, a.bbox), (0, 12.0, false, [1.0, 2.5, 3.0, 4.0]));
    assert_eq!((b.image_id, b.category_id, b.area, b.iscrowd), (900, 1, 50.25, true));
    assert!(c.iscrowd && !d.iscrowd);
    assert_eq!(set.categories[1].name, "猫");
    assert_eq!(set.categories[2].name, "category_44");
    assert_eq!(set.findings(), []);
}

#[test]
fn gzip_and_byte_order_mark() {
    let folder = tempfile::tempdir().unwrap();
    let marked = folder.path().join("bom.json");
    fs::write(&marked, format!("\u{feff}{VARIED}")).unwrap();
    let zipped = folder.path().join("packed.json");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&zipped).unwrap(), Default::default());
    encoder.write_all(VARIED.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let set = parse(VARIED).unwrap();
    assert_eq!(CocoDataset::read(&marked).unwrap(), set);
    assert_eq!(CocoDataset::read(&zipped).unwrap(), set);

    let bytes = fs::read(&zipped).unwrap();
    fs::write(&zipped, &bytes[..bytes.len() / 2]).unwrap();
    let message = CocoDataset::read(&zipped).unwrap_err().to_string();
    assert!(message.contains("packed.json"), "{message}");
}

#[test]
fn a_set_survives_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let set = parse(VARIED).unwrap();
    set.write(&path).unwrap();
    assert_eq!(CocoDataset::read(&path).unwrap(), set);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"iscrowd\":1") && !text.contains("true"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn errors_name_file_place_record_and_field() {
    for (annotation, parts) in [
        (
            r#"{"id": 5, "image_id": "7", "category_id": 3, "bbox": [0, 0, 1, 1]}"#,
            &["annotation 5", "`image_id`", "string \"7\"", "integer"][..],
        ),
        (
            r#"{"id": "5", "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}"#,
            &["annotation", "`id`", "string \"5\""],
        ),
        (r#"{"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}"#, &["`id` is missing, expected an integer"]),
        (r#"{"id": 5, "image_id": 7.5, "category_id": 3, "bbox": [0, 0, 1, 1]}"#, &["annotation 5", "7.5"]),
        (
            r#"{"id": 5, "image_id": 7, "bbox": [0, 0, 1, 1]}"#,
            &["annotation 5", "`category_id` is missing, expected an integer"],
        ),
        (
            r#"{"id": 6, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1]}"#,
            &["annotation 6", "`bbox` has 3 numbers", "four"],
        ),
        (r#"{"id": 6, "image_id": 7, "category_id": 3, "bbox": "0 0 1 1"}"#, &["annotation 6", "`bbox` is the string"]),
        (
            r#"{"id": 6, "image_id": 7, "category_id": 3, "bbox": [0, 0, "w", 1]}"#,
            &["annotation 6", "`bbox` contains the string \"w\""],
        ),
        (
            r#"{"id": 6, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": "no"}"#,
            &["annotation 6", "`iscrowd`", "\"no\""],
        ),
        (
            r#"{"id": 6, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "area": []}"#,
            &["annotation 6", "`area` is a list"],
        ),
        ("17", &["annotation object", "17"]),
    ] {
        let message = error(&with_annotation(annotation));
        for part in parts.iter().chain(&["set.json, line 3, column "]) {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }
    let image = error(r#"{"images": [{"id": 1, "width": -3}], "annotations": [], "categories": []}"#);
    assert!(image.contains("image 1") && image.contains("`width` is -3"), "{image}");
    let named = error(r#"{"images": [{"id": "k", "file_name": "k.jpg"}], "annotations": [], "categories": []}"#);
    assert!(named.contains("image \"k.jpg\""), "{named}");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    assert!(error("[]").contains("expected a COCO object"));
    assert!(error("{").contains("line 1"));
    assert!(error("").contains("EOF"));
    let missing = error(r#"{"images": [], "annotations": []}"#);
    assert!(missing.contains("set.json has no `categories`: a COCO annotation file must contain"), "{missing}");
    assert!(error(r#"{"images": null, "annotations": [], "categories": []}"#).contains("no `images`"));
    let nowhere = CocoDataset::read(Path::new("no/such.json")).unwrap_err().to_string();
    assert!(nowhere.contains("no/such.json"), "{nowhere}");
}

#[test]
fn defects_of_content_are_findings() {
    let set = parse(
        r#"{"images": [{"id": 1, "file_name": "NaN \" NaN", "width": 4, "height": 4}, {"id": 1, "file_name": "b", "width": 4, "height": 4}, {"id": 2}],
        "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
        "annotations": [
          {"id": 4, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
          {"id": 4, "image_id": 1, "category_id": 8, "bbox": [0, 0, 1, 1]},
          {"id": 5, "image_id": 1, "category_id": 1, "bbox": [NaN, 0, 1, 1]},
          {"id": 6, "image_id": 1, "category_id": 1, "bbox": [0, 0, -Infinity, 1]},
          {"id": 7, "image_id": 1, "category_id": 1},
          {"id": 8, "image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 1]},
          {"id": 9, "image_id": 1, "category_id": 1, "bbox": [0, 0, 3, -1]}]}"#,
    )
    .unwrap();
    assert_eq!(set.images[0].file_name, "NaN \" NaN");
    let not_finite = |annotation_id| Finding::NotFinite { annotation_id, image_id: 1 };
    assert_eq!(
        set.findings(),
        [
            Finding::DuplicateCategory { category_id: 1 },
            Finding::DuplicateImage { image_id: 1 },
            Finding::NoFileName { image_id: 2 },
            Finding::NoSize { image_id: 2 },
            Finding::UnknownImage { annotation_id: 4, image_id: 9 },
            Finding::DuplicateAnnotation { annotation_id: 4, image_id: 1 },
            Finding::UnknownCategory { annotation_id: 4, image_id: 1, category_id: 8 },
            not_finite(5),
            not_finite(6),
            not_finite(7),
            Finding::EmptyBox { annotation_id: 8, image_id: 1, bbox: [0.0, 0.0, 0.0, 1.0] },
            Finding::EmptyBox { annotation_id: 9, image_id: 1, bbox: [0.0, 0.0, 3.0, -1.0] },
        ]
    );
    assert!(set.findings().iter().all(|f| !f.to_string().is_empty()));
}
