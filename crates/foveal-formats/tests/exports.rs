//! What exports write, leave out and refuse.

mod support;

use foveal_formats::{
    ExportOptions, OnError, Placement, YoloOptions, convert_yolo, export_csv, export_cvat, export_voc, export_yolo,
};
use serde_json::{Value, json};
use support::Place;

/// An image of 100x50 pixels with a crowd region, a box beyond its edge and one beyond it, and an image without
/// objects.
fn coco() -> Value {
    json!({
        "images": [
            {"id": 7, "file_name": "cam\\a.png", "width": 100, "height": 50},
            {"id": 8, "file_name": "b.png", "width": 100, "height": 50},
        ],
        "categories": [{"id": 3, "name": "cat, \"black\"", "supercategory": "animal"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 5, 20, 10], "area": 150.5},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [90.25, 40, 20, 20], "area": 400},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [120, 5, 10, 10], "area": 100},
            {"id": 4, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 1},
        ],
    })
}

fn place(coco: &Value) -> Place {
    let place = Place::new();
    place.write("coco.json", coco.to_string());
    place
}

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.path(name)).unwrap()
}

#[track_caller]
fn notes(found: &[String], words: &[&str]) {
    let all = found.len() == words.len() && found.iter().zip(words).all(|(note, word)| note.contains(word));
    assert!(all, "{found:#?} is not {words:?}");
}

#[test]
fn yolo_is_clipped_and_has_no_crowds() {
    let place = place(&coco());
    let options = ExportOptions::default();
    let exported = export_yolo(&place.path("coco.json"), &place.path("yolo"), "train", &options).unwrap();
    assert_eq!((exported.images, exported.objects, exported.classes, exported.placed), (2, 2, 2, 0));
    // Classes are in the order of their ids: dog is 0. The second box is clipped to x 90.25 to 100 and y 40 to 50.
    assert_eq!(
        read(&place, "yolo/labels/train/cam/a.txt"),
        "1 0.20000000 0.20000000 0.20000000 0.20000000\n0 0.95125000 0.90000000 0.09750000 0.20000000\n"
    );
    assert_eq!(read(&place, "yolo/labels/train/b.txt"), "");
    assert_eq!(
        read(&place, "yolo/data.yaml"),
        "train: \"images/train\"\n\nnc: 2\nnames:\n  0: \"dog\"\n  1: \"cat, \\\"black\\\"\"\n"
    );
    notes(
        &exported.notes,
        &[
            "crowd regions, for which the format has no field, left out: 1 (first: annotation 4)",
            "beyond their image, clipped to it: 1",
            "entirely beyond their image, left out: 1",
            "supercategories, for which the format has no field, left out: 1",
            "areas that are not those of the boxes",
            "running numbers from 1, left out: 2 (first: image 7)",
        ],
    );
    // A second split goes beside the first, if it has the same classes and a new name.
    export_yolo(&place.path("coco.json"), &place.path("yolo"), "val", &options).unwrap();
    assert!(read(&place, "yolo/data.yaml").starts_with("train: \"images/train\"\nval: \"images/val\"\n\nnc"));
    let error = |split: &str| {
        export_yolo(&place.path("coco.json"), &place.path("yolo"), split, &options).unwrap_err().to_string()
    };
    assert!(error("val").contains("labels/val") && error("val").contains("not empty"), "{}", error("val"));
    assert!(error("../x").contains("the split is \"../x\""), "{}", error("../x"));
    let mut other = coco();
    other["categories"][1]["name"] = "wolf".into();
    place.write("coco.json", other.to_string());
    assert!(error("test").contains("data.yaml") && error("test").contains("expected wolf"), "{}", error("test"));
}

#[test]
fn images_are_linked_or_copied() {
    for placement in [Placement::Link, Placement::Copy] {
        let place = place(&coco());
        place.image("photos/cam/a.png", 100, 50);
        place.image("photos/b.png", 100, 50);
        let options = ExportOptions { images: Some(place.path("photos")), placement, ..ExportOptions::default() };
        let exported = export_yolo(&place.path("coco.json"), &place.path("yolo"), "train", &options).unwrap();
        assert_eq!(exported.placed, 2);
        let link = place.path("yolo/images/train/cam/a.png");
        assert_eq!(std::fs::read(&link).unwrap(), std::fs::read(place.path("photos/cam/a.png")).unwrap());
        assert_eq!(link.is_symlink(), cfg!(unix) && placement == Placement::Link);
        assert_eq!(convert_yolo(&place.path("yolo"), &YoloOptions::default()).unwrap().dataset.annotations.len(), 2);
    }
}

#[test]
fn voc_marks_crowds_difficult_and_lists_the_images() {
    let place = place(&coco());
    let exported =
        export_voc(&place.path("coco.json"), &place.path("voc"), "trainval", &ExportOptions::default()).unwrap();
    assert_eq!(read(&place, "voc/ImageSets/Main/trainval.txt"), "cam/a\nb\n");
    let text = read(&place, "voc/Annotations/cam/a.xml");
    for part in [
        "<filename>a.png</filename>",
        "<name>cat, &quot;black&quot;</name>",
        "<xmin>90.25</xmin>",
        "<xmax>110.25</xmax>",
        "<difficult>1</difficult>",
    ] {
        assert!(text.contains(part), "{text}");
    }
    notes(
        &exported.notes,
        &["crowd regions, written as objects marked difficult: 1", "supercategories", "areas", "running numbers"],
    );
}

