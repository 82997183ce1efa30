//! Limits and failures of a device, which a CPU backend with injected limits and panics stands for.

use std::sync::atomic::AtomicBool;

use foveal_detector::{ComputePrecision, with_simulated_f16};

use super::*;
use crate::device::tests::as_accelerator;
use crate::memory::{DoesNotFit, TooLarge, with_limits};
use crate::run::{Progress, READS, RunDir, StepRecord};
use crate::testing::tiny;
use crate::train::{Start, train};

/// Fails as a device does after a step, and records what the loop reports.
#[derive(Default)]
struct Failing {
    /// The step after which the main thread panics, and its message.
    panic: Option<(u64, &'static str)>,
    /// The message of a panic of the main thread in an evaluation.
    panic_in_evaluation: Option<&'static str>,
    /// What a thread of the device has reported.
    report: Option<&'static str>,
    calls: Vec<String>,
    /// Number of reads of the losses at the end of the first step, and in each later one.
    reads: Vec<usize>,
}

impl Progress for Failing {
    fn step(&mut self, step: u64, _: Option<&StepRecord>) {
        self.calls.push(format!("step {step}"));
        if step > 1 {
            self.reads.push(READS.get());
        }
        if let Some((at, text)) = self.panic
            && at == step
        {
            panic!("{text}");
        }
    }

    fn evaluation_step(&mut self) {
        if let Some(text) = self.panic_in_evaluation {
            panic!("{text}");
        }
    }

    fn tuning_start(&mut self) {
        self.calls.push("tuning".to_owned());
    }

    fn tuning_end(&mut self, seconds: f64) {
        assert!(seconds > 0.0);
        self.calls.push("tuned".to_owned());
        self.reads.push(READS.get());
    }

    fn device_report(&mut self) -> Option<String> {
        self.report.map(str::to_owned)
    }
}

/// A run that ended, with its folder.
struct Ended {
    folder: tempfile::TempDir,
    outcome: Result<Outcome, TrainError>,
}

fn run(config: &RunConfig, progress: &mut Failing) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(&folder.path().join("r")).unwrap();
    let outcome = train(config, &Device::flex(), &run, Start::New, progress, &AtomicBool::new(false));
    Ended { folder, outcome }
}

fn failing(step: u64, text: &'static str) -> Failing {
    Failing { panic: Some((step, text)), ..Failing::default() }
}

#[test]
fn a_batch_beyond_a_limit_is_refused_before_anything_is_written() {
    let mut config = tiny();
    config.train.batch_size = 8;
    let refused = |config: &RunConfig, limits| {
        let Ended { folder, outcome } = with_limits(limits, || run(config, &mut Failing::default()));
        let root = folder.path().join("r");
        assert!(!root.join("config.toml").exists() && !root.join("state/last.safetensors").exists());
        match outcome {
            Err(TrainError::DoesNotFit(refused)) => refused,
            other => panic!("{other:?}"),
        }
    };
    // The largest tensor is the unfolded input of the stem: 3 * 7 * 7 values in f32 for each of 32x32 pixels.
    let per_image = 4 * 32 * 32 * 147;
    let limit = 3 * per_image + 1;
    let tensor = DeviceLimits { tensor_bytes: Some(limit), memory_bytes: None };
    let DoesNotFit { key, batch, size, most, too_large } = refused(&config, tensor);
    assert_eq!((key, batch, size), ("train.batch_size", 8, [64, 64]));
    let expected = TooLarge::Tensor {
        what: "the unfolded input of the convolution backbone.body.conv1".to_owned(),
        bytes: 8 * per_image,
        limit,
    };
    assert_eq!((most, too_large), (3, expected));
    // Inference does not unfold the stem's input; its largest tensor is that of layer1.
    config.train.batch_size = most;
    config.eval.batch_size = 64;
    config.data.shapes.val_count = 64;
    let DoesNotFit { key, batch, too_large, .. } = refused(&config, tensor);
    assert_eq!((key, batch), ("eval.batch_size", 64));
    let TooLarge::Tensor { what, bytes, .. } = too_large else { panic!("{too_large:?}") };
    assert_eq!(what, "the unfolded input of the convolution backbone.body.layer1.0.conv1");
    assert_eq!(bytes, 64 * 4 * 16 * 16 * 8 * 9);

    let memory = DeviceLimits { tensor_bytes: None, memory_bytes: Some(2 << 20) };
    let DoesNotFit { key, too_large, .. } = refused(&config, memory);
    assert_eq!(key, "train.batch_size");
    assert!(matches!(too_large, TooLarge::Memory { limit: 0x20_0000, bytes } if bytes > 0x20_0000), "{too_large:?}");

    // No batch has more images than the set: 4 for validation, and 3 of the training images are overfitted.
    config.data.shapes.val_count = 4;
    (config.train.batch_size, config.train.overfit) = (64, 3);
    let enough = DeviceLimits { tensor_bytes: Some(limit), memory_bytes: Some(1 << 30) };
    let ended = with_limits(enough, || run(&config, &mut Failing::default()));
    assert!(matches!(ended.outcome, Ok(Outcome::Finished(_))), "{:?}", ended.outcome);
}

