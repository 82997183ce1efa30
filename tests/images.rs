//! Image files: damage of the pixels, the limit on memory, folders with other files, outputs that are not finite.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use foveal_coco::CategoryInfo;
use foveal_detector::{CheckpointMeta, ModelConfig, PostprocessConfig};
use foveal_image::Preprocess;
use image::{Rgb, RgbImage};
use serde_json::json;

use crate::support::{IMAGES, Run, Workplace};

const LAST: &str = "run/checkpoints/last.safetensors";

/// Converts an image of the data set to another format and returns its bytes.
fn converted(place: &Workplace, from: &str, to: &str) -> Vec<u8> {
    image::open(place.path(from)).unwrap().to_rgb8().save(place.path(to)).unwrap();
    std::fs::read(place.path(to)).unwrap()
}

/// Replaces three of the training images: a PNG with a flipped bit, a bitmap that was cut, and a JPEG file that was cut
/// and closed again. Headers and the ends of the first and the last are whole.
fn damage(place: &Workplace) {
    let mut png = std::fs::read(place.path("images/2.png")).unwrap();
    let middle = png.len() / 2;
    png[middle] ^= 4;
    place.write("images/2.png", png);
    let bmp = converted(place, "images/3.png", "images/3.bmp");
    place.write("images/3.bmp", &bmp[..bmp.len() / 2]);
    let jpeg = converted(place, "images/4.png", "images/4.jpg");
    place.write("images/4.jpg", [&jpeg[..jpeg.len() - 60], &[0xFF, 0xD9]].concat());
    let changed = place.changed(|v| {
        v["images"][2]["file_name"] = json!("3.bmp");
        v["images"][3]["file_name"] = json!("4.jpg");
    });
    place.write("train.json", changed);
}

#[test]
fn check_decodes_every_image_of_a_small_set() {
    let place = Workplace::new();
    damage(&place);
    let check = place.run(&["data", "check", "tiny.toml"]);
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    for name in ["2.png", "3.bmp", "4.jpg"] {
        assert!(check.stdout.contains(name), "{name}: {}", check.stdout);
    }
    let report = place.run(&["data", "check", "tiny.toml", "--split", "train", "--decode", "--json", "-"]).json();
    assert_eq!(report["train"]["decoded"], true);
    assert_eq!(report["train"]["findings"]["broken_image"]["count"], 3);
    assert_eq!((report["train"]["images"].clone(), report["train"]["objects"].clone()), (json!(3), json!(6)));
    // The structure alone shows that the bitmap is too short.
    let quick = place.run(&["data", "check", "tiny.toml", "--split", "train", "--no-decode", "--json", "-"]);
    assert!(quick.stderr.contains("--decode"), "{}", quick.stderr);
    let report = quick.json();
    assert_eq!(report["train"]["decoded"], false);
    assert_eq!(report["train"]["findings"]["broken_image"]["count"], 1);
    // Training names a file, or leaves all three out.
    place.run(&["train", "tiny.toml", "--out", "stopped"]).fails(1, &["images/"]);
    place.run(&["train", "tiny.toml", "--out", "run", "--set", "data.on_error=skip"]).succeeds();
    let skipped = place.json("run/skipped.json").to_string();
    assert!(["2.png", "3.bmp", "4.jpg"].iter().all(|name| skipped.contains(name)), "{skipped}");
}

#[test]
fn an_image_above_the_limit_is_refused_in_every_command() {
    let place = Workplace::new();
    place.train();
    // The images have 64 x 64 pixels: 12288 bytes.
    let low = ["--set", "data.max_image_bytes=12287"];
    let words = ["data.max_image_bytes", "12288", "64x64"];
    let check = place.run(&[&["data", "check", "tiny.toml", "--no-decode"], &low[..]].concat());
    assert_eq!(check.code, Some(1));
    assert!(words.iter().all(|word| check.stdout.contains(word)), "{}", check.stdout);
    place.run(&[&["train", "tiny.toml", "--out", "other"], &low[..]].concat()).fails(1, &words);
    place.run(&[&["eval", LAST], &low[..]].concat()).fails(1, &words);
    let predict = place.run(&[&["predict", LAST, "images/1.png", "--json", "out.json"], &low[..]].concat());
    assert_eq!(predict.code, Some(1));
    assert!(words.iter().all(|word| predict.stderr.contains(word)), "{}", predict.stderr);
    let enough = ["--set", "data.max_image_bytes=12288"];
    place.run(&[&["predict", LAST, "images/1.png"], &enough[..]].concat()).succeeds();
}

