//! Conversion of Pascal VOC folders to COCO.

use std::path::Path;

use foveal_formats::{Converted, Difficult, OnError, VocOptions, convert_voc};
use image::RgbImage;

fn xml(name: &str, objects: &[(&str, [i32; 4])]) -> String {
    let objects: String = objects
        .iter()
        .map(|(name, [a, b, c, d])| {
            format!(
                "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>\
                 <xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
            )
        })
        .collect();
    format!(
        "<annotation><filename>{name}</filename><size><width>50</width><height>40</height></size>{objects}</annotation>"
    )
}

#[test]
fn a_folder_becomes_coco() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for folder in ["Annotations", "ImageSets/Main", "JPEGImages"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for name in ["one", "two"] {
        RgbImage::new(50, 40).save(root.join(format!("JPEGImages/{name}.png"))).unwrap();
    }
    let objects = [("zebra", [1, 2, 11, 22]), ("ape", [3, 3, 3, 9])];
    std::fs::write(root.join("Annotations/one.xml"), xml("one.jpg", &objects)).unwrap();
    std::fs::write(root.join("Annotations/two.xml"), xml("two.png", &[("ape", [5, 5, 9, 9])])).unwrap();
    std::fs::write(root.join("ImageSets/Main/val.txt"), "two 1\n").unwrap();

    let all = convert_voc(root, &VocOptions::default()).unwrap();
    let names: Vec<_> = all.dataset.categories.iter().map(|c| (c.id, c.name.as_str())).collect();
    assert_eq!(names, [(1, "ape"), (2, "zebra")]);
    assert_eq!(all.dataset.images[0].file_name, "one.png");
    assert_eq!(all.dataset.annotations[0].bbox, [1.0, 2.0, 10.0, 20.0]);
    assert_eq!((all.dataset.images.len(), all.dataset.annotations.len(), all.notes.len()), (2, 2, 1));
    assert!(all.notes[0].contains("one.xml") && all.notes[0].contains("ape"), "{}", all.notes[0]);

    let classes = Some(vec!["zebra".into(), "ape".into()]);
    let options = VocOptions { split: Some("val".into()), classes, ..Default::default() };
    let val = convert_voc(root, &options).unwrap().dataset;
    assert_eq!((val.images.len(), val.annotations[0].category_id), (1, 2));

    let error = |options: VocOptions| convert_voc(root, &options).unwrap_err().to_string();
    assert!(error(VocOptions { classes: Some(vec!["ape".into()]), ..Default::default() }).contains("zebra"));
    assert!(error(VocOptions { split: Some("none".into()), ..Default::default() }).contains("none.txt"));
    std::fs::write(root.join("Annotations/two.xml"), "<annotation>").unwrap();
    assert!(error(VocOptions::default()).contains("two.xml"));
    assert!(convert_voc(&root.join("nowhere"), &VocOptions::default()).is_err());
}

