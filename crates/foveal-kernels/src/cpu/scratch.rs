//! Reusable buffers. A new buffer of several megabytes would cost a page fault for every page in every call.
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

static SPARE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());
/// Number of buffers that are kept for reuse. Each thread uses one at a time, and an operation up to three.
const KEPT: usize = 8;

/// A buffer with arbitrary initialised contents, which is returned for reuse when dropped.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// A buffer of at least `len` elements: the smallest spare buffer that is large enough, else the largest one,
    /// enlarged.
    pub(crate) fn of(len: usize) -> Self {
        let mut spare = SPARE.lock().expect("no holder of the lock panics");
        let fits = (0..spare.len()).filter(|&i| spare[i].len() >= len).min_by_key(|&i| spare[i].len());
        let best = fits.or_else(|| (0..spare.len()).max_by_key(|&i| spare[i].len()));
        let mut buffer = best.map(|i| spare.swap_remove(i)).unwrap_or_default();
        drop(spare);
        if buffer.len() < len {
            // Growing in place would copy the contents, which are not needed.
            buffer = Vec::new();
            buffer.resize(len, 0.0);
        }
        Self(buffer)
    }

    /// A new buffer of `len` elements, for what is kept for long.
    pub(crate) fn exactly(len: usize) -> Self {
        Self(vec![0.0; len])
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().expect("no holder of the lock panics");
        spare.push(std::mem::take(&mut self.0));
        if spare.len() > KEPT {
            let smallest = (0..spare.len()).min_by_key(|&i| spare[i].len()).expect("not empty");
            spare.swap_remove(smallest);
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
