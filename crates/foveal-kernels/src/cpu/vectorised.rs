//! Loops that the compiler vectorises for the processor's best instruction set, chosen at run time.
use super::matmul::isa::{Isa, isa};

/// Number of neighbouring values that the loops process at once. A block of values is a local array, so that the compiler
/// knows that it overlaps no other memory and keeps it in registers.
pub(crate) const LANES: usize = 16;

/// A loop that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// Runs the loop. Implementations are `#[inline(always)]`, since only code that is inlined into a function uses the
    /// instructions that are enabled for this function.
    fn run(self);
}

/// Runs a loop as compiled for the best instruction set of this processor. The results do not depend on the instruction
/// set, because the compiler neither reorders sums nor fuses multiplications with additions.
pub(crate) fn vectorised<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn avx512<K: Kernel>(kernel: K) {
        kernel.run();
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<K: Kernel>(kernel: K) {
        kernel.run();
    }
    match isa() {
        // SAFETY: the processor supports the instruction set that `isa` returns.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: the processor supports the instruction set that `isa` returns.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(kernel) },
        // NEON is enabled for all code of its targets.
        _ => kernel.run(),
    }
}
