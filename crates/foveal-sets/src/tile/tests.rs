use foveal_coco::{Category, Members};
use foveal_image::ImageLimit;
use image::{Rgb, RgbImage};

use super::*;

fn options(size: u32) -> TileOptions {
    TileOptions {
        size,
        overlap: 0.0,
        min_area: 0.3,
        cut: CutRule::Crowd,
        empty: 1.0,
        format: TileFormat::Same,
        quality: 95,
        limit: ImageLimit::default(),
        seed: 0,
    }
}

/// Images whose pixels say where they are, and their data set: `(file name, width, height, boxes)`.
fn set(folder: &Path, images: &[(&str, u32, u32, &[[f64; 4]])]) -> SetFile {
    let mut dataset = WholeDataset::default();
    let record = Category { id: 3, name: "cat".into(), supercategory: None };
    dataset.categories.push(Whole { record, ..Whole::default() });
    for (index, (name, width, height, boxes)) in images.iter().enumerate() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_fn(*width, *height, |x, y| Rgb([x as u8, y as u8, index as u8])).save(path).unwrap();
        let id = index as i64 + 7;
        let others = Members::new(json!({"license": 2}).as_object().unwrap());
        let record = Image { id, file_name: (*name).to_owned(), width: *width, height: *height };
        dataset.images.push(Whole { record, others });
        for bbox in *boxes {
            let annotation_id = dataset.annotations.len() as i64 + 100;
            let (area, category_id) = (bbox[2] * bbox[3] / 2.0, 3);
            let record = Annotation { id: annotation_id, image_id: id, category_id, bbox: *bbox, area, iscrowd: false };
            let others = json!({"segmentation": [[1, 2]], "keypoints": [], "attributes": {"k": 1}});
            dataset.annotations.push(Whole { record, others: Members::new(others.as_object().unwrap()) });
        }
    }
    SetFile { path: "a.json".into(), dataset, warnings: Vec::new() }
}

#[test]
fn tiles_have_the_pixels_and_objects_of_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let (images, out) = (dir.path().join("in"), dir.path().join("out"));
    let set = set(&images, &[("day/a.png", 100, 50, &[[30.0, 10.0, 20.0, 10.0], [90.0, 40.0, 10.0, 10.0]])]);
    let Tiled { dataset, report } = tile(set, &images, &out, &options(40)).unwrap();
    let names: Vec<&str> = dataset.images.iter().map(|image| image.record.file_name.as_str()).collect();
    assert_eq!(
        names,
        [
            "day/a_x0_y0.png",
            "day/a_x40_y0.png",
            "day/a_x60_y0.png",
            "day/a_x0_y10.png",
            "day/a_x40_y10.png",
            "day/a_x60_y10.png",
        ]
    );
    for image in &dataset.images {
        let place = image.others.get("tile").unwrap();
        let (x, y) = (place["x"].as_u64().unwrap() as u8, place["y"].as_u64().unwrap() as u8);
        let pixels = image::open(out.join(&image.record.file_name)).unwrap().to_rgb8();
        assert_eq!(pixels.dimensions(), (40, 40));
        assert_eq!((pixels.get_pixel(0, 0), pixels.get_pixel(39, 20)), (&Rgb([x, y, 0]), &Rgb([x + 39, y + 20, 0])));
        assert_eq!((place["image_id"].as_i64(), image.others.get("license")), (Some(7), Some(json!(2))));
    }
    // The first box is on four tiles with half of it each: x 30 to 40 and 40 to 50, at y 10.
    let on = |name: &str| {
        let id = dataset.images.iter().find(|image| image.record.file_name == name).unwrap().record.id;
        let of_image = dataset.annotations.iter().filter(|annotation| annotation.record.image_id == id);
        of_image.map(|a| (a.record.bbox, a.record.area, a.record.iscrowd)).collect::<Vec<_>>()
    };
    assert_eq!(on("day/a_x0_y0.png"), [([30.0, 10.0, 10.0, 10.0], 50.0, false)]);
    assert_eq!(on("day/a_x40_y10.png"), [([0.0, 0.0, 10.0, 10.0], 50.0, false)]);
    assert!(on("day/a_x60_y0.png").is_empty());
    assert_eq!(on("day/a_x60_y10.png"), [([30.0, 30.0, 10.0, 10.0], 50.0, false)]);
    assert_eq!(report.output.objects, 5);
    assert!(report.warnings[0].ends_with("have boxes only: 2"), "{:?}", report.warnings);
    let others = dataset.annotations[0].others.to_map();
    assert_eq!(serde_json::Value::Object(others), json!({"attributes": {"k": 1}}));
}

