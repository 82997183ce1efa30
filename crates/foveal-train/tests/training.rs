//! Whole runs of a tiny network: training, stopping, resuming and evaluating.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use foveal_detector::Checkpoint;
use foveal_train::{
    BenchPhases, EpochStart, EvaluationReport, Evaluator, OptimizerKind, Outcome, Progress, RunConfig, RunDir, Silent,
    StepRecord, Summary, TrainError, bench, train,
};

fn tiny() -> RunConfig {
    toml::from_str(include_str!("tiny.toml")).unwrap()
}

fn run_to_end(config: &RunConfig, root: &Path, resume: bool) -> Summary {
    let run = if resume { RunDir::resume(root).unwrap() } else { RunDir::create(root).unwrap() };
    match train(config, &Device::flex(), &run, resume, &mut Silent, &AtomicBool::new(false)).unwrap() {
        Outcome::Finished(summary) => summary,
        other => panic!("{other:?}"),
    }
}

/// The steps of a run's log without their timings.
fn steps(root: &Path) -> Vec<StepRecord> {
    let text = std::fs::read_to_string(root.join("log.jsonl")).unwrap();
    let steps = text.lines().filter_map(|line| serde_json::from_str::<StepRecord>(line).ok());
    steps.map(|s| StepRecord { images_per_second: 0.0, data_wait: 0.0, ..s }).collect()
}

fn bytes(root: &Path, file: &str) -> Vec<u8> {
    std::fs::read(root.join(file)).unwrap()
}

/// Sets the flag that stops a run at a chosen step or evaluation, and counts epochs and evaluations.
#[derive(Default)]
struct Listener {
    stop: Arc<AtomicBool>,
    stop_at_step: Option<u64>,
    stop_in_evaluation: bool,
    epochs: usize,
    evaluations: usize,
}

impl Progress for Listener {
    fn epoch_start(&mut self, _: &EpochStart) {
        self.epochs += 1;
    }
    fn step(&mut self, step: u64, _: Option<&StepRecord>) {
        if self.stop_at_step == Some(step) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn evaluation_start(&mut self, _: usize) {
        self.stop.fetch_or(self.stop_in_evaluation, Ordering::Relaxed);
    }
    fn evaluation(&mut self, _: &EvaluationReport<'_>) {
        self.evaluations += 1;
    }
}

fn listen(config: &RunConfig, root: &Path, listener: &mut Listener, resume: bool) -> Outcome {
    let run = if resume { RunDir::resume(root).unwrap() } else { RunDir::create(root).unwrap() };
    let stop = Arc::clone(&listener.stop);
    train(config, &Device::flex(), &run, resume, listener, &stop).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
    let mut config = tiny();
    run_to_end(&config, &a, false);
    run_to_end(&config, &b, false);
    config.train.seed = 1;
    run_to_end(&config, &c, false);
    assert_eq!(steps(&a), steps(&b));
    assert_eq!(bytes(&a, "checkpoints/last.safetensors"), bytes(&b, "checkpoints/last.safetensors"));
    assert_ne!(steps(&a), steps(&c));
}

struct Case {
    name: &'static str,
    optimizer: OptimizerKind,
    ema: f64,
    norm: &'static str,
    normalizer: &'static str,
}

#[test]
fn a_resumed_run_equals_one_that_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        Case { name: "sgd", optimizer: OptimizerKind::Sgd, ema: 0.0, norm: "group", normalizer: "ema" },
        Case { name: "adamw", optimizer: OptimizerKind::AdamW, ema: 0.9, norm: "group", normalizer: "batch" },
        Case { name: "statistics", optimizer: OptimizerKind::Sgd, ema: 0.9, norm: "batch", normalizer: "batch" },
    ];
    for Case { name, optimizer, ema, norm, normalizer } in cases {
        let (whole, parts) = (dir.path().join(format!("{name}-whole")), dir.path().join(format!("{name}-parts")));
        let mut config = tiny();
        (config.train.optimizer, config.train.ema, config.train.lr) = (optimizer, ema, 1e-3);
        config.model.norm = serde_json::from_value(norm.into()).unwrap();
        // The moving average of the positives is part of the state.
        config.loss.normalizer = serde_json::from_value(normalizer.into()).unwrap();
        run_to_end(&config, &whole, false);
        let per_epoch = steps(&whole).len() as u64 / 3;
        let mut listener = Listener { stop_at_step: Some(per_epoch + 1), ..Listener::default() };
        assert_eq!(listen(&config, &parts, &mut listener, false), Outcome::Interrupted { epoch: 1 });
        run_to_end(&config, &parts, true);
        assert_eq!(steps(&whole), steps(&parts), "{name}");
        for file in ["checkpoints/last.safetensors", "state/last.safetensors", "metrics.csv"] {
            assert!(bytes(&whole, file) == bytes(&parts, file), "{name}: {file} differs");
        }
        // Training losses and learning rate of every epoch.
        let metrics = String::from_utf8(bytes(&whole, "metrics.csv")).unwrap();
        let mut lines = metrics.lines().map(|line| line.rsplitn(5, ',').take(4).collect::<Vec<_>>());
        assert_eq!(lines.next().unwrap(), ["train/lr", "train/loss", "train/box_loss", "train/class_loss"], "{name}");
        assert!(lines.all(|cells| cells.iter().all(|cell| cell.parse::<f64>().unwrap() > 0.0)), "{metrics}");
    }
}