/// The unfolded input of the stem takes half as much in 16 bits.
#[test]
fn a_batch_is_compared_in_its_precision() {
    let mut config = tiny();
    config.train.max_steps = 1;
    let limits = DeviceLimits { tensor_bytes: Some(4 * 32 * 32 * 147), memory_bytes: None };
    let outcome = |config: &RunConfig| with_limits(limits, || run(config, &mut Failing::default())).outcome;
    let Err(TrainError::DoesNotFit(refused)) = outcome(&config) else { panic!("the batch is not refused") };
    assert_eq!((refused.batch, refused.most), (2, 1));
    config.train.precision = ComputePrecision::F16;
    let outcome = with_simulated_f16(|| outcome(&config));
    assert!(matches!(outcome, Ok(Outcome::Finished(_))), "{outcome:?}");
}

#[test]
fn memory_that_runs_out_in_the_first_step_is_an_error_with_a_smaller_batch() {
    let limits = DeviceLimits { tensor_bytes: None, memory_bytes: Some(1 << 30) };
    let mut progress = failing(1, "wgpu error: Out of Memory");
    let ended = with_limits(limits, || as_accelerator(|| run(&tiny(), &mut progress)));
    let error = ended.outcome.unwrap_err();
    let TrainError::OutOfMemory { phase: Phase::Step(1), state: None, .. } = &error else { panic!("{error:?}") };
    let text = error.to_string();
    for words in [
        "the device ran out of memory at step 1: wgpu error: Out of Memory. A batch of 2 images (train.batch_size) is \
         expected to need at least ",
        "; the device has 1.00 GiB",
        "Try train.batch_size = 1, which should fit",
        "raise train.accumulate",
        "train.activation_checkpointing = true",
    ] {
        assert!(text.contains(words), "expected `{words}` in: {text}");
    }

    // With trained batch norms, a configuration with checkpointing is refused.
    let mut config = tiny();
    config.model.norm = BackboneNorm::Batch;
    let error = run(&config, &mut failing(1, "wgpu error: Out of Memory")).outcome.unwrap_err().to_string();
    assert!(error.contains("Try train.batch_size = 1") && !error.contains("activation_checkpointing"), "{error}");
}

