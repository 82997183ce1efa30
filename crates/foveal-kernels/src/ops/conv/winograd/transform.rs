//! The transforms of Winograd's minimal filtering for 3x3 kernels on 4x4 tiles, with the points 0, 1, -1, 2, -2 and
//! infinity (Lavin & Gray, arXiv 1509.09308, section 4.3). Each transform is applied to the columns and then to the
//! rows of a small square, for as many squares at once as a vector has lanes.
use crate::cpu::matmul::lanes::Lanes;

/// Side of a tile of the output.
pub(super) const TILE: usize = 4;
/// Side of the patch of the input from which a tile is computed.
pub(super) const PATCH: usize = 6;
/// Number of positions of the transformed patch, and so of matrix products.
pub(super) const POSITIONS: usize = PATCH * PATCH;

/// A linear map from `IN` to `OUT` numbers.
///
/// # Safety
/// The processor must have the instruction set of the [`Lanes`].
pub(super) trait Map<const IN: usize, const OUT: usize> {
    unsafe fn apply<L: Lanes>(v: [L; IN]) -> [L; OUT];
}

/// The transform of the input, `B^T`.
pub(super) struct Input;
impl Map<PATCH, PATCH> for Input {
    #[inline(always)]
    unsafe fn apply<L: Lanes>([d0, d1, d2, d3, d4, d5]: [L; PATCH]) -> [L; PATCH] {
        // SAFETY: the trait's.
        unsafe {
            let (two, minus4, minus5, four) = (L::splat(2.0), L::splat(-4.0), L::splat(-5.0), L::splat(4.0));
            let (even, odd) = (minus4.mul_add(d2, d4), minus4.mul_add(d1, d3));
            let (near, far) = (d4.sub(d2), two.mul(d3.sub(d1)));
            [
                four.mul_add(d0, minus5.mul_add(d2, d4)),
                even.add(odd),
                even.sub(odd),
                near.add(far),
                near.sub(far),
                four.mul_add(d1, minus5.mul_add(d3, d5)),
            ]
        }
    }
}

/// The transform of the products to the output, `A^T`.
pub(super) struct Output;
impl Map<PATCH, TILE> for Output {
    #[inline(always)]
    unsafe fn apply<L: Lanes>([m0, m1, m2, m3, m4, m5]: [L; PATCH]) -> [L; TILE] {
        // SAFETY: the trait's.
        unsafe {
            let (s1, d1, s2, d2) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
            [
                m0.add(s1).add(s2),
                L::splat(2.0).mul_add(d2, d1),
                L::splat(4.0).mul_add(s2, s1),
                L::splat(8.0).mul_add(d2, d1.add(m5)),
            ]
        }
    }
}

/// The transform of the weights, `G`.
pub(super) struct Kernel;
impl Map<3, PATCH> for Kernel {
    #[inline(always)]
    unsafe fn apply<L: Lanes>([g0, g1, g2]: [L; 3]) -> [L; PATCH] {
        // SAFETY: the trait's.
        unsafe {
            let sixth = L::splat(-1.0 / 6.0);
            let (sum, middle) = (sixth.mul(g0.add(g2)), sixth.mul(g1));
            let (outer, inner) =
                (L::splat(1.0 / 6.0).mul_add(g2, L::splat(1.0 / 24.0).mul(g0)), L::splat(1.0 / 12.0).mul(g1));
            [L::splat(0.25).mul(g0), sum.add(middle), sum.sub(middle), outer.add(inner), outer.sub(inner), g2]
        }
    }
}

/// The transform of the output's gradient, which takes the role of the kernel in F(3x3, 4x4): `G` for four taps.
pub(super) struct Gradient;
impl Map<TILE, PATCH> for Gradient {
    #[inline(always)]
    unsafe fn apply<L: Lanes>([y0, y1, y2, y3]: [L; TILE]) -> [L; PATCH] {
        // SAFETY: the trait's.
        unsafe {
            let sixth = L::splat(-1.0 / 6.0);
            let (even, odd) = (sixth.mul(y0.add(y2)), sixth.mul(y1.add(y3)));
            let outer = L::splat(1.0 / 6.0).mul_add(y2, L::splat(1.0 / 24.0).mul(y0));
            let inner = L::splat(1.0 / 3.0).mul_add(y3, L::splat(1.0 / 12.0).mul(y1));
            [L::splat(0.25).mul(y0), even.add(odd), even.sub(odd), outer.add(inner), outer.sub(inner), y3]
        }
    }
}

/// The transform of the products to the kernel's gradient, `A^T` for three results.
pub(super) struct KernelGradient;
impl Map<PATCH, 3> for KernelGradient {
    #[inline(always)]
    unsafe fn apply<L: Lanes>([m0, m1, m2, m3, m4, m5]: [L; PATCH]) -> [L; 3] {
        // SAFETY: the trait's.
        unsafe {
            let (s1, d1, s2, d2) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
            [m0.add(s1).add(s2), L::splat(2.0).mul_add(d2, d1), L::splat(4.0).mul_add(s2, s1.add(m5))]
        }
    }
}

/// Applies `M` to the columns and then to the rows of `IN x IN` squares.
///
/// # Safety
/// The processor must have the instruction set of the [`Lanes`].
#[inline(always)]
pub(super) unsafe fn both_ways<L: Lanes, M: Map<IN, OUT>, const IN: usize, const OUT: usize>(
    square: [[L; IN]; IN],
) -> [[L; OUT]; OUT] {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = L::splat(0.0);
        let mut half = [[zero; IN]; OUT];
        for column in 0..IN {
            let mut v = [zero; IN];
            for (v, row) in v.iter_mut().zip(&square) {
                *v = row[column];
            }
            let v = M::apply(v);
            for (row, v) in half.iter_mut().zip(v) {
                row[column] = v;
            }
        }
        let mut out = [[zero; OUT]; OUT];
        for (out, row) in out.iter_mut().zip(half) {
            *out = M::apply(row);
        }
        out
    }
}
