//! Invalid input: every kind ends with exit code 1 or 2 and one error message, never with a panic.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::Workplace;

/// The training annotations, compressed with gzip.
fn gzipped(place: &Workplace) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(place.path("train.json")).unwrap()).unwrap();
    encoder.finish().unwrap()
}

/// Changes the training annotations, and expects that training on them fails with these words in the message.
#[track_caller]
fn spoiled(change: impl FnOnce(&mut Value), words: &[&str]) {
    let place = Workplace::new();
    place.write("bad.json", place.changed(change));
    training_fails(&place, words);
}

/// Expects that training on `bad.json` fails before the first step, with these words in the message.
#[track_caller]
fn training_fails(place: &Workplace, words: &[&str]) {
    place.run(&["train", "tiny.toml", "--set", "data.train.annotations=bad.json"]).fails(1, words);
    // Training failed before the first step, so there is no log.
    let runs = std::fs::read_dir(place.path("runs")).into_iter().flatten();
    let logs: Vec<_> = runs.map(|run| run.unwrap().path().join("log.jsonl")).filter(|log| log.exists()).collect();
    assert!(logs.is_empty(), "{logs:?}");
}

#[test]
fn annotations_that_cannot_be_read() {
    let place = Workplace::new();
    place.run(&["train", "tiny.toml", "--set", "data.train.annotations=none.json"]).fails(1, &["none.json"]);
    place.write("bad.json", "this is no JSON");
    training_fails(&place, &["bad.json"]);
    let whole = std::fs::read(place.path("train.json")).unwrap();
    place.write("bad.json", &whole[..whole.len() / 2]);
    training_fails(&place, &["bad.json"]);
    let packed = gzipped(&place);
    place.write("bad.json", &packed[..packed.len() / 2]);
    training_fails(&place, &["bad.json"]);
    place.write("bad.json", "[]");
    training_fails(&place, &["bad.json"]);
}

#[test]
fn annotations_with_invalid_content() {
    let remove = |key: &'static str| move |v: &mut Value| drop(v.as_object_mut().unwrap().remove(key));
    spoiled(remove("categories"), &["bad.json", "categories"]);
    spoiled(remove("images"), &["bad.json", "images"]);
    spoiled(remove("annotations"), &["bad.json", "annotations"]);
    spoiled(|v| v["categories"][1]["id"] = json!(3), &["bad.json", "category id 3 is used twice"]);
    spoiled(|v| v["categories"][1]["name"] = json!("červená"), &["červená"]);
    spoiled(|v| v["images"][1]["id"] = json!(1), &["image id 1 is used more than once"]);
    spoiled(|v| v["annotations"][2]["bbox"] = json!([1, 2, 3]), &["bad.json", "bbox"]);
    spoiled(|v| v["annotations"][2]["bbox"] = json!("wide"), &["bad.json", "bbox"]);
    spoiled(
        |v| v["annotations"][2]["category_id"] = json!(4),
        &["annotation 3 (image 2) has category 4, which is not in the file"],
    );
    spoiled(|v| v["annotations"][2]["image_id"] = json!(999), &["annotation 3 belongs to image 999"]);
    spoiled(|v| v["images"] = json!([]), &["image"]);
    spoiled(|v| v["categories"] = json!([]), &["categories"]);
    spoiled(|v| v["images"][0]["file_name"] = json!("gone.png"), &["gone.png"]);
}

#[test]
fn an_annotation_with_a_box_that_is_not_finite_is_named() {
    let place = Workplace::new();
    let text = place.changed(|v| v["annotations"][2]["bbox"][0] = json!("HERE"));
    place.write("bad.json", text.replace("\"HERE\"", "NaN"));
    training_fails(&place, &["annotation 3 (image 2) has no box of four finite numbers"]);
}

