//! `foveal lab`.

use serde_json::Value;

use crate::support::{IMAGES, Workplace, keys};

const ARMS: &str = r#"
about = "two losses"
reference = "focal"
[[arm]]
name = "ce"
title = "CE | no prior"
config.loss.kind = "cross_entropy"
config.model.head.prior = 0.5
[[arm]]
name = "focal"
title = "focal"
config.loss = { kind = "focal", alpha = 0.25, gamma = 2.0 }
"#;

const LAB: [&str; 7] = ["lab", "tiny.toml", "--arms", "arms.toml", "--out", "lab", "--json"];

fn place() -> Workplace {
    let place = Workplace::new();
    place.write("arms.toml", ARMS);
    place
}

/// The step records in the log of a run.
fn steps(place: &Workplace, run: &str) -> Vec<Value> {
    let lines = crate::support::lines(&place.path(run).join("log.jsonl"));
    lines.into_iter().filter(|line| line.get("loss").is_some()).collect()
}

#[test]
fn a_lab_compares_arms_and_can_be_resumed_and_extended() {
    let place = place();
    let first = place.run(&[&LAB[..], &["-", "--seeds", "2"]].concat()).succeeds();
    assert!(first.stderr.contains("0 of 4 runs are finished"), "{}", first.stderr);
    let json = first.json();
    assert_eq!((&json["images"], &json["reference"]), (&IMAGES.into(), &"focal".into()));
    assert_eq!(json["rarest"].as_array().unwrap().len(), 1);
    let arms = json["arms"].as_array().unwrap();
    assert_eq!(arms.len(), 2);
    for arm in arms {
        assert_eq!(keys(&arm["figures"]), ["AP", "AP50", "AP_rare", "AR100"]);
        let runs = arm["runs"].as_array().unwrap();
        let seeds: Vec<f64> = runs.iter().map(|run| run["metrics"]["AP"].as_f64().unwrap()).collect();
        let ap = &arm["figures"]["AP"];
        assert!((ap["mean"].as_f64().unwrap() - (seeds[0] + seeds[1]) / 2.0).abs() < 1e-12, "{arm}");
        assert!(ap["low"].as_f64() <= ap["high"].as_f64());
    }
    // The share in the first step, computed from the logs of both seeds.
    let parts: Vec<[f64; 2]> = [1, 2]
        .map(|seed| steps(&place, &format!("lab/ce/seed-{seed}")).swap_remove(0))
        .map(|line| ["positive_loss", "negative_loss"].map(|key| line[key].as_f64().unwrap()))
        .to_vec();
    let (positive, negative) = (parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]);
    let share = arms[0]["positive_share"]["first"].as_f64().unwrap();
    assert!((share - positive / (positive + negative)).abs() < 1e-12, "{share}");
    // Nearly all of the loss comes from negatives with a prior of 0.5, but not with the focal loss and a prior of 0.01.
    assert!(share < 0.1 && arms[1]["positive_share"]["first"].as_f64().unwrap() > 0.5, "{json}");

    for file in ["lab.json", "lab.md", "lab.svg", "lab.png"] {
        assert!(place.path("lab").join(file).is_file(), "{file}");
    }
    let markdown = std::fs::read_to_string(place.path("lab/lab.md")).unwrap();
    assert!(markdown.contains("| CE \\| no prior |") && markdown.contains("lab.svg"), "{markdown}");

    // A second call trains nothing. A run without its outcome is evaluated, not trained again.
    let log = std::fs::read_to_string(place.path("lab/focal/seed-2/log.jsonl")).unwrap();
    std::fs::remove_file(place.path("lab/focal/seed-2/outcome.json")).unwrap();
    let again = place.run(&[&LAB[..], &["-", "--seeds", "2"]].concat()).succeeds();
    assert!(again.stderr.contains("3 of 4 runs are finished"), "{}", again.stderr);
    assert_eq!(again.json(), json);
    assert_eq!(std::fs::read_to_string(place.path("lab/focal/seed-2/log.jsonl")).unwrap(), log);

    // One more seed with a selection of arms; then another configuration in the same folder, which is refused.
    let more =
        place.run(&["lab", "tiny.toml", "--arms", "arms.toml", "--out", "lab", "--seeds", "1,2,5", "--only", "ce"]);
    let more = more.succeeds();
    assert!(
        more.stderr.contains("2 of 3 runs are finished") && more.stdout.contains("CE | no prior"),
        "{}",
        more.stderr
    );
    let other = [&LAB[..], &["-", "--seeds", "2", "--set", "train.lr=0.5"]].concat();
    place.run(&other).fails(1, &["lab/ce/seed-1", "train.lr", "0.5", "--out"]);
}

