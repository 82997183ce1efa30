//! Whole runs of a tiny network: training, stopping, resuming and evaluating.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use foveal_anchors::MatcherKind;
use foveal_detector::Checkpoint;
use foveal_train::{
    BenchPhases, EpochRecord, EpochStart, EvaluationReport, Evaluator, OptimizerKind, Outcome, Progress, RunConfig,
    RunDir, Silent, Start, StepRecord, Summary, TrainError, TrainState, bench, train,
};
use foveal_weights::named_tensors;

fn tiny() -> RunConfig {
    RunConfig::from_toml(include_str!("tiny.toml")).unwrap()
}

const RESUME: Start = Start::Resume { allow_changes: false };

fn start(resume: bool) -> Start {
    if resume { RESUME } else { Start::New }
}

fn run_to_end(config: &RunConfig, root: &Path, resume: bool) -> Summary {
    let run = if resume { RunDir::resume(root).unwrap() } else { RunDir::create(root).unwrap() };
    match train(config, &Device::flex(), &run, start(resume), &mut Silent, &AtomicBool::new(false)).unwrap() {
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
    train(config, &Device::flex(), &run, start(resume), listener, &stop).unwrap()
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

/// Writes the generated set as images of 64x96 and 96x64 pixels in turn, and returns a configuration with it.
fn mixed_shapes(folder: &Path) -> RunConfig {
    let mut config = tiny();
    config.data.shapes.size = [64, 96];
    foveal_data::write_shapes(&config.data.shapes, folder).unwrap();
    for split in ["train", "val"] {
        let (annotations, images) =
            (folder.join(format!("annotations/{split}.json")), folder.join("images").join(split));
        let mut set: serde_json::Value = serde_json::from_slice(&std::fs::read(&annotations).unwrap()).unwrap();
        let is_turned = |id: &serde_json::Value| id.as_i64().unwrap() % 2 == 0;
        for image in set["images"].as_array_mut().unwrap().iter_mut().filter(|image| is_turned(&image["id"])) {
            (image["width"], image["height"]) = (64.into(), 96.into());
            let path = images.join(image["file_name"].as_str().unwrap());
            let flat = foveal_image::load_rgb(&path).unwrap();
            foveal_image::RgbImage::from_fn(64, 96, |x, y| *flat.get_pixel(y, x)).save(&path).unwrap();
        }
        for object in set["annotations"].as_array_mut().unwrap().iter_mut().filter(|o| is_turned(&o["image_id"])) {
            let bbox = object["bbox"].as_array().unwrap();
            object["bbox"] = [1, 0, 3, 2].map(|place| bbox[place].clone()).to_vec().into();
        }
        std::fs::write(&annotations, set.to_string()).unwrap();
        let paths = foveal_data::SetConfig { annotations: Some(annotations), images: Some(images) };
        *(if split == "train" { &mut config.data.train } else { &mut config.data.val }) = paths;
    }
    config.data.source = foveal_data::Source::Coco;
    (config.data.min_size, config.data.max_size, config.data.group_by_aspect) = (32, 96, true);
    config
}

#[test]
fn a_cache_and_a_resume_change_no_run_with_batches_of_like_shape() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = mixed_shapes(&dir.path().join("set"));
    let root = |name: &str| dir.path().join(name);
    let whole = root("whole");
    run_to_end(&config, &whole, false);
    config.data.cache.kind = foveal_data::CacheKind::Disk;
    config.data.cache.dir = Some(root("cache"));
    config.data.workers = 2;
    // The first run fills the cache, the second one reads it.
    for stop_at_step in [3, 6] {
        let parts = root(&format!("parts-{stop_at_step}"));
        let mut listener = Listener { stop_at_step: Some(stop_at_step), ..Listener::default() };
        let outcome = listen(&config, &parts, &mut listener, false);
        assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
        run_to_end(&config, &parts, true);
        assert_eq!(steps(&whole), steps(&parts));
        assert_eq!(bytes(&whole, "checkpoints/last.safetensors"), bytes(&parts, "checkpoints/last.safetensors"));
        assert_eq!(bytes(&whole, "metrics.csv"), bytes(&parts, "metrics.csv"));
    }
    assert!(std::fs::read_dir(root("cache")).unwrap().count() >= 8);
    // Lines about epochs have the share of the time that was waited.
    let text = std::fs::read_to_string(whole.join("log.jsonl")).unwrap();
    let epochs: Vec<EpochRecord> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(epochs.len(), 3);
    assert!(epochs.iter().all(|epoch| epoch.data_wait > 0.0 && epoch.data_wait <= 1.0));
    // Another order of the images must be allowed.
    config.data.group_by_aspect = false;
    config.train.epochs += 1;
    let run = RunDir::resume(&whole).unwrap();
    let changed = train(&config, &Device::flex(), &run, RESUME, &mut Silent, &AtomicBool::new(false)).unwrap_err();
    assert!(changed.to_string().contains("data.group_by_aspect was true and is false"), "{changed}");
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
        // One of the runs has factors of the pyramid levels, and assigns its anchors by ATSS.
        let newer = optimizer == OptimizerKind::AdamW;
        config.model.head.level_scales = newer;
        config.matcher.kind = if newer { MatcherKind::Atss } else { MatcherKind::Iou };
        run_to_end(&config, &whole, false);
        let per_epoch = steps(&whole).len() as u64 / 3;
        let step = per_epoch + 1;
        let mut listener = Listener { stop_at_step: Some(step), ..Listener::default() };
        assert_eq!(listen(&config, &parts, &mut listener, false), Outcome::Interrupted { epoch: 1, step });
        run_to_end(&config, &parts, true);
        assert_eq!(steps(&whole), steps(&parts), "{name}");
        for file in ["checkpoints/last.safetensors", "state/last.safetensors", "metrics.csv"] {
            assert!(bytes(&whole, file) == bytes(&parts, file), "{name}: {file} differs");
        }
        // Training losses and learning rate of every epoch.
        let metrics = String::from_utf8(bytes(&whole, "metrics.csv")).unwrap();
        let (header, rows) = metrics.split_once('\n').unwrap();
        for column in ["train/class_loss", "train/box_loss", "train/loss", "train/lr", "train/objects"] {
            let place = header.split(',').position(|own| own == column).unwrap();
            let mut cells = rows.lines().map(|row| row.split(',').nth(place).unwrap());
            assert!(cells.all(|cell| cell.parse::<f64>().unwrap() > 0.0), "{name}: {column} of {metrics}");
        }
        // The factors are trained, and the objects of every epoch are counted.
        let trained = Checkpoint::load(&whole.join("checkpoints/last.safetensors"), &Device::flex()).unwrap();
        let factors = named_tensors(&trained.model).remove("head.regression_head.level_scales");
        assert_eq!(factors.is_some_and(|factors| factors.values.iter().any(|v| *v != 1.0)), newer, "{name}");
        let log = String::from_utf8(bytes(&whole, "log.jsonl")).unwrap();
        let epochs: Vec<EpochRecord> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(epochs.len(), 3, "{name}");
        assert!(epochs.iter().all(|e| e.objects > 0 && e.objects_without_anchor < e.objects), "{name}: {log}");
    }
}