#[test]
fn images_that_cannot_be_read() {
    for (name, content) in [("text.jpg", &b"this is text"[..]), ("empty.jpg", b"")] {
        let place = Workplace::new();
        place.write(&format!("images/{name}"), content);
        place.write("bad.json", place.changed(|v| v["images"][0]["file_name"] = json!(name)));
        training_fails(&place, &[name]);
    }
    let place = Workplace::new();
    image::open(place.path("images/1.png")).unwrap().to_rgb8().save(place.path("images/cut.jpg")).unwrap();
    let whole = std::fs::read(place.path("images/cut.jpg")).unwrap();
    place.write("images/cut.jpg", &whole[..whole.len() * 2 / 3]);
    place.write("bad.json", place.changed(|v| v["images"][0]["file_name"] = json!("cut.jpg")));
    training_fails(&place, &["cut.jpg"]);
}

#[test]
fn an_image_of_another_size_is_named() {
    spoiled(|v| v["images"][0]["width"] = json!(50), &["1.png", "50x64", "64x64"]);
}

#[test]
fn an_image_without_pixels_is_named() {
    let place = Workplace::new();
    let mut png = std::fs::read(place.path("images/1.png")).unwrap();
    // Sets the width in the header to 0 and corrects the checksum, so that only the size is wrong.
    png[16..20].fill(0);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    place.write("images/1.png", png);
    place.run(&["train", "tiny.toml"]).fails(1, &["1.png"]);
}

#[test]
fn sets_with_different_categories() {
    let place = Workplace::new();
    let other = place.json("val.json").to_string().replace("červená", "modrá");
    place.write("other.json", other);
    place.run(&["train", "tiny.toml", "--set", "data.val.annotations=other.json"]).fails(1, &["červená", "modrá"]);
    place.train();
    place
        .run(&["eval", "run/checkpoints/last.safetensors", "--annotations", "other.json", "--images", "images"])
        .fails(1, &["červená", "modrá"]);
}

#[test]
fn invalid_configurations() {
    let place = Workplace::new();
    place.run(&["train", "none.toml"]).fails(1, &["none.toml"]);
    place.write("bad.toml", "[train\nepochs = 3");
    place.run(&["train", "bad.toml"]).fails(1, &["bad.toml:1"]);
    place.write("bad.toml", "[train]\nepoch = 3");
    place.run(&["train", "bad.toml"]).fails(1, &["bad.toml", "train.epoch", "train.epochs"]);
    place.write("bad.toml", "[train]\nepochs = \"three\"");
    place.run(&["train", "bad.toml"]).fails(1, &["bad.toml", "train.epochs", "three"]);
    place.write("bad.toml", "[model]\nbackbone = \"resnet19\"");
    place.run(&["train", "bad.toml"]).fails(1, &["bad.toml", "model.backbone", "resnet19", "resnet18"]);
    for (set, words) in [
        ("train.lr=-1", ["--set train.lr=-1: train.lr: expected a finite number above 0", "found -1.0"]),
        ("train.batch_size=0", ["--set train.batch_size=0: train.batch_size: expected at least 1", "found 0"]),
        ("train.epochs=-3", ["train.epochs", "-3"]),
        ("loss.kind=hinge", ["loss.kind", "hinge"]),
        ("data.min_sise=3", ["data.min_sise", "data.min_size"]),
        ("data.min_size=0", ["--set data.min_size=0: data.min_size: expected at least 1 pixel", "found 0"]),
        ("model.freeze_stages=9", ["--set model.freeze_stages=9: model.freeze_stages: expected 0", "found 9"]),
        ("model.norm=frozen_batch", ["frozen_batch", "model.weights"]),
        ("model.norm=frozen_statistics", ["frozen_statistics", "model.weights"]),
        ("eval.nms=2", ["--set eval.nms=2: eval.nms: expected a number from 0 to 1", "found 2.0"]),
    ] {
        place.run(&["train", "tiny.toml", "--set", set]).fails(1, &words);
    }
    place.run(&["train", "tiny.toml", "--set", "train.lr"]).fails(2, &["train.lr", "KEY.PATH=VALUE"]);
    place.run(&["config", "--set", "=3"]).fails(2, &["KEY.PATH=VALUE"]);
    place.write("nothing.toml", "");
    place.run(&["train", "nothing.toml"]).fails(1, &["data.train.annotations"]);
}

