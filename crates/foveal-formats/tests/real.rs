//! Files with the structure of real exports; tests/fixtures/real/SOURCE.md cites them.

mod support;

use std::path::{Path, PathBuf};

use foveal_coco::CocoDataset;
use foveal_formats::{
    CocoOptions, Converted, CsvOptions, CvatOptions, LabelmeOptions, OnError, OpenImagesOptions, VocOptions,
    YoloOptions, convert_coco, convert_csv, convert_cvat, convert_labelme, convert_open_images, convert_voc,
    convert_yolo,
};
use support::Place;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/real").join(name)
}

/// Copies a folder of fixtures into a place.
fn copy(place: &Place, from: &str, to: &str) {
    for entry in std::fs::read_dir(fixture(from)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            copy(place, &format!("{from}/{name}"), &format!("{to}/{name}"));
        } else {
            place.write(&format!("{to}/{name}"), std::fs::read(&path).unwrap());
        }
    }
}

/// The objects as `file: class x y width height`, with two decimals and a star for crowd regions.
fn objects(dataset: &CocoDataset) -> Vec<String> {
    let line = |a: &foveal_coco::Annotation| {
        let image = dataset.images.iter().find(|image| image.id == a.image_id).unwrap();
        let class = dataset.categories.iter().find(|category| category.id == a.category_id).unwrap();
        let [x, y, w, h] = a.bbox;
        let crowd = if a.iscrowd { " *" } else { "" };
        format!("{}: {} {x:.2} {y:.2} {w:.2} {h:.2}{crowd}", image.file_name, class.name)
    };
    dataset.annotations.iter().map(line).collect()
}

/// Each note contains its word, in this order, and there are no others.
#[track_caller]
fn notes(converted: &Converted, words: &[&str]) {
    let found = &converted.notes;
    let all = found.len() == words.len() && found.iter().zip(words).all(|(note, word)| note.contains(word));
    assert!(all, "{found:#?} is not {words:?}");
}

#[test]
fn pascal_voc_of_labelimg() {
    let place = Place::new();
    copy(&place, "voc", "voc");
    place.image("voc/JPEGImages/otter-7.png", 64, 48);
    let converted = convert_voc(&place.path("voc"), &VocOptions::default()).unwrap();
    let expected = ["otter-7.png: otter 5.00 6.00 20.00 30.00", "otter-7.png: otter 30.00 1.00 34.00 19.00"];
    assert_eq!(objects(&converted.dataset), expected);
    notes(&converted, &["1 `truncated`"]);
}

#[test]
fn yolo_of_roboflow() {
    let place = Place::new();
    copy(&place, "yolo", "yolo");
    for name in ["one", "two", "three"] {
        place.image(&format!("yolo/train/images/{name}.png"), 100, 50);
    }
    let converted = convert_yolo(&place.path("yolo"), &YoloOptions::default()).unwrap();
    // (0.35 - 0.15) * 100, (0.3 - 0.1) * 50, 30, 10.
    assert_eq!(
        objects(&converted.dataset),
        [
            "one.png: label a 20.00 10.00 30.00 10.00",
            "two.png: label b 0.00 0.00 100.00 50.00",
            "two.png: label a 15.00 7.50 10.00 5.00",
        ]
    );
    notes(
        &converted,
        &["without a label file, converted as images without objects: 1 (first: three.png)", "background: 1"],
    );
    assert!(converted.images.unwrap().ends_with("train/images"));
    let split = YoloOptions { split: Some("val".to_owned()), ..YoloOptions::default() };
    let error = convert_yolo(&place.path("yolo"), &split).unwrap_err().to_string();
    assert!(error.contains("found no ../valid/images") && error.contains("yolo/valid/images"), "{error}");
}

#[test]
fn yolo_segments_of_ultralytics_with_a_list() {
    let place = Place::new();
    copy(&place, "yolo-seg", "set");
    place.image("set/images/train/1.png", 100, 50);
    let converted = convert_yolo(&place.path("set/data.yaml"), &YoloOptions::default()).unwrap();
    let names: Vec<&str> = converted.dataset.categories.iter().map(|category| category.name.as_str()).collect();
    assert_eq!(names, ["sky", "sea", "sand"]);
    assert_eq!(
        objects(&converted.dataset),
        ["images/train/1.png: sand 10.00 5.00 30.00 20.00", "images/train/1.png: sea 20.00 7.50 20.00 30.00"]
    );
    notes(&converted, &["polygons, converted to the boxes around them: 2"]);
}