/// Collects the messages of a run.
#[derive(Default)]
struct Messages(Vec<String>);

impl Progress for Messages {
    fn message(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

#[test]
fn learning_rates_of_groups_are_told_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, whole, parts) = (dir.path().join("first"), dir.path().join("whole"), dir.path().join("parts"));
    let mut config = tiny();
    config.train.epochs = 1;
    run_to_end(&config, &first, false);
    // Fine-tuning with other classes: the class layer alone is new.
    config = tiny();
    config.model.weights = Some(first.join("checkpoints/last.safetensors"));
    config.data.shapes.classes = 2;
    (config.train.backbone_lr, config.train.new_layers_lr) = (0.1, 3.0);
    let mut messages = Messages::default();
    let run = RunDir::create(&whole).unwrap();
    train(&config, &Device::flex(), &run, false, &mut messages, &AtomicBool::new(false)).unwrap();
    let said = "factors of the learning rate: 0.1 for the backbone (train.backbone_lr), 3 for 2 tensors that were not \
                loaded from model.weights (train.new_layers_lr)";
    assert!(messages.0.iter().any(|line| line.starts_with(said)), "{:?}", messages.0);
    let saved = String::from_utf8(bytes(&whole, "config.toml")).unwrap();
    assert!(saved.contains("backbone_lr = 0.1") && saved.contains("new_layers_lr = 3"), "{saved}");

    let per_epoch = steps(&whole).len() as u64 / 3;
    let mut listener = Listener { stop_at_step: Some(per_epoch + 1), ..Listener::default() };
    assert_eq!(listen(&config, &parts, &mut listener, false), Outcome::Interrupted { epoch: 1 });
    run_to_end(&config, &parts, true);
    assert_eq!(steps(&whole), steps(&parts));
    for file in ["checkpoints/last.safetensors", "state/last.safetensors"] {
        assert!(bytes(&whole, file) == bytes(&parts, file), "{file} differs");
    }
    // The factors have an effect: other factors give other losses.
    let other = dir.path().join("other");
    config.train.new_layers_lr = 1.0;
    run_to_end(&config, &other, false);
    assert_eq!(steps(&other)[0].loss, steps(&whole)[0].loss);
    assert_ne!(steps(&other).last().unwrap().loss, steps(&whole).last().unwrap().loss);
}

#[test]
fn an_interrupted_first_epoch_resumes_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let config = tiny();
    run_to_end(&config, &whole, false);
    let mut listener = Listener { stop_at_step: Some(1), ..Listener::default() };
    assert_eq!(listen(&config, &parts, &mut listener, false), Outcome::Interrupted { epoch: 0 });
    run_to_end(&config, &parts, true);
    assert_eq!(steps(&whole), steps(&parts));
}

#[test]
fn an_interrupted_evaluation_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let config = tiny();
    let mut listener = Listener { stop_in_evaluation: true, ..Listener::default() };
    assert_eq!(listen(&config, &root, &mut listener, false), Outcome::Interrupted { epoch: 3 });
    let before = steps(&root);
    let mut listener = Listener::default();
    let outcome = listen(&config, &root, &mut listener, true);
    assert!(matches!(outcome, Outcome::Finished(Summary { best: Some(_), .. })), "{outcome:?}");
    assert_eq!((listener.epochs, listener.evaluations), (0, 1));
    assert_eq!(before, steps(&root));
    assert_eq!(std::fs::read_to_string(root.join("metrics.csv")).unwrap().lines().count(), 4);
}