#[test]
fn an_arm_that_diverges_is_a_result() {
    let place = place();
    let wild = ARMS.replace(
        "config.loss.kind =",
        "config.train = { lr = 1e30, warmup_steps = 0, epochs = 3 }\nconfig.loss.kind =",
    );
    place.write("arms.toml", wild);
    let run = place.run(&[&LAB[..], &["lab.json"]].concat()).succeeds();
    assert!(run.stdout.contains("diverged: step 2 (seed 1)"), "{}", run.stdout);
    let json = place.json("lab.json");
    assert_eq!(
        (&json["arms"][0]["runs"][0]["status"], &json["arms"][0]["figures"]["AP"]),
        (&"diverged".into(), &Value::Null)
    );
    assert_eq!(json["arms"][1]["runs"][0]["status"], "finished");
    // A second call keeps the outcome.
    let again = place.run(&[&LAB[..], &["-"]].concat()).succeeds();
    assert!(again.stderr.contains("2 of 2 runs are finished"), "{}", again.stderr);
    assert_eq!(again.json(), json);
}

#[test]
fn a_budget_gives_all_runs_the_same_time_and_is_kept() {
    let place = place();
    // The second arm has three times the images in a step, and a cosine.
    let arms = ARMS.replace(
        "config.loss = { kind",
        "config.train = { batch_size = 3, schedule = \"cosine\", lr = 1e-4 }\nconfig.loss = { kind",
    );
    let first = "config.train = { batch_size = 1, milestones = [0.5], lr = 1e-4 }\nconfig.loss.kind";
    place.write("arms.toml", arms.replace("config.loss.kind", first));
    let budget = [&LAB[..], &["-", "--seeds", "2", "--budget", "0.2"]].concat();
    let first = place.run(&budget).succeeds();
    let json = first.json();
    assert_eq!((&json["budget"]["minutes"], &json["budget"]["device"]), (&0.2.into(), &"flex".into()));
    assert_eq!(json["budget"]["run_seconds"], 3.0);
    let kept = place.json("lab/budget.json");
    for (index, per_epoch) in [(0, 6), (1, 2)] {
        let arm = &json["budget"]["arms"][index];
        let step = arm["step_seconds"].as_f64().unwrap();
        let steps = arm["steps"].as_u64().unwrap();
        assert!(arm["timed_steps"].as_u64() >= Some(3) && steps >= 10, "{arm}");
        assert_eq!((steps, arm["steps_per_epoch"].as_u64()), ((3.0 / step) as u64, Some(per_epoch)));
        for key in ["name", "steps", "step_seconds"] {
            assert_eq!(kept["arms"][index][key], arm[key]);
        }
        for (seed, run) in json["arms"][index]["runs"].as_array().unwrap().iter().enumerate() {
            assert_eq!(run["steps"], arm["steps"], "{run}");
            assert!(run["training_seconds"].as_f64().unwrap() > 0.0);
            // The whole schedule: the milestone is passed, and the cosine is near 0.
            let name = json["arms"][index]["name"].as_str().unwrap();
            let log = self::steps(&place, &format!("lab/{name}/seed-{}", seed + 1));
            assert_eq!(log.last().unwrap()["step"], arm["steps"]);
            let rates: Vec<f64> = log.iter().map(|line| line["lr"].as_f64().unwrap()).collect();
            let highest = rates.iter().copied().fold(0.0, f64::max);
            assert!(*rates.last().unwrap() < 0.11 * highest, "{rates:?}");
        }
    }
    let markdown = std::fs::read_to_string(place.path("lab/lab.md")).unwrap();
    assert!(markdown.contains("Each run gets 3.0 s of training on flex"), "{markdown}");
    assert!(markdown.contains("| steps | training time |"), "{markdown}");
    let folders = std::fs::read_dir(place.path("lab")).unwrap().map(|entry| entry.unwrap().file_name());
    let hidden: Vec<_> = folders.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");

    // A second call times and trains nothing. Another seed and a run that was cut off keep the steps of their arm.
    let again = place.run(&budget).succeeds();
    assert!(again.stderr.contains("4 of 4 runs are finished") && !again.stderr.contains("a step"), "{}", again.stderr);
    assert_eq!(again.json(), json);
    std::fs::remove_dir_all(place.path("lab/ce/seed-2")).unwrap();
    let more = place.run(&[&LAB[..], &["-", "--seeds", "3", "--budget", "0.2", "--only", "ce"]].concat()).succeeds();
    assert!(more.stderr.contains("1 of 3 runs are finished") && !more.stderr.contains("a step"), "{}", more.stderr);
    for run in more.json()["arms"][0]["runs"].as_array().unwrap() {
        assert_eq!(run["steps"], kept["arms"][0]["steps"]);
    }
    assert_eq!(place.json("lab/budget.json"), kept);

    // Another budget, none, and another configuration are refused.
    let lab = |more: &[&str]| place.run(&[&LAB[..], &["-"], more].concat());
    lab(&["--budget", "0.3"]).fails(2, &["--budget 0.3", "--budget 0.2", "--out"]);
    lab(&[]).fails(2, &["--budget 0.2", "--out"]);
    lab(&["--budget", "0.2", "--set", "data.workers=2"]).fails(1, &["budget.json", "arm ce", "data.workers", "--out"]);
    place
        .run(&["lab", "tiny.toml", "--arms", "arms.toml", "--out", "new", "--budget", "0.00001"])
        .fails(2, &["--budget 0.00001", "arm ce", "at least 10 steps", "or more"]);
    for wrong in ["0", "-1", "x", "inf"] {
        lab(&[format!("--budget={wrong}").as_str()]).fails(2, &["minutes above 0", wrong]);
    }
}

