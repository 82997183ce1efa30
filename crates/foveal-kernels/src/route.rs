//! Which path an operation takes: the own CPU kernel or Burn's operations.
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Tensor};

static PLAIN: AtomicBool = AtomicBool::new(false);

/// Sends every later call of this crate's operations, in the whole process, down the path of Burn's own operations
/// (`true`), or back to the CPU kernels where those apply (`false`, the default). For comparisons.
pub fn set_plain(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// What [`set_plain`] was last given.
pub fn plain() -> bool {
    PLAIN.load(Ordering::Relaxed)
}

/// Whether the own kernels take this tensor: an `f32` tensor of a CPU backend, and not [`plain`].
pub(crate) fn own_kernel<const D: usize>(x: &Tensor<D>) -> bool {
    !plain()
        && x.dtype() == DType::F32
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::NdArray(_))
}

/// Whether operations on several maps in one tensor take them at once for maps like this one. Otherwise they cut the
/// tensor apart, and keeping the maps apart is faster.
pub fn takes_maps(map: &Tensor<4>) -> bool {
    own_kernel(map)
}