#[test]
fn a_run_resumed_inside_an_epoch_has_the_same_mosaics() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, whole, parts) = (dir.path().join("plain"), dir.path().join("whole"), dir.path().join("parts"));
    let mut config = tiny();
    run_to_end(&config, &plain, false);
    let transforms = r#"
        [data.augment]
        transforms = [
            { kind = "copy_paste", probability = 0.7 },
            { kind = "mosaic", probability = 0.7 },
            { kind = "affine", probability = 0.5 },
            { kind = "mixup", probability = 0.5 },
        ]
        close_epochs = 1
    "#;
    config.data.augment = RunConfig::from_toml(transforms).unwrap().data.augment;
    run_to_end(&config, &whole, false);
    assert_ne!(steps(&plain), steps(&whole));
    // Stopped in the first epoch, and in the last one, which has no mosaics.
    let per_epoch = steps(&whole).len() as u64 / 3;
    for (step, resume) in [(2, false), (2 * per_epoch + 1, true)] {
        let mut listener = Listener { stop_at_step: Some(step), ..Listener::default() };
        let epoch = (step / per_epoch) as usize;
        assert_eq!(listen(&config, &parts, &mut listener, resume), Outcome::Interrupted { epoch, step });
    }
    run_to_end(&config, &parts, true);
    assert_eq!(steps(&whole), steps(&parts));
    for file in ["checkpoints/last.safetensors", "state/last.safetensors", "metrics.csv"] {
        assert!(bytes(&whole, file) == bytes(&parts, file), "{file} differs");
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
    train(&config, &Device::flex(), &run, Start::New, &mut messages, &AtomicBool::new(false)).unwrap();
    let said = "factors of the learning rate: 0.1 for the backbone (train.backbone_lr), 3 for 2 tensors that were not \
                loaded from model.weights (train.new_layers_lr)";
    assert!(messages.0.iter().any(|line| line.starts_with(said)), "{:?}", messages.0);
    let saved = String::from_utf8(bytes(&whole, "config.toml")).unwrap();
    assert!(saved.contains("backbone_lr = 0.1") && saved.contains("new_layers_lr = 3"), "{saved}");

    let per_epoch = steps(&whole).len() as u64 / 3;
    let step = per_epoch + 1;
    let mut listener = Listener { stop_at_step: Some(step), ..Listener::default() };
    assert_eq!(listen(&config, &parts, &mut listener, false), Outcome::Interrupted { epoch: 1, step });
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

/// A configuration with everything that a state inside an epoch must hold: several steps an epoch, steps that are in no
/// line of the log yet, accumulation, a moving average, clipping, repeated images and two loading threads.
fn eventful() -> RunConfig {
    let mut config = tiny();
    (config.data.shapes.count, config.data.workers) = (22, 2);
    config.data.sampler = foveal_data::Sampler::RepeatFactor;
    config.data.repeat_threshold = 0.9;
    config.loss.normalizer = serde_json::from_value("ema".into()).unwrap();
    let t = &mut config.train;
    (t.accumulate, t.ema, t.clip_norm, t.log_every, t.epochs, t.eval_every) = (2, 0.9, 1.0, 4, 2, 1);
    config
}

/// The lines of a run's log without their timings.
fn log_without_timings(root: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(root.join("log.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in lines.iter_mut().filter_map(|line| line.as_object_mut()) {
        ["images_per_second", "data_wait", "seconds"].iter().for_each(|timing| drop(line.remove(*timing)));
    }
    lines
}

const RESULTS: [&str; 5] = [
    "checkpoints/last.safetensors",
    "checkpoints/best.safetensors",
    "state/last.safetensors",
    "state/evaluated.json",
    "metrics.csv",
];

/// Checks that two run folders have the same results and the same files.
fn assert_same(whole: &Path, parts: &Path, what: &str) {
    assert_eq!(log_without_timings(whole), log_without_timings(parts), "{what}");
    for file in RESULTS {
        assert!(bytes(whole, file) == bytes(parts, file), "{what}: {file} differs");
    }
    for folder in ["", "checkpoints", "state"] {
        let names = |root: &Path| {
            let entries = std::fs::read_dir(root.join(folder)).unwrap();
            entries.map(|e| e.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names(whole), names(parts), "{what}");
    }
}

#[test]
fn a_run_stopped_at_any_step_equals_one_that_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, config) = (dir.path().join("whole"), eventful());
    let steps = run_to_end(&config, &whole, false).step;
    assert!(steps >= 10 && steps.is_multiple_of(2), "{steps}");
    for step in 1..steps {
        let parts = dir.path().join(format!("parts-{step}"));
        let mut listener = Listener { stop_at_step: Some(step), ..Listener::default() };
        let outcome = listen(&config, &parts, &mut listener, false);
        assert!(matches!(outcome, Outcome::Interrupted { step: at, .. } if at == step), "{outcome:?}");
        run_to_end(&config, &parts, true);
        assert_same(&whole, &parts, &format!("step {step}"));
    }
    // A run that stops after every step.
    let parts = dir.path().join("single-steps");
    for step in 1..steps {
        let mut listener = Listener { stop_at_step: Some(step), ..Listener::default() };
        listen(&config, &parts, &mut listener, step > 1);
    }
    run_to_end(&config, &parts, true);
    assert_same(&whole, &parts, "single steps");
}

#[test]
fn a_run_continued_after_max_steps_equals_one_that_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, config) = (dir.path().join("whole"), eventful());
    let steps = run_to_end(&config, &whole, false).step;
    for most in [1, steps as usize / 2 - 1, steps as usize / 2, steps as usize - 1] {
        let parts = dir.path().join(format!("parts-{most}"));
        let mut short = config.clone();
        short.train.max_steps = most;
        let summary = run_to_end(&short, &parts, false);
        assert!(summary.step == most as u64 && summary.evaluation.is_some() && summary.best.is_some());
        // Resuming a run that is done changes nothing.
        let before = bytes(&parts, "metrics.csv");
        run_to_end(&short, &parts, true);
        assert!(before == bytes(&parts, "metrics.csv") && parts.join("checkpoints/best.safetensors").is_file());
        run_to_end(&config, &parts, true);
        // The configuration without the limit was written over the one with it, which is kept.
        std::fs::remove_file(parts.join("config-1.toml")).unwrap();
        assert_same(&whole, &parts, &format!("max_steps = {most}"));
    }
}

