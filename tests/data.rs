//! `foveal data` and `foveal anchors`.

use serde_json::{Value, json};

use crate::support::{IMAGES, Workplace, keys};

#[test]
fn the_generated_set_is_a_valid_coco_folder() {
    let place = Workplace::new();
    let size =
        ["--set", "data.shapes.count=5", "--set", "data.shapes.val_count=3", "--set", "data.shapes.size=[96, 128]"];
    place.run(&[&["data", "shapes", "--out", "shapes"], &size[..]].concat()).succeeds();
    let set = ["--annotations", "shapes/annotations/train.json", "--images", "shapes/images/train"];
    let check = place.run(&[&["data", "check"], &set[..]].concat()).succeeds();
    assert!(check.stdout.contains("5 images"), "{}", check.stdout);
    let stats = place.run(&[&["data", "stats", "--json", "-"], &set[..]].concat()).succeeds().json();
    assert_eq!(stats["set"]["images"], 5);
    assert_eq!(stats["set"]["widths"][4], 128.0);
    place.run(&["data", "shapes", "--out", "shapes"]).fails(1, &["shapes", "not empty"]);
}

#[test]
fn check_lists_problems_and_returns_exit_code_1() {
    let place = Workplace::new();
    let good = place.run(&["data", "check", "tiny.toml", "--json", "-"]).succeeds().json();
    assert_eq!(keys(&good), ["train", "val"]);
    assert_eq!(good["train"]["images"], IMAGES);
    std::fs::remove_file(place.path("images/2.png")).unwrap();
    let bad = place.run(&["data", "check", "tiny.toml"]);
    assert_eq!(bad.code, Some(1), "{}", bad.stderr);
    assert!(bad.stdout.contains("2.png"), "{}", bad.stdout);
    // With `on_error = "skip"`, training leaves out the image and lists it in skipped.json.
    place.run(&["train", "tiny.toml", "--out", "run", "--set", "data.on_error=skip"]).succeeds();
    assert!(place.json("run/skipped.json").to_string().contains("2.png"));
}

