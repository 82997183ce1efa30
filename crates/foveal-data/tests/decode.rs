//! Images that the checks of a data set refuse by their pixels or by their size in memory.

use std::path::Path;

use foveal_data::{DataConfig, DataError, OnError, Opened, Problem, SetConfig};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::json;

fn noise(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 97 + y * 31) as u8, (x * y * 7) as u8, (x ^ y) as u8]))
}

/// Writes an annotation file with one object on each of the images, which have 40 x 30 pixels.
fn annotate(folder: &Path, names: &[&str]) {
    let entries = names.iter().zip(1..);
    let images: Vec<_> =
        entries.clone().map(|(name, id)| json!({"id": id, "file_name": name, "width": 40, "height": 30})).collect();
    let boxes: Vec<_> =
        entries.map(|(_, id)| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [2, 3, 10, 9]})).collect();
    let categories = json!([{"id": 1, "name": "a"}]);
    let coco = json!({"images": images, "annotations": boxes, "categories": categories});
    std::fs::write(folder.join("train.json"), coco.to_string()).unwrap();
}

fn config(folder: &Path) -> DataConfig {
    let train = SetConfig { annotations: Some(folder.join("train.json")), images: Some(folder.to_owned()) };
    DataConfig { train, on_error: OnError::Skip, ..DataConfig::default() }
}

fn ids(opened: &Opened) -> Vec<i64> {
    opened.dataset.records().iter().map(|record| record.image_id).collect()
}

#[test]
fn damaged_pixels_are_found_by_decoding() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let save = |name: &str, format: ImageFormat| {
        noise(40, 30).save_with_format(path(name), format).unwrap();
        std::fs::read(path(name)).unwrap()
    };
    save("good.png", ImageFormat::Png);
    let mut flipped = save("flipped.png", ImageFormat::Png);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(path("flipped.png"), flipped).unwrap();
    let jpeg = save("closed.jpg", ImageFormat::Jpeg);
    std::fs::write(path("closed.jpg"), [&jpeg[..jpeg.len() - 90], &[0xFF, 0xD9]].concat()).unwrap();
    save("good.webp", ImageFormat::WebP);
    annotate(dir.path(), &["good.png", "flipped.png", "closed.jpg", "good.webp"]);

    let mut opened = config(dir.path()).open_train().unwrap();
    assert_eq!((opened.report.errors(), opened.report.decoded), (0, false));
    opened.decode_images();
    let report = &opened.report;
    assert_eq!((report.count(Problem::BrokenImage), report.decoded), (2, true));
    assert_eq!((report.images, report.objects), (2, 2));
    assert_eq!(ids(&opened), [1, 4]);
    let reasons: Vec<&str> = report.skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
    assert!(reasons[0].contains("flipped.png") && reasons[1].contains("closed.jpg"), "{reasons:?}");
    assert_eq!(opened.dataset.coco().images.len(), 2);
}

#[test]
fn images_above_the_limit_are_left_out_by_their_headers() {
    let dir = tempfile::tempdir().unwrap();
    noise(40, 30).save(dir.path().join("plain.png")).unwrap();
    let deep: image::ImageBuffer<Rgb<u16>, _> = image::ImageBuffer::from_pixel(40, 30, Rgb([300, 4, 5]));
    deep.save(dir.path().join("deep.png")).unwrap();
    annotate(dir.path(), &["plain.png", "deep.png"]);
    for (limit, whole) in [(6 * 40 * 30, vec![1, 2]), (6 * 40 * 30 - 1, vec![1]), (3 * 40 * 30 - 1, vec![])] {
        let opened = DataConfig { max_image_bytes: limit, ..config(dir.path()) }.open_train().unwrap();
        assert_eq!(ids(&opened), whole);
        assert_eq!(opened.report.count(Problem::BrokenImage), 2 - whole.len());
        assert!(opened.report.skipped.iter().all(|skipped| skipped.reason.contains("data.max_image_bytes")));
    }
    // A file that grows after the checks is refused when it is loaded.
    let opened = config(dir.path()).open_train().unwrap();
    let limited = DataConfig { max_image_bytes: 3 * 40 * 30, ..config(dir.path()) }.open_train().unwrap();
    noise(400, 300).save(dir.path().join("plain.png")).unwrap();
    assert!(matches!(opened.dataset.load(0), Err(DataError::Size { .. })));
    assert!(limited.dataset.load(0).unwrap_err().to_string().contains("data.max_image_bytes"));
}

#[cfg(unix)]
#[test]
fn pipes_and_folders_among_the_images_are_findings() {
    let dir = tempfile::tempdir().unwrap();
    noise(40, 30).save(dir.path().join("good.png")).unwrap();
    std::fs::create_dir(dir.path().join("folder.png")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe.jpg")).status().unwrap().success());
    annotate(dir.path(), &["pipe.jpg", "good.png", "folder.png"]);
    let mut opened = config(dir.path()).open_train().unwrap();
    opened.decode_images();
    assert_eq!(ids(&opened), [2]);
    let text = opened.report.to_string();
    assert!(text.contains("a named pipe") && text.contains("a folder"), "{text}");
}