#[test]
fn small_parts_become_crowd_regions_and_empty_tiles_are_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let boxes: &[[f64; 4]] = &[[32.0, 0.0, 10.0, 10.0]];
    let cut = |name: &str, options: &TileOptions| {
        let set = set(dir.path(), &[("a.jpg", 400, 40, boxes)]);
        tile(set, dir.path(), &dir.path().join(name), options).unwrap()
    };
    // 8 of 10 columns are on the first tile, 2 on the second one.
    let all = cut("1", &options(40));
    assert_eq!((all.report.output.images, all.report.output.objects, all.report.output.crowds), (10, 1, 1));
    let dropped = cut("2", &TileOptions { cut: CutRule::Drop, empty: 1.0 / 3.0, ..options(40) });
    assert_eq!((dropped.report.output.images, dropped.report.output.crowds), (1 + 3, 0));
    assert!(
        dropped.report.notes.iter().any(|note| note.contains("9, of which 3 are kept")),
        "{:?}",
        dropped.report.notes
    );
    let again = |seed| cut("3", &TileOptions { empty: 0.5, seed, ..options(40) }).dataset;
    assert_eq!(again(1), again(1));
    assert!((2..9).any(|seed| again(seed) != again(1)));
    let few = cut("4", &TileOptions { min_area: 0.9, empty: 0.2, ..options(40) });
    assert!(
        few.report.warnings.iter().any(|text| text.starts_with("annotations that are an object of no tile")),
        "{:?}",
        few.report
    );
}

#[test]
fn names_formats_and_bad_images_are_handled() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let images = [("a.png", 30, 20, &[][..]), ("a.bmp", 30, 20, &[]), ("b.webp", 30, 20, &[]), ("c.PNG", 80, 20, &[])];
    let set = set(dir.path(), &images);
    let names = |options: &TileOptions| {
        let tiled = tile(set.clone(), dir.path(), &out, options).unwrap().dataset;
        for image in &tiled.images {
            let pixels = image::open(out.join(&image.record.file_name)).unwrap();
            assert_eq!((pixels.width(), pixels.height()), (image.record.width, image.record.height));
        }
        tiled.images.into_iter().map(|image| image.record.file_name).collect::<Vec<_>>()
    };
    let same = ["a_x0_y0.png", "a_x0_y0.bmp", "b_x0_y0.webp", "c_x0_y0.PNG", "c_x40_y0.PNG"];
    assert_eq!(names(&options(40)), same);
    let png = ["a.png_x0_y0.png", "a.bmp_x0_y0.png", "b_x0_y0.png", "c_x0_y0.PNG", "c_x40_y0.PNG"];
    assert_eq!(names(&TileOptions { format: TileFormat::Png, ..options(40) }), png);
    let jpg = TileOptions { format: TileFormat::Jpeg, ..options(64) };
    assert_eq!(names(&jpg)[3], "c_x0_y0.jpg");

    let text = |change: fn(&mut Image)| {
        let mut set = set.clone();
        change(&mut set.dataset.images[2].record);
        tile(set, dir.path(), &out, &options(40)).unwrap_err().to_string()
    };
    let missing = text(|image| image.file_name = "b.jpg".into());
    assert!(missing.contains("image 9") && missing.contains("b.jpg") && missing.contains("there is"), "{missing}");
    let size = text(|image| image.width = 31);
    assert!(size.contains("30x20") && size.contains("31x20") && size.contains("image 9"), "{size}");
    for name in ["../b.webp", "/etc/b.webp", "", "x\\..\\b.webp"] {
        let mut set = set.clone();
        set.dataset.images[2].record.file_name = name.to_owned();
        let text = tile(set, dir.path(), &out, &options(40)).unwrap_err().to_string();
        assert!(text.contains("inside the folder") && text.contains("image 9"), "{text}");
    }
}
