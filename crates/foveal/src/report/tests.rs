//! Reports of runs whose files are written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use foveal_data::Source;
use foveal_train::{DETECTIONS, RunConfig};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

use super::{Report, Reporter, StartRecord, report};
use crate::config;

/// The name of a class, and of everything else that comes from outside.
const HOSTILE: &str = "<script>alert(1)</script>";

/// A run on four images of 64x48 pixels with one class, evaluated after two epochs.
fn run(parent: &Path, name: &str, epochs: usize) -> PathBuf {
    let root = parent.join(name);
    fs::create_dir_all(root.join("images")).unwrap();
    let images: Vec<Value> = (1..=4)
        .map(|id| {
            let file = format!("{id}<b>.png");
            RgbImage::from_pixel(64, 48, Rgb([id as u8 * 40, 90, 90])).save(root.join("images").join(&file)).unwrap();
            json!({"id": id, "file_name": file, "width": 64, "height": 48})
        })
        .collect();
    let object = |id: i64| json!({"id": id, "image_id": id, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0});
    let annotations = json!({
        "images": images,
        "annotations": (1..=4).map(object).collect::<Vec<_>>(),
        "categories": [{"id": 1, "name": HOSTILE}],
    });
    let file = root.join("annotations.json");
    fs::write(&file, annotations.to_string()).unwrap();
    let mut settings = RunConfig { name: "test".to_owned(), ..RunConfig::default() };
    settings.train.epochs = epochs;
    settings.data.source = Source::Coco;
    for set in [&mut settings.data.train, &mut settings.data.val] {
        set.annotations = Some(file.clone());
        set.images = Some(root.join("images"));
    }
    fs::write(root.join("config.toml"), config::to_toml(&settings).unwrap()).unwrap();
    let found = |image: i64, x: f64, score: f64| json!({"image_id": image, "category_id": 1, "bbox": [x, 4.0, 20.0, 20.0], "score": score});
    // Images 1 and 2 are right, image 3 has a false alarm, and on image 4 the object is missed.
    let detections = json!([found(1, 4.0, 0.9), found(2, 5.0, 0.8), found(3, 4.0, 0.7), found(3, 40.0, 0.6)]);
    fs::write(root.join(DETECTIONS), detections.to_string()).unwrap();
    let class = json!({"1": {"name": HOSTILE, "AP": 0.5, "AP50": 0.7}});
    let lines = [
        json!({"step": 1, "epoch": 1, "lr": 0.01, "loss": 2.0, "class_loss": 1.0, "box_loss": 1.0, "positive_share": 0.9,
            "grad_norm": 3.0, "images_per_second": 10.0, "data_wait": 0.1}),
        json!({"event": "epoch", "epoch": 1, "step": 2, "mean_loss": 1.5, "seconds": 60.0, "objects": 4}),
        json!({"event": "evaluation", "epoch": 1, "step": 2, "losses": {"class": 0.5, "box": 0.5, "total": 1.0},
            "metrics": {"AP": 0.5, "AP50": 0.7, "APl": -1.0, "per_category": class}}),
    ];
    fs::write(root.join("log.jsonl"), lines.map(|line| line.to_string()).join("\n")).unwrap();
    root
}

/// The markup of a section of a page.
#[track_caller]
fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let (_, rest) = html.split_once(&format!("<section id=\"{id}\"")).unwrap_or_else(|| panic!("no section {id}"));
    rest.split_once("</section>").unwrap().0
}

#[test]
fn a_report_has_all_sections_and_no_name_becomes_markup() {
    let dir = tempfile::tempdir().unwrap();
    let root = run(dir.path(), "<i>run", 2);
    let start = StartRecord { command: vec!["foveal".to_owned(), HOSTILE.to_owned()], ..StartRecord::default() };
    super::Environment::add(&root, start).unwrap();
    let Report { html, warnings } = report(&[root]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let wanted = [
        "curves",
        "classes",
        "errors",
        "gallery",
        "labels",
        "assignment",
        "data",
        "speed",
        "configuration",
        "environment",
    ];
    for id in wanted {
        assert!(section(&html, id).len() > 100, "{id}");
    }
    assert_eq!(html.matches("<script").count(), 1, "the script of the page");
    assert!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() > 5);
    assert!(!html.contains("<b>.png") && !html.contains("<i>run"));
    // The gallery begins with the score of best F1 (2 * 3 / (3 + 4) from 0.7 on), where image 4 is missed.
    let gallery = section(&html, "gallery");
    assert!(gallery.contains("value=\"0.7\"") && gallery.matches("1 missed, 0 false alarms").count() >= 1, "{gallery}");
    assert_eq!(gallery.matches("<img").count(), 4);
    assert!(section(&html, "classes").contains("best F1") && section(&html, "environment").contains("&#39;&lt;script"));
}

