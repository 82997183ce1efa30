//! Outputs of all commands: never an input, written through links and pipes, and otherwise whole.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::Workplace;

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";

/// The content of all files below a folder.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(content(&path));
        } else {
            // Reading a pipe would wait for a writer.
            let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path, bytes);
        }
    }
    found
}

/// Expects that a command is refused with exit code 2 and these words, before it changes anything in the folder.
#[track_caller]
fn refused(place: &Workplace, arguments: &[&str], words: &[&str]) {
    let before = content(&place.path("."));
    place.run(arguments).fails(2, words);
    assert!(before == content(&place.path(".")), "foveal {} changed files", arguments.join(" "));
}

#[test]
fn drawings_never_replace_images() {
    let place = Workplace::new();
    place.train();
    std::fs::create_dir(place.path("photos")).unwrap();
    let photo = place.path("photos/holiday.jpg");
    image::open(place.path("images/1.png")).unwrap().to_rgb8().save(&photo).unwrap();
    symlink("photos", place.path("link")).unwrap();
    let images = ["--draw", "photos", "image", "holiday.jpg"];
    refused(&place, &["predict", CHECKPOINT, "photos", "--draw", "photos"], &images);
    refused(&place, &["predict", CHECKPOINT, "photos/*.jpg", "--draw", "./photos/../photos"], &images);
    refused(&place, &["predict", CHECKPOINT, "link/holiday.jpg", "--draw", "photos"], &images);
    refused(&place, &["predict", CHECKPOINT, "photos/holiday.jpg", "--draw", "link"], &["--draw link", "holiday.jpg"]);
    // A drawing of images/1.png would be images/1.jpg, which is no input, but could be another original.
    refused(&place, &["predict", CHECKPOINT, "images", "--draw", "images"], &["--draw", "images/1.png"]);
    // A link in a folder of its own that leads back to the image.
    std::fs::create_dir(place.path("drawn")).unwrap();
    symlink("../photos/holiday.jpg", place.path("drawn/holiday.jpg")).unwrap();
    refused(
        &place,
        &["predict", CHECKPOINT, "photos", "--draw", "drawn"],
        &["drawn/holiday.jpg", "photos/holiday.jpg"],
    );
    std::fs::remove_file(place.path("drawn/holiday.jpg")).unwrap();
    std::fs::hard_link(&photo, place.path("drawn/holiday.jpg")).unwrap();
    refused(
        &place,
        &["predict", CHECKPOINT, "photos", "--draw", "drawn"],
        &["drawn/holiday.jpg", "photos/holiday.jpg"],
    );

    let before = std::fs::read(&photo).unwrap();
    place.run(&["predict", CHECKPOINT, "photos", "--draw", "photos/drawn"]).succeeds();
    assert_eq!(std::fs::read(&photo).unwrap(), before);
    assert!(place.path("photos/drawn/holiday.jpg").is_file());
}

