//! The report of a run and the comparison of several.

use crate::support::Workplace;

#[test]
fn training_writes_the_report_that_the_command_writes() {
    let place = Workplace::new();
    place.run(&["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2"]).succeeds();
    let starts = place.json("run/environment.json")["starts"].clone();
    assert_eq!(starts.as_array().unwrap().len(), 1);
    assert!(starts[0]["command"].to_string().contains("train.epochs=2"), "{starts}");
    let own = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    place.run(&["report", "run", "-o", "page.html"]).succeeds();
    assert_eq!(std::fs::read_to_string(place.path("page.html")).unwrap(), own);
    for words in ["id=\"curves\"", "id=\"classes\"", "id=\"gallery\"", "id=\"data\"", "青", "train.epochs=2"] {
        assert!(own.contains(words), "{words}");
    }
    // The detections are those that the metrics of the run are of.
    let scored = ["score", "--annotations", "val.json", "--detections", "run/val-detections.json", "--json", "-"];
    let scored = place.run(&scored).succeeds().json();
    let last = crate::support::lines(&place.path("run/log.jsonl")).pop().unwrap();
    assert_eq!(scored["AP"], last["metrics"]["AP"]);

    place.run(&["train", "tiny.toml", "--out", "other"]).succeeds();
    place.run(&["report", "run", "other", "-o", "both.html"]).succeeds();
    let both = std::fs::read_to_string(place.path("both.html")).unwrap();
    assert!(both.contains("Comparison of runs") && both.contains("train.epochs") && both.contains("other"));
}

#[test]
fn folders_that_are_no_runs_and_outputs_that_are_inputs_are_refused() {
    let place = Workplace::new();
    place.run(&["report", "images", "-o", "page.html"]).fails(1, &["images", "config.toml", "folder of a run"]);
    place.train();
    let log = std::fs::read(place.path("run/log.jsonl")).unwrap();
    place.run(&["report", "run", "-o", "run/log.jsonl"]).fails(2, &["--output", "log.jsonl", "input"]);
    assert_eq!(std::fs::read(place.path("run/log.jsonl")).unwrap(), log);
}
