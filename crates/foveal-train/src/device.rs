//! Distinguishes devices whose tensors lie in host memory from accelerators, and runs work where each is fastest.

use std::sync::{Mutex, PoisonError};

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
///
/// The pool has one call at a time: a thread that waits for a part of its loop takes up other work of the pool, and a
/// whole step of another run would then lie on its stack, inside of the locks that the first step holds.
pub(crate) fn on_pool<T: Send>(device: &Device, run: impl FnOnce() -> T + Send) -> T {
    static IN_USE: Mutex<()> = Mutex::new(());
    if !is_host(device) || rayon::current_thread_index().is_some() {
        return run();
    }
    // The lock guards no value that a panic could leave half changed.
    let _in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    rayon::scope(|_| run())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

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

    #[test]
    fn calls_from_several_threads_follow_one_another() {
        let (device, running) = (Device::flex(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    on_pool(&device, || {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "another call is running");
                        on_pool(&device, || std::thread::sleep(Duration::from_millis(5)));
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
    }
}
