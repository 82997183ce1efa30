//! COCO to another format and back: every box and every class name is kept.
#![cfg(unix)] // Quotes in file names.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use foveal_coco::{Annotation, Category, CocoDataset, Image};
use foveal_formats::{
    Converted, CsvOptions, CvatOptions, ExportOptions, VocOptions, YoloOptions, convert_csv, convert_cvat, convert_voc,
    convert_yolo, export_csv, export_cvat, export_voc, export_yolo,
};
use proptest::prelude::*;
use support::Place;

/// Exports write thousandths of a pixel, and fractions with eight decimals of images that are smaller than 1000 pixels.
const TOLERANCE: f64 = 0.0011;

/// Names of files without their extension that writers and readers often get wrong.
const STEMS: [&str; 12] = [
    "plain",
    "with space",
    "caf\u{e9}",
    "a,b",
    "it's",
    "q\"q",
    "100%",
    "v1.2.3",
    "sub/\u{434}\u{43e}\u{43c}",
    "sub/deep/1",
    "\u{732b}",
    "semi;colon",
];

/// Names of classes that writers and readers often get wrong. Pascal VOC's readers remove spaces around a name.
const CLASSES: [&str; 36] = [
    "日本語",
    "a b",
    "a,b",
    "\"quoted\"",
    "it's",
    "a: b # c",
    "- x",
    "[x]",
    "{y}",
    "007",
    "yes",
    "null",
    "~",
    "1.5",
    "a\\b",
    "<&>",
    "tab\tname",
    "line\nbreak",
    "👩\u{200d}🚀",
    "e\u{301}",
    "\u{e9}",
    "#",
    "%20",
    "''",
    "*a",
    "&b",
    "!c",
    "@d",
    "`e",
    "?",
    ":",
    "NaN",
    "]]>",
    "class",
    "next\u{85}line",
    "a  b",
];

/// An image to convert: its name without extension, its size, and the class and box of each object.
type Picture<'a> = (&'a str, (u32, u32), Vec<(usize, [f64; 4])>);

/// A data set to convert: the images in `images` and their annotations in `coco.json`.
fn set(place: &Place, classes: &[String], images: &[Picture<'_>]) -> CocoDataset {
    let mut dataset = CocoDataset {
        categories: (1..)
            .zip(classes)
            .map(|(id, name)| Category { id, name: name.clone(), supercategory: None })
            .collect(),
        ..CocoDataset::default()
    };
    for (id, (stem, (width, height), boxes)) in (1..).zip(images) {
        let file_name = format!("{stem}.png");
        place.image(&format!("images/{file_name}"), *width, *height);
        dataset.images.push(Image { id, file_name, width: *width, height: *height });
        for (class, bbox) in boxes {
            dataset.annotations.push(Annotation {
                id: dataset.annotations.len() as i64 + 1,
                image_id: id,
                category_id: (class % classes.len()) as i64 + 1,
                bbox: *bbox,
                area: bbox[2] * bbox[3],
                iscrowd: false,
            });
        }
    }
    dataset.write(&place.path("coco.json")).unwrap();
    dataset
}

/// The objects of each image by its file name, in their order.
fn objects(dataset: &CocoDataset) -> BTreeMap<&str, Vec<(&str, [f64; 4])>> {
    let names: BTreeMap<i64, &str> = dataset.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    let files: BTreeMap<i64, &str> = dataset.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
    let mut objects: BTreeMap<&str, Vec<_>> = files.values().map(|name| (*name, Vec::new())).collect();
    for annotation in &dataset.annotations {
        let object = (names[&annotation.category_id], annotation.bbox);
        objects.get_mut(files[&annotation.image_id]).unwrap().push(object);
    }
    objects
}

fn same(before: &CocoDataset, after: &CocoDataset, format: &str) {
    let (before, after) = (objects(before), objects(after));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{format}");
    for (image, expected) in &before {
        let found = &after[image];
        let names =
            |objects: &[(&str, [f64; 4])]| objects.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(expected), names(found), "{format}: {image}");
        for ((_, a), (_, b)) in expected.iter().zip(found) {
            let edges = |[x, y, w, h]: [f64; 4]| [x, y, x + w, y + h];
            let far = edges(*a).iter().zip(edges(*b)).any(|(a, b)| (a - b).abs() > TOLERANCE);
            assert!(!far, "{format}: {image}: {a:?} became {b:?}");
        }
    }
}

