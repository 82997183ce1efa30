//! Code that the fused kernels share: tensors as slices, threaded loops, buffers and matrix products.
pub(crate) mod matmul;
pub(crate) mod parallel;
pub(crate) mod pixels;
pub(crate) mod route;
pub(crate) mod scratch;
mod tensor;
pub(crate) mod vectorised;

pub(crate) use tensor::{CpuBackend, CpuTensor};
