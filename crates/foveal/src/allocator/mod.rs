//! The program's memory allocator: mimalloc, with a placement of large blocks that leaves fewer gaps.
//!
//! mimalloc divides its memory into chunks and places a block that fits into one within one. Blocks of many different
//! sizes, such as the tensors of a training step, then leave gaps of a third of the memory. Large blocks are therefore
//! placed by [`Extents`], in regions that are blocks of mimalloc themselves.
#![allow(unsafe_code)]

mod extents;

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libmimalloc_sys::{mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

use extents::{Extents, LARGE, PAGE};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// `mi_option_purge_delay` of mimalloc.h (versions 2 and 3), which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

/// Least number of bytes of a region. Pages of it that no block has used yet take no memory.
const REGION: usize = 1 << 30;

/// Makes mimalloc keep freed memory for the next allocation instead of returning it to the operating system after
/// some milliseconds. A training step frees and allocates the same hundreds of megabytes as the one before, whose pages
/// the system would have to clear each time. The regions of large blocks are never freed in any case.
pub(crate) fn keep_freed_memory() {
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: the function accepts any option and value at any time.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) };
}

struct Allocator;

static EXTENTS: Mutex<Extents> = Mutex::new(Extents::new());

fn extents() -> MutexGuard<'static, Extents> {
    EXTENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of bytes that a block takes in the regions; `None` if blocks of this layout are mimalloc's.
///
/// Windows would commit a whole region at once, so that all blocks are mimalloc's there.
fn large(layout: Layout) -> Option<usize> {
    (cfg!(unix) && layout.size() >= LARGE && layout.align() <= PAGE).then(|| layout.size().next_multiple_of(PAGE))
}

/// A large block of `size` bytes; `None` if there is no memory for a region or no place in the list of extents.
fn take(size: usize) -> Option<*mut u8> {
    let mut extents = extents();
    if !extents.has_room() {
        return None;
    }
    let address = extents.take(size).or_else(|| {
        let layout = Layout::from_size_align(size.max(REGION), PAGE).ok()?;
        // SAFETY: the size is not 0. The block is never freed.
        let region = unsafe { MiMalloc.alloc(layout) };
        if region.is_null() {
            return None;
        }
        extents.add_region(region.expose_provenance(), layout.size());
        extents.take(size)
    })?;
    Some(std::ptr::with_exposed_provenance_mut(address))
}

/// Frees a block of `size` bytes if it lies in a region.
fn put_back(block: *mut u8, size: usize) -> bool {
    let mut extents = extents();
    let ours = extents.has(block.addr());
    if ours {
        extents.put_back(block.addr(), size);
    }
    ours
}

// SAFETY: a large block consists of pages of a region that no other block has; a region is a block of mimalloc that
// nothing else uses. All other blocks are mimalloc's. A block is returned to the regions exactly if its address lies in
// one. While the extents are locked, nothing is allocated but a region, which comes from mimalloc without the lock.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = large(layout).and_then(take) {
            return block;
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = large(layout).and_then(take) {
            // SAFETY: the block has at least this size.
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
        // SAFETY: the caller's promise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !large(layout).is_some_and(|size| put_back(block, size)) {
            // SAFETY: the caller's promise; the block lies in no region.
            unsafe { MiMalloc.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size fits the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match [large(layout), large(new)] {
            // SAFETY: the caller's promise; blocks of these layouts are mimalloc's.
            [None, None] => return unsafe { MiMalloc.realloc(block, layout, size) },
            // The block takes the same pages, unless it is one of mimalloc's.
            [old, new] if old == new && extents().has(block.addr()) => return block,
            _ => {}
        }
        // SAFETY: the caller's promise; both blocks have the smaller of the two sizes.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
