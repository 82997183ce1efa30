//! Runs with `train.precision = "f16"`, simulated on a CPU.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use foveal_detector::{ComputePrecision, with_simulated_f16};
use foveal_train::{
    BlackBox, LossScaling, Outcome, Progress, RunConfig, RunDir, Silent, Start, StepRecord, Summary, TrainError,
    TrainState, train,
};
use serde_json::Value;

fn tiny() -> RunConfig {
    RunConfig::from_toml(include_str!("tiny.toml")).unwrap()
}

fn half(mut config: RunConfig) -> RunConfig {
    config.train.precision = ComputePrecision::F16;
    config
}

/// Stops a run after a step.
struct StopAfter<'a> {
    step: u64,
    stop: &'a AtomicBool,
}

impl Progress for StopAfter<'_> {
    fn step(&mut self, step: u64, _: Option<&StepRecord>) {
        self.stop.fetch_or(step == self.step, Ordering::Relaxed);
    }
}

/// Trains in a folder, with half precision simulated.
fn run(config: &RunConfig, root: &Path, start: Start, stop_after: u64) -> Result<Outcome, TrainError> {
    let run = match start {
        Start::New => RunDir::create(root).unwrap(),
        Start::Resume { .. } => RunDir::resume(root).unwrap(),
    };
    let stop = AtomicBool::new(false);
    let mut progress = StopAfter { step: stop_after, stop: &stop };
    with_simulated_f16(|| train(config, &Device::flex(), &run, start, &mut progress, &stop))
}

fn finished(outcome: Result<Outcome, TrainError>) -> Summary {
    match outcome {
        Ok(Outcome::Finished(summary)) => summary,
        other => panic!("{other:?}"),
    }
}

