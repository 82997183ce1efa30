//! Vectors of `f32` for each instruction set, behind one trait, so that kernels are written once.
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;

/// A vector register.
///
/// # Safety
/// All methods need a processor with the instruction set; pointers must be readable or writable over [`N`](Self::N)
/// elements, at any alignment.
#[allow(clippy::missing_safety_doc)] // the safety section of the trait holds for all methods
pub(crate) trait Lanes: Copy {
    /// Number of elements.
    const N: usize;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once if the instruction set has a fused multiply-add.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    /// `max(self, 0)`; NaN stays NaN.
    unsafe fn relu(self) -> Self;

    /// Loads the first `count` elements, at most [`N`](Self::N); the other lanes are 0.
    ///
    /// # Safety
    /// `count` elements must be readable.
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut buffer = [0f32; 16];
        // SAFETY: the caller's promise; no vector has more than 16 lanes.
        unsafe {
            std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), count.min(Self::N));
            Self::load(buffer.as_ptr())
        }
    }

    /// Stores the first `count` lanes, at most [`N`](Self::N).
    ///
    /// # Safety
    /// `count` elements must be writable.
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        let mut buffer = [0f32; 16];
        // SAFETY: the caller's promise; no vector has more than 16 lanes.
        unsafe {
            self.store(buffer.as_mut_ptr());
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, count.min(Self::N));
        }
    }
}

impl<const N: usize> Lanes for [f32; N] {
    const N: usize = N;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        [value; N]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        std::array::from_fn(|i| self[i] * by[i] + plus[i])
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        self.map(|v| if v < 0.0 { 0.0 } else { v })
    }
}

/// Defines the methods of [`Lanes`] that are a single instruction.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! one_instruction {
    ($splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident) => {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the trait's.
            unsafe { arch::$splat(value) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the trait's.
            unsafe { arch::$load(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the trait's.
            unsafe { arch::$store(to, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the trait's.
            unsafe { arch::$add(self, other) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: the trait's.
            unsafe { arch::$sub(self, other) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: the trait's.
            unsafe { arch::$mul(self, other) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
impl Lanes for arch::__m256 {
    const N: usize = 8;
    one_instruction!(_mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps);
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's.
        unsafe { arch::_mm256_fmadd_ps(self, by, plus) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction returns its second operand if either operand is NaN.
        // SAFETY: the trait's.
        unsafe { arch::_mm256_max_ps(arch::_mm256_setzero_ps(), self) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for arch::__m512 {
    const N: usize = 16;
    one_instruction!(_mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps _mm512_mul_ps);
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's.
        unsafe { arch::_mm512_fmadd_ps(self, by, plus) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The instruction returns its second operand if either operand is NaN.
        // SAFETY: the trait's.
        unsafe { arch::_mm512_max_ps(arch::_mm512_setzero_ps(), self) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        // SAFETY: the trait's; lanes that the mask leaves out are not read.
        unsafe { arch::_mm512_maskz_loadu_ps(first_lanes(count), from) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the trait's; lanes that the mask leaves out are not written.
        unsafe { arch::_mm512_mask_storeu_ps(to, first_lanes(count), self) }
    }
}

/// The mask of the first `count` of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_lanes(count: usize) -> u16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

#[cfg(target_arch = "aarch64")]
impl Lanes for arch::float32x4_t {
    const N: usize = 4;
    one_instruction!(vdupq_n_f32 vld1q_f32 vst1q_f32 vaddq_f32 vsubq_f32 vmulq_f32);
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's.
        unsafe { arch::vfmaq_f32(plus, self, by) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // `vmaxq` returns NaN if either operand is NaN.
        // SAFETY: the trait's.
        unsafe { arch::vmaxq_f32(self, arch::vdupq_n_f32(0.0)) }
    }
}