/// The names of the files in the JSON output `out.json`.
fn found(place: &Workplace) -> Vec<String> {
    let list = place.json("out.json");
    let file = |entry: &serde_json::Value| entry["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    list.as_array().unwrap().iter().map(file).collect()
}

#[test]
fn predict_takes_every_image_of_a_folder_and_says_what_it_leaves_out() {
    let place = Workplace::new();
    place.train();
    std::fs::create_dir_all(place.path("inbox/deeper")).unwrap();
    let jpeg = converted(&place, "images/1.png", "inbox/a.jpg");
    // Images by their content, whatever their names say.
    place.write("inbox/b.jfif", &jpeg);
    place.write("inbox/c", &jpeg);
    place.write("inbox/d.tif", &jpeg);
    place.write("inbox/e.tif", b"II*\0\x08\0\0\0");
    place.write("inbox/f.GIF", b"GIF89a");
    place.write("inbox/notes.txt", b"BM is no bitmap");
    let predict = |input: &str| place.run(&["predict", LAST, input, "--json", "out.json"]);
    let run = predict("inbox").succeeds();
    assert_eq!(found(&place), ["a.jpg", "b.jfif", "c", "d.tif"]);
    for word in ["4 images", "3 files", "1 .gif", "1 .tif", "1 .txt", "1 subfolder"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    // A glob pattern names files; folders that it matches are not entered.
    let run = predict("inbox/[a-d]*").succeeds();
    assert_eq!(found(&place), ["a.jpg", "b.jfif", "c", "d.tif"]);
    assert!(run.stderr.contains("1 subfolder"), "{}", run.stderr);
    predict("inbox/e.tif").fails_with_images(&["e.tif", "a TIFF file"]);
    predict("inbox/deeper").fails(1, &["deeper", "no JPEG, PNG, WebP or BMP images", "empty"]);
    place.write("inbox/deeper/x.gif", b"GIF89a");
    predict("inbox/deeper").fails(1, &["deeper", "1 file that is not", "1 .gif"]);
    // A folder without anything else says nothing.
    let run = predict("images").succeeds();
    assert!(!run.stderr.contains("left out"), "{}", run.stderr);
}

#[test]
fn unreadable_images_are_named_and_the_others_are_done() {
    let place = Workplace::new();
    place.train();
    std::fs::create_dir(place.path("inbox")).unwrap();
    std::fs::copy(place.path("images/1.png"), place.path("inbox/1.png")).unwrap();
    place.write("inbox/empty.png", b"");
    let png = std::fs::read(place.path("images/2.png")).unwrap();
    place.write("inbox/cut.png", &png[..png.len() / 2]);
    let predict = |skip: bool, input: &str| {
        let sets: &[&str] = if skip { &["--set", "data.on_error=skip"] } else { &[] };
        place.run(&[&["predict", LAST, input, "--json", "out.json"], sets].concat())
    };
    let run = predict(false, "inbox");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("2 of 3 images") && run.stderr.contains("error: image"), "{}", run.stderr);
    assert!(run.stderr.contains("cut.png") && run.stderr.contains("empty.png"), "{}", run.stderr);
    assert_eq!(found(&place), ["1.png"]);
    let run = predict(true, "inbox").succeeds();
    assert!(run.stderr.contains("warning: 2 of 3 images"), "{}", run.stderr);
    // Images are never all left out.
    assert_eq!(predict(true, "inbox/cut.png").code, Some(1));
}

#[cfg(unix)]
#[test]
fn pipes_among_the_images_are_named_and_not_opened() {
    let place = Workplace::new();
    place.train();
    let pipe = |name: &str| std::process::Command::new("mkfifo").arg(place.path(name)).status().unwrap();
    assert!(pipe("images/pipe.jpg").success());
    let run = place.run(&["predict", LAST, "images", "--json", "out.json"]).succeeds();
    assert!(run.stderr.contains("1 pipe"), "{}", run.stderr);
    assert_eq!(found(&place).len(), 2 * IMAGES);
    place.run(&["predict", LAST, "images/pipe.jpg"]).fails_with_images(&["pipe.jpg", "a named pipe"]);
    place.write("bad.json", place.changed(|v| v["images"][0]["file_name"] = json!("pipe.jpg")));
    let set = ["--set", "data.train.annotations=bad.json"];
    place.run(&[&["train", "tiny.toml", "--out", "other"], &set[..]].concat()).fails(1, &["pipe.jpg", "a named pipe"]);
    let check = place.run(&[&["data", "check", "tiny.toml"], &set[..]].concat());
    assert!(check.stdout.contains("a named pipe"), "{}", check.stdout);
}

impl Run {
    /// Asserts exit code 1 and messages on stderr that contain all of `words`: one for each image, and one at the end.
    #[track_caller]
    fn fails_with_images(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "foveal {}\n{}", self.line, self.stderr);
        assert!(words.iter().all(|word| self.stderr.contains(word)), "foveal {}\n{}", self.line, self.stderr);
    }
}

