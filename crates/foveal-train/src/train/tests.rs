//! Late reading of losses and updates by tensor operations, tested on a CPU backend.

use foveal_backbone::BackboneKind;

use super::*;
use crate::blackbox::BlackBox;
use crate::config::NonFinitePolicy;
use crate::device::tests::as_accelerator;
use crate::run::{Silent, StepRecord, TrainState};
use crate::testing::{first_batch, tiny};

mod ends;

struct Run {
    outcome: Result<Outcome, TrainError>,
    steps: Vec<StepRecord>,
    /// Bytes of the last checkpoint; empty if there is no such file.
    checkpoint: Vec<u8>,
}

fn run(config: &RunConfig) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let outcome = train(config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false));
    let log = std::fs::read_to_string(run.log()).unwrap();
    let steps = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Run { outcome, steps, checkpoint: std::fs::read(run.last()).unwrap_or_default() }
}

fn logging(every: usize) -> RunConfig {
    let mut config = tiny();
    (config.train.log_every, config.train.clip_norm, config.train.ema) = (every, 1.0, 0.9);
    config
}

#[test]
fn losses_read_late_are_those_read_at_once() {
    let (each, fours) = (run(&logging(1)), run(&logging(4)));
    assert!(each.outcome.is_ok() && !each.checkpoint.is_empty());
    assert!(each.checkpoint == fours.checkpoint, "weights differ");
    // Twelve steps in three epochs of four: a line an epoch.
    assert_eq!((each.steps.len(), fours.steps.len()), (12, 3));
    for (four, line) in each.steps.chunks(4).zip(&fours.steps) {
        let mean = |of: fn(&StepRecord) -> f64| four.iter().map(of).sum::<f64>() / 4.0;
        assert_eq!((line.step, line.lr), (four[3].step, four[3].lr));
        let values: [fn(&StepRecord) -> f64; 4] = [|s| s.loss, |s| s.class_loss, |s| s.box_loss, |s| s.grad_norm];
        assert!(values.iter().all(|of| (of(line) - mean(*of)).abs() < 1e-12), "{line:?} {four:?}");
    }
}

#[test]
fn updates_by_slices_and_by_tensors_agree() {
    let config = logging(2);
    let (slices, tensors) = (run(&config), as_accelerator(|| run(&config)));
    assert!(slices.outcome.is_ok() && tensors.outcome.is_ok());
    assert!(!slices.steps.is_empty() && slices.steps.len() == tensors.steps.len());
    // They round differently, and training amplifies that step by step: the first six steps still agree closely.
    for (a, b) in slices.steps.iter().zip(&tensors.steps).take(3) {
        assert!((a.loss - b.loss).abs() <= 1e-4 * a.loss, "{a:?} {b:?}");
        assert!((a.grad_norm - b.grad_norm).abs() <= 1e-3 * a.grad_norm, "{a:?} {b:?}");
    }
}

#[test]
fn the_step_that_was_not_finite_is_named_however_late_it_is_read() {
    let named = |log_every| {
        let mut config = tiny();
        (config.train.lr, config.train.warmup_steps, config.train.log_every) = (1e30, 0, log_every);
        match run(&config).outcome {
            Err(TrainError::NonFinite { step, images, .. }) => (step, images),
            other => panic!("{other:?}"),
        }
    };
    let at_once = named(1);
    assert_eq!(named(3), at_once);
    assert_eq!(as_accelerator(|| named(3)), at_once);
}

#[test]
fn a_class_beyond_the_label_map_is_refused_with_its_image() {
    let mut config = tiny();
    config.train.batch_size = 8;
    let mut batch = first_batch(&config);
    assert!(check_classes(&batch, 3).is_ok());
    let image = batch.targets.iter().position(|t| !t.positives.is_empty()).unwrap();
    batch.targets[image].positives[0].class = 3;
    let error = check_classes(&batch, 3).unwrap_err();
    let TrainError::Class { image_id, class: 3, classes: 3 } = error else { panic!("{error}") };
    assert_eq!(image_id, batch.info[image].image_id);
}