/// A Pascal VOC folder with images of 50x40 pixels and annotation files.
fn voc(images: &[&str], annotations: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["Annotations", "ImageSets/Main", "JPEGImages"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for name in images {
        RgbImage::new(50, 40).save(dir.path().join("JPEGImages").join(name)).unwrap();
    }
    for (name, content) in annotations {
        std::fs::write(dir.path().join("Annotations").join(name), content).unwrap();
    }
    dir
}

fn all(root: &Path) -> Result<Converted, String> {
    convert_voc(root, &VocOptions::default()).map_err(|error| error.to_string())
}

fn file_names(converted: &Converted) -> Vec<&str> {
    converted.dataset.images.iter().map(|image| image.file_name.as_str()).collect()
}

const BOX: [(&str, [i32; 4]); 1] = [("ape", [1, 2, 11, 22])];

#[test]
fn the_name_of_the_annotation_file_decides_on_its_image() {
    let dir = voc(
        &["1.png", "2.png", "3.PNG"],
        &[("1.xml", xml("2.png", &BOX)), ("2.xml", xml("C:\\old\\IMG_77.jpg", &BOX)), ("3.xml", xml("3.jpg", &BOX))],
    );
    let converted = all(dir.path()).unwrap();
    assert_eq!(file_names(&converted), ["1.png", "2.png", "3.PNG"]);
    let [note] = &converted.notes[..] else { panic!("{:?}", converted.notes) };
    assert!(note.contains(": 2 (first: ") && note.contains("<filename> 2.png and belongs to 1.png"), "{note}");
}

#[test]
fn the_tag_counts_only_without_an_image_of_the_name() {
    let dir = voc(&["photo a.png", "2.png"], &[("1.xml", xml("images/photo%20a.png", &BOX)), ("2.xml", xml("", &BOX))]);
    let converted = all(dir.path()).unwrap();
    assert_eq!(file_names(&converted), ["photo a.png", "2.png"]);
    assert!(converted.notes[0].contains("1.xml belongs to photo a.png"), "{:?}", converted.notes);
    // The image of another annotation file is never taken.
    std::fs::write(dir.path().join("Annotations/1.xml"), xml("2.png", &BOX)).unwrap();
    let error = all(dir.path()).unwrap_err();
    assert!(error.contains("1.xml") && error.contains("is the image of") && error.contains("2.xml"), "{error}");
}

#[test]
fn two_images_of_one_name_are_ambiguous_unless_the_tag_names_one() {
    let dir = voc(&["1.png", "1.bmp"], &[("1.xml", xml("1.bmp", &BOX))]);
    assert_eq!(file_names(&all(dir.path()).unwrap()), ["1.bmp"]);
    std::fs::write(dir.path().join("Annotations/1.xml"), xml("1.jpg", &BOX)).unwrap();
    let error = all(dir.path()).unwrap_err();
    assert!(error.contains("1.png") && error.contains("1.bmp") && error.contains("expected one image"), "{error}");
}

#[test]
fn flags_are_kept_or_counted() {
    let objects = "<object><name>ape</name><difficult>1</difficult><truncated>1</truncated><pose>Left</pose>\
        <part><name>head</name></part><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>\
        <object><name>ape</name><occluded>1</occluded><pose>Unspecified</pose>\
        <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>";
    let content = xml("1.png", &[]).replace("</annotation>", &format!("{objects}</annotation>"));
    let dir = voc(&["1.png"], &[("1.xml", content)]);
    let convert = |difficult| {
        let converted = convert_voc(dir.path(), &VocOptions { difficult, ..Default::default() }).unwrap();
        let crowds: Vec<bool> = converted.dataset.annotations.iter().map(|a| a.iscrowd).collect();
        (crowds, converted.notes)
    };
    for (difficult, crowds, word) in [
        (Difficult::Crowd, vec![true, false], "crowd regions"),
        (Difficult::Object, vec![false, false], "ordinary objects"),
        (Difficult::Drop, vec![false], "left out"),
    ] {
        let (found, notes) = convert(difficult);
        assert_eq!(found, crowds);
        let [difficult, flags] = &notes[..] else { panic!("{notes:?}") };
        assert!(difficult.contains("marked difficult") && difficult.contains(word), "{difficult}");
        assert!(difficult.contains(": 1 (first: ") && difficult.contains("1.xml, line 1"), "{difficult}");
        assert!(flags.ends_with("1 `truncated`, 1 `occluded`, 1 `pose`, 1 `part`"), "{flags}");
    }
    let dir = voc(&["1.png"], &[("1.xml", xml("1.png", &BOX))]);
    assert_eq!(all(dir.path()).unwrap().notes, [""; 0]);
}

#[test]
fn one_bad_object_or_file_is_listed_and_can_be_skipped() {
    let bad = xml("2.png", &[("ape", [1, 2, 11, 22]), ("ape", [3, 4, 5, 6])]);
    let dir = voc(
        &["1.png", "2.png", "3.png"],
        &[
            ("1.xml", xml("1.png", &BOX)),
            ("2.xml", bad.replacen("<xmax>11</xmax>", "<xmax>wide</xmax>", 1)),
            ("3.xml", "<annotation>".to_owned()),
            ("4.xml", xml("4.png", &BOX)),
        ],
    );
    let error = all(dir.path()).unwrap_err();
    for part in [
        "3 files or objects",
        "2.xml, line 1: <xmax> is \"wide\"",
        "3.xml: ",
        "4.xml: found no image 4",
        "--on-error skip",
    ] {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
    let options = VocOptions { on_error: OnError::Skip, ..Default::default() };
    let converted = convert_voc(dir.path(), &options).unwrap();
    assert_eq!((file_names(&converted), converted.dataset.annotations.len()), (vec!["1.png", "2.png"], 2));
    assert!(converted.notes[0].contains("left out: 3 (first: "), "{:?}", converted.notes);
}

#[test]
fn lists_of_other_systems_are_read() {
    let dir = voc(
        &["my photo 1.png", "caf\u{e9}.png"],
        &[("my photo 1.xml", xml("my photo 1.png", &BOX)), ("cafe\u{301}.xml", xml("", &BOX))],
    );
    let list = "my photo 1\r\ncaf\u{e9} -1\r\n\r\nmy photo 1  1\r\n";
    let utf16: Vec<u8> = format!("\u{feff}{list}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, split) in [(format!("\u{feff}{list}").into_bytes(), "bom"), (utf16, "utf16")] {
        std::fs::write(dir.path().join(format!("ImageSets/Main/{split}.txt")), content).unwrap();
        let converted =
            convert_voc(dir.path(), &VocOptions { split: Some(split.into()), ..Default::default() }).unwrap();
        assert_eq!(file_names(&converted), ["my photo 1.png", "caf\u{e9}.png"]);
        assert!(converted.notes[0].contains("line 4: my photo 1"), "{:?}", converted.notes);
    }
    // A line that is both a name and another name with a flag is no guess.
    std::fs::write(dir.path().join("Annotations/my photo.xml"), xml("", &BOX)).unwrap();
    let options = VocOptions { split: Some("bom".into()), ..Default::default() };
    let error = convert_voc(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("bom.txt") && error.contains("my photo 1.xml") && error.contains("my photo.xml"), "{error}");
}

#[test]
fn annotation_files_in_utf16_are_read() {
    let text = format!("<?xml version=\"1.0\" encoding=\"utf-16\"?>\r\n{}", xml("1.png", &[("猫", [1, 2, 3, 4])]));
    let dir = voc(&["1.png"], &[]);
    let bytes: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_be_bytes).collect();
    std::fs::write(dir.path().join("Annotations/1.xml"), bytes).unwrap();
    assert_eq!(all(dir.path()).unwrap().dataset.categories[0].name, "猫");
    std::fs::write(dir.path().join("Annotations/1.xml"), b"<annotation>caf\xe9</annotation>").unwrap();
    std::fs::create_dir(dir.path().join("Annotations/2.xml")).unwrap();
    let error = convert_voc(dir.path(), &VocOptions { classes: Some(vec!["a".into()]), ..Default::default() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("1.xml: cannot be read: line 1") && error.contains("0xe9"), "{error}");
    assert!(error.contains("2.xml: cannot be read: expected a regular file, found a folder"), "{error}");
}
