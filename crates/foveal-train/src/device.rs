//! Distinguishes devices whose tensors lie in host memory from accelerators, and runs work where each is fastest.

use burn::tensor::Device;

/// Whether tensors of the device lie in host memory (the CPU backends `flex` and `ndarray`, with or without autodiff).
/// Reading such tensors waits for no device, and updates can work on slices.
pub fn is_host(device: &Device) -> bool {
    #[cfg(test)]
    if tests::AS_ACCELERATOR.get() {
        return false;
    }
    !foveal_kernels::is_gpu(device)
}

/// Calls `run`, on a thread of rayon's pool if `device` lies in host memory.
///
/// A step of a small network has hundreds of threaded loops of some microseconds. A thread of the pool computes a part
/// of each loop itself, while any other thread has to wake one, sleep, and be woken at the end of each loop. An
/// accelerator has a queue for each thread, so that its operations stay on the thread that calls them.
pub(crate) fn on_pool<T: Send>(device: &Device, run: impl FnOnce() -> T + Send) -> T {
    if is_host(device) { rayon::scope(|_| run()) } else { run() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Set while a test treats the CPU backends as accelerators.
        pub(super) static AS_ACCELERATOR: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `test` with every device treated as an accelerator, so that updates use tensor operations.
    pub(crate) fn as_accelerator<T>(test: impl FnOnce() -> T) -> T {
        AS_ACCELERATOR.set(true);
        let result = test();
        AS_ACCELERATOR.set(false);
        result
    }

    #[test]
    fn both_cpu_backends_are_hosts_with_and_without_autodiff() {
        assert!(is_host(&Device::flex()));
        assert!(is_host(&Device::flex().autodiff()));
        #[allow(deprecated, reason = "ndarray stays supported here")]
        let ndarray = Device::ndarray();
        assert!(is_host(&ndarray));
    }

    #[test]
    fn only_work_in_host_memory_moves_to_the_pool() {
        let device = Device::flex();
        let on_a_thread_of_the_pool = || on_pool(&device, || rayon::current_thread_index().is_some());
        assert!(on_a_thread_of_the_pool());
        assert!(!as_accelerator(on_a_thread_of_the_pool));
    }
}
