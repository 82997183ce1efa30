//! The results of a benchmark.

use foveal_data::TransformCosts;
use serde::Serialize;

use super::clock::Timed;

/// The results of a benchmark. Times are in milliseconds. On a CPU there is one for each repetition after the warm-up
/// (`bench.warmup`). On a GPU there is one for each turn, except for inference, which has one for each repetition: a
/// turn is as many repetitions as training runs between two lines of the log, and its time is the mean of its
/// repetitions. Phases that were not measured have empty lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BenchReport {
    /// Name of the device. [`bench`](super::bench()) leaves it empty, and the program fills it in.
    pub device: String,
    /// Number of CPU threads. [`bench`](super::bench()) leaves it 0, and the program fills it in.
    pub threads: usize,
    /// Number of images in a step; with [`BenchPhases::Data`](super::BenchPhases::Data) in a batch of the training set.
    pub batch: usize,
    /// Height of the random images in pixels.
    pub height: usize,
    /// Width of the random images in pixels.
    pub width: usize,
    /// Times of training steps in milliseconds: forward pass, losses, backward pass, gradient norm and optimizer
    /// update; on a GPU also the copy of the images, and the reading of the losses at the end of a turn.
    pub train_step_ms: Vec<f64>,
    /// Times of inference on a batch in milliseconds: forward pass and post-processing; on a GPU also the copy of the
    /// images.
    pub infer_ms: Vec<f64>,
    /// Times of class loss and box loss with their gradients in milliseconds.
    pub loss_ms: Vec<f64>,
    /// Largest resident memory of the process up to the end of the training steps, in MiB. -1 where training was not
    /// measured or the operating system does not report it (only Linux does).
    pub peak_rss_mb: f64,
    /// Times of the class loss alone with its gradient in milliseconds.
    pub focal_ms: Vec<f64>,
    /// Speed of the loading workers in images per second, one number for each pass over the training set.
    pub data_images_per_second: Vec<f64>,
    /// What each transform of `data.augment.transforms` cost in these passes, in the order of the list.
    pub transforms: TransformCosts,
    /// Name of the GPU; empty on a CPU. [`bench`](super::bench()) leaves it empty, and the program fills it in.
    pub adapter: String,
    /// Name and version of the GPU's driver; empty on a CPU. [`bench`](super::bench()) leaves it empty, and the program
    /// fills it in.
    pub driver: String,
    /// The language that kernels are compiled to on the GPU (`SPIR-V`, `WGSL`); empty on a CPU.
    /// [`bench`](super::bench()) leaves it empty, and the program fills it in.
    pub compiler: String,
    /// Number type of the convolutions, such as `f32`. Empty where no phase ran on a device.
    pub precision: String,
    /// Seconds of the first repetition of the first phase that was measured, in which a GPU compiles and tunes its
    /// kernels. -1 where no phase ran on a device.
    pub first_step_seconds: f64,
    /// Number of repetitions between two waits for the device: 1 on a CPU.
    pub turn_steps: usize,
    /// Largest memory in MiB that the allocator of the GPU held after the warm-up or a turn of a phase, with the pages
    /// that it keeps for reuse. -1 where it is not known, as on a CPU.
    pub peak_device_mb: f64,
    /// Class loss, box loss, total loss, class loss of positives, class loss of all other pairs, and gradient norm of
    /// the first training step. Empty where training was not measured.
    pub first_step_values: Vec<f32>,
    /// Number of detections in the batch of the last inference.
    pub detections: usize,
    /// Number of tensor operations of a training step on a GPU that completes no line of the log; -1 where they were
    /// not counted.
    pub operations_per_step: i64,
    /// Number of fused kernels and of operations that ran on their own in such a step; -1 where they were not counted.
    pub blocks_per_step: i64,
    /// Vector instruction set of the CPU kernels: `AVX-512`, `AVX2`, `NEON` or `portable`.
    pub instruction_set: String,
    /// Times of the network alone on a batch in milliseconds: backbone, feature pyramid and heads, without anchors and
    /// post-processing; on a GPU also the copy of the images.
    pub infer_raw_ms: Vec<f64>,
    /// Minor page faults of the process in a timed repetition of the first phase that was measured, on average. -1
    /// where no phase ran on a device or the operating system does not report them (only Linux does).
    pub minor_faults: f64,
    /// Peak throughput of the vector units in GFLOP/s of `f32` multiply-adds on one thread, one number for each
    /// repetition.
    pub peak_gflops_one: Vec<f64>,
    /// The same on all threads of the process.
    pub peak_gflops_all: Vec<f64>,
}

impl BenchReport {
    /// Takes over the first repetition, the page faults and the memory of a phase, and returns its times.
    pub(super) fn keep(&mut self, timed: Timed) -> Vec<f64> {
        if self.first_step_seconds < 0.0 {
            self.first_step_seconds = timed.first_seconds;
            self.minor_faults = timed.minor_faults;
        }
        self.peak_device_mb = self.peak_device_mb.max(timed.device_mb);
        timed.ms
    }
}
