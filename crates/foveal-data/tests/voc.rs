//! Conversion of Pascal VOC folders to COCO.

use foveal_data::{VocOptions, convert_voc};
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

    let options = VocOptions { split: Some("val".into()), classes: Some(vec!["zebra".into(), "ape".into()]) };
    let val = convert_voc(root, &options).unwrap().dataset;
    assert_eq!((val.images.len(), val.annotations[0].category_id), (1, 2));

    let error = |options: VocOptions| convert_voc(root, &options).unwrap_err().to_string();
    assert!(error(VocOptions { classes: Some(vec!["ape".into()]), ..Default::default() }).contains("zebra"));
    assert!(error(VocOptions { split: Some("none".into()), ..Default::default() }).contains("none.txt"));
    std::fs::write(root.join("Annotations/two.xml"), "<annotation>").unwrap();
    assert!(error(VocOptions::default()).contains("two.xml"));
    assert!(convert_voc(&root.join("nowhere"), &VocOptions::default()).is_err());
}
