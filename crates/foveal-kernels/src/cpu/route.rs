//! The choice between the fused kernels and the reference implementations in Burn's operations.
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

static REFERENCE: AtomicBool = AtomicBool::new(false);

/// Makes all later calls of this crate's operations, in the whole process, use the reference implementations in Burn's
/// operations (`true`), or the fused kernels where these apply (`false`, the default). Intended for comparisons of the
/// two. Operations that exist on GPUs only have no reference and are not affected.
pub fn set_reference(reference: bool) {
    REFERENCE.store(reference, Ordering::Relaxed);
}

/// Whether all operations use the reference implementations in Burn's operations. Returns the last argument of
/// [`set_reference`], or false if it was never called.
pub fn reference() -> bool {
    REFERENCE.load(Ordering::Relaxed)
}

/// Whether the device is a GPU or another accelerator: its backend is none of the CPU backends `flex` and `ndarray`.
pub fn is_gpu(device: &Device) -> bool {
    !matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::NdArray(_))
}

/// Whether operations on this tensor use the fused kernels: it is an `f32` tensor of a CPU backend, and [`reference`]
/// is false.
pub(crate) fn fused_kernel<const D: usize>(x: &Tensor<D>) -> bool {
    !reference() && x.dtype() == DType::F32 && !is_gpu(&x.device())
}

/// Whether [`conv2d_maps`](crate::conv2d_maps) and [`group_norm_maps`](crate::group_norm_maps) process all maps in one
/// pass for maps of this data type and device. If false, they split the tensor and process the maps one after the
/// other; keeping the maps in separate tensors is then faster.
///
/// # Shapes
/// - map: `[batch, channels, height, width]`
pub fn takes_maps(map: &Tensor<4>) -> bool {
    fused_kernel(map)
}