/// Multiplies the weights of convolutions.
struct Scale(f32);

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D == 4 { param.map(|weights| weights * self.0) } else { param }
    }
}

/// A checkpoint with finite weights whose output is not finite, except for a black image with `data.mean = 0`: all its
/// feature maps are 0.
fn overflowing(place: &Workplace) {
    let model = ModelConfig { base_width: 8, fpn_channels: 16, ..ModelConfig::default() };
    let mut network = model.build(2, 1, &Device::flex()).unwrap().model;
    network.head.classification_head = network.head.classification_head.map(&mut Scale(1e15));
    let categories = [(3, "červená"), (70, "青")].map(|(id, name)| CategoryInfo { id, name: name.to_owned() });
    let preprocess = Preprocess { min_size: 64, max_size: 64, mean: [0.0; 3], ..Preprocess::default() };
    let meta = CheckpointMeta::new(model, categories.to_vec(), preprocess, PostprocessConfig::default());
    meta.save(&network, &place.path("overflow.safetensors")).unwrap();
    RgbImage::from_pixel(64, 64, Rgb([0; 3])).save(place.path("images/black.png")).unwrap();
}

#[test]
fn an_output_that_is_not_finite_is_an_error_that_names_the_image() {
    let place = Workplace::new();
    overflowing(&place);
    let inputs = ["predict", "overflow.safetensors", "images/101.png", "images/black.png", "images/102.png"];
    let run = place.run(&[&inputs[..], &["--json", "out.json", "--set", "data.on_error=skip"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    for word in ["images/101.png", "images/102.png", "NaN or infinite", "2 of 3 images"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    assert_eq!(found(&place), ["black.png"]);
    let set = ["--annotations", "val.json", "--images", "images"];
    let eval = place.run(&[&["eval", "overflow.safetensors"], &set[..]].concat());
    eval.fails(1, &["101.png (id 101)", "NaN or infinite"]);
}

#[test]
fn absurd_numbers_are_errors_that_name_the_key() {
    let place = Workplace::new();
    for (set, key) in [
        ("data.min_size=1000000000", "data.min_size"),
        ("data.max_size=4000000000", "data.max_size"),
        ("data.fixed_size=[64,1000000000]", "data.fixed_size"),
        ("data.workers=1000000000", "data.workers"),
        ("data.queue=1000000000", "data.queue"),
        ("data.max_image_bytes=0", "data.max_image_bytes"),
        ("data.augment.min_sizes=[1000000000]", "data.augment.min_sizes"),
        ("data.augment.scale_jitter=[1.0,1e9]", "data.augment.scale_jitter"),
        ("train.batch_size=1000000000", "train.batch_size"),
        ("train.batch_size=9223372036854775807", "train.batch_size"),
        ("train.accumulate=1000000000000", "train.accumulate"),
        ("train.epochs=9223372036854775807", "train.epochs"),
        ("train.max_steps=9223372036854775807", "train.max_steps"),
        ("train.warmup_steps=9223372036854775807", "train.warmup_steps"),
        ("train.keep=9223372036854775807", "train.keep"),
        ("eval.batch_size=1000000000", "eval.batch_size"),
        ("eval.max_detections=1000000000000", "eval.max_detections"),
        ("eval.pre_nms=1000000000000", "eval.pre_nms"),
        ("model.base_width=4611686018427387904", "model.base_width"),
        ("model.fpn_channels=1000000000", "model.fpn_channels"),
        ("model.head.convs=1000000000", "model.head.convs"),
        ("model.anchors.scales=1000000000", "model.anchors.scales"),
        ("bench.batch_size=1000000000", "bench.batch_size"),
        ("bench.height=3200000000", "bench.height"),
        ("bench.classes=1000000000", "bench.classes"),
    ] {
        place.run(&["train", "tiny.toml", "--set", set]).fails(1, &[key, "expected", "found"]);
    }
    let shapes = ["--set", "data.source=shapes", "--set", "data.shapes.count=1000000000"];
    place.run(&[&["train", "tiny.toml"], &shapes[..]].concat()).fails(1, &["data.shapes.count", "1000000"]);
    place.run(&["lab", "tiny.toml", "--arms", "gamma", "--seeds", "1000000000"]).fails(2, &["--seeds", "1000"]);
    // Numbers that are in their ranges but too large together.
    for (sets, key) in [
        (["model.base_width=1024", "model.backbone=resnet152"], "model.base_width"),
        (["data.fixed_size=[16384,16384]", "model.anchors.scales=32"], "model.anchors.scales"),
        (["data.fixed_size=[16384,16384]", "train.batch_size=100"], "train.batch_size"),
    ] {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let line: Vec<&str> = ["train", "tiny.toml"].into_iter().chain(sets).collect();
        place.run(&line).fails(1, &[key, "expected", "found"]);
    }
}
