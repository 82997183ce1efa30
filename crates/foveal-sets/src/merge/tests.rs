use foveal_coco::{Category, Image, Whole};
use serde_json::{Value, json};

use super::*;

/// A data set from its JSON, as if it had been read from a file with this name.
fn set(name: &str, value: Value) -> SetFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, value.to_string()).unwrap();
    SetFile { path: name.into(), ..SetFile::open(&path, false).unwrap() }
}

fn image(id: i64, name: &str) -> Value {
    json!({"id": id, "file_name": name, "width": 64, "height": 48, "license": 1})
}

fn object(id: i64, image_id: i64, category_id: i64, x: f64) -> Value {
    json!({"id": id, "image_id": image_id, "category_id": category_id, "bbox": [x, 1.0, 5.0, 5.0], "area": 25.0,
           "iscrowd": 0, "segmentation": [[x, 1.0]]})
}

fn first() -> SetFile {
    set(
        "a.json",
        json!({
            "info": {"year": 2020}, "licenses": [{"id": 1, "name": "CC0"}],
            "images": [image(1, "1.jpg"), image(2, "2.jpg")],
            "annotations": [object(1, 1, 1, 0.0), object(2, 2, 2, 0.0)],
            "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}, {"id": 2, "name": "Dog"}],
        }),
    )
}

fn second(name: &str) -> SetFile {
    set(
        "b.json",
        json!({
            "info": {"year": 2021}, "licenses": [{"id": 1, "name": "MIT"}, {"id": 2, "name": "CC0"}], "extra": 7,
            "images": [image(2, name), image(9, "9.jpg")],
            "annotations": [object(1, 2, 1, 0.0), object(7, 2, 5, 8.0), object(8, 9, 4, 3.0)],
            "categories": [{"id": 1, "name": "dog"}, {"id": 4, "name": "bus"}, {"id": 5, "name": "cat", "supercategory": "animal"}],
        }),
    )
}

fn names(merged: &Merged) -> Vec<(i64, &str)> {
    merged.dataset.categories.iter().map(|c| (c.record.id, c.record.name.as_str())).collect()
}

#[test]
fn ids_classes_and_licences_are_reconciled() {
    let merged = merge(vec![first(), second("other.jpg")], &MergeOptions::default()).unwrap();
    assert_eq!(names(&merged), [(1, "cat"), (2, "Dog"), (6, "dog"), (4, "bus")]);
    let images: Vec<(i64, &str)> =
        merged.dataset.images.iter().map(|i| (i.record.id, i.record.file_name.as_str())).collect();
    assert_eq!(images, [(1, "1.jpg"), (2, "2.jpg"), (10, "other.jpg"), (9, "9.jpg")]);
    let objects: Vec<[i64; 3]> =
        merged.dataset.annotations.iter().map(|a| [a.record.id, a.record.image_id, a.record.category_id]).collect();
    assert_eq!(objects, [[1, 1, 1], [2, 2, 2], [9, 10, 6], [7, 10, 1], [8, 9, 4]]);
    assert_eq!(merged.dataset.annotations[4].others.get("segmentation"), Some(json!([[3.0, 1.0]])));
    // The licence 1 of the second file is another one than that of the first, and its licence 2 is the first one's 1.
    let others = merged.dataset.others.to_map();
    assert_eq!(others["licenses"], json!([{"id": 1, "name": "CC0"}, {"id": 3, "name": "MIT"}]));
    assert_eq!((&others["info"], &others["extra"]), (&json!({"year": 2020}), &json!(7)));
    assert_eq!(merged.dataset.images[3].others.get("license"), Some(json!(3)));
    let ChangeReport { notes, warnings, output, .. } = &merged.report;
    assert!(warnings.iter().any(|text| text.contains("\"dog\"") && text.contains("--join-alike")), "{warnings:?}");
    assert!(notes.iter().any(|text| text.starts_with("images with new ids") && text.ends_with(": 1")), "{notes:?}");
    assert_eq!((output.images, output.objects), (4, 5));
}