#[test]
fn memory_that_runs_out_in_an_evaluation_is_an_error_with_its_own_batch_size() {
    let mut config = tiny();
    (config.train.epochs, config.train.eval_every, config.eval.batch_size) = (1, 1, 3);
    let mut progress = Failing { panic_in_evaluation: Some("wgpu error: Out of Memory"), ..Failing::default() };
    let ended = run(&config, &mut progress);
    let error = ended.outcome.unwrap_err();
    let TrainError::OutOfMemory { phase: Phase::Evaluation(4), state: Some(state), .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(state.step, 4);
    let text = error.to_string();
    for words in [
        "the device ran out of memory in the evaluation after step 4: wgpu error: Out of Memory. A batch of 3 images \
         (eval.batch_size) is expected to need at least ",
        "Try eval.batch_size = 1, which should fit. The newest training state is ",
        // Without the flag, a resume with the new value is refused.
        " --allow-changes",
    ] {
        assert!(text.contains(words), "expected `{words}` in: {text}");
    }
    assert!(!text.contains("train.accumulate") && !text.contains("checkpointing"), "{text}");
}

#[test]
fn one_image_that_does_not_fit_asks_for_smaller_images() {
    let mut config = tiny();
    (config.train.batch_size, config.train.activation_checkpointing) = (1, true);
    let error = run(&config, &mut failing(1, "out of device memory allocating 64 bytes")).outcome.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the driver does not state how much the device has"), "{text}");
    assert!(text.ends_with("Lower data.min_size and data.max_size (or data.fixed_size)"), "{text}");
}

/// Four steps make an epoch, and the state is saved after each epoch.
#[test]
fn a_lost_device_names_the_last_state() {
    let ended = run(&tiny(), &mut failing(6, "The device is poisoned\nCaused by:\n  Unknown: reset"));
    let error = ended.outcome.unwrap_err();
    let TrainError::Device { lost: true, phase: Phase::Step(6), state: Some(state), .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((state.step, &state.path), (4, &ended.folder.path().join("r/state/last.safetensors")));
    assert!(state.seconds < 600 && state.path.is_file());
    let text = error.to_string();
    assert!(!text.contains("--allow-changes"), "{text}");
    assert!(
        text.starts_with("the device was lost at step 6: The device is poisoned Caused by: Unknown: reset."),
        "{text}"
    );
    assert!(text.contains("last.safetensors of step 4, saved ") && text.contains("--resume --out "), "{text}");
}

#[test]
fn a_read_that_fails_is_explained_by_the_thread_of_the_device() {
    let read = "Error while reading data: use `try_into_data` instead to catch the error at runtime: NotFound";
    let mut progress = Failing { report: Some("wgpu error: Out of Memory"), ..failing(5, read) };
    let error = run(&tiny(), &mut progress).outcome.unwrap_err();
    let TrainError::OutOfMemory { phase: Phase::Step(5), state: Some(state), .. } = &error else { panic!("{error:?}") };
    assert_eq!(state.step, 4);
}

#[test]
fn other_panics_are_not_those_of_a_device() {
    let caught = catch_unwind(AssertUnwindSafe(|| run(&tiny(), &mut failing(2, "index out of bounds"))));
    let payload = caught.err().expect("the panic goes on");
    assert_eq!(message(&*payload), "index out of bounds");
}

/// A wait for a GPU does not report work that failed, so the results of the first step are read.
#[test]
fn the_values_of_the_first_step_are_read() {
    let mut config = tiny();
    (config.train.max_steps, config.train.log_every, config.train.step0_check) = (2, 100, false);
    let mut progress = Failing::default();
    READS.set(0);
    assert!(as_accelerator(|| run(&config, &mut progress)).outcome.is_ok());
    assert_eq!(progress.reads, [1, 1]);
}

#[test]
fn only_the_first_step_on_a_gpu_is_announced() {
    let mut progress = Failing::default();
    assert!(as_accelerator(|| run(&tiny(), &mut progress)).outcome.is_ok());
    assert_eq!(progress.calls[..4], ["tuning", "step 1", "tuned", "step 2"]);
    assert_eq!(progress.calls.iter().filter(|call| call.starts_with("tun")).count(), 2);
    let mut on_cpu = Failing::default();
    assert!(run(&tiny(), &mut on_cpu).outcome.is_ok());
    assert_eq!(on_cpu.calls[..2], ["step 1", "step 2"]);
}
