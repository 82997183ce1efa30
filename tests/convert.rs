//! `foveal data convert` between formats.
#![cfg(unix)] // Symbolic links.

use serde_json::{Value, json};

use crate::support::Workplace;

/// Writes two images with objects of two classes, one of them with a name that needs quotes.
fn set(place: &Workplace) {
    std::fs::create_dir_all(place.path("photos/cam 1")).unwrap();
    for (from, to) in [("images/1.png", "photos/cam 1/a,b.png"), ("images/2.png", "photos/\u{e9}.png")] {
        std::fs::copy(place.path(from), place.path(to)).unwrap();
    }
    let coco = json!({
        "images": [
            {"id": 1, "file_name": "cam 1/a,b.png", "width": 64, "height": 64},
            {"id": 2, "file_name": "\u{e9}.png", "width": 64, "height": 64},
        ],
        "categories": [{"id": 1, "name": "a \"b\", c"}, {"id": 2, "name": "青"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1.5, 2.25, 30.0, 20.0], "area": 600.0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [10.0, 20.0, 30.0, 40.0], "area": 1200.0},
            {"id": 3, "image_id": 2, "category_id": 2, "bbox": [0.0, 0.0, 64.0, 64.0], "area": 4096.0},
            {"id": 4, "image_id": 2, "category_id": 2, "bbox": [0.0, 0.0, 64.0, 64.0], "area": 4096.0, "iscrowd": 1},
        ],
    });
    place.write("set.json", coco.to_string());
}

#[test]
fn conversions_there_and_back() {
    let place = Workplace::new();
    set(&place);
    let images = ["--images", "photos"];
    let to = |format: &str, out: &str| {
        let run = place.run(&[&["data", "convert", format, "set.json", "--out", out], &images[..]].concat()).succeeds();
        assert!(run.stderr.contains("warning: crowd regions"), "{}", run.stderr);
        assert!(run.stderr.contains("2 images") && run.stderr.contains("2 classes"), "{}", run.stderr);
    };
    to("to-yolo", "yolo");
    to("to-voc", "voc");
    to("to-cvat", "a.xml");
    to("to-csv", "a.csv");
    for arguments in
        [&["yolo", "yolo"][..], &["voc", "voc"], &["cvat", "a.xml"], &["csv", "a.csv", "--images", "photos"]]
    {
        let run =
            place.run(&[&["data", "convert"], arguments, &["--out", "back.json", "--json", "-"]].concat()).succeeds();
        let crowds = i32::from(arguments[0] == "voc");
        let summary = run.json();
        assert_eq!((&summary["images"], &summary["objects"]), (&json!(2), &json!(3 + crowds)), "{summary}");
        assert_eq!(summary["crowds"], crowds);
        assert_eq!(summary["notes"].as_array().unwrap().len(), crowds as usize, "{summary}");
        let check = ["data", "check", "--annotations", "back.json", "--images", "photos"];
        place.run(&check).succeeds();
        let back = place.json("back.json");
        let objects: Vec<_> = back["annotations"].as_array().unwrap().iter().map(|a| &a["bbox"]).collect();
        assert!(objects.contains(&&json!([1.5, 2.25, 30.0, 20.0])), "{arguments:?}: {objects:?}");
        let names: Vec<_> =
            back["categories"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a \"b\", c", "青"], "{arguments:?}");
    }
    place.run(&["data", "convert", "to-yolo", "set.json", "--out", "yolo"]).fails(1, &["labels/train", "not empty"]);
}

#[test]
fn other_imports_and_their_errors() {
    let place = Workplace::new();
    set(&place);
    place.write(
        "photos/x.json",
        json!({
            "shapes": [{"label": "kite", "points": [[1, 2], [30, 40]], "shape_type": "rectangle"},
                       {"label": "kite", "points": [[1, 2]], "shape_type": "point"}],
            "imagePath": "\u{e9}.png", "imageHeight": 64, "imageWidth": 64,
        })
        .to_string(),
    );
    let run = place.run(&["data", "convert", "labelme", "photos", "--out", "kites.json"]).succeeds();
    assert!(run.stderr.contains("warning: shapes that have no box") && run.stderr.contains("photos"), "{}", run.stderr);
    place.write("labels.csv", "/m/01,Kite\n");
    place.write("boxes.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n\u{e9},/m/01,0.25,0.75,0,0.5,1\n");
    let boxes = ["data", "convert", "openimages", "boxes.csv", "--images", "photos", "--out", "boxes.json"];
    place.run(&[&boxes[..], &["--class-descriptions", "labels.csv"]].concat()).succeeds();
    let converted = place.json("boxes.json");
    assert_eq!(converted["annotations"][0]["bbox"], json!([16.0, 0.0, 32.0, 32.0]));
    assert_eq!(converted["annotations"][0]["iscrowd"], 1);
    place.write("boxes.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\nnone,/m/01,0,1,0,1\n\u{e9},/m/01,0,1,0,1\n");
    place.run(&boxes).fails(1, &["boxes.csv, line 2", "found no image none", "--on-error skip"]);
    let run = place.run(&[&boxes[..], &["--on-error", "skip"]].concat()).succeeds();
    assert!(run.stderr.contains("warning: files and objects that cannot be converted, left out: 1"), "{}", run.stderr);
    let coco = ["data", "convert", "coco", "set.json", "--images", "photos", "--out", "plain.json"];
    place.run(&coco).succeeds();
    let boxes = |name: &str| -> Vec<Value> {
        place.json(name)["annotations"].as_array().unwrap().iter().map(|a| a["bbox"].clone()).collect()
    };
    assert_eq!(boxes("plain.json"), boxes("set.json"));
}

