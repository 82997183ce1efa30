//! Runs that are killed, stopped, resumed with other settings, or started twice.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Workplace, lines};

/// Longest time that a test waits for a running process.
const LIMIT: Duration = Duration::from_secs(120);
/// Arguments of a run that does not end by itself within a test.
const ENDLESS: [&str; 6] = ["train", "tiny.toml", "--out", "run", "--set", "train.epochs=100000"];

/// Waits until the process has written a number of lines to its log.
fn wait_for_lines(place: &Workplace, child: &mut Child, count: usize) {
    let (begun, log) = (Instant::now(), place.path("run/log.jsonl"));
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < count {
        assert!(
            child.try_wait().unwrap().is_none() && begun.elapsed() < LIMIT,
            "the run wrote no {count} lines in time"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) -> ExitStatus {
    Command::new("kill").args([name, &child.id().to_string()]).status().unwrap()
}

/// The logged losses of all steps of the run `name`, with the numbers of the steps.
fn losses(place: &Workplace, name: &str) -> Vec<(Value, Value)> {
    let lines = lines(&place.path(name).join("log.jsonl")).into_iter();
    lines
        .filter(|line| line.get("lr").is_some() && line.get("event").is_none())
        .map(|line| (line["step"].clone(), line["loss"].clone()))
        .collect()
}

#[cfg(unix)]
#[test]
fn signals_lose_no_step_and_kills_only_steps_after_the_last_state() {
    let place = Workplace::new();
    let length = ["--set", "train.epochs=6", "--set", "train.eval_every=0"];
    place.run(&[&["train", "tiny.toml", "--out", "whole"], &length[..]].concat()).succeeds();
    let settings = ["--set", "train.eval_every=0", "--set", "train.save_every=0.000001"];
    let start = |resume: bool| {
        let resume: &[&str] = if resume { &["--resume"] } else { &[] };
        place.start(&[&ENDLESS[..], resume, &settings[..]].concat())
    };
    let mut child = start(false);
    wait_for_lines(&place, &mut child, 3);
    assert!(signal(&child, "-TERM").success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    let made = losses(&place, "run").last().unwrap().0.clone();
    assert!(text.contains(&format!("interrupted at step {made}")), "{text}");

    let mut child = start(true);
    wait_for_lines(&place, &mut child, 6);
    assert!(signal(&child, "-KILL").success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&format!("resuming at step {made}")), "{text}");

    let resumed = place
        .run(
            &[&["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.save_every=10"], &length[..]]
                .concat(),
        )
        .succeeds();
    assert!(resumed.stderr.contains("resuming at step "), "{}", resumed.stderr);
    let (whole, parts) = (losses(&place, "whole"), losses(&place, "run"));
    // The run that was killed may have gone beyond the six epochs.
    assert_eq!(whole.len(), 12);
    assert_eq!(whole, parts[..12.min(parts.len())]);
}

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_and_the_first_is_not_disturbed() {
    let place = Workplace::new();
    let mut child = place.start(&ENDLESS);
    wait_for_lines(&place, &mut child, 2);
    let process = format!("process {}", child.id());
    place.run(&["train", "tiny.toml", "--out", "run", "--resume"]).fails(1, &["run", "in use", &process]);
    assert!(child.try_wait().unwrap().is_none());
    assert!(signal(&child, "-KILL").success());
    child.wait().unwrap();
    // The lock ends with the process.
    place.run(&["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.epochs=1"]).succeeds();
    // Other processes may start a run at the same time, also in a folder that does not exist yet.
    place.run(&["train", "tiny.toml", "--out", "run"]).fails(1, &["run", "--resume"]);
}

#[test]
fn a_resumed_run_needs_a_flag_for_changes_and_says_what_it_takes() {
    let place = Workplace::new();
    for _ in 0..2 {
        place.run(&["train", "tiny.toml", "--set", "train.max_steps=1"]).succeeds();
    }
    let resume = ["train", "tiny.toml", "--resume"];
    let with = |more: &[&'static str]| place.run(&[&resume[..], more].concat());
    with(&["--set", "train.lr=0.5"]).fails(1, &["train.lr was 0.01 and is 0.5", "--allow-changes"]);
    with(&["--set", "train.seed=4", "--allow-changes"]).fails(1, &["train.seed was 0 and is 4", "config.toml"]);
    let renamed = place.changed(|coco| coco["categories"][0]["name"] = "blue".into());
    place.write("renamed.json", renamed.clone());
    let original = std::fs::read(place.path("train.json")).unwrap();
    place.write("train.json", renamed);
    place.write("val.json", place.json("val.json").to_string().replace("červená", "blue"));
    with(&["--allow-changes"]).fails(1, &["categories was", "blue"]);
    place.write("train.json", original);
    place.write("val.json", place.json("val.json").to_string().replace("blue", "červená"));
    place.run(&["train", "tiny.toml", "--out", "new", "--allow-changes"]).fails(2, &["--resume"]);
    let run = with(&["--set", "train.lr=0.5", "--allow-changes"]).succeeds();
    for part in ["tiny-2, the latest of 2 runs of that name", "train.lr was 0.01 and is 0.5", "resuming at step 1"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert!(place.path("runs/tiny-2/config-1.toml").exists());
}

#[test]
fn a_folder_of_a_run_that_was_killed_before_its_first_state_is_used_again() {
    let place = Workplace::new();
    for arguments in [&["train", "tiny.toml", "--out", "run"][..], &["train", "tiny.toml", "--out", "run", "--resume"]]
    {
        // As a kill leaves it between the reading of the data and the first state.
        let _ = std::fs::remove_dir_all(place.path("run"));
        for folder in ["run/checkpoints", "run/state"] {
            std::fs::create_dir_all(place.path(folder)).unwrap();
        }
        place.write("run/state/lock", "");
        place.write("run/config.toml", "half a con");
        place.write("run/state/.last.safetensors.abcdefabcdef.foveal-tmp", "half");
        let run = place.run(&[arguments, &["--set", "train.max_steps=1"]].concat()).succeeds();
        assert_eq!(run.stderr.contains("begins anew"), arguments.contains(&"--resume"), "{}", run.stderr);
        let left = std::fs::read_dir(place.path("run/state")).unwrap().map(|e| e.unwrap().file_name());
        assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with("foveal-tmp")));
    }
}

#[cfg(unix)]
#[test]
fn a_torn_log_prevents_no_resume() {
    let place = Workplace::new();
    place.run(&["train", "tiny.toml", "--out", "run"]).succeeds();
    let log = place.path("run/log.jsonl");
    let mut bytes = std::fs::read(&log).unwrap();
    // Torn inside a letter of two bytes.
    bytes.extend(b"{\"name\":\"\xc4");
    std::fs::write(&log, bytes).unwrap();
    place.run(&["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.epochs=2"]).succeeds();
    assert_eq!(losses(&place, "run").len(), 4);
    // A log on a full disk.
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let run = place.run(&["train", "tiny.toml", "--out", "run", "--resume", "--set", "train.epochs=3"]).succeeds();
    assert_eq!(run.stderr.matches("warning: cannot write").count(), 1, "{}", run.stderr);
}
