//! What the training loop has to know of a device.

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Whether tensors of the device lie in host memory: reading them waits for nothing, and updates can work on slices.
pub fn is_host(device: &Device) -> bool {
    matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_) | DispatchDevice::NdArray(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cpu_backends_are_hosts_with_and_without_autodiff() {
        assert!(is_host(&Device::flex()));
        assert!(is_host(&Device::flex().autodiff()));
        #[allow(deprecated, reason = "ndarray stays supported here")]
        let ndarray = Device::ndarray();
        assert!(is_host(&ndarray));
    }
}
