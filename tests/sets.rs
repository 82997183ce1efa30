//! `foveal data split`, `merge`, `subset`, `remap` and `tile`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::Workplace;

/// A data set of 60 videos with 1 to 5 frames, `video<v>_<n>.jpg`. Class `common` is on each frame, `rare` on three
/// videos and `single` on one. The records have members that foveal does not read.
fn videos() -> Value {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for video in 0..60 {
        for frame in 0..1 + video % 5 {
            let id = images.len() + 1;
            images.push(json!({
                "id": id, "file_name": format!("video{video}_{frame}.jpg"), "width": 640, "height": 480,
                "license": 1, "video_id": video,
            }));
            let mut add = |category: i64, x: f64| {
                annotations.push(json!({
                    "id": annotations.len() + 1, "image_id": id, "category_id": category,
                    "bbox": [x, 5.0, 20.5, 10.0], "area": 100.25, "iscrowd": 0,
                    "segmentation": [[x, 5.0, x + 20.5, 5.0, x, 15.0]], "attributes": {"occluded": video % 2 == 0},
                }));
            };
            add(2, 1.0);
            add(2, 50.0);
            if [7, 21, 40].contains(&video) {
                add(5, 100.0);
            }
            if video == 33 {
                add(9, 200.0);
            }
        }
    }
    json!({
        "info": {"description": "videos"}, "licenses": [{"id": 1, "name": "CC0"}],
        "images": images, "annotations": annotations,
        "categories": [
            {"id": 2, "name": "common", "supercategory": "all"}, {"id": 5, "name": "rare"}, {"id": 9, "name": "single"},
        ],
    })
}

/// The records of a list, by their ids.
fn by_id(file: &Value, list: &str) -> BTreeMap<i64, Value> {
    file[list].as_array().unwrap().iter().map(|record| (record["id"].as_i64().unwrap(), record.clone())).collect()
}

/// The videos of the images of a file.
fn videos_of(file: &Value) -> BTreeSet<i64> {
    file["images"].as_array().unwrap().iter().map(|image| image["video_id"].as_i64().unwrap()).collect()
}

#[test]
fn split_keeps_videos_together_and_every_member() {
    let place = Workplace::new();
    place.write("all.json", videos().to_string());
    let arguments = ["data", "split", "all.json", "--group", "^(video[0-9]+)_", "--seed", "3", "--json", "-"];
    let report = place.run(&[&arguments[..], &["--out", "one"]].concat()).succeeds().json();
    place.run(&[&arguments[..], &["--out", "two"]].concat()).succeeds();
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    for part in ["train.json", "val.json"] {
        assert_eq!(read(&format!("one/{part}")), read(&format!("two/{part}")), "{part}");
    }
    let (train, val) = (place.json("one/train.json"), place.json("one/val.json"));
    assert!(videos_of(&train).is_disjoint(&videos_of(&val)));
    assert_eq!(videos_of(&train).len() + videos_of(&val).len(), 60);
    // Each record is in one part, with all its members.
    for list in ["images", "annotations"] {
        let mut all = by_id(&train, list);
        let count = all.len();
        let of_val = by_id(&val, list);
        all.extend(of_val.clone());
        assert_eq!((all.len(), &all), (count + of_val.len(), &by_id(&videos(), list)), "{list}");
    }
    for part in [&train, &val] {
        for key in ["info", "licenses", "categories"] {
            assert_eq!(part[key], videos()[key], "{key}");
        }
    }
    let classes = report["classes"].as_array().unwrap();
    assert!(classes[0]["common"] == true && classes[0]["deviation"].as_f64().unwrap() <= 0.02, "{report}");
    assert!(classes[1]["in_parts"].as_array().unwrap().iter().all(|count| count.as_i64().unwrap() > 0), "{report}");
    assert_eq!((&classes[2]["groups"], &report["groups"], &report["seed"]), (&json!(1), &json!(60), &json!(3)));
    assert_eq!(report["parts"][1]["file"], "one/val.json");

    let by_key =
        place.run(&["data", "split", "all.json", "--group-by", "video_id", "--seed", "3", "--out", "key"]).succeeds();
    assert!(by_key.stdout.contains("class rare") && by_key.stderr.contains("warning: the part"), "{}", by_key.stderr);
    assert_eq!(place.json("key/train.json"), train);
}

