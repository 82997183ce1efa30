//! Tensor operations that Burn lacks or does slowly on CPUs, each with its gradient.
//!
//! Every operation exists twice. The *own* kernel runs for `f32` tensors on the CPU backends (`ndarray` and `flex`,
//! one source for both) and is an autodiff node of its own. The *plain* one is composed of Burn's operations: it
//! serves all other backends and data types, and it is the oracle that the tests compare with.
//! [`set_plain`] sends everything down the plain path.
//!
//! Results never depend on the number of threads: work is cut by shape alone, and partial sums are added in the
//! order of their index.
#![recursion_limit = "256"]
// burn-ndarray is deprecated upstream in favour of flex; it stays supported here.
#![allow(deprecated)]

mod affine;
mod batch_norm;
mod channels_last;
mod class_loss;
mod conv;
mod cpu;
mod group_norm;
mod matmul;
mod parallel;
mod pool;
mod relu;
mod route;
mod scratch;
mod statistics;
mod upsample;

pub use affine::{Activation, affine};
pub use batch_norm::{BatchNormOutput, batch_norm_train};
pub use channels_last::channels_last;
pub use class_loss::{
    BACKGROUND, BREAKDOWN_BINS, BREAKDOWN_LEVELS, BreakdownLayout, BreakdownSums, ClassLoss, ClassLossKind,
    ClassLossParams, ClassTerms, IGNORE, LossBin, PairSums, PositivePlaces, breakdown_bin_start, class_loss,
    class_loss_with,
};
pub use conv::{ConvOptions, Epilogue, MapSize, conv2d, conv2d_fused, conv2d_maps, conv2d_plain};
pub use group_norm::{group_norm, group_norm_maps};
pub use pool::max_pool_3x3_s2_p1;
pub use relu::relu;
pub use route::{plain, set_plain, takes_maps};
pub use upsample::upsample_add;