#[test]
fn precisions_that_a_cpu_does_not_have() {
    let place = Workplace::new();
    let expected = "expected f32 on the CPU device flex";
    for precision in ["f16", "bf16"] {
        let set = format!("train.precision={precision}");
        let words = ["train.precision", expected, precision, "--device vulkan"];
        place.run(&["train", "tiny.toml", "--set", &set]).fails(1, &words);
    }
    let words = ["--precision f16", expected];
    place.run(&["predict", "any.safetensors", "images", "--precision", "f16"]).fails(2, &words);
    place.run(&["eval", "any.safetensors", "--precision", "f16"]).fails(2, &words);
}

#[test]
fn unavailable_devices() {
    let place = Workplace::new();
    for device in ["gpu", "flex:1", "wgpu:x", ""] {
        place.run_on(device, &["train", "tiny.toml"]).fails(2, &["device", "flex"]);
    }
    place.run_on("wgpu:99", &["train", "tiny.toml"]).fails(1, &["wgpu"]);
    assert!(!place.path("runs").exists(), "a run that cannot start leaves no folder");
}

#[test]
fn invalid_checkpoints_and_weight_files() {
    let place = Workplace::new();
    place.train();
    let whole = std::fs::read(place.path("run/checkpoints/last.safetensors")).unwrap();
    let predict = |words: &[&str]| place.run(&["predict", "bad.safetensors", "images"]).fails(1, words);
    predict(&["bad.safetensors"]);
    for end in [0, 5, whole.len() / 2, whole.len() - 1] {
        place.write("bad.safetensors", &whole[..end]);
        predict(&["bad.safetensors"]);
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    place.write("bad.safetensors", &flipped);
    predict(&["bad.safetensors", "checksum"]);
    let values = [0u8; 8];
    let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &values).unwrap();
    place.write("bad.safetensors", safetensors::serialize([("w", tensor)], None).unwrap());
    predict(&["bad.safetensors", "foveal"]);
    place.run(&["eval", "bad.safetensors"]).fails(1, &["bad.safetensors"]);
    // The same files are not accepted as pretrained weights.
    let train = |file: &str, words: &[&str]| {
        place.run(&["train", "tiny.toml", "--set", &format!("model.weights={file}")]).fails(1, words);
    };
    train("bad.safetensors", &["bad.safetensors"]);
    train("none.pth", &["none.pth"]);
    place.write("text.pth", "this is text");
    train("text.pth", &["text.pth"]);
    // Reading a pickle executes nothing, and the message names the function that it would call.
    place.write("call.pth", "cposix\nsystem\n(Vtouch executed\ntR.");
    train("call.pth", &["call.pth", "posix.system"]);
    assert!(!place.path("executed").exists());
    // A file of another network, a file whose input convention is unknown, and a file with a wrong shape.
    let backbone = |name: &str, file: &str, words: &[&str]| {
        let tensor = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &values).unwrap();
        place.write(file, safetensors::serialize([(name, tensor)], None).unwrap());
        train(file, words);
    };
    backbone("layer1.0.se.fc1.weight", "se.safetensors", &["se.safetensors", "resnet18", "`se`"]);
    backbone("res2.0.conv1.weight", "d2.safetensors", &["d2.safetensors", "model.weights_convention"]);
    backbone("layer1.0.conv1.weight", "shape.safetensors", &["shape.safetensors", "of shape [2]"]);
    // A checkpoint outside its run directory does not determine the data.
    std::fs::copy(place.path("run/checkpoints/last.safetensors"), place.path("alone.safetensors")).unwrap();
    place.run(&["eval", "alone.safetensors"]).fails(1, &["alone.safetensors", "--annotations"]);
    place
        .run(&["predict", "alone.safetensors", "images", "--set", "model.backbone=resnet50"])
        .fails(2, &["model.backbone"]);
}