#[test]
fn split_refuses_what_it_cannot_divide() {
    let place = Workplace::new();
    place.write("all.json", videos().to_string());
    let split = |arguments: &[&str]| place.run(&[&["data", "split", "all.json", "--out", "parts"], arguments].concat());
    split(&["--parts", "train=0.8,val=0.3"]).fails(2, &["--parts", "add up to 1"]);
    split(&["--group", "(video"]).fails(2, &["--group", "regular expression", "(video"]);
    split(&["--group", "clip([0-9]+)"]).fails(1, &["all.json", "--group", "video0_0.jpg"]);
    split(&["--group-by", "clip"]).fails(1, &["all.json", "--group-by", "video_id"]);
    split(&["--group", "^(video)"]).fails(1, &["all.json", "at least 2 groups", "found 1"]);
    split(&[]).succeeds();
    split(&[]).fails(1, &["train.json", "exists", "--force"]);
    split(&["--force"]).succeeds();
    place.run(&["data", "split", "parts/train.json", "--out", "parts", "--force"]).fails(2, &["--out", "input"]);
    let bad = place.changed(|set| set["annotations"][3]["image_id"] = json!(999));
    place.write("bad.json", bad);
    place
        .run(&["data", "split", "bad.json", "--out", "bad"])
        .fails(1, &["bad.json", "line 1", "999", "--on-error skip"]);
    let skipped = place.run(&["data", "split", "bad.json", "--out", "bad", "--on-error", "skip"]).succeeds();
    assert!(skipped.stderr.contains("1 record was left out"), "{}", skipped.stderr);
}

#[test]
fn merging_the_parts_gives_the_set_again() {
    let place = Workplace::new();
    place.write("all.json", videos().to_string());
    place.run(&["data", "split", "all.json", "--parts", "a=0.5,b=0.3,c=0.2", "--out", "."]).succeeds();
    let merge = ["data", "merge", "a.json", "b.json", "c.json", "--out", "merged.json"];
    place.run(&merge).succeeds();
    let merged = place.json("merged.json");
    for list in ["images", "annotations", "categories"] {
        assert_eq!(by_id(&merged, list), by_id(&videos(), list), "{list}");
    }
    assert_eq!((&merged["info"], &merged["licenses"]), (&videos()["info"], &videos()["licenses"]));
    place.run(&merge).fails(1, &["merged.json", "exists", "--force"]);
    place
        .run(&["data", "merge", "a.json", "all.json", "--out", "x.json"])
        .fails(1, &["a.json", "all.json", "more images", "--same-image", "--prefix"]);
    let both =
        ["data", "merge", "a.json", "all.json", "--same-image", "both-objects", "--out", "x.json", "--json", "-"];
    let report = place.run(&both).succeeds().json();
    assert_eq!(report["output"]["objects"], report["inputs"][1]["objects"]);
    place
        .run(&["data", "merge", "a.json", "b.json", "--prefix", "a/", "--out", "y.json"])
        .fails(2, &["--prefix", "2 texts"]);
}

#[test]
fn merged_file_names_lead_to_the_images() {
    let place = Workplace::new();
    std::fs::create_dir_all(place.path("other/photos")).unwrap();
    for name in ["1.png", "2.png"] {
        std::fs::copy(place.path("images").join(name), place.path("other/photos").join(name)).unwrap();
    }
    let two = place.changed(|set| {
        set["images"].as_array_mut().unwrap().truncate(2);
        set["annotations"].as_array_mut().unwrap().truncate(4);
        set["categories"] = json!([{"id": 3, "name": "青"}, {"id": 70, "name": "Cervena"}]);
    });
    place.write("two.json", two);
    let merge = ["data", "merge", "train.json", "two.json", "--images", "images,other/photos", "--out", "merged.json"];
    place.run(&merge).succeeds();
    // Every image is found, and no other defect.
    place.run(&["data", "check", "--annotations", "merged.json", "--images", "."]).succeeds();
    let merged = place.json("merged.json");
    let names: Vec<&str> =
        merged["categories"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["červená", "青", "Cervena"]);
    assert_eq!(merged["images"][7]["file_name"], "other/photos/2.png");
}

