//! `foveal data show`.

use image::RgbImage;
use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace, keys};

/// Space in pixels around each image of a sheet.
const GAP: u32 = 6;
/// Side of the images in pixels after resizing, 4 times that of their files: their squares have room for labels.
const SIDE: u32 = 256;
/// Options that resize images to [`SIDE`] pixels, and make one pixel of the sheet from each of their pixels.
const UNSCALED: [&str; 6] = ["--side", "256", "--set", "data.min_size=256", "--set", "data.max_size=256"];
/// The option that turns flips off.
const NO_FLIPS: [&str; 2] = ["--set", "data.augment.flip_horizontal=0"];

/// Runs `foveal data show` with `tiny.toml` and returns the sheet and the JSON.
#[track_caller]
fn show(place: &Workplace, options: &[&str]) -> (RgbImage, Value) {
    let command = ["data", "show", "tiny.toml", "-o", "out/sheet.png", "--json", "out/sheet.json"];
    place.run(&[&command[..], options].concat()).succeeds();
    (image::open(place.path("out/sheet.png")).unwrap().to_rgb8(), place.json("out/sheet.json"))
}

/// The four numbers of a box.
fn bbox(value: &Value) -> [f64; 4] {
    [0, 1, 2, 3].map(|k: usize| value["bbox"][k].as_f64().unwrap())
}