#[test]
fn results_never_replace_inputs() {
    let place = Workplace::new();
    place.train();
    place.write("results.json", "[]");
    std::fs::hard_link(place.path("images/101.png"), place.path("hard.json")).unwrap();
    symlink(CHECKPOINT, place.path("soft.json")).unwrap();
    let predict = |options: &[&str], words: &[&str]| {
        refused(&place, &[&["predict", CHECKPOINT, "images/101.png"], options].concat(), words);
    };
    predict(&["--json", "images/101.png"], &["--json", "image images/101.png"]);
    predict(&["--json", "hard.json"], &["--json hard.json", "image images/101.png"]);
    predict(&["--coco", CHECKPOINT], &["--coco", "checkpoint"]);
    predict(&["--json", "soft.json"], &["--json soft.json", "checkpoint"]);
    predict(&["--coco", "val.json", "--annotations", "val.json"], &["--coco val.json", "annotation file"]);
    predict(&["--json", "new.json", "--coco", "./new.json"], &["--json", "--coco", "same file"]);
    predict(&["--json", "out/101.jpg", "--draw", "out"], &["--json", "--draw", "same file"]);

    let eval = |options: &[&str], words: &[&str]| refused(&place, &[&["eval", CHECKPOINT], options].concat(), words);
    eval(&["--json", "val.json"], &["--json val.json", "annotation file"]);
    eval(&["--coco", "images/101.png"], &["--coco", "image", "images/101.png"]);
    eval(&["--json", "hard.json"], &["image", "images/101.png"]);
    eval(&["--json", "run/config.toml"], &["configuration"]);

    let score = ["score", "--annotations", "val.json", "--detections", "results.json", "--json"];
    refused(&place, &[&score[..], &["val.json"]].concat(), &["annotation file val.json"]);
    refused(&place, &[&score[..], &["results.json"]].concat(), &["results file results.json"]);

    for arguments in [
        &["data", "check", "tiny.toml", "--json", "tiny.toml"][..],
        &["data", "stats", "tiny.toml", "--json", "train.json"],
        &["data", "check", "tiny.toml", "--json", "images/2.png"],
        &["data", "check", "--annotations", "val.json", "--images", "images", "--json", "val.json"],
        &["anchors", "coverage", "tiny.toml", "--json", "tiny.toml"],
        &["loss", "suggest", "tiny.toml", "--json", "train.json"],
        &["summary", "tiny.toml", "--json", "tiny.toml"],
        &["summary", CHECKPOINT, "--json", "soft.json"],
        &["bench", "--only", "infer", "--checkpoint", CHECKPOINT, "--json", CHECKPOINT],
        &["bench", "tiny.toml", "--only", "data", "--json", "images/3.png"],
    ] {
        refused(&place, arguments, &["--json", "is an input"]);
    }
    place.run(&["data", "check", "tiny.toml", "--json", "images/check.json"]).succeeds();
    place.run(&["data", "check", "tiny.toml", "--json", "images/check.json"]).succeeds();
}

#[test]
fn weights_annotations_and_labs_never_replace_inputs() {
    let place = Workplace::new();
    place.train();
    place.write("weights.pth", "weights");
    place.write("labels.txt", "a\n");
    let import = ["import", "weights.pth", "--arch", "retinanet_resnet50_fpn", "--labels", "labels.txt", "-o"];
    refused(&place, &[&import[..], &["weights.pth"]].concat(), &["--output", "weight file weights.pth"]);
    refused(&place, &[&import[..], &["labels.txt"]].concat(), &["file of labels labels.txt"]);
    symlink(CHECKPOINT, place.path("link.safetensors")).unwrap();
    for output in [CHECKPOINT, "link.safetensors"] {
        let export = ["export", CHECKPOINT, "--format", "safetensors", "-o", output];
        refused(&place, &export, &["--output", "checkpoint", "expected another file"]);
    }

    for folder in ["voc/Annotations", "voc/ImageSets/Main", "voc/JPEGImages"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
    }
    for file in ["voc/Annotations/a.xml", "voc/ImageSets/Main/val.txt", "voc/JPEGImages/a.jpg"] {
        place.write(file, "a");
        let convert = ["data", "convert", "voc", "voc", "--split", "val", "--out", file];
        refused(&place, &convert, &["--out", file]);
    }

    place.write(
        "arms.toml",
        "about = \"\"\nreference = \"a\"\n[[arm]]\nname = \"a\"\ntitle = \"A\"\nconfig.loss.kind = \"focal\"\n",
    );
    let lab = ["lab", "tiny.toml", "--arms", "arms.toml", "--out", "lab", "--json"];
    refused(&place, &[&lab[..], &["arms.toml"]].concat(), &["file of arms arms.toml"]);
    refused(&place, &[&lab[..], &["tiny.toml"]].concat(), &["configuration tiny.toml"]);
    refused(&place, &[&lab[..], &["lab/budget.json", "--budget", "1"]].concat(), &["--json", "--out", "same file"]);
    refused(&place, &[&lab[..], &["lab/lab.json"]].concat(), &["--json", "--out", "same file"]);
    let share = ["loss", "share", "--draw", "share.svg", "--json", "share.svg"];
    refused(&place, &share, &["--draw", "--json", "same file"]);
}

#[test]
fn results_never_replace_a_file_that_the_configuration_extends() {
    let place = Workplace::new();
    place.write("mine.toml", "extends = \"middle.toml\"\n");
    place.write("middle.toml", "extends = \"tiny.toml\"\n");
    place.write(
        "arms.toml",
        "about = \"\"\nreference = \"a\"\n[[arm]]\nname = \"a\"\ntitle = \"A\"\nconfig.loss.kind = \"focal\"\n",
    );
    for file in ["middle.toml", "tiny.toml"] {
        for command in [
            &["data", "check", "mine.toml"][..],
            &["anchors", "coverage", "mine.toml"],
            &["loss", "suggest", "mine.toml"],
            &["summary", "mine.toml"],
            &["bench", "mine.toml", "--only", "data"],
            &["lab", "mine.toml", "--arms", "arms.toml", "--out", "lab"],
        ] {
            let arguments = [command, &["--json", file]].concat();
            refused(&place, &arguments, &[&format!("configuration {file}"), "is an input"]);
        }
    }
}

