use std::cell::Cell;

use burn::tensor::Device;
use foveal_criterion::{AnchorCounts, BreakdownLayout};

use super::*;

thread_local! {
    /// Number of reads from the device in a test.
    pub(crate) static READS: Cell<usize> = const { Cell::new(0) };
}

/// A step with the total loss `loss`, the gradient norm 1 and the loss scale `scale`.
fn step(step: u64, loss: f32, scale: f32) -> Step {
    let device = Device::flex();
    Step {
        step,
        epoch: 1,
        lr: 0.1 * step as f64,
        positives: 3,
        objects: ObjectCounts { objects: 2, without_anchor: 1 },
        images: vec![1, 2],
        first_batch: 0,
        normalizer: Normalizer::Positives(3),
        values: Tensor::from_floats([0.5, 0.25, loss, 0.1, 0.4, 1.0], &device),
        scale: Some(Tensor::from_floats([scale], &device)),
        breakdown: None,
    }
}

fn log() -> StepLog {
    StepLog::new(4, Some(LossScaling::default()))
}

#[test]
fn means_are_those_of_the_steps_that_were_not_left_out() {
    let mut log = log();
    for (number, loss, scale) in [(1, 1.0, 8.0), (2, f32::NAN, 8.0), (3, 2.0, 4.0), (4, f32::INFINITY, 4.0)] {
        assert!(!log.is_due());
        log.push(step(number, loss, scale));
    }
    assert!(log.is_due());
    let Some(StepLine::Means(line)) = log.read().unwrap() else { panic!("no means") };
    assert_eq!((line.step, line.lr, line.loss, line.grad_norm), (4, 0.4, 1.5, 1.0));
    assert_eq!((line.loss_scale, line.skipped_steps), (Some(4.0), Some(2)));
    assert_eq!(log.scaling(), Some(LossScaling { scale: 4.0, skipped: 2, in_a_row: 1 }));
    assert_eq!((log.epoch_means().loss, log.epoch_skipped()), (1.5, Some(2)));
    assert_eq!(log.epoch_objects(), ObjectCounts { objects: 4, without_anchor: 2 });

    // The next epoch keeps the counts of the run.
    log.start_epoch(None);
    assert_eq!((log.scaling().unwrap().skipped, log.epoch_skipped()), (2, Some(0)));
    assert_eq!(log.epoch_objects(), ObjectCounts::default());
}

#[test]
fn a_line_without_a_sound_step_has_no_losses() {
    let mut log = log();
    (1..=4).for_each(|number| log.push(step(number, f32::NAN, 2.0)));
    let line = log.read().unwrap().unwrap();
    assert_eq!(line.means(), None);
    let json = serde_json::to_value(&line).unwrap();
    let expected =
        serde_json::json!({"event": "overflow", "step": 4, "epoch": 1, "loss_scale": 2.0, "skipped_steps": 4});
    assert_eq!(json, expected);
    let means = log.epoch_means();
    assert!(means.loss.is_nan() && means.class_loss.is_nan() && means.box_loss.is_nan(), "{means:?}");
    assert!(log.read().unwrap().is_none());
}

#[test]
fn a_position_holds_the_steps_that_were_left_out() {
    let mut log = log();
    for (number, loss) in [(1, 1.0), (2, f32::NAN)] {
        log.push(step(number, loss, 8.0));
    }
    let position = log.position().unwrap();
    assert_eq!(position.unwritten(), 2);
    let json = serde_json::to_string(&position).unwrap();
    let restored: LogPosition = serde_json::from_str(&json).unwrap();
    assert_eq!(restored, position);
    let mut resumed = StepLog::new(4, log.scaling());
    resumed.start_epoch(Some(restored));
    for (number, loss) in [(3, f32::NAN), (4, 3.0)] {
        resumed.push(step(number, loss, 4.0));
    }
    let Some(StepLine::Means(line)) = resumed.read().unwrap() else { panic!("no means") };
    assert_eq!((line.loss, line.skipped_steps), (2.0, Some(2)));
    assert_eq!(resumed.epoch_objects(), ObjectCounts { objects: 4, without_anchor: 2 });
    assert_eq!(resumed.scaling(), Some(LossScaling { scale: 4.0, skipped: 2, in_a_row: 0 }));
}