fn lines(root: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(root.join("log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines about single steps.
fn steps(root: &Path) -> Vec<Value> {
    lines(root).into_iter().filter(|line| line.get("loss").is_some()).collect()
}

const RESUME: Start = Start::Resume { allow_changes: false };

#[test]
fn a_cpu_refuses_16_bit_training() {
    let dir = tempfile::tempdir().unwrap();
    for (i, precision) in [ComputePrecision::F16, ComputePrecision::Bf16].into_iter().enumerate() {
        let mut config = tiny();
        config.train.precision = precision;
        let run = RunDir::create(&dir.path().join(i.to_string())).unwrap();
        let outcome = train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false));
        let Err(TrainError::Config(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.key, "train.precision");
        let text = error.to_string();
        for part in ["f32 on the CPU device flex", precision.name(), "--device"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!run.has_state());
    }
}

#[test]
fn losses_follow_those_of_single_precision_and_the_log_has_the_scale() {
    let dir = tempfile::tempdir().unwrap();
    let [single, other] = ["single", "half"].map(|name| dir.path().join(name));
    assert_eq!(finished(run(&tiny(), &single, Start::New, 0)).loss_scaling, None);
    let scaling = finished(run(&half(tiny()), &other, Start::New, 0)).loss_scaling.unwrap();

    // Single precision writes none of the keys, columns and fields.
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    for file in ["log.jsonl", "metrics.csv"] {
        assert!(!read(&single.join(file)).contains("scale") && read(&other.join(file)).contains("scale"), "{file}");
    }
    let state = |root: &Path| TrainState::load(&root.join("state/last.safetensors")).unwrap().meta.loss_scaling;
    assert_eq!((state(&single), state(&other)), (None, Some(scaling)));

    // The scale grows by 2^(1/2000) in a step that is finite, and is halved in the few that overflow.
    let skipped = lines(&other).iter().filter(|line| line["event"] == "overflow").count();
    let expected = 65536.0 * 0.5_f64.powi(skipped as i32) * ((12 - skipped) as f64 / 2000.0).exp2();
    assert!((scaling.scale / expected - 1.0).abs() < 1e-5 && skipped <= 3, "{scaling:?}");
    assert_eq!((scaling.skipped, scaling.in_a_row), (skipped as u64, 0));
    let (single, other) = (steps(&single), steps(&other));
    assert_eq!((single.len(), other.len()), (12, 12 - skipped));
    for half in &other {
        let single = single.iter().find(|line| line["step"] == half["step"]).unwrap();
        let [a, b] = [single, half].map(|line| line["loss"].as_f64().unwrap());
        // The first loss is that of the same weights; the later ones drift apart.
        let tolerance = if half["step"] == 1 { 1e-2 } else { 0.1 };
        assert!(a != b && (a - b).abs() <= tolerance * a, "{single} {half}");
        assert_eq!(half["skipped_steps"], 0);
    }
    assert_eq!(other[0]["step"], 1);
    assert_eq!(other[0]["loss_scale"], 65536.0);
}

#[test]
fn fifty_overflows_in_a_row_end_the_run_and_name_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = half(tiny());
    // The first update ruins the weights.
    (config.train.lr, config.train.warmup_steps) = (1e7, 0);
    (config.train.epochs, config.train.eval_every) = (30, 0);
    let Err(error) = run(&config, &root, Start::New, 0) else { panic!("the run went on") };
    let TrainError::Overflow { step, count: 50, scale, .. } = error else { panic!("{error}") };
    // The scale was halved 50 times before the next step, and 49 times before this one.
    let before = lines(&root).iter().find_map(|line| line["loss_scale"].as_f64()).unwrap();
    assert!(scale <= before * 0.5_f64.powi(48), "{scale} {before}");
    let found = BlackBox::load(&root).unwrap();
    assert_eq!((found.report.step, found.report.loss_scale.map(|scale| scale.0)), (step, Some(scale)));
    let layer = found.report.finding.as_ref().and_then(|finding| finding.layer()).unwrap().to_owned();
    let text = error.to_string();
    for part in [layer.as_str(), "f16", "the 49 before it", "train.precision = \"f32\""] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Every step that was left out is counted in the log.
    let skipped: u64 =
        lines(&root).iter().filter(|l| l["event"] == "overflow").map(|l| l["skipped_steps"].as_u64().unwrap()).sum();
    assert!((49..=step).contains(&skipped), "{skipped} of {step}");

    // The black box needs the precision of the run.
    let refused = found.replay(&root, &Device::flex()).unwrap_err().to_string();
    assert!(refused.contains("f16") && refused.contains("flex"), "{refused}");
    let replay = with_simulated_f16(|| found.replay(&root, &Device::flex())).unwrap();
    assert!(replay.identical && replay.finding.layer() == Some(&layer), "{:?}", replay.finding);
}

#[test]
fn an_interrupted_run_goes_on_with_the_same_scale() {
    let dir = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| dir.path().join(name));
    let mut config = half(tiny());
    // The scale is no power of two where the run is interrupted.
    config.train.ema = 0.5;
    let scaling = finished(run(&config, &whole, Start::New, 0)).loss_scaling;
    for step in [3, 7] {
        let start = if step == 3 { Start::New } else { RESUME };
        assert!(matches!(run(&config, &parts, start, step), Ok(Outcome::Interrupted { step: at, .. }) if at == step));
        let saved = TrainState::load(&parts.join("state/last.safetensors")).unwrap().meta.loss_scaling.unwrap();
        let expected = 65536.0 * (step as f64 / 2000.0).exp2();
        assert!((saved.scale / expected - 1.0).abs() < 1e-5, "{saved:?}");
    }
    assert_eq!(finished(run(&config, &parts, RESUME, 0)).loss_scaling, scaling);
    for file in ["checkpoints/last.safetensors", "metrics.csv"] {
        let [a, b] = [&whole, &parts].map(|root| std::fs::read(root.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
}

#[test]
fn a_run_may_go_on_in_another_precision() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let state = || TrainState::load(&root.join("state/last.safetensors")).unwrap().meta.loss_scaling;
    let stopped = |outcome: Result<Outcome, TrainError>, at: u64| {
        assert!(matches!(outcome, Ok(Outcome::Interrupted { step, .. }) if step == at), "{outcome:?}");
    };
    stopped(run(&tiny(), &root, Start::New, 2), 2);
    assert_eq!(state(), None);
    // A state without a scale, as every earlier one, begins with the first scale.
    stopped(run(&half(tiny()), &root, RESUME, 3), 3);
    let scaling = state().unwrap();
    assert!((scaling.scale / LossScaling::default().scale - 1.0).abs() < 1e-3, "{scaling:?}");
    stopped(run(&tiny(), &root, RESUME, 5), 5);
    assert_eq!(state(), None);
}

/// Trains the quickstart in f32 and in simulated f16 with three seeds each. The mean AP of f16 must not differ from
/// that of f32 by more than the seeds of f32 do. It takes about an hour on two cores:
/// `cargo test --release --locked --workspace --test precision -- --ignored --nocapture`.
#[test]
#[ignore = "trains the quickstart six times, which takes about an hour"]
fn the_quickstart_reaches_the_ap_of_single_precision() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/quickstart.toml");
    let quickstart = RunConfig::from_toml(&std::fs::read_to_string(path).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ap = |precision: ComputePrecision, seed: u64| {
        let mut config = quickstart.clone();
        (config.train.precision, config.train.seed) = (precision, seed);
        let root = dir.path().join(format!("{}-{seed}", precision.name()));
        let Summary { evaluation, loss_scaling, .. } = finished(run(&config, &root, Start::New, 0));
        let metrics = evaluation.unwrap().metrics;
        println!("{} seed {seed}: AP {:.4}, AP50 {:.4}, {loss_scaling:?}", precision.name(), metrics.ap, metrics.ap50);
        metrics.ap
    };
    let [single, half] =
        [ComputePrecision::F32, ComputePrecision::F16].map(|precision| [0, 1, 2].map(|seed| ap(precision, seed)));
    let mean = |aps: [f64; 3]| aps.iter().sum::<f64>() / 3.0;
    let spread = single.iter().fold(0.0, |m: f64, v| m.max(*v)) - single.iter().fold(1.0, |m: f64, v| m.min(*v));
    let difference = mean(half) - mean(single);
    println!("mean AP f32 {:.4}, f16 {:.4}, spread of f32 {spread:.4}", mean(single), mean(half));
    assert!(difference.abs() <= spread, "{difference}, spread {spread}");
}