#[test]
fn lines_have_a_breakdown_however_late_they_are_read() {
    let mut config = tiny();
    config.train.log_every = 2;
    for (on_host, run) in [(true, run(&config)), (false, as_accelerator(|| run(&config)))] {
        assert!(run.outcome.is_ok() && run.steps.len() >= 2, "{:?}", run.outcome);
        for step in &run.steps {
            let breakdown = step.breakdown.as_ref().unwrap();
            // The breakdown covers both steps of a line on a CPU, and only the last one on accelerators.
            if on_host {
                let sum = breakdown.positive.loss + breakdown.negative.loss;
                assert!((sum - step.class_loss).abs() <= 1e-5 * sum, "{sum} {}", step.class_loss);
                assert!((breakdown.positive.pairs - step.positives).abs() < 1e-9);
            }
            assert!(breakdown.negative.mean_p_t > 0.5 && breakdown.half_of_negative_loss <= 0.5, "{breakdown:?}");
        }
    }
}

/// A configuration whose first update ruins the weights.
fn exploding(lr: f64) -> RunConfig {
    let mut config = tiny();
    (config.train.lr, config.train.warmup_steps) = (lr, 0);
    config
}

/// The folder of a run that ended as `outcome` says, and the lines of its log.
struct Kept {
    folder: tempfile::TempDir,
    outcome: Result<Outcome, TrainError>,
    lines: Vec<serde_json::Value>,
}

fn keep(config: &RunConfig) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(&folder.path().join("r")).unwrap();
    let outcome = train(config, &Device::flex(), &run, Start::New, &mut Silent, &AtomicBool::new(false));
    let log = std::fs::read_to_string(run.log()).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Kept { folder, outcome, lines }
}

impl Kept {
    fn black_box(&self) -> BlackBox {
        BlackBox::load(&self.folder.path().join("r")).unwrap()
    }

    fn events(&self, event: &str) -> Vec<&serde_json::Value> {
        self.lines.iter().filter(|line| line["event"] == event).collect()
    }
}

#[test]
fn the_step_of_an_exploding_rate_is_kept_and_replayed() {
    for backbone in [BackboneKind::ResNet18, BackboneKind::ResNet50] {
        let test = |log_every, accumulate, ema| {
            let mut config = exploding(1e30);
            (config.model.backbone, config.train.ema) = (backbone, ema);
            (config.train.log_every, config.train.accumulate) = (log_every, accumulate);
            let kept = keep(&config);
            let Err(TrainError::NonFinite { step, ref images, .. }) = kept.outcome else {
                panic!("{:?}", kept.outcome)
            };
            let read = kept.black_box();
            let report = &read.report;
            assert_eq!((report.step, report.first_batch, read.batches.len()), (step, accumulate, accumulate));
            assert_eq!(&report.images.iter().map(|i| i.image_id).collect::<Vec<_>>(), images);
            let replay = read.replay(kept.folder.path(), &Device::flex()).unwrap();
            assert!(replay.identical, "{:?} {:?}", replay.losses, report.losses);
            assert_eq!(report.finding.as_ref(), Some(&replay.finding));
            assert!(replay.finding.layer().is_some(), "{:?}", replay.finding);
        };
        test(1, 1, 0.0);
        test(3, 2, 0.9);
        as_accelerator(|| test(3, 1, 0.9));
    }
}

#[test]
fn steps_are_left_out_up_to_the_limit() {
    let mut config = exploding(1e30);
    (config.train.non_finite, config.train.max_non_finite) = (NonFinitePolicy::Skip, 2);
    for kept in [keep(&config), as_accelerator(|| keep(&config))] {
        // The update of the first step ruins the weights: the second and the third step are left out, the fourth ends.
        assert!(matches!(kept.outcome, Err(TrainError::NonFinite { step: 4, .. })), "{:?}", kept.outcome);
        let skipped = kept.events("skip");
        let numbers = |key: &str| skipped.iter().map(|line| line[key].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            (numbers("step"), numbers("non_finite_step"), numbers("count")),
            (vec![2, 3], vec![2, 3], vec![1, 2])
        );
        assert_eq!(kept.black_box().report.step, 4);
    }
}

