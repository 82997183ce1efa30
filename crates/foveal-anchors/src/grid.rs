//! The sizes of the pyramid's levels.

use serde::{Deserialize, Serialize};

/// Number of pyramid levels, P3 to P7 (Lin et al., arXiv 1708.02002, section 4).
pub const LEVELS: usize = 5;

/// Nominal stride of each level in pixels, 2^level for P3..P7.
pub const STRIDES: [usize; LEVELS] = [8, 16, 32, 64, 128];

/// Size of one pyramid level's feature map in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl GridSize {
    /// Rows times columns.
    pub const fn positions(&self) -> usize {
        self.height * self.width
    }
}

/// The sizes of P3..P7 for a padded image in pixels: each level halves the one before, rounding up, as a 3x3
/// convolution of stride 2 and padding 1 does; P3 is the third halving.
pub fn grid_sizes(padded_height: usize, padded_width: usize) -> [GridSize; LEVELS] {
    let halve = |n: usize, times: usize| (0..times).fold(n, |n, _| n.div_ceil(2));
    std::array::from_fn(|level| GridSize {
        height: halve(padded_height, level + 3),
        width: halve(padded_width, level + 3),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up() {
        let sizes = grid_sizes(800, 320).map(|g| (g.height, g.width));
        assert_eq!(sizes, [(100, 40), (50, 20), (25, 10), (13, 5), (7, 3)]);
        assert_eq!(grid_sizes(32, 32).map(|g| g.height), [4, 2, 1, 1, 1]);
    }
}
