//! A limit on the bytes that several threads hold at the same time.

use std::sync::{Condvar, Mutex, PoisonError};

/// A number of bytes that threads share. A thread takes what its work needs and waits until enough is free.
///
/// Work that needs more than the whole budget runs alone, so that no size is refused and nothing waits forever.
#[derive(Debug)]
pub struct ByteBudget {
    total: u64,
    free: Mutex<u64>,
    returned: Condvar,
}

impl ByteBudget {
    /// Creates a budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { total, free: Mutex::new(total), returned: Condvar::new() }
    }

    /// Runs `work`, which needs `bytes` bytes, when so many are free. The work must not use the same budget.
    pub fn with<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        let _held = self.take(bytes);
        work()
    }

    fn take(&self, bytes: u64) -> Held<'_> {
        let bytes = bytes.min(self.total);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free < bytes {
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Held { budget: self, bytes }
    }
}

/// Bytes that are returned when the value is dropped, also after a panic.
struct Held<'a> {
    budget: &'a ByteBudget,
    bytes: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.budget.free.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn threads_never_hold_more_than_the_budget_unless_one_needs_more() {
        let (budget, held, most) = (ByteBudget::new(10), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for bytes in [3, 4, 4, 9, 50, 1, 6, 2] {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    for _ in 0..50 {
                        budget.with(bytes, || {
                            let now = held.fetch_add(bytes.min(10), Ordering::SeqCst) + bytes.min(10);
                            most.fetch_max(now, Ordering::SeqCst);
                            std::thread::yield_now();
                            held.fetch_sub(bytes.min(10), Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 10);
        assert_eq!(budget.with(10, || 7), 7);
    }
}
