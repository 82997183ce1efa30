//! The size up to which canvases are used.
use burn::tensor::Device;

/// Largest number of bytes of a tensor that a convolution of a canvas may need, if the device binds so much. For larger
/// batches the levels are convolved one by one: each convolution has work for long enough then, and the batch may be as
/// large as the tensors of the largest level allow.
const CANVAS_BYTES: u64 = 1 << 30;

/// Returns the largest number of bytes that a tensor may have for the levels to be worth a canvas on this device.
/// `None` if the device is no GPU: the kernels of the CPUs process several maps in one pass without it.
pub fn canvas_limit(device: &Device) -> Option<u64> {
    #[cfg(feature = "wgpu")]
    if let burn::backend::DispatchDevice::Cube(device) = device.clone().without_autodiff().as_dispatch() {
        return Some(device.client().properties().memory.max_page_size.min(CANVAS_BYTES));
    }
    crate::is_gpu(device).then_some(CANVAS_BYTES)
}