#[test]
fn what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let root = run(dir.path(), "a", 2);
    fs::remove_file(root.join(DETECTIONS)).unwrap();
    fs::remove_file(root.join("annotations.json")).unwrap();
    let Report { html, warnings } = report(std::slice::from_ref(&root)).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("annotations.json")), "{warnings:?}");
    assert!(html.contains(DETECTIONS) && !html.contains("<section id=\"gallery\""));
    // The table of classes is then that of the log.
    assert!(section(&html, "classes").contains("0.500"));
    fs::remove_file(root.join("log.jsonl")).unwrap();
    let error = report(&[root]).err().unwrap().to_string();
    assert!(error.contains("log.jsonl") && error.contains("folder of a run"), "{error}");
}

#[test]
fn the_report_is_written_into_the_folder_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let root = run(dir.path(), "a", 2);
    let mut reporter = Reporter::default();
    for _ in 0..2 {
        assert!(reporter.write(&root).unwrap().is_empty());
        let html = fs::read_to_string(root.join(super::REPORT)).unwrap();
        assert_eq!(html, report(std::slice::from_ref(&root)).unwrap().html);
    }
}

#[test]
fn several_runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let roots = [("a", 2), ("b<u>", 3)].map(|(name, epochs)| run(dir.path(), name, epochs));
    let Report { html, warnings } = report(&roots).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(section(&html, "runs").contains("b&lt;u&gt;") && !html.contains("<u>"));
    let differences = section(&html, "configuration");
    assert!(differences.contains("train.epochs") && !differences.contains("train.batch_size"), "{differences}");
    assert_eq!(html.matches("<script").count(), 1);
    assert!(section(&html, "curves").matches("<svg").count() >= 4);
    // Both runs have the same detections.
    let paired = section(&html, "differences");
    assert!(
        paired.contains("of 1000 resamples") && paired.matches("<td class=\"n\" data-v=\"0\">0.000</td>").count() >= 9
    );
}

#[test]
fn differences_have_intervals_where_runs_share_their_validation_images() {
    let dir = tempfile::tempdir().unwrap();
    let roots = ["a", "b", "c"].map(|name| run(dir.path(), name, 2));
    // Run b finds nothing, so that its AP is 0 in every resample. Run c has another object.
    fs::write(roots[1].join(DETECTIONS), "[]").unwrap();
    let file = roots[2].join("annotations.json");
    let changed = fs::read_to_string(&file).unwrap().replacen("[4,4,20,20]", "[5,4,20,20]", 1);
    fs::write(&file, changed).unwrap();
    let Report { html, warnings } = report(&roots).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("/c: its validation set has other"), "{warnings:?}");
    assert!(html.contains("its validation set has other images, objects or classes"));
    let first = crate::report::run::Run::read(&roots[0]).unwrap();
    let val = first.validation().unwrap();
    let found = first.detections.unwrap();
    let analyzer = foveal_eval::Analyzer::new(val.coco(), &found, &[]).unwrap();
    let own = analyzer.resamples(1000, crate::resamples::draw(4)).intervals()[0];
    let row = section(&html, "differences").split("<tr>").find(|row| row.contains(">AP<")).unwrap();
    for number in [Some(0.0), own.value.map(|ap| -ap), own.high.map(|ap| -ap), own.low.map(|ap| -ap)] {
        let text = format!(">{:.3}<", number.unwrap());
        assert!(row.contains(&text), "{text}: {row}");
    }
    fs::remove_file(roots[0].join(DETECTIONS)).unwrap();
    let Report { html, warnings } = report(&roots).unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("/a: found no val-detections.json"), "{warnings:?}");
    assert!(!html.contains("<section id=\"differences\""));
}
