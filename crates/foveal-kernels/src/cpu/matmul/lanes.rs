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
    /// Bitwise and of both vectors.
    unsafe fn and(self, other: Self) -> Self;

    /// Asks for the cache line at an address, which may be any.
    #[inline(always)]
    fn prefetch(_at: *const f32) {}

    /// Writes a whole cache line of values that are read much later. Where the processor can, it is written past the
    /// caches, without reading the line first.
    ///
    /// # Safety
    /// `to` must be writable over 16 elements and aligned to 64 bytes. The same thread must call [`fence`](Self::fence)
    /// before any thread accesses the elements.
    #[inline(always)]
    unsafe fn stream(line: &[f32; 16], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), to, line.len()) }
    }

    /// Completes all writes of [`stream`](Self::stream) by this thread.
    #[inline(always)]
    fn fence() {}

    /// Writes lane `i` of the four vectors to the four elements at `rows[i]`, in the order of the vectors.
    ///
    /// # Safety
    /// There must be [`N`](Self::N) rows, each writable over four elements.
    #[inline(always)]
    unsafe fn scatter(columns: [Self; 4], rows: &[*mut f32]) {
        let mut buffer = [[0f32; 16]; 4];
        // SAFETY: the caller's promise, and no vector has more than 16 lanes.
        unsafe {
            for (column, to) in columns.into_iter().zip(&mut buffer) {
                column.store(to.as_mut_ptr());
            }
            for (lane, row) in rows.iter().enumerate() {
                for (c, column) in buffer.iter().enumerate() {
                    *row.add(c) = column[lane];
                }
            }
        }
    }

    /// Writes column `c` of eight rows to `to + c * stride`, for the first `C` columns (at most 8), in their order:
    /// where columns overlap, the last one stays.
    ///
    /// # Safety
    /// Eight elements must be readable at each row, and writable at each column.
    #[inline(always)]
    unsafe fn transpose<const C: usize>(rows: &[*const f32; 8], to: *mut f32, stride: usize) {
        for c in 0..C {
            for (lane, row) in rows.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *to.add(c * stride + lane) = *row.add(c) };
            }
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
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        std::array::from_fn(|i| f32::from_bits(self[i].to_bits() & other[i].to_bits()))
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

/// Transposes the 4x4 elements in each group of four lanes of four vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! transpose_fours {
    ($vectors:expr, $unpacklo:ident, $unpackhi:ident, $shuffle:ident) => {{
        let [v0, v1, v2, v3] = $vectors;
        let (a, b) = ($unpacklo(v0, v1), $unpackhi(v0, v1));
        let (c, d) = ($unpacklo(v2, v3), $unpackhi(v2, v3));
        [$shuffle::<0x44>(a, c), $shuffle::<0xee>(a, c), $shuffle::<0x44>(b, d), $shuffle::<0xee>(b, d)]
    }};
}