#[test]
fn a_state_is_saved_inside_an_epoch_and_a_damaged_one_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts, mut config) = (dir.path().join("whole"), dir.path().join("parts"), eventful());
    run_to_end(&config, &whole, false);
    // A state after every step.
    config.train.save_every = 1e-9;
    let mut listener = Listener { stop_at_step: Some(4), ..Listener::default() };
    listen(&config, &parts, &mut listener, false);
    let mut damaged = bytes(&parts, "state/last.safetensors");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 4;
    std::fs::write(parts.join("state/last.safetensors"), damaged).unwrap();
    config.train.save_every = 10.0;
    let mut messages = Messages::default();
    let run = RunDir::resume(&parts).unwrap();
    train(&config, &Device::flex(), &run, RESUME, &mut messages, &AtomicBool::new(false)).unwrap();
    let said = |part: &str| messages.0.iter().any(|line| line.contains(part));
    assert!(said("the run goes on from the state before it") && said("resuming at step 3"), "{:?}", messages.0);
    std::fs::remove_file(parts.join("config-1.toml")).unwrap();
    assert_same(&whole, &parts, "damaged");

    // Without a newest state the one before it is used; if both are damaged, the run is not resumed.
    std::fs::remove_file(parts.join("state/last.safetensors")).unwrap();
    drop(run);
    run_to_end(&config, &parts, true);
    assert_same(&whole, &parts, "gone");
    for state in ["state/last.safetensors", "state/previous.safetensors"] {
        std::fs::write(parts.join(state), b"damaged").unwrap();
    }
    let run = RunDir::resume(&parts).unwrap();
    let result = train(&config, &Device::flex(), &run, RESUME, &mut Silent, &AtomicBool::new(false));
    assert!(matches!(result, Err(TrainError::State { .. })), "{result:?}");
}

