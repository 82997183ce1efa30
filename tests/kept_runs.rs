//! Runs that earlier versions of foveal wrote (`tests/fixtures/<commit>`, made by `scripts/reference/keep_run`): their
//! checkpoints give the same detections, and their training states resume.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::support::{Workplace, lines};

/// The commits whose files are kept.
const COMMITS: [&str; 2] = ["29118b3", "c076189"];
/// The compressed files of a kept run.
const PACKED: [&str; 2] = ["run/checkpoints/last.safetensors", "run/state/last.safetensors"];
/// The files of a kept run that are stored as they are.
const PLAIN: [&str; 5] = ["config.toml", "image.png", "run/config.toml", "run/log.jsonl", "run/metrics.csv"];
/// Largest difference of a score or a coordinate in pixels. The order of sums in `f32` may differ between versions.
const TOLERANCE: f64 = 1e-3;

fn fixture(commit: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(commit)
}

/// A folder with the unpacked files of a kept run.
fn unpacked(commit: &str) -> Workplace {
    let place = Workplace::new();
    for folder in ["run", "run/checkpoints", "run/state"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    for name in PLAIN.into_iter().chain(["run/state/evaluated.json"]) {
        std::fs::copy(fixture(commit).join(name), place.path(name)).unwrap();
    }
    for name in PACKED {
        let packed = std::fs::read(fixture(commit).join(format!("{name}.gz"))).unwrap();
        let mut plain = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
        place.write(name, plain);
    }
    place
}

fn numbers(detection: &Value) -> Vec<f64> {
    let numbers = detection["bbox"].as_array().unwrap().iter().chain([&detection["score"]]);
    numbers.map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn checkpoints_of_earlier_versions_give_the_same_detections() {
    for commit in COMMITS {
        let place = unpacked(commit);
        let command = ["predict", PACKED[0], "image.png", "--score-threshold", "0.1", "--json", "-"];
        let found = place.run(&command).succeeds().json();
        let text = std::fs::read_to_string(fixture(commit).join("detections.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let [found, expected] = [&found, &expected].map(|v| v[0]["detections"].as_array().unwrap());
        assert_eq!(found.len(), expected.len(), "{commit}");
        // Detections with nearly equal scores may change places.
        for detection in expected {
            let close = |other: &&Value| {
                let mut pairs = numbers(other).into_iter().zip(numbers(detection));
                other["category"] == detection["category"] && pairs.all(|(a, b)| (a - b).abs() <= TOLERANCE)
            };
            assert!(found.iter().any(|other| close(&other)), "{commit}: {detection} is missing");
        }
    }
}

#[test]
fn states_of_earlier_versions_resume() {
    for commit in COMMITS {
        let place = unpacked(commit);
        let before = lines(&place.path("run/log.jsonl"));
        place.run(&["train", "config.toml", "--resume", "--out", "run", "--set", "train.epochs=2"]).succeeds();
        // The lines of the first epoch are kept, and the second epoch follows.
        let after = lines(&place.path("run/log.jsonl"));
        assert_eq!(after[..before.len()], before, "{commit}");
        let steps: Vec<u64> =
            after.iter().filter(|l| l.get("event").is_none()).map(|l| l["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=8).collect::<Vec<u64>>(), "{commit}");
        // An older version wrote fewer columns. The epoch before keeps its values.
        let metrics = std::fs::read_to_string(place.path("run/metrics.csv")).unwrap();
        let kept = std::fs::read_to_string(fixture(commit).join("run/metrics.csv")).unwrap();
        let [metrics, kept]: [Vec<&str>; 2] = [&metrics, &kept].map(|text| text.lines().collect());
        assert!(metrics.len() == 3 && metrics[1].starts_with(kept[1]), "{commit}: {metrics:?}");
    }
}
