//! Operations that a matrix product applies to its sums before it writes them.
use super::COLUMNS;
use super::lanes::Lanes;

/// `activation(sum * scale + shift + residual)`, which is applied to each sum of a product before it is written. Rows
/// are counted from the first row of the product.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Finish<'a> {
    /// Factor of each row, or `None` for 1.
    pub(crate) scale: Option<&'a [f32]>,
    /// Number added to each row, or `None` for 0.
    pub(crate) shift: Option<&'a [f32]>,
    /// The values that are added, at the same places as in the target, or `None` for 0.
    pub(crate) residual: Option<&'a [f32]>,
    /// Whether a ReLU is applied last.
    pub(crate) relu: bool,
}

impl<'a> Finish<'a> {
    /// Whether the sums stay as they are.
    pub(crate) fn is_none(&self) -> bool {
        !self.relu && self.scale.is_none() && self.shift.is_none() && self.residual.is_none()
    }

    /// The factor of a row.
    pub(crate) fn scale_of(&self, row: usize) -> f32 {
        self.scale.map_or(1.0, |scale| scale[row])
    }

    /// The number added to a row.
    pub(crate) fn shift_of(&self, row: usize) -> f32 {
        self.shift.map_or(0.0, |shift| shift[row])
    }

    /// The operations for the rows from `row` on and the elements of the target from `at` on.
    #[inline(always)]
    pub(crate) fn from(self, row: usize, at: usize) -> Self {
        Self {
            scale: self.scale.map(|scale| &scale[row..]),
            shift: self.shift.map(|shift| &shift[row..]),
            residual: self.residual.map(|residual| &residual[at..]),
            relu: self.relu,
        }
    }

    /// Asks for the cache lines of the residual at `rows` rows of a block, `stride` apart.
    #[inline(always)]
    pub(super) fn prefetch<L: Lanes>(&self, rows: usize, stride: usize) {
        if let Some(residual) = self.residual {
            for row in 0..rows {
                L::prefetch(residual.as_ptr().wrapping_add(row * stride));
            }
        }
    }

    /// Applies the operations to a vector of row `row`, with the residual at element `at` of the target.
    ///
    /// # Safety
    /// The processor must have the instruction set of the vectors. The row must exist, and the residual must have the
    /// elements of the vector.
    #[inline(always)]
    pub(super) unsafe fn apply<L: Lanes>(&self, sum: L, row: usize, at: usize) -> L {
        debug_assert!(self.residual.is_none_or(|residual| at + L::N <= residual.len()));
        // SAFETY: the caller's promise.
        unsafe {
            let scale = self.scale.map_or(1.0, |scale| *scale.get_unchecked(row));
            let shift = self.shift.map_or(0.0, |shift| *shift.get_unchecked(row));
            let mut value = sum.mul_add(L::splat(scale), L::splat(shift));
            if let Some(residual) = self.residual {
                value = value.add(L::load(residual.as_ptr().add(at)));
            }
            if self.relu { value.relu() } else { value }
        }
    }

    /// Applies the operations to the first elements of row `row` of an incomplete block, with the residual from element
    /// `at` of the target on.
    ///
    /// # Safety
    /// The processor must have the instruction set of the vectors, and the row must exist.
    #[inline(always)]
    pub(super) unsafe fn apply_to_part<L: Lanes>(&self, sums: &mut [f32], row: usize, at: usize) {
        let mut values = [0f32; COLUMNS];
        let mut residual = [0f32; COLUMNS];
        let len = sums.len();
        values[..len].copy_from_slice(sums);
        if let Some(from) = self.residual {
            residual[..len].copy_from_slice(&from[at..at + len]);
        }
        let finish = Finish { residual: self.residual.map(|_| residual.as_slice()), ..*self };
        for first in (0..COLUMNS).step_by(L::N) {
            // SAFETY: the arrays have the elements of all vectors; the caller's promise.
            unsafe {
                let value = values.as_mut_ptr().add(first);
                finish.apply(L::load(value), row, first).store(value);
            }
        }
        sums.copy_from_slice(&values[..len]);
    }
}