#[test]
fn a_rewound_run_is_one_at_the_lower_rate() {
    // Powers of two, so that the lower rate is exact: 2^100 * 2^-107 = 2^-7.
    let mut config = exploding(2f64.powi(100));
    (config.train.non_finite, config.train.rewind_factor) = (NonFinitePolicy::Rewind, 2f64.powi(-107));
    let (rewound, plain) = (keep(&config), keep(&exploding(2f64.powi(-7))));
    assert!(matches!(rewound.outcome, Ok(Outcome::Finished(_))), "{:?}", rewound.outcome);
    let bytes = |kept: &Kept| std::fs::read(kept.folder.path().join("r/checkpoints/last.safetensors")).unwrap();
    assert!(bytes(&rewound) == bytes(&plain), "weights differ");
    let events = rewound.events("rewind");
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["step"], &events[0]["non_finite_step"]), (&0.into(), &2.into()));
    // The lines of the steps that were repeated are gone.
    let steps = |kept: &Kept| kept.lines.iter().filter_map(|line| line["loss"].as_f64()).collect::<Vec<_>>();
    assert_eq!(steps(&rewound), steps(&plain));

    // A rate that stays too high ends the run.
    (config.train.rewind_factor, config.train.max_non_finite) = (0.5, 3);
    let kept = keep(&config);
    assert!(matches!(kept.outcome, Err(TrainError::NonFinite { step: 2, .. })), "{:?}", kept.outcome);
    let state = TrainState::load(&kept.folder.path().join("r/state/last.safetensors")).unwrap();
    assert_eq!((state.meta.non_finite_steps, state.meta.lr_factor), (3, 0.125));
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

#[test]
fn a_run_rewinds_into_the_middle_of_an_epoch() {
    // Stopped after the sixth step, in the second epoch of four steps, then resumed at a rate that explodes in the
    // seventh step, or at the rate that is left of it after a rewind.
    let resumed = |lr: f64, non_finite| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("r");
        let (mut config, stop) = (exploding(2f64.powi(-7)), AtomicBool::new(false));
        config.train.ema = 0.5;
        let run = RunDir::create(&root).unwrap();
        let outcome =
            train(&config, &Device::flex(), &run, Start::New, &mut StopAfter { step: 6, stop: &stop }, &stop).unwrap();
        assert_eq!(outcome, Outcome::Interrupted { epoch: 1, step: 6 });
        drop(run);
        (config.train.lr, config.train.non_finite) = (lr, non_finite);
        config.train.rewind_factor = 2f64.powi(-108);
        let run = RunDir::resume(&root).unwrap();
        let start = Start::Resume { allow_changes: true };
        let outcome = train(&config, &Device::flex(), &run, start, &mut Silent, &AtomicBool::new(false)).unwrap();
        assert!(matches!(outcome, Outcome::Finished(Summary { step: 12, .. })), "{outcome:?}");
        let bytes = |path| std::fs::read(path).unwrap();
        let text = String::from_utf8(bytes(run.log())).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let losses: Vec<f64> = lines.filter_map(|line| line["loss"].as_f64()).collect();
        (bytes(run.last()), bytes(run.metrics()), losses)
    };
    let rewound = resumed(2f64.powi(100), NonFinitePolicy::Rewind);
    let plain = resumed(2f64.powi(-8), NonFinitePolicy::Stop);
    assert_eq!((rewound.1, rewound.2), (plain.1, plain.2));
    assert!(rewound.0 == plain.0, "weights differ");
}