#[test]
fn accumulated_batches_act_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let mut config = tiny();
    config.train.clip_norm = 1.0;
    (config.train.batch_size, config.train.accumulate) = (4, 1);
    run_to_end(&config, &one, false);
    (config.train.batch_size, config.train.accumulate) = (2, 2);
    run_to_end(&config, &two, false);
    let (one, two) = (steps(&one), steps(&two));
    assert_eq!(one.len(), two.len());
    for (a, b) in one.iter().zip(&two) {
        // The order of f32 sums differs, over a few updates.
        assert!((a.loss - b.loss).abs() <= 1e-4 * a.loss.abs(), "{a:?} {b:?}");
        assert!((a.grad_norm - b.grad_norm).abs() <= 1e-3 * a.grad_norm, "{a:?} {b:?}");
        assert_eq!((a.positives, a.step), (b.positives, b.step));
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_with_step_and_images() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let mut config = tiny();
    (config.train.lr, config.train.warmup_steps) = (1e30, 0);
    let error = train(&config, &Device::flex(), &run, false, &mut Silent, &AtomicBool::new(false)).unwrap_err();
    let TrainError::NonFinite { step, images, .. } = &error else { panic!("{error}") };
    assert!(*step >= 2 && images.len() == 2, "{error}");
    let message = error.to_string();
    assert!(message.contains("step") && message.contains(&images[0].to_string()), "{message}");
}

#[test]
fn a_few_images_are_learnt_and_the_checkpoint_evaluates_alike() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = tiny();
    let t = &mut config.train;
    (t.overfit, t.epochs, t.optimizer, t.lr, t.eval_every, t.keep) = (2, 60, OptimizerKind::AdamW, 2e-3, 30, 2);
    let summary = run_to_end(&config, &root, false);
    let log = steps(&root);
    let (first, last) = (log.first().unwrap().loss, log.last().unwrap().loss);
    assert!(last < 0.5 * first, "{first} -> {last}");
    let kept = std::fs::read_dir(root.join("checkpoints")).unwrap().count();
    assert_eq!(kept, 4, "last, best, and two epochs");

    let found = summary.evaluation.unwrap();
    let checkpoint = Checkpoint::load(&root.join("checkpoints/last.safetensors"), &Device::flex()).unwrap();
    let dataset = Arc::new(config.data.open_train().unwrap().dataset.subset(2));
    let evaluator = Evaluator::new(&config, &checkpoint.meta.model, dataset, &Device::flex());
    let again = evaluator.run(&checkpoint.model, &mut Silent, &AtomicBool::new(false)).unwrap().unwrap();
    assert_eq!(again, found);
}

#[test]
fn max_steps_ends_a_run_early_with_a_checkpoint_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = tiny();
    config.train.max_steps = 3;
    let summary = run_to_end(&config, &root, false);
    assert_eq!((summary.step, steps(&root).len()), (3, 3));
    assert!(summary.evaluation.is_some());
    assert!(root.join("checkpoints/last.safetensors").is_file());
}

#[test]
fn log_lines_average_their_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (each, pairs) = (dir.path().join("each"), dir.path().join("pairs"));
    let mut config = tiny();
    run_to_end(&config, &each, false);
    config.train.log_every = 2;
    run_to_end(&config, &pairs, false);
    let (each, pairs) = (steps(&each), steps(&pairs));
    assert_eq!(pairs[0].step, 2);
    assert!((pairs[0].loss - (each[0].loss + each[1].loss) / 2.0).abs() < 1e-12);
    assert_eq!(pairs[0].lr, each[1].lr);
}

#[test]
fn a_run_resumes_with_its_own_seed_and_model_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = tiny();
    config.train.epochs = 1;
    run_to_end(&config, &root, false);
    let refused = |change: fn(&mut RunConfig)| {
        let mut other = config.clone();
        other.train.epochs = 2;
        change(&mut other);
        let run = RunDir::resume(&root).unwrap();
        let result = train(&other, &Device::flex(), &run, true, &mut Silent, &AtomicBool::new(false));
        matches!(result, Err(TrainError::State { .. }))
    };
    assert!(refused(|c| c.train.seed = 5));
    assert!(refused(|c| c.model.fpn_channels = 32));
    assert!(refused(|c| c.train.ema = 0.9));
    assert!(!refused(|_| {}));
}

#[test]
fn a_benchmark_times_every_step_of_every_phase() {
    let mut config = tiny();
    let b = &mut config.bench;
    (b.height, b.width, b.batch_size, b.classes, b.steps, b.warmup) = (64, 96, 1, 3, 2, 1);
    let report = bench(&config, &Device::flex(), BenchPhases::All, None).unwrap();
    for times in [&report.train_step_ms, &report.infer_ms, &report.loss_ms] {
        assert!(times.len() == 2 && times.iter().all(|t| *t > 0.0), "{report:?}");
    }
    assert!(report.peak_rss_mb > 0.0);
    let report = bench(&config, &Device::flex(), BenchPhases::Loss, None).unwrap();
    assert!(report.train_step_ms.is_empty() && report.loss_ms.len() == 2);
}
