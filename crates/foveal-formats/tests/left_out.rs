//! What is left out, how it is counted, and how errors list it.

mod support;

use foveal_formats::{
    CocoOptions, Converted, CsvOptions, CvatOptions, ExportOptions, FormatError, LabelmeOptions, OnError,
    OpenImagesOptions, VocOptions, YoloOptions, convert_coco, convert_csv, convert_cvat, convert_labelme,
    convert_open_images, convert_voc, convert_yolo, export_csv,
};
use serde_json::json;
use support::Place;

const SKIP: OnError = OnError::Skip;

/// The notes have the sentence that counts images and objects.
#[track_caller]
fn counts(notes: &[String], sentence: &str) {
    assert!(notes.iter().any(|note| note == sentence), "{notes:#?} lacks {sentence:?}");
}

/// A YOLO data set of `images` images, and the labels of images 0 to `labels`, each with one object.
fn yolo(images: usize, labels: usize) -> Place {
    let place = Place::new();
    place.write("classes.txt", "cat\n");
    for index in 0..images {
        place.image(&format!("images/{index}.png"), 50, 40);
    }
    for index in 0..labels {
        place.write(&format!("labels/{index}.txt"), "0 0.5 0.5 0.2 0.2\n");
    }
    place
}

fn convert(place: &Place, on_error: OnError) -> Result<Converted, FormatError> {
    convert_yolo(&place.path(""), &YoloOptions { on_error, ..YoloOptions::default() })
}

#[test]
fn label_files_without_an_image_are_a_warning_unless_they_are_most() {
    let converted = convert(&yolo(5, 10), OnError::Fail).unwrap();
    assert_eq!((converted.dataset.images.len(), converted.dataset.annotations.len()), (5, 5));
    let [note] = converted.notes.as_slice() else { panic!("{:#?}", converted.notes) };
    assert!(note.starts_with("label files without an image, left out: 5 (first: "), "{note}");
    let named = ["5.txt", "6.txt", "7.txt"].map(|name| note.find(name).unwrap_or_else(|| panic!("{note}")));
    assert!(named.is_sorted() && !note.contains("8.txt"), "{note}");

    // More than half, and all: the folder is probably another one.
    let error = convert(&yolo(4, 9), OnError::Fail).unwrap_err().to_string();
    assert!(error.contains("5 files or objects") && error.contains("4.txt: found no image of these labels"), "{error}");
    assert!(error.contains("5 of 9 label files have none"), "{error}");
    let converted = convert(&yolo(4, 9), SKIP).unwrap();
    assert_eq!(converted.dataset.annotations.len(), 4);
    let place = yolo(3, 0);
    place.write("labels/x.txt", "0 0.5 0.5 0.2 0.2\n");
    let error = convert(&place, OnError::Fail).unwrap_err().to_string();
    assert!(error.contains("x.txt: found no image of these labels"), "{error}");
}

#[test]
fn polygons_beyond_the_image_are_kept_as_they_are() {
    let place = yolo(1, 0);
    place.write("labels/0.txt", "0 0.9 0.5 1.02 0.5 1.02 0.6\n0 0.95 0.5 0.2 0.2\n");
    let converted = convert(&place, OnError::Fail).unwrap();
    let right = |index: usize| {
        let [x, _, width, _] = converted.dataset.annotations[index].bbox;
        x + width
    };
    assert!((right(0) - 51.0).abs() < 1e-9 && (right(1) - 52.5).abs() < 1e-9, "{:?}", converted.dataset.annotations);
}

#[test]
fn images_of_all_formats_are_left_out_with_their_objects() {
    let options = YoloOptions { on_error: SKIP, ..YoloOptions::default() };
    let place = yolo(3, 3);
    place.write("images/1.png", "no image");
    place.write("labels/1.txt", "0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.1 0.1\n");
    place.write("images/2.png", "no image");
    counts(&convert_yolo(&place.path(""), &options).unwrap().notes, "2 images left out with 3 objects");

    let place = Place::new();
    let object = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>22</ymax></bndbox>\
                  </object>";
    place.image("JPEGImages/a.png", 50, 40);
    place.write("Annotations/a.xml", format!("<annotation>{object}</annotation>"));
    place.write("Annotations/b.xml", format!("<annotation>{object}{object}</annotation>"));
    let voc = convert_voc(&place.path(""), &VocOptions { on_error: SKIP, ..VocOptions::default() });
    counts(&voc.unwrap().notes, "1 image left out with 2 objects");

    let shape = |form: &str| json!({"label": "cat", "points": [[1, 2], [30, 40]], "shape_type": form});
    let file = |image: &str, forms: &[&str]| {
        let shapes: Vec<_> = forms.iter().map(|form| shape(form)).collect();
        json!({"shapes": shapes, "imagePath": image, "imageHeight": 40, "imageWidth": 50}).to_string()
    };
    place.image("set/a.png", 50, 40);
    place.write("set/a.json", file("a.png", &["rectangle"]));
    place.write("set/b.json", file("b.png", &["rectangle", "line", "circle"]));
    let options = LabelmeOptions { on_error: SKIP, ..LabelmeOptions::default() };
    let labelme = convert_labelme(&place.path("set"), &options).unwrap();
    counts(&labelme.notes, "1 image left out with 2 objects");
    assert!(!labelme.notes.iter().any(|note| note.contains("circles")), "{:#?}", labelme.notes);

    let cat = "<box label=\"cat\" xtl=\"1\" ytl=\"2\" xbr=\"11\" ybr=\"22\"/>";
    place.write(
        "cvat.xml",
        format!(
            "<annotations><image name=\"a.png\" width=\"50\" height=\"40\">{cat}</image>\
             <image name=\"b.png\">{cat}{cat}<points label=\"cat\" points=\"1,2\"/></image></annotations>"
        ),
    );
    let cvat = convert_cvat(&place.path("cvat.xml"), &CvatOptions { on_error: SKIP, ..CvatOptions::default() });
    counts(&cvat.unwrap().notes, "1 image left out with 2 objects");

    place.write(
        "a.csv",
        "a.png,1,2,11,22,cat\nb.png,1,2,11,22,cat\nc.png,,,,,\nb.png,1,2,11,22,cat\nd.png,1,2,3,4,cat\n",
    );
    let options = CsvOptions { images: Some(place.path("set")), on_error: SKIP, ..CsvOptions::default() };
    counts(&convert_csv(&place.path("a.csv"), &options).unwrap().notes, "2 images left out with 3 objects");

    place.write("o.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0,1,0,1\nb,cat,0,1,0,1\nb,cat,0,0.5,0,1\n");
    let options =
        OpenImagesOptions { images: place.path("set"), class_descriptions: None, classes: None, on_error: SKIP };
    counts(&convert_open_images(&place.path("o.csv"), &options).unwrap().notes, "1 image left out with 2 objects");
}