#[test]
fn spellings_are_joined_on_request() {
    let options = MergeOptions { join_alike: true, ..MergeOptions::default() };
    let merged = merge(vec![first(), second("other.jpg")], &options).unwrap();
    assert_eq!(names(&merged), [(1, "cat"), (2, "Dog"), (4, "bus")]);
    assert!(merged.report.warnings.is_empty());
    assert!(merged.report.notes.iter().any(|text| text.contains("\"dog\" is joined with \"Dog\"")));
}

#[test]
fn an_image_in_two_files_is_an_error_or_decided() {
    let by = |same_image| {
        let options = MergeOptions { join_alike: true, same_image, ..MergeOptions::default() };
        merge(vec![first(), second("./2.jpg")], &options)
    };
    let text = by(SameImage::Error).unwrap_err().to_string();
    for word in ["a.json", "b.json", "\"./2.jpg\"", "--same-image first", "--prefix"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let kept = by(SameImage::First).unwrap();
    let of_image = |merged: &Merged| merged.dataset.annotations.iter().filter(|a| a.record.image_id == 2).count();
    assert_eq!((kept.dataset.images.len(), of_image(&kept), kept.report.output.objects), (3, 1, 3));
    // The dog at x = 0 is in both files, the cat at x = 8 only in the second one.
    let both = by(SameImage::Both).unwrap();
    assert_eq!((both.dataset.images.len(), of_image(&both), both.report.output.objects), (3, 2, 4));
    let mut larger = second("2.jpg");
    larger.dataset.images[0].record.width = 128;
    let options = MergeOptions { same_image: SameImage::Both, ..MergeOptions::default() };
    let text = merge(vec![first(), larger], &options).unwrap_err().to_string();
    assert!(text.contains("64x48") && text.contains("128x48") && text.contains("\"2.jpg\""), "{text}");
}

#[test]
fn file_names_get_prefixes_or_folders() {
    let by = |names| merge(vec![first(), second("2.jpg")], &MergeOptions { names, ..MergeOptions::default() });
    let merged = by(FileNames::Prefixed(vec!["day/".into(), "night_".into()])).unwrap();
    assert_eq!(merged.dataset.images[2].record.file_name, "night_2.jpg");
    let merged = by(FileNames::Folders(vec!["/data/day/images".into(), "/data/night".into()])).unwrap();
    assert_eq!(merged.folder, Some("/data".into()));
    let found: Vec<&str> = merged.dataset.images.iter().map(|i| i.record.file_name.as_str()).collect();
    assert_eq!(found, ["day/images/1.jpg", "day/images/2.jpg", "night/2.jpg", "night/9.jpg"]);
    // Two names of one folder make the same images of both files.
    assert!(by(FileNames::Folders(vec!["/data/x".into(), "/data/y/../x".into()])).is_err());
    let text = by(FileNames::Prefixed(vec!["a".into()])).unwrap_err().to_string();
    assert!(text.contains("--prefix") && text.contains("2 texts") && text.contains("found 1"), "{text}");
}

#[test]
fn one_file_stays_as_it_is() {
    let set = first();
    let merged = merge(vec![set.clone()], &MergeOptions::default()).unwrap();
    assert_eq!(merged.dataset, set.dataset);
    let empty = Whole { record: Category { id: 7, name: "x".into(), supercategory: None }, ..Whole::default() };
    let mut other = set.clone();
    other.dataset = WholeDataset { categories: vec![empty], ..WholeDataset::default() };
    other.dataset.images.push(Whole { record: Image { id: 1, ..Image::default() }, ..Whole::default() });
    // Images without a file name are never the same.
    let merged = merge(vec![other.clone(), other], &MergeOptions::default()).unwrap();
    assert_eq!(merged.dataset.images.iter().map(|i| i.record.id).collect::<Vec<_>>(), [1, 2]);
}
