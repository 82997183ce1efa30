//! The limits of a device on the size of a tensor and of all tensors together.

use burn::tensor::Device;

/// What a device allows. A value of `None` is no limit, or one that the driver does not state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Bytes of the largest tensor: the smaller of the largest buffer and the largest storage binding. wgpu binds at
    /// most 2 GiB - 1 on most adapters.
    pub tensor_bytes: Option<u64>,
    /// Bytes of the memory that the adapter offers. On an integrated GPU this is the driver's share of the main memory.
    pub memory_bytes: Option<u64>,
}

impl DeviceLimits {
    /// The limits of an opened device. CPU backends have none.
    pub fn of(device: &Device) -> Self {
        #[cfg(test)]
        if let Some(limits) = tests::LIMITS.get() {
            return limits;
        }
        of_adapter(device)
    }

    /// Whether the device has no limits that could be compared with.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(feature = "wgpu")]
fn of_adapter(device: &Device) -> DeviceLimits {
    let device = device.clone().without_autodiff();
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(device) => {
            let client = device.client();
            let memory = &client.properties().memory;
            DeviceLimits { tensor_bytes: Some(memory.max_page_size), memory_bytes: memory.max_memory() }
        }
        _ => DeviceLimits::default(),
    }
}

#[cfg(not(feature = "wgpu"))]
fn of_adapter(_: &Device) -> DeviceLimits {
    DeviceLimits::default()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// The limits that a test gives every device.
        pub(super) static LIMITS: Cell<Option<DeviceLimits>> = const { Cell::new(None) };
    }

    /// Runs `test` with devices that have these limits.
    pub(crate) fn with_limits<T>(limits: DeviceLimits, test: impl FnOnce() -> T) -> T {
        LIMITS.set(Some(limits));
        let result = test();
        LIMITS.set(None);
        result
    }

    #[test]
    fn cpu_backends_have_no_limits() {
        assert!(DeviceLimits::of(&Device::flex()).is_empty());
        assert!(DeviceLimits::of(&Device::flex().autodiff()).is_empty());
    }
}