#[test]
fn tensors_that_are_not_those_of_the_run_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = tiny();
    (config.train.optimizer, config.train.ema) = (OptimizerKind::AdamW, 0.9);
    run_to_end(&config, &root, false);
    let state = TrainState::load(&root.join("state/last.safetensors")).unwrap();
    std::fs::remove_file(root.join("state/previous.safetensors")).unwrap();
    type Edit = fn(&mut TrainState);
    let edits: [(&str, Edit); 5] = [
        ("first moments", |s| drop(s.first.pop_first())),
        ("second moments", |s| drop(s.second.insert("x".into(), s.second.first_key_value().unwrap().1.clone()))),
        ("moving averages", |s| drop(s.ema.pop_last())),
        ("first moments", |s| s.first.first_entry().unwrap().get_mut().values.truncate(1)),
        ("shape", |s| drop(s.weights.pop_first())),
    ];
    for (part, edit) in edits {
        let mut edited = state.clone();
        edit(&mut edited);
        for tensor in edited.first.values_mut() {
            tensor.shape = vec![tensor.values.len()];
        }
        edited.save(&root.join("state/last.safetensors")).unwrap();
        let run = RunDir::resume(&root).unwrap();
        let error = train(&config, &Device::flex(), &run, RESUME, &mut Silent, &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(&error, TrainError::State { found, .. } if found.contains(part)), "{part}: {error}");
    }
}