#[test]
fn cvat_for_images_of_a_project() {
    let converted = convert_cvat(&fixture("cvat/images.xml"), &CvatOptions::default()).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        [
            "Train/p0.jpg: parrot 3.00 2.00 11.00 18.00",
            "Train/p1.jpg: cage 1.00 2.00 15.00 12.00",
            "Test/p0.jpg: parrot 0.00 0.00 10.00 10.00",
        ]
    );
    notes(&converted, &["shapes that have no box", "polygons", "1 `occluded`, 2 `ringed`"]);
    assert!(converted.notes[0].contains(": 2 (first: ") && converted.notes[0].contains("line 61: <polyline> \"cage\""));
    let subset = CvatOptions { subset: Some("Test".to_owned()), ..CvatOptions::default() };
    let test = convert_cvat(&fixture("cvat/images.xml"), &subset).unwrap();
    assert_eq!(objects(&test.dataset), ["p0.jpg: parrot 0.00 0.00 10.00 10.00"]);
    notes(&test, &["other subsets, left out: 2 (first: p0.jpg)", "`ringed`"]);
}

#[test]
fn cvat_for_video_needs_the_frames() {
    let place = Place::new();
    let file = fixture("cvat/video.xml");
    let error = convert_cvat(&file, &CvatOptions::default()).unwrap_err().to_string();
    assert!(error.contains("video.xml") && error.contains("a video") && error.contains("--images"), "{error}");
    // Frames 10, 14 and 18 are annotated; 12 is between them, 22 behind them.
    for frame in [10, 12, 14, 18, 22] {
        place.image(&format!("frames/frame_{frame:06}.png"), 32, 24);
    }
    let options = CvatOptions { images: Some(place.path("frames")), ..CvatOptions::default() };
    let converted = convert_cvat(&file, &options).unwrap();
    let files: Vec<&str> = converted.dataset.images.iter().map(|image| image.file_name.as_str()).collect();
    assert_eq!(files, ["frame_000010.png", "frame_000014.png", "frame_000018.png"]);
    assert_eq!(objects(&converted.dataset), ["frame_000010.png: tall man 3.00 4.00 7.00 11.00"]);
    let names: Vec<&str> = converted.dataset.categories.iter().map(|category| category.name.as_str()).collect();
    assert_eq!(names, ["van", "tall man", "limbs"]);
    notes(
        &converted,
        &["shapes that have no box", "outside their frame, left out: 1", "background: 2", "1 `occluded`"],
    );
    std::fs::remove_file(place.path("frames/frame_000010.png")).unwrap();
    let error = convert_cvat(&file, &options).unwrap_err().to_string();
    assert!(error.contains("line 47") && error.contains("found no image of frame 10"), "{error}");
}

#[test]
fn labelme_of_two_versions() {
    let place = Place::new();
    copy(&place, "labelme", "set/json");
    place.image("set/json/old.png", 40, 40);
    place.image("set/photos/new.png", 64, 48);
    let options = LabelmeOptions { images: Some(place.path("set")), ..LabelmeOptions::default() };
    let converted = convert_labelme(&place.path("set/json"), &options).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        [
            "photos/new.png: kite 10.25 5.50 19.75 19.50",
            // The circle about (20, 20) through (23, 24) has the radius 5.
            "photos/new.png: sun 15.00 15.00 10.00 10.00",
            "json/old.png: person 4.00 8.00 20.00 22.00",
        ]
    );
    notes(
        &converted,
        &["shapes that have no box", "polygons", "circles and ellipses", "imageData", "1 `flags`, 1 `group_id`"],
    );
    assert!(converted.notes[0].contains("new.json, shapes[2]: linestrip \"path\""), "{}", converted.notes[0]);
    assert_eq!(converted.dataset.images[1].width, 40);
}

#[test]
fn csv_of_tensorflow_and_retinanet() {
    let converted = convert_csv(&fixture("csv/tensorflow.csv"), &CsvOptions::default()).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        [
            "otter-1.jpg: otter 80.00 90.00 440.00 310.00",
            "otter-2.jpg: otter 100.00 120.00 160.00 200.00",
            "otter-2.jpg: otter 340.00 100.00 230.00 200.00",
        ]
    );
    notes(&converted, &[]);
    let place = Place::new();
    for image in 1..=3 {
        place.image(&format!("imgs/img_{image}.png"), 40, 30);
    }
    let options = CsvOptions { images: Some(place.path("imgs")), ..CsvOptions::default() };
    let converted = convert_csv(&fixture("csv/retinanet.csv"), &options).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        [
            "img_1.png: goat 8.00 4.00 23.00 21.00",
            "img_2.png: hen 2.00 5.00 7.00 9.00",
            "img_2.png: goat 22.00 5.00 17.00 19.00",
        ]
    );
    assert_eq!((converted.dataset.images.len(), converted.dataset.images[2].height), (3, 30));
    notes(&converted, &["last part of their path alone: 3", "background: 1 (first: img_3.png)"]);
}

