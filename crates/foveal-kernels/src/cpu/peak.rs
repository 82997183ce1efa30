//! The peak throughput of the vector units, with which the throughput of kernels is compared.
use std::hint::black_box;
use std::thread;
use std::time::Instant;

use super::matmul::isa::on_best_isa;
use super::matmul::lanes::Lanes;

/// Number of independent sums. Two units with a latency of up to five steps need ten; with two operands, these fit in
/// sixteen registers.
const SUMS: usize = 12;
/// Number of multiply-adds of each sum: a few hundredths of a second.
const STEPS: usize = 1 << 23;

/// Throughput in GFLOP/s of multiply-adds (two operations) on `f32` registers of the instruction set in use, on
/// `threads` threads at the same time. The measurement takes a few hundredths of a second and accesses no memory.
///
/// # Panics
/// If `threads` is 0.
#[doc(hidden)]
pub fn peak_gflops(threads: usize) -> f64 {
    assert!(threads > 0, "expected at least one thread");
    let started = Instant::now();
    let work = || {
        let mut lanes = 0;
        // SAFETY: the function has no requirements.
        unsafe { multiply_adds(&mut lanes) };
        lanes
    };
    // Each thread does the same number of operations.
    let lanes = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let lanes = work();
        others.into_iter().for_each(|other| drop(other.join()));
        lanes
    });
    (2 * lanes * SUMS * STEPS * threads) as f64 / started.elapsed().as_secs_f64() / 1e9
}

on_best_isa! {
    /// Computes [`STEPS`] multiply-adds of each of [`SUMS`] vectors, and writes the number of elements of a vector to
    /// `lanes`.
    ///
    /// # Safety
    /// There are no requirements.
    unsafe fn multiply_adds(lanes: &mut usize) = multiply_adds_on
}

#[inline(always)]
unsafe fn multiply_adds_on<L: Lanes, const V: usize, const WIDE: usize>(lanes: &mut usize) {
    // SAFETY: the processor has the instruction set of `L`, and `out` has room for any vector.
    unsafe {
        // The sums approach 2, so that no number becomes large or denormal.
        let (factor, term) = (L::splat(black_box(0.5)), L::splat(black_box(1.0)));
        let mut sums = [L::splat(0.0); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        let total = sums.into_iter().fold(L::splat(0.0), |total, sum| total.add(sum));
        let mut out = [0f32; 64];
        total.store(out.as_mut_ptr());
        black_box(out);
    }
    *lanes = L::N;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::isa::{all, hold};

    /// No processor computes fewer than 10 million or more than 10,000 billion operations a second on a core.
    #[test]
    fn the_peak_is_that_of_a_processor() {
        for isa in all() {
            let _held = hold(isa);
            let found = peak_gflops(1);
            assert!((0.01..10_000.0).contains(&found), "{found} GFLOP/s");
        }
    }
}