#[test]
fn voc_is_converted_to_coco() {
    let place = Workplace::new();
    for folder in ["voc/Annotations", "voc/ImageSets/Main", "voc/JPEGImages"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    image::open(place.path("images/1.png")).unwrap().to_rgb8().save(place.path("voc/JPEGImages/a.jpg")).unwrap();
    place.write("voc/ImageSets/Main/val.txt", "a\n");
    place.write(
        "voc/Annotations/a.xml",
        "<annotation><filename>a.jpg</filename><size><width>64</width><height>64</height></size>\
         <object><name>cat</name><bndbox><xmin>10</xmin><ymin>12</ymin><xmax>30</xmax><ymax>52</ymax></bndbox></object>\
         </annotation>",
    );
    let convert = ["data", "convert", "voc", "voc", "--split", "val", "--out", "out/val.json"];
    place.run(&[&convert[..], &["--classes", "dog,cat"]].concat()).succeeds();
    let coco = place.json("out/val.json");
    assert_eq!(coco["annotations"][0]["category_id"], 2);
    assert_eq!(coco["annotations"][0]["bbox"], serde_json::json!([10.0, 12.0, 20.0, 40.0]));
    assert_eq!(coco["images"][0]["file_name"], "a.jpg");
    place.run(&[&convert[..], &["--classes", "dog"]].concat()).fails(1, &["a.xml", "cat", "dog"]);
    place.run(&["data", "convert", "voc", "voc", "--split", "test", "--out", "x.json"]).fails(1, &["test.txt"]);
}

#[test]
fn coverage_counts_every_object() {
    let place = Workplace::new();
    let found = place.run(&["anchors", "coverage", "tiny.toml", "--json", "-"]).succeeds().json();
    assert_eq!(found["all"]["objects"], 2 * IMAGES);
    assert_eq!(found["class 青"]["objects"], IMAGES);
    assert!(found["all"]["mean_best_iou"].as_f64().unwrap() > 0.2);
    assert!(found["all"]["mean_matched"].as_f64().unwrap() >= 1.0);
    place.run(&["anchors", "coverage", "tiny.toml", "--split", "val"]).succeeds();
    // The overlaps do not depend on the rule, and the assigned anchors do.
    let atss = ["anchors", "coverage", "tiny.toml", "--set", "matcher.kind=atss", "--set", "matcher.candidates=2"];
    let run = place.run(&atss).succeeds();
    assert!(run.stdout.contains("matcher.kind = \"atss\"") && run.stdout.contains("no anchor"), "{}", run.stdout);
    let other = place.run(&[&atss[..], &["--json", "-"]].concat()).succeeds().json();
    assert_eq!(other["all"]["mean_best_iou"], found["all"]["mean_best_iou"]);
    assert_ne!(other["all"]["mean_matched"], found["all"]["mean_matched"]);
    let lost = |group: &str| other[group]["without_anchor"].as_u64().unwrap();
    assert_eq!(lost("all"), lost("small") + lost("medium") + lost("large"));
}

#[test]
fn what_is_suspicious_is_a_note_and_has_crops_on_the_page() {
    let place = Workplace::new();
    let twice = |v: &mut Value| {
        v["categories"][0]["name"] = json!("<script>alert(1)</script>");
        let mut again = v["annotations"][1].clone();
        again["id"] = json!(99);
        v["annotations"].as_array_mut().unwrap().push(again);
    };
    place.write("train.json", place.changed(twice));
    place.write("val.json", place.changed(|v| v["categories"][0]["name"] = json!("<script>alert(1)</script>")));
    let check = ["data", "check", "tiny.toml", "--html", "out/check.html"];
    let found = place.run(&[&check[..], &["--json", "-"]].concat()).succeeds().json();
    let repeated = &found["train"]["findings"]["repeated_box"];
    assert_eq!(repeated["count"], 1, "{found}");
    assert!(repeated["examples"][0].as_str().unwrap().contains("annotation 2 (青)"), "{repeated}");
    // The validation set has the training images.
    assert_eq!(found["val"]["findings"]["shared_image"]["count"], IMAGES);
    let text = place.run(&check).succeeds().stdout;
    assert!(text.contains("note: 1 objects with the box and the class of another one"), "{text}");
    let page = std::fs::read_to_string(place.path("out/check.html")).unwrap();
    assert!(page.contains("data:image/jpeg;base64,") && page.contains("annotation 99"), "{page}");
    assert_eq!(page.matches("<script").count(), 1);
    // Training starts all the same.
    place.run(&["train", "tiny.toml", "--out", "run"]).succeeds();
    place.run(&["data", "check", "tiny.toml", "--html", "check.txt"]).fails(2, &["--html check.txt", ".html"]);
    place.run(&["data", "check", "tiny.toml", "--html", "a.html", "--json", "a.html"]).fails(2, &["--html", "--json"]);
}

#[test]
fn other_categories_of_the_validation_set_are_an_error_among_others() {
    let place = Workplace::new();
    let shifted = std::fs::read_to_string(place.path("val.json")).unwrap();
    let mut val: Value = serde_json::from_str(&shifted).unwrap();
    for category in val["categories"].as_array_mut().unwrap() {
        category["id"] = json!(category["id"].as_i64().unwrap() + 1);
    }
    for annotation in val["annotations"].as_array_mut().unwrap() {
        annotation["category_id"] = json!(annotation["category_id"].as_i64().unwrap() + 1);
    }
    place.write("val.json", val.to_string());
    let check = place.run(&["data", "check", "tiny.toml", "--json", "check.json"]);
    assert_eq!(check.code, Some(1), "{}", check.stderr);
    assert!(check.stdout.contains("whose categories differ"), "{}", check.stdout);
    let found = place.json("check.json");
    let example = &found["val"]["findings"]["other_categories"]["examples"][0];
    assert!(example.as_str().unwrap().contains("category 4"), "{found}");
    assert_eq!(found["val"]["objects"], 2 * IMAGES);
    place.run(&["train", "tiny.toml", "--out", "run"]).fails(1, &["val.json", "category 4"]);
}

#[test]
fn statistics_have_charts_on_a_page_and_only_the_table_in_a_pipe() {
    let place = Workplace::new();
    let stats = place.run(&["data", "stats", "tiny.toml", "--html", "stats.html"]).succeeds();
    assert!(stats.stdout.contains("object side, px") && !stats.stdout.contains('█'), "{}", stats.stdout);
    let page = std::fs::read_to_string(place.path("stats.html")).unwrap();
    for title in ["Objects of each class", "after resizing", "Centres of the objects of the validation set"] {
        assert!(page.contains(title), "{title}");
    }
    place.run(&["data", "stats", "--annotations", "train.json", "--html", "one.html"]).succeeds();
    let page = std::fs::read_to_string(place.path("one.html")).unwrap();
    assert!(page.contains("Centres of the objects of the set") && !page.contains("after resizing"));
    place.run(&["data", "stats", "tiny.toml", "--html", "stats.json"]).fails(2, &["--html stats.json", ".html"]);
}