#[test]
fn open_images() {
    let place = Place::new();
    for id in ["000aa1b2c3d4e5f6", "00ff1b2c3d4e5f67"] {
        place.image(&format!("val/{id}.png"), 80, 40);
    }
    let options = OpenImagesOptions {
        images: place.path("val"),
        class_descriptions: Some(fixture("openimages/classes.csv")),
        classes: None,
        on_error: OnError::Fail,
    };
    let converted = convert_open_images(&fixture("openimages/boxes.csv"), &options).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        [
            "000aa1b2c3d4e5f6.png: Lighthouse 1.00 6.00 15.00 18.00",
            "000aa1b2c3d4e5f6.png: Boat, small 20.00 20.00 40.00 20.00 *",
            "00ff1b2c3d4e5f67.png: Lighthouse 8.00 8.00 64.00 24.00",
        ]
    );
    notes(&converted, &["stand for a group, converted to crowd regions", "1 `IsOccluded`, 1 `IsTruncated`"]);
    let plain = OpenImagesOptions { class_descriptions: None, ..options };
    let converted = convert_open_images(&fixture("openimages/boxes.csv"), &plain).unwrap();
    assert_eq!(converted.dataset.categories[0].name, "/m/0aaa1");
}

#[test]
fn coco_of_label_studio() {
    let place = Place::new();
    place.image("images/my cat_1.png", 64, 48);
    place.image("images/0a1b2c3d-dog.png", 64, 48);
    let options = CocoOptions { images: Some(place.path("images")), ..CocoOptions::default() };
    let converted = convert_coco(&fixture("coco/labelstudio.json"), &options).unwrap();
    assert_eq!(
        objects(&converted.dataset),
        ["my cat_1.png: Cat 6.79 2.51 11.33 18.29", "0a1b2c3d-dog.png: Dog 1.00 1.00 4.00 8.00"]
    );
    let ids: Vec<i64> = converted.dataset.images.iter().map(|image| image.id).collect();
    assert_eq!((ids, converted.dataset.annotations[1].area), (vec![0, 1], 16.0));
    notes(
        &converted,
        &[
            "last part of their path alone: 1",
            "the prefix that an upload put",
            "which are not converted: 1 (first: annotation 1 (image 1))",
        ],
    );
}

#[test]
fn coco_of_label_studio_as_it_is_stored() {
    let file = fixture("coco/da-fusion.json");
    let converted = convert_coco(&file, &CocoOptions::default()).unwrap();
    let before = CocoDataset::read(&file).unwrap();
    let found = &converted.dataset;
    assert_eq!((found.images.len(), found.annotations.len(), found.categories.len()), (11, 11, 8));
    assert_eq!((&found.images, &found.annotations), (&before.images, &before.annotations));
    assert_eq!(objects(found)[0], "images/36c114a4-D-45703-010_1.png: drape comm 2.17 1.81 117.83 70.48");
    // Empty outlines are none.
    notes(&converted, &[]);

    // With the images under the names that they had before they were uploaded, as far as they are there.
    let place = Place::new();
    for image in &before.images[..9] {
        let (_, name) = image.file_name.split_once('-').unwrap();
        place.image(&format!("photos/{name}"), image.width, image.height);
    }
    let options = CocoOptions { images: Some(place.path("photos")), on_error: OnError::Skip };
    let converted = convert_coco(&file, &options).unwrap();
    assert_eq!(objects(&converted.dataset)[0], "D-45703-010_1.png: drape comm 2.17 1.81 117.83 70.48");
    notes(&converted, &["left out: 2 (first: ", "2 images left out with 2 objects", "the prefix that an upload put"]);
}

#[test]
fn coco_of_roboflow() {
    let converted = convert_coco(&fixture("coco/roboflow.json"), &CocoOptions::default()).unwrap();
    let names: Vec<(i64, &str)> = converted.dataset.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    assert_eq!(names, [(1, "Cockle"), (2, "Whelk")]);
    assert_eq!(converted.dataset.annotations[0].category_id, 2);
    notes(&converted, &["background: 1", "stand for the project and have no objects, left out: 1 (first: \"shells\")"]);
}