#[test]
fn invalid_labs_are_refused_before_they_start() {
    let place = place();
    let lab = |arms: &'static str| ["lab", "tiny.toml", "--out", "lab", "--arms", arms];
    place.run(&lab("table2")).fails(2, &["table2", "table1", "gamma"]);
    place.run(&[&lab("arms.toml")[..], &["--only", "ohem"]].concat()).fails(2, &["ohem", "ce, focal"]);
    place.run(&[&lab("arms.toml")[..], &["--seeds", "1,1"]].concat()).fails(2, &["--seeds 1,1"]);
    place.run(&[&lab("arms.toml")[..], &["--set", "train.overfit=2"]].concat()).fails(2, &["train.overfit"]);
    place.write("bad.toml", ARMS.replace("loss.kind", "loss.sort"));
    place.run(&lab("bad.toml")).fails(1, &["arm ce", "loss.sort", "loss."]);
    place.write("base.toml", ARMS.replace("config.loss.kind", "config.extends = \"tiny.toml\"\nconfig.loss.kind"));
    place.run(&lab("base.toml")).fails(1, &["arm ce", "`extends`", "files only"]);
    place.write("val.toml", ARMS.replace("config.loss.kind", "config.data.val.images = \"x\"\nconfig.loss.kind"));
    place.run(&lab("val.toml")).fails(1, &["arm ce", "data.val"]);
    assert!(!place.path("lab").exists());
}