#[test]
fn only_overflows_up_to_the_end_of_a_read_end_the_run() {
    // Sixty in a row, but the last steps of the read are sound again.
    let mut log = log();
    (1..=60).for_each(|number| log.push(step(number, f32::NAN, 1.0)));
    log.push(step(61, 1.0, 1.0));
    assert!(log.position().is_ok());
    // Fifty-five in a row at the end of a read: the last one is kept.
    (62..=116).for_each(|number| log.push(step(number, f32::NAN, 0.5)));
    let error = log.position().unwrap_err();
    assert!(matches!(error, TrainError::Overflow { step: 116, count: 55, scale: 0.5, .. }), "{error}");
    let bad = log.take_bad().unwrap();
    assert_eq!((bad.step.step, bad.scale), (116, Some(0.5)));
}

#[test]
fn a_line_reads_from_the_device_once() {
    const CLASSES: usize = 2;
    let layout = BreakdownLayout { level_anchors: [2, 1, 0, 0, 0] };
    let counts = AnchorCounts::of(&[1, -1, -1], layout, CLASSES);
    // All sums of a breakdown are 0 but the first, the loss of the positives of P3.
    let breakdown = |loss: f32| {
        let mut values = vec![0.0; BreakdownLayout::values(CLASSES)];
        values[0] = loss;
        BatchBreakdown { counts: counts.clone(), values: Tensor::from_floats(values.as_slice(), &Device::flex()) }
    };
    for scaling in [None, Some(LossScaling::default())] {
        let mut log = StepLog::new(4, scaling);
        for number in 1..=4 {
            let scale = scaling.is_some().then(|| Tensor::from_floats([number as f32], &Device::flex()));
            let breakdown = (number % 2 == 0).then(|| breakdown(number as f32));
            log.push(Step { scale, breakdown, ..step(number, 1.0, 1.0) });
        }
        READS.set(0);
        let Some(StepLine::Means(line)) = log.read().unwrap() else { panic!("no means") };
        assert_eq!(READS.get(), 1, "reads of a line with {scaling:?}");
        assert_eq!(line.loss_scale, scaling.map(|_| 4.0));
        assert_eq!(line.loss, 1.0);
        let sums = log.read.breakdown.as_ref().unwrap();
        let mut expected =
            LossBreakdown::read(counts.clone(), &breakdown(2.0).values.into_data().try_to_vec::<f32>().unwrap());
        expected
            .add(&LossBreakdown::read(counts.clone(), &breakdown(4.0).values.into_data().try_to_vec::<f32>().unwrap()));
        assert_eq!(sums, &expected);
    }
}

#[test]
fn a_line_has_the_numbers_of_each_class_if_one_of_its_steps_is_due() {
    // Two classes; the lines of four steps cover 1 to 4, 5 to 8, 9 to 12 and, as the end of an epoch, 13.
    const CLASSES: usize = 2;
    let counts = AnchorCounts::of(&[1, -1, -1], BreakdownLayout { level_anchors: [2, 1, 0, 0, 0] }, CLASSES);
    let lines = |every: usize, channels: usize| {
        let mut log = StepLog::new(4, None).with_classes_every(every, channels);
        let mut found = Vec::new();
        for number in 1..=13 {
            let values = Tensor::zeros([BreakdownLayout::values(CLASSES)], &Device::flex());
            let breakdown = Some(BatchBreakdown { counts: counts.clone(), values });
            log.push(Step { scale: None, breakdown, ..step(number, 1.0, 1.0) });
            if log.is_due() || number == 13 {
                let Some(StepLine::Means(line)) = log.read().unwrap() else { panic!("no means") };
                found.push(!line.breakdown.unwrap().classes.is_empty());
            }
        }
        assert!(!log.epoch_breakdown().unwrap().classes.is_empty());
        found
    };
    assert_eq!(lines(0, 100), [true; 4]);
    assert_eq!(lines(1, 1000), [true; 4]);
    assert_eq!(lines(6, 2), [false, true, true, false]);
    // Two hundred channels: every second line of four steps. Three hundred: every third.
    assert_eq!(lines(0, 200), [false, true, false, false]);
    assert_eq!(lines(0, 300), [false, false, true, false]);
}
