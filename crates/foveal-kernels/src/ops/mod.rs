//! The operations. Each module contains a public function, its reference implementation in Burn's operations, the fused
//! kernel and its autodiff node.
pub(crate) mod affine;
pub(crate) mod batch_norm;
pub(crate) mod candidates;
pub(crate) mod canvas;
pub(crate) mod channels_last;
pub(crate) mod class_loss;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod group_norm;
pub(crate) mod half;
pub(crate) mod image_bytes;
pub(crate) mod join;
pub(crate) mod normalise;
pub(crate) mod pool;
pub(crate) mod relu;
pub(crate) mod update;
pub(crate) mod upsample;
