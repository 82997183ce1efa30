//! Buffers to which several threads write.
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Number of elements below which passing a task to another thread costs more time than it saves.
pub(crate) const GRAIN: usize = 16_384;

/// A pointer into a buffer to which several tasks write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a> {
    data: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only an address; every use of it states why its writes are disjoint.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: the pointer is only an address; every use of it states why its writes are disjoint.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// A pointer into an initialised buffer.
    pub(crate) fn new(buffer: &'a mut [f32]) -> Self {
        Self { data: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// A pointer into an uninitialised buffer, which is initialised through the pointer.
    pub(crate) fn uninit(buffer: &'a mut [MaybeUninit<f32>]) -> Self {
        Self { data: buffer.as_mut_ptr().cast(), len: buffer.len(), buffer: PhantomData }
    }

    /// The address of element `offset`.
    ///
    /// # Safety
    /// `offset` must lie within the buffer.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        debug_assert!(offset <= self.len, "element {offset} of a buffer of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { self.data.add(offset) }
    }
}