#[test]
fn an_interrupted_evaluation_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let config = tiny();
    let mut listener = Listener { stop_in_evaluation: true, ..Listener::default() };
    assert_eq!(listen(&config, &root, &mut listener, false), Outcome::Interrupted { epoch: 3, step: 12 });
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
    let error = train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false)).unwrap_err();
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
fn a_run_goes_on_with_its_own_settings_or_with_changes_that_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    let mut config = tiny();
    config.train.epochs = 1;
    run_to_end(&config, &root, false);
    let before = bytes(&root, "config.toml");
    let resumed = |allow_changes, change: fn(&mut RunConfig)| {
        let mut other = config.clone();
        other.train.epochs = 2;
        change(&mut other);
        let run = RunDir::resume(&root).unwrap();
        train(&other, &Device::flex(), &run, Start::Resume { allow_changes }, &mut Silent, &AtomicBool::new(false))
    };
    let refused: [fn(&mut RunConfig); 5] = [
        |c| c.train.seed = 5,
        |c| c.model.fpn_channels = 32,
        |c| c.train.ema = 0.9,
        |c| c.train.optimizer = OptimizerKind::AdamW,
        |c| c.data.shapes.classes = 2,
    ];
    for change in refused {
        let result = resumed(true, change);
        assert!(matches!(result, Err(TrainError::Refused { .. })), "{result:?}");
    }
    let changed: [fn(&mut RunConfig); 3] =
        [|c| c.train.lr = 0.1, |c| c.train.batch_size = 4, |c| c.data.shapes.max_objects = 2];
    for change in changed {
        let result = resumed(false, change);
        assert!(matches!(result, Err(TrainError::Changed { .. })), "{result:?}");
    }
    assert!(bytes(&root, "config.toml") == before && !root.join("config-1.toml").exists());
    assert!(resumed(true, |c| c.train.lr = 0.1).is_ok());
    assert!(bytes(&root, "config-1.toml") == before);
}

/// Writes the generated set to `folder`, damages its first training images behind their headers, and returns a
/// configuration that trains on it and leaves out what cannot be read.
fn damaged(folder: &Path, images: usize, max_skipped: Option<usize>) -> RunConfig {
    let mut config = tiny();
    foveal_data::write_shapes(&config.data.shapes, folder).unwrap();
    for split in ["train", "val"] {
        let set = if split == "train" { &mut config.data.train } else { &mut config.data.val };
        set.annotations = Some(folder.join(format!("annotations/{split}.json")));
        set.images = Some(folder.join("images").join(split));
    }
    let names: std::collections::BTreeSet<_> =
        std::fs::read_dir(folder.join("images/train")).unwrap().map(|e| e.unwrap().path()).collect();
    for path in names.iter().take(images) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    config.data.source = foveal_data::Source::Coco;
    config.data.on_error = foveal_data::OnError::Skip;
    config.data.max_skipped = max_skipped;
    config
}

