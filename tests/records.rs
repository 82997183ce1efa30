//! Annotation files with bad records, files and names of other systems, and image ids by path.

use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace};

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[test]
fn a_bad_record_is_listed_and_skipped() {
    let place = Workplace::new();
    for (record, words) in [
        (json!({"id": 3, "image_id": 2, "category_id": 3, "bbox": ["1", 2, 3, 4]}), "annotation 3: `bbox` contains"),
        (json!([3]), "annotations[2]"),
    ] {
        place.write("bad.json", place.changed(|v| v["annotations"][2] = record.clone()));
        let check = place.run(&["data", "check", "--annotations", "bad.json", "--images", "images"]);
        assert_eq!(check.code, Some(1), "{}", check.stderr);
        assert!(check.stdout.contains(words) && check.stdout.contains("line 1"), "{}", check.stdout);
        let train = ["train", "tiny.toml", "--set", "data.train.annotations=bad.json"];
        place.run(&train).fails(1, &[words, "on_error"]);
    }
    let skip = ["train", "tiny.toml", "--out", "run", "--set", "data.train.annotations=bad.json"];
    place.run(&[&skip[..], &["--set", "data.on_error=skip"]].concat()).succeeds();
    assert!(place.json("run/skipped.json").to_string().contains("annotations[2]"));
}

#[test]
fn boxes_in_fractions_are_refused_by_check_and_train() {
    let place = Workplace::new();
    let fractions = |v: &mut Value| {
        for annotation in v["annotations"].as_array_mut().unwrap() {
            annotation["bbox"] = json!([0.25, 0.25, 0.5, 0.5]);
        }
    };
    place.write("bad.json", place.changed(fractions));
    let set = ["--set", "data.train.annotations=bad.json"];
    let check = place.run(&[&["data", "check", "tiny.toml"], &set[..]].concat());
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.contains("fractions of the image") && check.stdout.contains("expected [x, y"),
        "{}",
        check.stdout
    );
    for more in [&[][..], &["--set", "data.on_error=skip"]] {
        place.run(&[&["train", "tiny.toml"], &set[..], more].concat()).fails(1, &["fractions of the image"]);
    }
    place.write("bad.json", place.changed(|v| v["annotations"] = json!([])));
    place.run(&[&["train", "tiny.toml"], &set[..]].concat()).fails(1, &["bad.json", "no annotations of objects"]);
}

#[test]
fn a_command_asks_only_for_what_it_needs() {
    let place = Workplace::new();
    place.train();
    place.write(
        "info.json",
        json!({"images": [{"id": 11, "file_name": "1.png"}, {"id": 22, "file_name": "2.png"}]}).to_string(),
    );
    let predict = ["predict", CHECKPOINT, "images/1.png", "images/2.png", "--score-threshold", "0.001"];
    let coco = ["--coco", "out.json", "--annotations", "info.json"];
    place.run(&[&predict[..], &coco[..]].concat()).succeeds();
    let mut ids: Vec<i64> =
        place.json("out.json").as_array().unwrap().iter().map(|d| d["image_id"].as_i64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids, [11, 22]);
    place
        .run(&["score", "--annotations", "info.json", "--detections", "out.json"])
        .fails(1, &["info.json", "annotations"]);
    // Without --images, the annotations alone are checked.
    std::fs::remove_dir_all(place.path("images")).unwrap();
    let check = place.run(&["data", "check", "--annotations", "train.json"]).succeeds();
    assert!(
        check.stdout.contains(&format!("{IMAGES} images")) && check.stderr.contains("--images"),
        "{}",
        check.stdout
    );
}

#[test]
fn image_ids_and_drawn_images_go_by_path() {
    let place = Workplace::new();
    place.train();
    for (folder, image) in [("cam1", "1.png"), ("cam2", "2.png")] {
        std::fs::create_dir(place.path(folder)).unwrap();
        std::fs::copy(place.path("images").join(image), place.path(folder).join("0001.png")).unwrap();
    }
    let images = |names: &[&str]| {
        let images: Vec<Value> = (1..).zip(names).map(|(id, name)| json!({"id": id, "file_name": name})).collect();
        place.write("info.json", json!({ "images": images }).to_string());
    };
    let inputs = ["predict", CHECKPOINT, "cam2/0001.png", "cam1/0001.png", "--score-threshold", "0.001"];
    let predict = [&inputs[..], &["--coco", "out.json", "--annotations", "info.json", "--draw", "drawn"]].concat();
    images(&["cam1/0001.png", "cam2/0001.png"]);
    place.run(&predict).succeeds();
    let first = place.json("out.json")[0]["image_id"].clone();
    assert_eq!(first, 2);
    assert!(place.path("drawn/cam1/0001.jpg").is_file() && place.path("drawn/cam2/0001.jpg").is_file());
    images(&["0001.png"]);
    place.run(&predict).fails(1, &["cam1/0001.png", "cam2/0001.png", "image 1"]);
    images(&["cam1/0001.png", "cam3/0001.png"]);
    place.run(&predict).fails(1, &["cam2/0001.png", "no image has"]);
}

