//! Which path an operation takes: the fused CPU kernel or the reference in Burn's operations.
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Tensor};

static REFERENCE: AtomicBool = AtomicBool::new(false);

/// Sends every later call of this crate's operations, in the whole process, down the reference path of Burn's own
/// operations (`true`), or back to the fused CPU kernels where those apply (`false`, the default). For comparisons.
pub fn set_reference(reference: bool) {
    REFERENCE.store(reference, Ordering::Relaxed);
}

/// Whether operations take the reference path everywhere: the last argument of [`set_reference`].
pub fn reference() -> bool {
    REFERENCE.load(Ordering::Relaxed)
}

/// Whether the fused kernels take this tensor: an `f32` tensor of a CPU backend, and [`reference`] is off.
pub(crate) fn fused_kernel<const D: usize>(x: &Tensor<D>) -> bool {
    !reference()
        && x.dtype() == DType::F32
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::NdArray(_))
}

/// Whether operations on several maps in one tensor take them at once for maps like this one. Otherwise they cut the
/// tensor apart, and keeping the maps apart is faster.
pub fn takes_maps(map: &Tensor<4>) -> bool {
    fused_kernel(map)
}