#[test]
fn a_sheet_shows_the_samples_with_their_objects() {
    let place = Workplace::new();
    let options = [&UNSCALED[..], &NO_FLIPS, &["--count", "4"]].concat();
    let (sheet, found) = show(&place, &options);
    assert_eq!(keys(&found), ["set", "epoch", "seed", "images", "transforms"]);
    assert_eq!((&found["set"], &found["epoch"], &found["seed"]), (&json!("train"), &json!(1), &json!(0)));
    let images = found["images"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    // Two columns.
    assert_eq!(sheet.width(), 2 * (SIDE + GAP) + GAP);
    let train = place.json("train.json");
    for (index, shown) in images.iter().enumerate() {
        assert_eq!([&shown["width"], &shown["padded_height"]], [&json!(SIDE), &json!(SIDE)]);
        let objects = shown["objects"].as_array().unwrap();
        let annotations = train["annotations"].as_array().unwrap();
        let own: Vec<&Value> = annotations.iter().filter(|a| a["image_id"] == shown["image_id"]).collect();
        assert_eq!(objects.len(), 2);
        for (object, annotation) in objects.iter().zip(own) {
            let [x, y, w, h] = bbox(object);
            assert_eq!([x, y, w, h], bbox(annotation).map(|v| 4.0 * v));
            assert_eq!(object["category_id"], annotation["category_id"]);
            // The middle of the square in the first row of the sheet has its colour.
            if index < 2 {
                let middle = |start: f64, length: f64| GAP + (start + length / 2.0) as u32;
                let pixel = sheet.get_pixel(middle(x, w) + index as u32 * (SIDE + GAP), middle(y, h)).0;
                let red = annotation["category_id"] == 3;
                assert_eq!(pixel, if red { [220, 30, 30] } else { [30, 30, 220] });
            }
        }
    }
}

#[test]
fn samples_are_those_of_the_seed_and_the_epoch_for_any_number_of_workers() {
    let place = Workplace::new();
    let all = ["--count", "6", "--set", "data.augment.scale_jitter=[0.5, 2]", "--set", "train.epochs=3"];
    let of = |options: &[&str]| show(&place, &[&all[..], options].concat());
    let first = of(&[]);
    let mut others = vec![of(&["--epoch", "2"]), of(&["--seed", "7"])];
    assert_eq!(first, of(&["--set", "data.workers=3"]));
    assert_eq!(others[1], of(&["--set", "train.seed=7"]));
    others.push(first);
    for a in 0..3 {
        for b in 0..a {
            assert_ne!(others[a].1["images"], others[b].1["images"], "{a} {b}");
            assert!(others[a].0 != others[b].0, "{a} {b}");
        }
    }
}

#[test]
fn the_validation_set_is_shown_without_augmentation() {
    let place = Workplace::new();
    let (_, found) = show(&place, &["--val", "--count", "9", "--set", "data.augment.transforms=[{kind='grey'}]"]);
    let ids: Vec<i64> = found["images"].as_array().unwrap().iter().map(|i| i["image_id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (101..101 + IMAGES as i64).collect::<Vec<_>>());
    assert_eq!([&found["set"], &found["epoch"], &found["seed"]], [&json!("val"), &Value::Null, &Value::Null]);
    assert_eq!(found["transforms"][0]["applied"], 0);
}

#[test]
fn transforms_are_applied_and_timed() {
    let place = Workplace::new();
    let grey = ["--set", "data.augment.transforms=[{kind='grey', probability=1.0}, {kind='blur', probability=0}]"];
    let (sheet, found) = show(&place, &[&UNSCALED[..], &grey, &["--count", "4", "--columns", "1"]].concat());
    assert_eq!(sheet.width(), SIDE + 2 * GAP);
    let [grey, blur] = [0, 1].map(|position: usize| &found["transforms"][position]);
    assert_eq!(keys(grey), ["kind", "applied", "median_ms", "mean_ms"]);
    // All images of the two batches of three are counted.
    assert_eq!((&grey["kind"], &grey["applied"]), (&json!("grey"), &json!(6)));
    assert!(grey["median_ms"].as_f64().unwrap() > 0.0);
    assert_eq!((&blur["kind"], &blur["applied"], &blur["mean_ms"]), (&json!("blur"), &json!(0), &Value::Null));
    // The middle of the first red square is as grey as PIL makes it.
    let [x, y, w, h] = bbox(&found["images"][0]["objects"][0]);
    let pixel = sheet.get_pixel(GAP + (x + w / 2.0) as u32, GAP + (y + h / 2.0) as u32).0;
    assert_eq!(pixel, [87; 3]);
}

#[test]
fn positives_are_drawn_and_listed() {
    let place = Workplace::new();
    let few = ["--count", "1", "--set", "model.anchors.base_sizes=[16, 32, 64, 128, 256]"];
    let (plain, found) = show(&place, &few);
    let (with, again) = show(&place, &[&few[..], &["--positives"]].concat());
    assert_eq!(found, again);
    assert!(!found["images"][0]["positives"].as_array().unwrap().is_empty());
    assert!(plain != with);
}

#[test]
fn wrong_options_are_refused() {
    let place = Workplace::new();
    let refused = |options: &[&str], words: &[&str]| {
        place.run(&[&["data", "show", "tiny.toml"], options].concat()).fails(2, words);
    };
    refused(&["-o", "sheet.gif"], &["--output sheet.gif", ".png or .jpg"]);
    refused(&["-o", "sheet.png", "--epoch", "2"], &["--epoch 2", "train.epochs, which is 1"]);
    refused(&["-o", "sheet.png", "--val", "--epoch", "1"], &["--val", "--epoch"]);
    refused(&["-o", "images/2.png"], &["--output images/2.png", "image", "is an input"]);
    refused(&["-o", "sheet.png", "--json", "train.json"], &["--json train.json", "annotation file"]);
    refused(&["-o", "sheet.png", "--json", "./sheet.png"], &["--output", "--json", "same file"]);
    assert!(!place.path("sheet.png").exists());
}

#[test]
fn images_that_cannot_be_read_are_named() {
    let place = Workplace::new();
    let mut bytes = std::fs::read(place.path("images/2.png")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    place.write("images/2.png", bytes);
    let command = ["data", "show", "tiny.toml", "-o", "sheet.png", "--count", "6"];
    place.run(&command).fails(1, &["2.png"]);
    let skipping = place.run(&[&command[..], &["--set", "data.on_error=skip"]].concat()).succeeds();
    assert!(skipping.stderr.contains("warning: image 2: "), "{}", skipping.stderr);
}

#[test]
fn a_page_has_the_samples_with_their_classes() {
    let place = Workplace::new();
    let page = |options: &[&str]| {
        place.run(&[&["data", "show", "tiny.toml", "-o", "out/page.html"], options].concat()).succeeds();
        std::fs::read_to_string(place.path("out/page.html")).unwrap()
    };
    let html = page(&["--count", "4"]);
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 4);
    assert_eq!(html.matches("<g class=\"o\"").count(), 2 * 4);
    assert!(html.contains("<option value=\"1\">青</option>"), "{html}");
    // The boxes of the stored image are beside those of the sample.
    let both = page(&["--count", "4", "--original"]);
    assert_eq!((both.matches("<img").count(), both.matches("<g class=\"o\"").count()), (4, 4 * 4));
    let refused = |options: &[&str], word: &str| {
        place.run(&[&["data", "show", "tiny.toml", "-o", "page.html"], options].concat()).fails(2, &[word, ".png"]);
    };
    refused(&["--positives"], "--positives");
    refused(&["--columns", "2"], "--columns");
}

#[test]
fn the_stored_image_is_beside_the_sample_on_a_sheet() {
    let place = Workplace::new();
    let (one, found) = show(&place, &["--count", "1", "--side", "64", "--val"]);
    let (both, again) = show(&place, &["--count", "1", "--side", "136", "--val", "--original"]);
    assert_eq!(found, again);
    // The sample has 64 pixels, as the image has, and 8 pixels are between them.
    assert_eq!((one.width(), both.width()), (64 + 2 * GAP, 136 + 2 * GAP));
}

#[test]
fn only_images_with_a_class_are_shown() {
    let place = Workplace::new();
    let one = |v: &mut Value| {
        v["annotations"].as_array_mut().unwrap().retain(|a| a["category_id"] == 3 || a["image_id"] == 4);
    };
    place.write("train.json", place.changed(one));
    let (_, found) = show(&place, &["--class", "青"]);
    let ids: Vec<&Value> = found["images"].as_array().unwrap().iter().map(|image| &image["image_id"]).collect();
    assert_eq!(ids, [&json!(4)]);
    let (_, found) = show(&place, &["--class", "青", "--class", "červená"]);
    assert_eq!(found["images"].as_array().unwrap().len(), IMAGES);
    let command = ["data", "show", "tiny.toml", "-o", "sheet.png", "--class", "green"];
    place.run(&command).fails(2, &["--class green", "červená, 青"]);
}