#[test]
fn unusable_folders() {
    let place = Workplace::new();
    place.train();
    place.run(&["train", "tiny.toml", "--out", "run"]).fails(1, &["run", "--resume"]);
    place.run(&["train", "tiny.toml", "--out", "tiny.toml/run"]).fails(1, &["tiny.toml/run"]);
    place.run(&["train", "tiny.toml", "--resume", "--out", "nowhere"]).fails(1, &["nowhere"]);
    place.run(&["train", "tiny.toml", "--resume"]).fails(2, &["--out"]);
    std::fs::remove_file(place.path("run/config.toml")).unwrap();
    let state = place.path("run/state/last.safetensors");
    let half = std::fs::read(&state).unwrap();
    std::fs::write(&state, &half[..half.len() / 2]).unwrap();
    std::fs::write(state.with_file_name("previous.safetensors"), b"").unwrap();
    place.run(&["train", "tiny.toml", "--resume", "--out", "run"]).fails(1, &["last.safetensors"]);
    place
        .run(&["predict", "run/checkpoints/last.safetensors", "images", "--json", "tiny.toml/out.json"])
        .fails(1, &["tiny.toml"]);
}

#[test]
fn invalid_arguments() {
    let place = Workplace::new();
    place.train();
    let checkpoint = "run/checkpoints/last.safetensors";
    place.run(&["predict", checkpoint]).fails(2, &["INPUT"]);
    place.run(&["predict", checkpoint, "none.png"]).fails(1, &["none.png"]);
    place.run(&["predict", checkpoint, "none/*.png"]).fails(1, &["none/*.png"]);
    place.run(&["predict", checkpoint, "run"]).fails(1, &["run", "contains no JPEG"]);
    place.run(&["predict", checkpoint, "images", "--score-threshold", "2"]).fails(2, &["--score-threshold"]);
    place.run(&["eval", checkpoint, "--annotations", "val.json"]).fails(2, &["--images"]);
    place.run(&["fly"]).fails(2, &["fly"]);
    place.run(&["train", "tiny.toml", "--overfit", "0"]).fails(2, &["--overfit"]);
}

#[test]
fn invalid_results_files() {
    let place = Workplace::new();
    let score = |results: &str, words: &[&str]| {
        place.write("results.json", results);
        place.run(&["score", "--annotations", "val.json", "--detections", "results.json"]).fails(1, words);
    };
    let one = |image: i64, bbox: &str| {
        format!(r#"[{{"image_id": {image}, "category_id": 3, "bbox": {bbox}, "score": 0.5}}]"#)
    };
    score("{}", &["results.json"]);
    score(&one(101, "[1, 2, 3]"), &["results.json", "bbox"]);
    score(&one(4711, "[1, 2, 3, 4]"), &["4711"]);
    score(&one(101, "[1, 2, NaN, 4]"), &["results.json"]);
    score(r#"[{"image_id": 101, "category_id": 3, "bbox": [1, 2, 3, 4]}]"#, &["results.json", "score"]);
    place.run(&["score", "--annotations", "val.json", "--detections", "none.json"]).fails(1, &["none.json"]);
    place.run(&["score", "--annotations", "none.json", "--detections", "results.json"]).fails(1, &["none.json"]);
}

#[test]
fn a_loss_that_is_not_finite_names_step_and_images() {
    let place = Workplace::new();
    let arguments = ["train", "tiny.toml", "--set", "train.lr=1e30", "--set", "train.warmup_steps=0"];
    place
        .run(&[&arguments[..], &["--set", "train.epochs=20", "--set", "train.eval_every=0"]].concat())
        .fails(1, &["step", "images of the batch"]);
}