#[test]
fn subset_and_remap_change_classes() {
    let place = Workplace::new();
    place.write("all.json", videos().to_string());
    let subset = ["data", "subset", "all.json", "--out", "rare.json", "--classes", "rare", "--with-objects"];
    let run = place.run(&subset).succeeds();
    assert!(run.stderr.contains("objects of other classes, left out"), "{}", run.stderr);
    let rare = place.json("rare.json");
    assert_eq!(videos_of(&rare), BTreeSet::from([7, 21, 40]));
    assert_eq!(rare["categories"].as_array().unwrap().len(), 1);
    assert!(rare["annotations"][0]["segmentation"].is_array());
    let wrong = ["data", "subset", "all.json", "--out", "x.json", "--classes", "Rares"];
    place.run(&wrong).fails(1, &["all.json", "Rares", "did you mean \"rare\"", "common, rare, single"]);
    place.run(&["data", "subset", "all.json", "--out", "x.json", "--count", "9999"]).fails(2, &["--count", "9999"]);
    place.run(&["data", "subset", "all.json", "--out", "x.json", "--files", "[a"]).fails(2, &["--files", "[a"]);

    let there =
        ["data", "remap", "all.json", "--rename", "rare=common", "--rename", "common=rare", "--out", "there.json"];
    place.run(&there).succeeds();
    assert_eq!(place.json("there.json")["categories"][0], json!({"id": 2, "name": "rare", "supercategory": "all"}));
    place.write("back.csv", "old,new\nrare,common\ncommon,rare\n");
    place.run(&["data", "remap", "there.json", "--map", "back.csv", "--out", "back.json"]).succeeds();
    assert_eq!(place.json("back.json"), videos());
    place.write("names.json", r#"{"rare": "thing", "single": "thing", "common": null}"#);
    place.run(&["data", "remap", "all.json", "--map", "names.json", "--out", "thing.json"]).succeeds();
    let thing = place.json("thing.json");
    assert_eq!((thing["categories"].as_array().unwrap().len(), &thing["categories"][0]["id"]), (1, &json!(5)));
    assert_eq!(thing["images"], videos()["images"]);
    place.run(&["data", "remap", "all.json", "--out", "x.json"]).fails(2, &["--rename", "found none"]);
    place
        .run(&["data", "remap", "all.json", "--drop", "Singel", "--out", "x.json"])
        .fails(1, &["Singel", "\"single\""]);
    place
        .run(&["data", "remap", "all.json", "--rename", "rare=single", "--out", "x.json"])
        .fails(1, &["--join rare,single"]);
    place.write("bad.csv", "a,b,c\n");
    place.run(&["data", "remap", "all.json", "--map", "bad.csv", "--out", "x.json"]).fails(1, &["bad.csv", "line 1"]);
    assert!(!place.path("x.json").exists());
}

#[test]
fn tiles_are_a_data_set_of_their_own() {
    let place = Workplace::new();
    let tile =
        ["data", "tile", "train.json", "--images", "images", "--size", "40", "--overlap", "0.25", "--out", "tiles"];
    let report = place.run(&[&tile[..], &["--json", "-"]].concat()).succeeds().json();
    // Images of 64 pixels have tiles at 0 and 24, with the step 30 shifted inwards.
    assert_eq!(report["output"]["images"], 6 * 4);
    let tiles = place.json("tiles/annotations.json");
    assert_eq!(tiles["images"][3]["file_name"], "1_x24_y24.png");
    assert_eq!(tiles["images"][3]["tile"], json!({"image_id": 1, "x": 24, "y": 24}));
    let check = ["data", "check", "--annotations", "tiles/annotations.json", "--images", "tiles/images", "--decode"];
    place.run(&check).succeeds();
    let pixel = |name: &str, x, y| *image::open(place.path(name)).unwrap().to_rgb8().get_pixel(x, y);
    assert_eq!(pixel("tiles/images/1_x24_y0.png", 0, 39), pixel("images/1.png", 24, 39));
    place.run(&tile).fails(1, &["tiles", "not empty"]);
    let few = ["data", "tile", "train.json", "--images", "images", "--size", "16", "--empty", "0", "--out", "few"];
    let report = place.run(&[&few[..], &["--json", "-"]].concat()).succeeds().json();
    assert_eq!(report["output"]["empty_images"], 0);
    std::fs::remove_file(place.path("images/2.png")).unwrap();
    let missing = ["data", "tile", "train.json", "--images", "images", "--size", "40", "--out", "none"];
    place.run(&missing).fails(1, &["image 2", "2.png"]);
    place
        .run(&["data", "tile", "train.json", "--images", "images", "--size", "9", "--out", "none"])
        .fails(2, &["--size"]);
}
