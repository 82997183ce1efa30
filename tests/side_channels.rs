//! Terminals, pipes and signals around a run: what goes wrong with them does not end the work.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Workplace;

const CHECKPOINT: &str = "run/checkpoints/last.safetensors";
const FLEX: [&str; 4] = ["--device", "flex", "--threads", "2"];
/// Longest time that a test waits for a run.
const LIMIT: Duration = Duration::from_secs(120);

/// A writer to which every write fails, because the disk behind it is full.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader has ended.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// The number of epochs in `metrics.csv` of a run.
fn epochs(place: &Workplace, run: &str) -> usize {
    std::fs::read_to_string(place.path(run).join("metrics.csv")).unwrap().lines().count() - 1
}

#[test]
fn a_stderr_that_cannot_be_written_changes_no_result() {
    let place = Workplace::new();
    place.train();
    place.write("results.json", "[]");
    for (name, stderr) in [("full", full as fn() -> Stdio), ("closed", closed)] {
        let code = |arguments: &[&str]| {
            place.command(arguments).args(FLEX).stdout(Stdio::null()).stderr(stderr()).status().unwrap().code()
        };
        let run = format!("run-{name}");
        assert_eq!(code(&["train", "tiny.toml", "--out", &run, "--set", "train.epochs=3"]), Some(0), "{name}");
        assert_eq!(epochs(&place, &run), 3, "{name}");
        let results = format!("{name}.json");
        assert_eq!(code(&["eval", CHECKPOINT, "--json", &results]), Some(0), "{name}");
        assert!(place.json(&results)["AP"].is_number());
        assert_eq!(code(&["predict", CHECKPOINT, "images", "--coco", &results]), Some(0), "{name}");
        let export = format!("{name}.safetensors");
        assert_eq!(code(&["export", CHECKPOINT, "--format", "safetensors", "-o", &export]), Some(0), "{name}");
        assert_eq!(
            code(&["score", "--annotations", "val.json", "--detections", "results.json", "--times"]),
            Some(0),
            "{name}"
        );
        // A failure keeps its exit code.
        assert_eq!(code(&["train", "none.toml"]), Some(1), "{name}");
        assert_eq!(code(&["fly"]), Some(2), "{name}");
        assert_eq!(code(&["train", "tiny.toml", "--resume"]), Some(2), "{name}");
    }
}

#[test]
fn a_full_stdout_is_an_error_and_a_closed_one_is_not() {
    let place = Workplace::new();
    place.write("results.json", "[]");
    let score = ["score", "--annotations", "val.json", "--detections", "results.json"];
    for arguments in [
        &score[..],
        &["data", "stats", "tiny.toml", "--json", "-"],
        &["config", "--defaults"],
        &["loss", "share"],
        &["--help"],
        &["--version"],
    ] {
        let output = place.command(arguments).stdout(full()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: cannot write to stdout: No space left"), "{arguments:?}: {stderr}");
        let output = place.command(arguments).stdout(closed()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!errors.contains("error"), "{arguments:?}: {errors}");
    }
    // The exit code is that of the work, whoever reads the result.
    std::fs::remove_file(place.path("images/2.png")).unwrap();
    let check = place.command(&["data", "check", "tiny.toml"]).stdout(closed()).status().unwrap();
    assert_eq!(check.code(), Some(1));
}

/// Starts a long training with the signals `ignored` of the shell's `trap`, and returns it when its log has begun.
fn start(place: &Workplace, ignored: &str, epochs: &str) -> std::process::Child {
    let script = format!("trap '' {ignored}; exec \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_foveal"), "train", "tiny.toml", "--out", "run"])
        .args(["--set", epochs, "--set", "train.eval_every=0"])
        .args(FLEX)
        .current_dir(place.path("."))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !std::fs::metadata(place.path("run/log.jsonl")).is_ok_and(|log| log.len() > 0) {
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < LIMIT, "the run did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn send(child: &std::process::Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let place = Workplace::new();
    let child = start(&place, "INT HUP", "train.epochs=30");
    for signal in ["-INT", "-HUP", "-INT"] {
        send(&child, signal);
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(epochs(&place, "run"), 30);
    assert!(!text.contains("stopping"), "{text}");
}

#[test]
fn other_signals_still_stop_the_run_and_repeated_ones_do_not_break_it_off() {
    let place = Workplace::new();
    let child = start(&place, "HUP", "train.epochs=1000000");
    send(&child, "-HUP");
    // As `timeout` does it: to the process, then to its group.
    send(&child, "-TERM");
    send(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert_eq!(text.matches("stopping after the current step").count(), 1, "{text}");
    assert!(text.contains("interrupted") && text.contains("--resume"), "{text}");
}