#[test]
fn links_and_pipes_are_written_through() {
    let place = Workplace::new();
    let stats = |out: &str| place.run(&["data", "stats", "tiny.toml", "--json", out]).succeeds();
    stats("plain.json");
    let expected = std::fs::read(place.path("plain.json")).unwrap();
    // A link to a file, and one to a file that does not exist.
    place.write("old.json", "old");
    symlink("old.json", place.path("link.json")).unwrap();
    symlink("new.json", place.path("dangling.json")).unwrap();
    for (link, target) in [("link.json", "old.json"), ("dangling.json", "new.json")] {
        stats(link);
        assert!(place.path(link).is_symlink(), "{link}");
        assert!(!place.path(target).is_symlink() && std::fs::read(place.path(target)).unwrap() == expected, "{target}");
    }

    let pipe = place.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut bytes = Vec::new();
            std::fs::File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        }
    });
    stats("pipe");
    assert!(reader.join().unwrap() == expected);
    assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    stats("/dev/null");
    let left = content(&place.path("."));
    assert!(left.keys().all(|path| !path.display().to_string().contains("foveal-tmp")), "{:?}", left.keys());
}

#[cfg(target_os = "linux")]
#[test]
fn stdout_by_its_path_is_appended_to() {
    let place = Workplace::new();
    place.write("log", "before\n");
    let log = std::fs::File::options().append(true).open(place.path("log")).unwrap();
    let mut command = place.command(&["data", "stats", "tiny.toml", "--json", "/dev/stdout"]);
    assert!(command.stdout(log).status().unwrap().success());
    let text = std::fs::read_to_string(place.path("log")).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.strip_prefix("before\n").unwrap()).unwrap();
    assert_eq!(json["train"]["images"], crate::support::IMAGES);
}

#[test]
fn exports_go_through_pipes() {
    let place = Workplace::new();
    place.train();
    let export = |out: &str| place.run(&["export", CHECKPOINT, "--format", "safetensors", "-o", out]).succeeds();
    export("plain.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap());
    let run = export("pipe");
    assert!(run.stderr.contains("not verified"), "{}", run.stderr);
    assert!(reader.join().unwrap() == std::fs::read(place.path("plain.safetensors")).unwrap());
}

#[test]
fn evaluation_reads_no_configuration_that_is_not_the_runs() {
    let place = Workplace::new();
    place.train();
    std::fs::create_dir(place.path("weights")).unwrap();
    std::fs::copy(place.path(CHECKPOINT), place.path("weights/a.safetensors")).unwrap();
    let named = |checkpoint: &str| {
        let data = ["--annotations", "val.json", "--images", "images", "--json", "-"];
        place.run(&[&["eval", checkpoint], &data[..]].concat()).succeeds()
    };
    let expected = named("weights/a.safetensors").json();
    // A file of another program, and a configuration that would change the losses.
    for stray in ["[tool]\nname = \"other\"\n", "[matcher]\npositive_iou = 0.9\n"] {
        place.write("config.toml", stray);
        let run = named("weights/a.safetensors");
        assert_eq!(run.json(), expected, "{stray}");
        assert!(!run.stderr.contains("config.toml"), "{stray}: {}", run.stderr);
        place.run(&["eval", "weights/a.safetensors"]).fails(1, &["weights/a.safetensors", "--annotations"]);
    }
    // That of the run is used; if it cannot be, this is said.
    place.write("run/config.toml", "[matcher]\npositive_iou = 0.9\n");
    assert_ne!(named(CHECKPOINT).json()["losses"], expected["losses"]);
    place.write("run/config.toml", "nonsense");
    let run = named(CHECKPOINT);
    assert_eq!(run.json(), expected);
    assert!(run.stderr.starts_with("warning: ") && run.stderr.contains("config.toml"), "{}", run.stderr);
}