#[test]
fn a_training_set_that_cannot_be_read_is_an_error_and_not_an_empty_run() {
    let dir = tempfile::tempdir().unwrap();
    let result = |name: &str, images, max_skipped| {
        let config = damaged(&dir.path().join(name), images, max_skipped);
        let run = RunDir::create(&dir.path().join(name).join("run")).unwrap();
        let result = train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false));
        (result, run)
    };
    // All eight images, however many may be left out.
    for max_skipped in [None, Some(1000)] {
        let (result, run) = result(&format!("all-{max_skipped:?}"), 8, max_skipped);
        let Err(TrainError::TooManySkipped { set, limit, first, .. }) = result else { panic!("{result:?}") };
        assert!(set == "training" && limit == 7 && first.contains(".png"), "{first}");
        assert!(std::fs::read_to_string(run.skipped()).unwrap().contains(".png"));
    }
    let (refused, _) = result("three", 3, Some(2));
    assert!(matches!(refused, Err(TrainError::TooManySkipped { skipped: 3, limit: 2, .. })), "{refused:?}");
    let (trained, run) = result("some", 3, Some(3));
    assert!(matches!(trained, Ok(Outcome::Finished(Summary { step: 12, .. }))), "{trained:?}");
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(run.skipped()).unwrap()).unwrap();
    assert_eq!(list["loading"].as_array().unwrap().len(), 3);
}

#[test]
fn images_that_cannot_be_read_are_left_out_of_the_ground_truth() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = damaged(&dir.path().join("set"), 2, None);
    // One image at a time, so that sums do not depend on which images share a batch, and all detections.
    (config.eval.batch_size, config.eval.score_threshold) = (1, 0.0);
    let run = RunDir::create(&dir.path().join("run")).unwrap();
    train(&config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false)).unwrap();
    let checkpoint = Checkpoint::load(&run.last(), &Device::flex()).unwrap();
    let evaluated = |dataset| {
        let evaluator = Evaluator::new(&config, &checkpoint.meta.model, Arc::new(dataset), &Device::flex());
        evaluator.run(&checkpoint.model, &mut Silent, &AtomicBool::new(false)).unwrap().unwrap()
    };
    let whole = config.data.open_train().unwrap().dataset;
    let found = evaluated(whole.clone());
    assert!(found.images == 6 && found.left_out == 2 && !found.detections.is_empty());
    // The same metrics as of a set without these images.
    let annotations = config.data.train.annotations.as_ref().unwrap();
    let mut coco: serde_json::Value = serde_json::from_slice(&std::fs::read(annotations).unwrap()).unwrap();
    let damaged: Vec<i64> = whole.records().iter().take(2).map(|record| record.image_id).collect();
    coco["images"].as_array_mut().unwrap().retain(|i| !damaged.contains(&i["id"].as_i64().unwrap()));
    coco["annotations"].as_array_mut().unwrap().retain(|a| !damaged.contains(&a["image_id"].as_i64().unwrap()));
    std::fs::write(annotations, coco.to_string()).unwrap();
    let expected = evaluated(config.data.open_train().unwrap().dataset);
    assert_eq!((expected.images, expected.left_out), (6, 0));
    let mut left_out_images = damaged;
    left_out_images.sort_unstable();
    assert_eq!(foveal_train::Evaluation { left_out: 2, left_out_images, ..expected }, found);
}

#[test]
fn a_benchmark_times_every_step_of_every_phase() {
    let mut config = tiny();
    let b = &mut config.bench;
    (b.height, b.width, b.batch_size, b.classes, b.steps, b.warmup) = (64, 96, 1, 3, 2, 1);
    let report = bench(&config, &Device::flex(), BenchPhases::All, None, true).unwrap();
    for times in [&report.train_step_ms, &report.infer_ms, &report.loss_ms] {
        assert!(times.len() == 2 && times.iter().all(|t| *t > 0.0), "{report:?}");
    }
    assert!(report.peak_rss_mb > 0.0 && report.first_step_seconds > 0.0);
    assert!(report.first_step_values.len() == 6 && report.first_step_values.iter().all(|v| *v > 0.0), "{report:?}");
    // What only a GPU has.
    assert_eq!((report.turn_steps, report.peak_device_mb), (1, -1.0));
    assert_eq!((report.operations_per_step, report.blocks_per_step), (-1, -1));
    let report = bench(&config, &Device::flex(), BenchPhases::Loss, None, false).unwrap();
    assert!(report.train_step_ms.is_empty() && report.loss_ms.len() == 2);
}