/// The lines of an error on stderr.
fn error_lines(place: &Workplace, arguments: &[&str]) -> Vec<String> {
    let run = place.run(arguments);
    assert_eq!(run.code, Some(1), "foveal {}\n{}", run.line, run.stderr);
    let lines = run.stderr.lines().skip_while(|line| !line.starts_with("error: "));
    lines.map(str::to_owned).collect()
}

#[test]
fn errors_list_each_file_in_its_line() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("shapes")).unwrap();
    let forged = "a\nerror: forged\u{1b}[2J.json";
    place.write("shapes/1.json", "{}");
    place.write(&format!("shapes/{forged}"), "{}");
    let labelme = ["data", "convert", "labelme", "shapes", "--out", "a.json"];
    for arguments in [&labelme[..], &[&labelme[..], &["--quiet"]].concat()] {
        let lines = error_lines(&place, arguments);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(lines[0], "error: shapes: 2 files or objects cannot be converted:");
        assert!(lines[1].starts_with("  shapes/1.json: has no `shapes`"), "{lines:#?}");
        assert!(lines[2].starts_with(r"  shapes/a\nerror: forged\u{1b}[2J.json: "), "{lines:#?}");
        assert_eq!(lines[3], "pass --on-error skip to leave them out");
    }
    // An export.
    let missing = place.changed(|value| {
        value["images"][0]["file_name"] = json!("one.png");
        value["images"][1]["file_name"] = json!("two\n.png");
    });
    place.write("bad.json", missing);
    let lines =
        error_lines(&place, &["data", "convert", "to-csv", "bad.json", "--images", "images", "--out", "bad.csv"]);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[1].contains("one.png") && lines[2].contains(r"two\n.png"), "{lines:#?}");

    // The report of the checks, in the errors of training and evaluating.
    let bad = ["--set", "data.train.annotations=bad.json", "--set", "data.val.annotations=bad.json"];
    let lines = error_lines(&place, &[&["train", "tiny.toml", "--out", "none"], &bad[..]].concat());
    let starts = ["error: ", "  error: 2 images not found", "    ", "    ", "set data.on_error = \"skip\""];
    let listed = |lines: &[String]| {
        lines.len() == 5
            && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start))
            && lines[0].contains("bad.json: 4 images")
            && lines[3].contains(r"two\n.png")
    };
    assert!(listed(&lines), "{lines:#?}");
    place.train();
    let evaluate = ["eval", "run/checkpoints/last.safetensors", "--annotations", "bad.json", "--images", "images"];
    let lines = error_lines(&place, &evaluate);
    assert!(listed(&lines), "{lines:#?}");
    // A data set of which nothing can be used.
    place.write(
        "none.json",
        place.changed(|value| {
            value["annotations"].as_array_mut().unwrap().iter_mut().for_each(|a| a["bbox"] = json!([0, 0, 0, 0]))
        }),
    );
    let lines = error_lines(&place, &["train", "tiny.toml", "--set", "data.train.annotations=none.json"]);
    assert!(lines.len() > 3 && lines.last().unwrap().starts_with("the data set cannot be used"), "{lines:#?}");
    assert!(lines[1..].iter().all(|line| !line.contains("\\n")), "{lines:#?}");
}

#[test]
fn the_folder_of_the_images_has_a_plain_name() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("lists")).unwrap();
    std::fs::create_dir(place.path("labels")).unwrap();
    place.write("labels/1.txt", "0 0.5 0.5 0.5 0.5\n");
    place.write("labels/spare.txt", "");
    place.write("lists/data.yaml", "path: ../lists/..\ntrain: images\nnames: [cat]\n");
    let run = place.run(&["data", "convert", "yolo", "lists/data.yaml", "--out", "a.json"]).succeeds();
    assert_eq!(run.stderr.lines().last(), Some("the file names are relative to the folder of images images"));
    assert!(
        run.stderr.contains("warning: label files without an image, left out: 1 (first: labels/spare.txt)"),
        "{}",
        run.stderr
    );
}

#[test]
fn outputs_are_no_inputs() {
    let place = Workplace::new();
    set(&place);
    place.write("photos/x.json", "{\"shapes\": []}");
    place.write("a.csv", "photos,1,2,3,4,a\n");
    for (arguments, words) in [
        (&["coco", "set.json", "--out", "set.json"][..], "annotation file"),
        (&["csv", "a.csv", "--out", "a.csv"], "annotation file"),
        (&["labelme", "photos", "--out", "photos/x.json"], "annotation file"),
        (&["to-csv", "set.json", "--out", "set.json"], "annotation file"),
        (&["to-cvat", "set.json", "--images", "photos", "--out", "photos/\u{e9}.png"], "image"),
        (&["coco", "set.json", "--out", "b.json", "--json", "b.json"], "--json"),
    ] {
        let before = std::fs::read(place.path("set.json")).unwrap();
        place.run(&[&["data", "convert"], arguments].concat()).fails(2, &[words]);
        assert_eq!(std::fs::read(place.path("set.json")).unwrap(), before);
    }
}
