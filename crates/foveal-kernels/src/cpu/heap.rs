//! The settings of the C library's heap.

/// Makes the heap of the whole process keep freed memory for its next allocations instead of returning it to the operating
/// system. A training step allocates and frees the same large buffers again and again; without this each of them costs a
/// page fault for every 4 KiB in every step. Has an effect with the GNU C library only.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        unsafe extern "C" {
            fn mallopt(param: c_int, value: c_int) -> c_int;
        }
        // From <malloc.h>: the number of bytes at the heap's top from which free memory is returned, and the largest number
        // of buffers with a mapping of their own.
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_MAX: c_int = -4;
        // SAFETY: the function sets numbers of the allocator, under its lock.
        unsafe {
            mallopt(M_TRIM_THRESHOLD, c_int::MAX);
            mallopt(M_MMAP_MAX, 0);
        }
    }
}
