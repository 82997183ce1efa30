//! Late reading of losses and updates by tensor operations, tested on a CPU backend.

use super::*;
use crate::device::tests::as_accelerator;
use crate::run::{Silent, StepRecord};
use crate::testing::{first_batch, tiny};

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
