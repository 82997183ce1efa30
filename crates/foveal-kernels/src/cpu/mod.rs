//! Code that the fused kernels share: tensors as slices, threaded loops, buffers and matrix products.
pub(crate) mod compiled;
pub(crate) mod matmul;
pub(crate) mod parallel;
pub(crate) mod peak;
pub(crate) mod route;
pub(crate) mod scratch;
pub(crate) mod statistics;
mod tensor;
pub(crate) mod weights;

pub(crate) use tensor::{CpuBackend, CpuTensor};