#[cfg(target_arch = "x86_64")]
impl Lanes for arch::__m256 {
    const N: usize = 8;
    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of any address has no effect but on the caches.
        unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn stream(line: &[f32; 16], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            arch::_mm256_stream_ps(to, arch::_mm256_loadu_ps(line.as_ptr()));
            arch::_mm256_stream_ps(to.add(8), arch::_mm256_loadu_ps(line.as_ptr().add(8)));
        }
    }
    #[inline(always)]
    fn fence() {
        // SAFETY: the instruction only orders writes.
        unsafe { arch::_mm_sfence() }
    }
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
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's.
        unsafe { arch::_mm256_and_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn scatter(columns: [Self; 4], rows: &[*mut f32]) {
        use arch::*;
        // SAFETY: the trait's. Each half of the registers is a 4x4 transposition: rows 0..4 in the lower half, 4..8 in
        // the upper half.
        unsafe {
            let four = transpose_fours!(columns, _mm256_unpacklo_ps, _mm256_unpackhi_ps, _mm256_shuffle_ps);
            for (i, four) in four.into_iter().enumerate() {
                _mm_storeu_ps(*rows.get_unchecked(i), _mm256_castps256_ps128(four));
                _mm_storeu_ps(*rows.get_unchecked(i + 4), _mm256_extractf128_ps::<1>(four));
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose<const C: usize>(rows: &[*const f32; 8], to: *mut f32, stride: usize) {
        // SAFETY: the trait's.
        unsafe { transpose_avx::<C>(rows, to, stride) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for arch::__m512 {
    const N: usize = 16;
    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a prefetch of any address has no effect but on the caches.
        unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_T0 }>(at.cast()) }
    }
    #[inline(always)]
    unsafe fn stream(line: &[f32; 16], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { arch::_mm512_stream_ps(to, arch::_mm512_loadu_ps(line.as_ptr())) }
    }
    #[inline(always)]
    fn fence() {
        // SAFETY: the instruction only orders writes.
        unsafe { arch::_mm_sfence() }
    }
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
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's.
        unsafe {
            let bits = arch::_mm512_and_si512(arch::_mm512_castps_si512(self), arch::_mm512_castps_si512(other));
            arch::_mm512_castsi512_ps(bits)
        }
    }
    #[inline(always)]
    unsafe fn scatter(columns: [Self; 4], rows: &[*mut f32]) {
        use arch::*;
        // SAFETY: the trait's. Each quarter of the registers is a 4x4 transposition: quarter `k` has rows `4 k` to
        // `4 k + 3`.
        unsafe {
            let four = transpose_fours!(columns, _mm512_unpacklo_ps, _mm512_unpackhi_ps, _mm512_shuffle_ps);
            for (i, four) in four.into_iter().enumerate() {
                _mm_storeu_ps(*rows.get_unchecked(i), _mm512_castps512_ps128(four));
                _mm_storeu_ps(*rows.get_unchecked(i + 4), _mm512_extractf32x4_ps::<1>(four));
                _mm_storeu_ps(*rows.get_unchecked(i + 8), _mm512_extractf32x4_ps::<2>(four));
                _mm_storeu_ps(*rows.get_unchecked(i + 12), _mm512_extractf32x4_ps::<3>(four));
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose<const C: usize>(rows: &[*const f32; 8], to: *mut f32, stride: usize) {
        // SAFETY: the trait's; AVX-512 includes AVX.
        unsafe { transpose_avx::<C>(rows, to, stride) }
    }
}

/// [`Lanes::transpose`] in AVX instructions.
///
/// # Safety
/// The processor must have AVX; eight elements must be readable at each row, and writable at each of `C` columns.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_avx<const C: usize>(rows: &[*const f32; 8], to: *mut f32, stride: usize) {
    use arch::*;
    // SAFETY: the caller's promise. Each register holds row i in its lower half and row i + 4 in its upper half. The 4x4
    // elements of each half are transposed.
    unsafe {
        let half = |i: usize, at: usize| {
            let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[i].add(at)));
            _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[i + 4].add(at)))
        };
        let mut at = 0;
        while at < C {
            let rows = std::array::from_fn(|i| half(i, at));
            let [c0, c1, c2, c3] = transpose_fours!(rows, _mm256_unpacklo_ps, _mm256_unpackhi_ps, _mm256_shuffle_ps);
            _mm256_storeu_ps(to.add(at * stride), c0);
            if at + 1 < C {
                _mm256_storeu_ps(to.add((at + 1) * stride), c1);
            }
            if at + 2 < C {
                _mm256_storeu_ps(to.add((at + 2) * stride), c2);
            }
            if at + 3 < C {
                _mm256_storeu_ps(to.add((at + 3) * stride), c3);
            }
            at += 4;
        }
    }
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
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's.
        unsafe {
            let bits = arch::vandq_u32(arch::vreinterpretq_u32_f32(self), arch::vreinterpretq_u32_f32(other));
            arch::vreinterpretq_f32_u32(bits)
        }
    }
}