/// Converts the data set to every format and back.
fn check(place: &Place, dataset: &CocoDataset) {
    let coco = place.path("coco.json");
    let images = place.path("images");
    let options = ExportOptions { images: Some(images.clone()), ..ExportOptions::default() };
    let quiet = |notes: &[String]| notes.iter().all(|note| note.starts_with("images without objects"));
    let check = |format: &str, result: Converted| {
        assert!(quiet(&result.notes), "{format}: {:?}", result.notes);
        same(dataset, &result.dataset, format);
    };

    export_yolo(&coco, &place.path("yolo"), "train", &options).unwrap();
    check("YOLO", convert_yolo(&place.path("yolo"), &YoloOptions::default()).unwrap());

    export_voc(&coco, &place.path("voc"), "train", &options).unwrap();
    for split in [None, Some("train".to_owned())] {
        check("VOC", convert_voc(&place.path("voc"), &VocOptions { split, ..VocOptions::default() }).unwrap());
    }

    let cvat = place.path("cvat.xml");
    export_cvat(&coco, &cvat, &ExportOptions::default()).unwrap();
    check(
        "CVAT",
        convert_cvat(&cvat, &CvatOptions { images: Some(images.clone()), ..CvatOptions::default() }).unwrap(),
    );
    check("CVAT", convert_cvat(&cvat, &CvatOptions::default()).unwrap());

    let csv = place.path("boxes.csv");
    for names in [true, false] {
        export_csv(&coco, &csv, names, &ExportOptions::default()).unwrap();
        let options = CsvOptions { images: Some(images.clone()), ..CsvOptions::default() };
        check("CSV", convert_csv(&csv, &options).unwrap());
    }
    assert!(Path::new(&csv).is_file());
}

#[test]
fn every_class_name_and_file_name_comes_back() {
    let place = Place::new();
    let classes: Vec<String> = CLASSES.iter().map(|&name| name.to_owned()).collect();
    let images: Vec<_> = STEMS
        .iter()
        .enumerate()
        .map(|(image, stem)| {
            let boxes = (0..CLASSES.len() / STEMS.len()).map(|at| {
                let class = image * (CLASSES.len() / STEMS.len()) + at;
                (class, [0.25 * at as f64, 1.0 / 3.0, 10.5 + class as f64, 20.75])
            });
            (*stem, (64, 48), boxes.collect())
        })
        .collect();
    let dataset = set(&place, &classes, &images);
    check(&place, &dataset);
}

#[test]
fn an_image_without_objects_comes_first_or_last_or_alone() {
    for images in [
        vec![("a", (9, 9), vec![]), ("b", (9, 9), vec![(0, [1.0, 2.0, 3.0, 4.5])])],
        vec![("b", (9, 9), vec![(0, [1.0, 2.0, 3.0, 4.5])]), ("a", (9, 9), vec![])],
    ] {
        let place = Place::new();
        let dataset = set(&place, &["cat".to_owned()], &images);
        check(&place, &dataset);
    }
}

#[test]
fn names_with_spaces_around_them_come_back_from_all_but_voc() {
    let place = Place::new();
    let dataset = set(&place, &[" cat ".to_owned()], &[("a", (9, 9), vec![(0, [1.0, 2.0, 3.0, 4.5])])]);
    let images = Some(place.path("images"));
    let options = ExportOptions { images: images.clone(), ..ExportOptions::default() };
    let coco = place.path("coco.json");
    export_yolo(&coco, &place.path("yolo"), "train", &options).unwrap();
    same(&dataset, &convert_yolo(&place.path("yolo"), &YoloOptions::default()).unwrap().dataset, "YOLO");
    export_cvat(&coco, &place.path("cvat.xml"), &options).unwrap();
    same(&dataset, &convert_cvat(&place.path("cvat.xml"), &CvatOptions::default()).unwrap().dataset, "CVAT");
    export_csv(&coco, &place.path("a.csv"), true, &options).unwrap();
    let csv = CsvOptions { images, ..CsvOptions::default() };
    same(&dataset, &convert_csv(&place.path("a.csv"), &csv).unwrap().dataset, "CSV");
    let exported = export_voc(&coco, &place.path("voc"), "train", &options).unwrap();
    let [note] = &exported.notes[..] else { panic!("{:?}", exported.notes) };
    assert!(note.contains("a space") && note.contains("\" cat \""), "{note}");
}

/// A box inside an image, from four fractions.
fn inside((width, height): (u32, u32), [x, y, w, h]: [f64; 4]) -> [f64; 4] {
    let [width, height] = [f64::from(width), f64::from(height)];
    let [left, top] = [x * (width - 0.01), y * (height - 0.01)];
    [left, top, 0.01 + w * (width - left - 0.01), 0.01 + h * (height - top - 0.01)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_sets_come_back(
        names in proptest::collection::btree_set("\\PC{1,12}", 1..6),
        stems in proptest::sample::subsequence(&STEMS[..], 1..5),
        sizes in proptest::collection::vec((1u32..120, 1u32..120), 5),
        boxes in proptest::collection::vec(proptest::collection::vec((0usize..9, [0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0f64]), 0..6), 5),
    ) {
        let names: std::collections::BTreeSet<String> =
            names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let mut names: Vec<String> = names.into_iter().collect();
        if names.is_empty() {
            names.push("x".to_owned());
        }
        let images: Vec<_> = stems
            .iter()
            .zip(sizes)
            .zip(boxes)
            .map(|((stem, size), boxes)| {
                (*stem, size, boxes.into_iter().map(|(class, fractions)| (class, inside(size, fractions))).collect())
            })
            .collect();
        let mut images: Vec<Picture<'_>> = images;
        // A set without any object has no classes in the formats that do not list them, and tiny boxes look like
        // fractions.
        images.push(("zz", (50, 40), vec![(0, [1.0, 2.0, 30.0, 20.0])]));
        let place = Place::new();
        let dataset = set(&place, &names, &images);
        check(&place, &dataset);
    }
}