/// Two images, of which the second has no file, with objects that have outlines, keypoints and attributes.
fn coco() -> Place {
    let place = Place::new();
    place.image("images/a.png", 50, 40);
    let annotation = |id: usize, image_id: usize, bbox: [i32; 4]| {
        json!({
            "id": id, "image_id": image_id, "category_id": 1, "bbox": bbox, "segmentation": [[1, 2, 3, 4, 5, 6]],
            "keypoints": [1, 2, 2], "attributes": {"occluded": true},
        })
    };
    let value = json!({
        "images": [
            {"id": 1, "file_name": "a.png", "width": 50, "height": 40},
            {"id": 2, "file_name": "b.png", "width": 50, "height": 40},
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            annotation(1, 1, [1, 2, 10, 20]),
            annotation(1, 1, [1, 2, 20, 20]),
            annotation(3, 1, [1, 2, 0, 20]),
            annotation(4, 2, [1, 2, 10, 20]),
            annotation(5, 2, [1, 2, 10, 10]),
        ],
    });
    place.write("coco.json", value.to_string());
    place
}

#[test]
fn fields_are_counted_of_the_objects_that_are_kept() {
    let place = coco();
    let options = CocoOptions { images: Some(place.path("images")), on_error: SKIP };
    let converted = convert_coco(&place.path("coco.json"), &options).unwrap();
    assert_eq!((converted.dataset.images.len(), converted.dataset.annotations.len()), (1, 2));
    counts(&converted.notes, "1 image left out with 2 objects");
    let found = |words: &str| converted.notes.iter().any(|note| note.contains(words));
    // The object without area and the objects of the image that is left out have outlines too.
    assert!(found("outlines and masks), which are not converted: 2 (first: annotation 1 (image 1))"), "{converted:#?}");
    assert!(found("keypoints of objects, which are not converted: 2 (first: "), "{converted:#?}");
    assert!(found("for which COCO has no field, left out: 2 `attributes`"), "{converted:#?}");
    assert!(!found("`segmentation`"), "{converted:#?}");
    assert!(found("id was used before, converted with a new id: 1"), "{converted:#?}");

    let options = ExportOptions { images: Some(place.path("images")), on_error: SKIP, ..ExportOptions::default() };
    let exported = export_csv(&place.path("coco.json"), &place.path("out.csv"), true, &options).unwrap();
    counts(&exported.notes, "1 image left out with 2 objects");
}

#[test]
fn annotations_of_an_image_without_a_name_are_counted() {
    let place = coco();
    place.replace("coco.json", "\"b.png\"", "\"\"");
    let options = CocoOptions { images: None, on_error: SKIP };
    let converted = convert_coco(&place.path("coco.json"), &options).unwrap();
    counts(&converted.notes, "1 image left out with 2 objects");
}

#[test]
fn an_error_lists_its_defects_in_lines_and_escapes_those_of_names() {
    let place = yolo(1, 1);
    place.write("labels/0.txt", "0 0.5 0.5 0.2 x\n0 0.5 0.5 0.2 y\n");
    let error = convert(&place, OnError::Fail).unwrap_err();
    assert!(matches!(&error, FormatError::Listed { listed, .. } if listed.len() == 2), "{error:?}");
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].ends_with("2 files or objects cannot be converted:"), "{text}");
    assert!(lines[1].starts_with("  ") && lines[1].contains("0.txt, line 1: found \"x\""), "{text}");
    assert!(lines[2].contains("0.txt, line 2") && lines[3] == "pass --on-error skip to leave them out", "{text}");

    let error = FormatError::Listed {
        path: "a\nerror: forged".into(),
        reason: "2\n".to_owned(),
        listed: vec!["b\n\u{1b}[2J".to_owned()],
        advice: Some("c\r".to_owned()),
    };
    assert_eq!(error.to_string(), "a\\nerror: forged: 2\\n\n  b\\n\\u{1b}[2J\nc\\r");

    let nothing = Place::new();
    nothing.image("JPEGImages/a.png", 4, 4);
    nothing.write("x.json", "{\"shapes\": []}");
    let error = convert_labelme(&nothing.path(""), &LabelmeOptions { on_error: SKIP, ..LabelmeOptions::default() });
    let text = error.unwrap_err().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("found no annotated images") && lines[1].starts_with("  files and objects"), "{text}");
}