#[test]
fn a_bad_detection_is_named_with_its_index() {
    let place = Workplace::new();
    let good = json!({"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5});
    for bad in [json!(null), json!({"image_id": 1, "category_id": 3, "bbox": [], "score": 0.5})] {
        place.write("results.json", json!([good, bad]).to_string());
        place
            .run(&["score", "--annotations", "train.json", "--detections", "results.json"])
            .fails(1, &["results.json, line 1", "detections[1]"]);
    }
}

#[test]
fn text_in_utf16_is_read_everywhere() {
    let place = Workplace::new();
    for name in ["train.json", "val.json"] {
        let text = std::fs::read_to_string(place.path(name)).unwrap();
        place.write(name, utf16(&text.replace("},{", "},\r\n{")));
    }
    let config = std::fs::read_to_string(place.path("tiny.toml")).unwrap().replace('\n', "\r\n");
    place.write("wide.toml", utf16(&config));
    place.write("marked.toml", format!("\u{feff}{config}"));
    for config in ["wide.toml", "marked.toml"] {
        let check = place.run(&["data", "check", config]).succeeds();
        assert!(check.stdout.contains(&format!("{} objects", 2 * IMAGES)), "{}", check.stdout);
    }
    let results = json!([{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]).to_string();
    place.write("results.json", utf16(&results));
    place.run(&["score", "--annotations", "train.json", "--detections", "results.json"]).succeeds();
    place.write("latin.toml", b"name = \"caf\xe9\"\n");
    place.run(&["config", "latin.toml"]).fails(1, &["latin.toml", "line 1", "0xe9", "UTF-8"]);
    place.run(&["config", "Tiny.toml"]).fails(1, &["Tiny.toml", "there is tiny.toml"]);
}

#[test]
fn conversion_says_what_becomes_of_flags() {
    let place = Workplace::new();
    for folder in ["voc/Annotations", "voc/ImageSets/Main", "voc/JPEGImages"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    std::fs::copy(place.path("images/1.png"), place.path("voc/JPEGImages/a.png")).unwrap();
    place.write("voc/ImageSets/Main/val.txt", utf16("a\r\n"));
    let object = |flags: &str, right: &str| {
        format!(
            "<object><name>cat</name>{flags}<bndbox><xmin>10</xmin><ymin>12</ymin><xmax>{right}</xmax>\
             <ymax>52</ymax></bndbox></object>"
        )
    };
    let objects = [object("<difficult>1</difficult>", "30"), object("<truncated>1</truncated>", "40")].concat();
    place.write("voc/Annotations/a.xml", format!("<annotation>{objects}</annotation>"));
    let convert = ["data", "convert", "voc", "voc", "--split", "val", "--out", "val2.json"];
    let run = place.run(&convert).succeeds();
    for words in ["warning: objects marked difficult", "crowd regions", ": 1 (first: ", "1 `truncated`"] {
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    let crowds =
        || place.json("val2.json")["annotations"].as_array().unwrap().iter().map(|a| a["iscrowd"].clone()).collect();
    let found: Vec<Value> = crowds();
    assert_eq!(found, [1, 0]);
    place.run(&[&convert[..], &["--difficult", "object"]].concat()).succeeds();
    let found: Vec<Value> = crowds();
    assert_eq!(found, [0, 0]);
    place.write("voc/Annotations/a.xml", format!("<annotation>{}{objects}</annotation>", object("", "?")));
    place.run(&convert).fails(1, &["a.xml, line 1", "\"?\"", "--on-error skip"]);
    let run = place.run(&[&convert[..], &["--on-error", "skip"]].concat()).succeeds();
    assert!(run.stderr.contains("left out: 1 (first: "), "{}", run.stderr);
}
