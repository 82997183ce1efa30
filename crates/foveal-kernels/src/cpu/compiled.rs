//! Plain loops that the compiler vectorises, compiled for each instruction set.
use super::matmul::isa::{Isa, isa};

/// Work on plain slices, which [`compiled`] does with the best instruction set.
pub(crate) trait Work {
    /// What the work yields.
    type Output;

    /// Does the work. `FUSED` tells whether `f32::mul_add` is one instruction. All functions that contain loops must be
    /// `inline(always)`, because the compiler vectorises a loop for the instruction set of the function in which it
    /// ends up.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<W: Work>(work: W) -> W::Output {
    work.run::<true>()
}

/// Does the work with the instruction set that the kernels use.
pub(crate) fn compiled<W: Work>(work: W) -> W::Output {
    match isa() {
        Isa::Portable => work.run::<false>(),
        // SAFETY: `isa` returns only instruction sets that the processor supports with both features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2(work) },
        // SAFETY: `isa` returns only instruction sets that the processor supports with all three features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512(work) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => work.run::<true>(),
    }
}
