//! The event file, the command after an epoch, `--quiet`, `foveal doctor` and `foveal completions`.

use serde_json::Value;

use crate::support::Workplace;

/// The lines of a file as JSON.
fn lines(place: &Workplace, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[cfg(unix)]
#[test]
fn a_command_gets_each_epoch_and_is_never_taken_from_a_run() {
    let place = Workplace::new();
    let command = "train.on_epoch='cat >> epochs.jsonl; echo printed'";
    let train = ["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2", "--set", "train.eval_every=2"];
    let run = place.run(&[&train[..], &["--set", command]].concat()).succeeds();
    // Its output is not that of foveal.
    assert!(!run.stdout.contains("printed") && run.stderr.contains("printed"), "{}", run.stderr);
    let epochs = lines(&place, "epochs.jsonl");
    let log = lines(&place, "run/log.jsonl");
    let of = |event: &str, epoch: u64| log.iter().find(|line| line["event"] == event && line["epoch"] == epoch);
    assert_eq!(epochs.len(), 2);
    for (epoch, evaluated) in [(1, false), (2, true)] {
        let report = &epochs[epoch as usize - 1];
        assert_eq!(Some(&report["epoch"]), of("epoch", epoch), "{report}");
        assert_eq!(&report["evaluation"], of("evaluation", epoch).unwrap_or(&Value::Null));
        assert_eq!((&report["best"], report["evaluation"].is_object()), (&evaluated.into(), evaluated));
    }

    // Nothing in the folder of the run has the command, and one that somebody has put there is not run.
    let text = std::fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(!text.contains("on_epoch"), "{text}");
    let files = ["state/last.safetensors", "checkpoints/last.safetensors", "checkpoints/best.safetensors"];
    for file in files.into_iter().chain(["environment.json", "report.html"]) {
        let bytes = std::fs::read(place.path("run").join(file)).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("epochs.jsonl"), "{file}");
    }
    let planted = text.replace("[train]\n", "[train]\non_epoch = \"touch planted\"\n");
    place.write("run/config.toml", planted);
    let resume = ["train", "run/config.toml", "--out", "run", "--resume", "--set", "train.epochs=3"];
    let run = place.run(&resume).succeeds();
    assert!(run.stderr.contains("config.toml: train.on_epoch is left out"), "{}", run.stderr);
    assert!(!place.path("planted").exists() && lines(&place, "epochs.jsonl").len() == 2);

    // A command in a file that the stored configuration extends is not run, even in a folder without the training state.
    place.write("run/base.toml", "[train]\non_epoch = \"touch planted\"\n");
    place.write("run/config.toml", format!("extends = \"base.toml\"\n{text}"));
    std::fs::remove_dir_all(place.path("run/state")).unwrap();
    let run = place.run(&["train", "run/config.toml", "--out", "again"]).succeeds();
    assert!(run.stderr.contains("base.toml: train.on_epoch is left out"), "{}", run.stderr);
    assert!(!place.path("planted").exists());

    // A command that fails does not end a run.
    let run = place.run(&["train", "tiny.toml", "--out", "other", "--set", "train.on_epoch=exit 3"]).succeeds();
    assert!(run.stderr.contains("warning: train.on_epoch: the command \"exit 3\" failed with "), "{}", run.stderr);
}

#[test]
fn a_quiet_run_prints_only_its_result() {
    let place = Workplace::new();
    let run = place.run(&["train", "tiny.toml", "--out", "run", "--quiet"]).succeeds();
    let others: Vec<&str> = run.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    assert!(others.is_empty() && run.stdout.contains("Average Precision"), "{others:?} {}", run.stdout);
    assert!(place.path("run/events.out.tfevents.foveal").is_file());
    place.run(&["train", "tiny.toml", "--out", "none", "-q", "--set", "train.tensorboard=false"]).succeeds();
    assert!(!place.path("none/events.out.tfevents.foveal").exists());
    // Errors remain.
    place.run(&["train", "missing.toml", "--quiet"]).fails(1, &["error: ", "missing.toml"]);
}

#[test]
fn an_evaluation_is_followed_by_a_table_with_the_changes() {
    let place = Workplace::new();
    let run = place.run(&["train", "tiny.toml", "--out", "run", "--set", "train.epochs=2"]).succeeds();
    let losses: Vec<Vec<&str>> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("  loss "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [first, second] = &losses[..] else { panic!("{}", run.stderr) };
    let number = |cell: &str| cell.parse::<f64>().unwrap();
    // The first evaluation is the best one and has no change.
    assert_eq!(first[1..], [first[1], first[1], "(epoch", "1)"], "{first:?}");
    assert!((number(second[2]) - (number(second[1]) - number(first[1]))).abs() < 2e-4, "{second:?}");
}

#[test]
fn a_class_that_is_not_in_the_data_cannot_choose_the_best_checkpoint() {
    let place = Workplace::new();
    let set = ["train", "tiny.toml", "--set", "train.best_by=AP:zebra"];
    place.run(&set).fails(1, &["train.best_by", "AP:zebra"]);
    let set = ["train", "tiny.toml", "--set", "train.best_by=map"];
    place.run(&set).fails(1, &["train.best_by", "AP50", "\"map\""]);
}

#[test]
fn the_doctor_describes_the_machine_and_shells_get_scripts() {
    let place = Workplace::new();
    place.run(&["doctor", "--json", "doctor.json"]).succeeds();
    let found = place.json("doctor.json");
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["threads"] == 2 && found["advice"].is_array(), "{found}");
    let flex = found["devices"].as_array().unwrap().iter().find(|device| device["device"] == "flex").unwrap();
    assert_eq!(flex["test"]["result"], "passed");
    let script = place.run(&["completions", "bash"]).succeeds();
    assert!(script.stdout.contains("complete ") && script.stdout.contains("doctor"));
    place.run(&["completions", "csh"]).fails(2, &["csh", "zsh"]);
}
