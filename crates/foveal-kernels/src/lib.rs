//! Tensor operations that Burn lacks or does slowly, each with its gradient.
//!
//! Every operation has a *reference* implementation composed of Burn's operations. The *fused* kernel runs for `f32`
//! tensors on the CPU backends (`ndarray` and `flex`, from one source) and is a single autodiff node; the tests compare
//! it with the reference. On GPUs, and for 16-bit maps, convolution and upsampling are Burn's operations in a single
//! autodiff node, and the class loss, the selection of the hardest anchors, and canvases of several maps ([`canvas`])
//! have kernels of this crate; other operations use the reference. [`set_reference`] makes the operations that have one
//! use the reference on all devices.
//!
//! Two operations exist on GPUs only, as kernels of this crate: [`normalise_bytes`] and [`pick_candidates`]. The host
//! does the same on a CPU in `foveal-image` and `foveal-detector`, and the tests compare the two bit for bit. The
//! kernels of a parameter update ([`l2_norm`], [`clip`], [`update_parameters`] and [`update_averages`]) exist on GPUs
//! only as well, and `foveal-train` computes the same by other means on other devices.
//!
//! Results never depend on the number of threads. Either the work is cut into tasks by shape alone, or a value does not
//! depend on the task that computes it. Partial sums are added in the order of their indices.
#![recursion_limit = "256"]
// burn-ndarray is deprecated upstream in favour of flex; it stays supported here.
#![allow(deprecated)]

mod cpu;
#[cfg(feature = "wgpu")]
mod gpu;
mod kept;
mod ops;

// The unit tests share the helpers of the integration tests, which name this crate.
#[cfg(test)]
extern crate self as foveal_kernels;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod test_common;

pub use cpu::matmul::{force_instruction_set, instruction_set};
#[doc(hidden)]
pub use cpu::peak::peak_gflops;
pub use cpu::route::{is_gpu, reference, set_reference, takes_maps};
pub use cpu::weights::{KeptWeights, keep_weights};
#[cfg(feature = "wgpu")]
pub use gpu::{kernel_language, test_adapter};
pub use kept::{Kept, ValueId, value_id};
pub use ops::affine::affine;
pub use ops::batch_norm::{BatchNormOutput, batch_norm_train};
pub use ops::candidates::{
    CANDIDATE_BYTES, Candidate, CandidateOptions, DeviceCandidates, ImageCandidates, pick_candidates,
};
pub use ops::canvas::{CANVAS_LEVELS, Canvas, CanvasLayout, canvas, canvas_limit, canvas_maps, canvas_rows};
pub use ops::channels_last::channels_last;
pub use ops::class_loss::{
    BACKGROUND, BREAKDOWN_BINS, BREAKDOWN_LEVELS, BreakdownLayout, BreakdownSums, ClassLoss, ClassLossKind,
    ClassLossParams, ClassTerms, IGNORE, LossBin, PairSums, PositivePlaces, breakdown_bin_start, class_loss,
    class_loss_with, class_losses_of_images, keep_hardest, keep_hardest_on_device,
};
pub use ops::conv::{
    ConvCache, ConvOptions, Epilogue, MapSize, conv2d, conv2d_cached, conv2d_fused, conv2d_maps, conv2d_reference,
};
pub use ops::elementwise::Activation;
pub use ops::group_norm::{group_norm, group_norm_maps};
pub use ops::half::at_least_f32;
pub use ops::image_bytes::normalise_bytes;
pub use ops::pool::max_pool_3x3_s2_p1;
pub use ops::relu::relu;
pub use ops::update::{
    Trained, Update, UpdateRule, clip, has_update_kernels, l2_norm, update_averages, update_parameters,
};
pub use ops::upsample::upsample_add;
