//! The path of devices that are not waited for, driven on a CPU backend.

use super::*;
use crate::log::StepRecord;
use crate::progress::Silent;
use crate::testing::{first_batch, tiny};

fn run(reading: Reading, config: &RunConfig) -> (Result<Outcome, TrainError>, Vec<StepRecord>) {
    let dir = tempfile::tempdir().unwrap();
    let run = RunDir::create(&dir.path().join("r")).unwrap();
    let stop = AtomicBool::new(false);
    let outcome = train_reading(reading, config, &Device::flex(), &run, false, &mut Silent, &stop);
    let log = std::fs::read_to_string(run.log()).unwrap();
    (outcome, log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[test]
fn losses_read_late_are_those_read_at_once() {
    let mut config = tiny();
    (config.train.log_every, config.train.clip_norm, config.train.ema) = (2, 1.0, 0.9);
    let ((early, a), (late, b)) = (run(Reading::EachStep, &config), run(Reading::WithTheLog, &config));
    assert!(early.is_ok() && late.is_ok());
    assert!(!a.is_empty() && a.len() == b.len());
    // Updates by slices and by tensor operations round differently, and training amplifies that step by step: the
    // first six steps still agree closely.
    for (a, b) in a.iter().zip(&b).take(3) {
        assert!((a.loss - b.loss).abs() <= 1e-4 * a.loss, "{a:?} {b:?}");
        assert!((a.grad_norm - b.grad_norm).abs() <= 1e-3 * a.grad_norm, "{a:?} {b:?}");
    }
}

#[test]
fn the_step_that_was_not_finite_is_named_however_late_it_is_read() {
    let mut config = tiny();
    (config.train.lr, config.train.warmup_steps, config.train.log_every) = (1e30, 0, 3);
    let named = |reading| match run(reading, &config).0 {
        Err(TrainError::NonFinite { step, images, .. }) => (step, images),
        other => panic!("{other:?}"),
    };
    assert_eq!(named(Reading::EachStep), named(Reading::WithTheLog));
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
    for reading in [Reading::EachStep, Reading::WithTheLog] {
        let (outcome, steps) = run(reading, &config);
        assert!(outcome.is_ok() && steps.len() >= 2, "{outcome:?}");
        for step in &steps {
            let breakdown = step.breakdown.as_ref().unwrap();
            // Of both steps where each is read, of the last where they are read late.
            if reading == Reading::EachStep {
                let sum = breakdown.positive.loss + breakdown.negative.loss;
                assert!((sum - step.class_loss).abs() <= 1e-5 * sum, "{sum} {}", step.class_loss);
                assert!((breakdown.positive.pairs - step.positives).abs() < 1e-9);
            }
            assert!(breakdown.negative.mean_p_t > 0.5 && breakdown.half_of_negative_loss <= 0.5, "{breakdown:?}");
        }
    }
}