#[test]
fn cvat_and_csv() {
    let place = place(&coco());
    export_cvat(&place.path("coco.json"), &place.path("a.xml"), &ExportOptions::default()).unwrap();
    let text = read(&place, "a.xml");
    assert!(text.contains("<image id=\"0\" name=\"cam/a.png\" width=\"100\" height=\"50\">"), "{text}");
    assert!(text.contains("xtl=\"90.25\" ytl=\"40\" xbr=\"110.25\" ybr=\"60\""), "{text}");
    export_csv(&place.path("coco.json"), &place.path("a.csv"), true, &ExportOptions::default()).unwrap();
    assert_eq!(
        read(&place, "a.csv"),
        "filename,width,height,class,xmin,ymin,xmax,ymax\ncam/a.png,100,50,\"cat, \"\"black\"\"\",10,5,30,15\n\
         cam/a.png,100,50,dog,90.25,40,110.25,60\ncam/a.png,100,50,dog,120,5,130,15\nb.png,100,50,,,,,\n"
    );
    export_csv(&place.path("coco.json"), &place.path("a.csv"), false, &ExportOptions::default()).unwrap();
    let text = read(&place, "a.csv");
    assert!(text.starts_with("cam/a.png,10,5,30,15,\"cat, ") && text.ends_with("b.png,,,,,\n"), "{text}");
}

/// A damage, the formats that cannot write it (YOLO, Pascal VOC, CVAT, CSV), and words of the error.
type Case = (fn(&mut Value), [bool; 4], &'static [&'static str]);

#[test]
fn names_and_records_that_cannot_be_written_are_named() {
    let export = |edit: fn(&mut Value), on_error| {
        let mut coco = coco();
        edit(&mut coco);
        let place = place(&coco);
        let options = ExportOptions { on_error, ..ExportOptions::default() };
        let results = [
            export_yolo(&place.path("coco.json"), &place.path("yolo"), "train", &options),
            export_voc(&place.path("coco.json"), &place.path("voc"), "train", &options),
            export_cvat(&place.path("coco.json"), &place.path("a.xml"), &options),
            export_csv(&place.path("coco.json"), &place.path("a.csv"), true, &options),
        ];
        assert!(!place.path("../b.txt").exists() && !place.path("b.txt").exists());
        results.map(|result| result.map(|exported| exported.notes.join("; ")).map_err(|error| error.to_string()))
    };
    let cases: [Case; 6] = [
        (
            |c| c["images"][1]["file_name"] = "../b.png".into(),
            [true; 4],
            &["image 8", "\"../b.png\"", "stays in a folder"],
        ),
        (|c| c["images"][1]["file_name"] = "/b.png".into(), [true; 4], &["image 8", "\"/b.png\""]),
        (|c| c["images"][1]["width"] = 0.into(), [true; 4], &["image 8", "no width and height", "--images"]),
        (
            |c| c["images"][1]["file_name"] = "cam/a.jpg".into(),
            [true, true, false, false],
            &["image 8", "same annotation file"],
        ),
        (|c| c["annotations"][0]["category_id"] = 9.into(), [true; 4], &["coco.json, line 1", "category 9"]),
        (
            |c| c["images"][1]["file_name"] = "b\u{1}.png".into(),
            [false, true, true, false],
            &["image 8", "XML does not allow"],
        ),
    ];
    for (edit, refused, words) in cases {
        for (result, refused) in export(edit, OnError::Fail).into_iter().zip(refused) {
            assert_eq!(result.is_err(), refused, "{words:?}: {result:?}");
            if let Err(error) = result {
                assert!(words.iter().all(|word| error.contains(word)) && error.contains("--on-error skip"), "{error}");
            }
        }
        for (result, refused) in export(edit, OnError::Skip).into_iter().zip(refused) {
            let notes = result.unwrap();
            assert_eq!(notes.contains("cannot be converted, left out: 1 (first: "), refused, "{notes}");
        }
    }
}

#[test]
fn classes_without_objects_are_noted_where_the_format_has_no_list_of_classes() {
    let mut coco = coco();
    coco["categories"].as_array_mut().unwrap().push(json!({"id": 9, "name": "wolf"}));
    let place = place(&coco);
    let (file, options) = (place.path("coco.json"), ExportOptions::default());
    let found = [
        export_csv(&file, &place.path("a.csv"), true, &options).unwrap().notes,
        export_voc(&file, &place.path("voc"), "train", &options).unwrap().notes,
        export_cvat(&file, &place.path("a.xml"), &options).unwrap().notes,
        export_yolo(&file, &place.path("yolo"), "train", &options).unwrap().notes,
    ];
    let noted = found.map(|notes| notes.iter().any(|note| note.contains("left out: 1 (first: \"wolf\"")));
    assert_eq!(noted, [true, true, false, false]);
}
