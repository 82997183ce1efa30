//! The sizes of the feature maps of the pyramid levels.

use serde::{Deserialize, Serialize};

/// Number of pyramid levels: five, P3 to P7 (Lin et al., arXiv 1708.02002, section 4).
pub const LEVELS: usize = 5;

/// Nominal stride in pixels of each pyramid level, P3 to P7: 2^level, from 8 to 128.
pub const STRIDES: [usize; LEVELS] = [8, 16, 32, 64, 128];

/// Height and width of the feature map of one pyramid level, in locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridSize {
    /// Number of rows of the feature map.
    pub height: usize,
    /// Number of columns of the feature map.
    pub width: usize,
}

impl GridSize {
    /// Number of locations of the feature map: rows times columns.
    pub const fn positions(&self) -> usize {
        self.height * self.width
    }
}

/// The grid that the centres of the anchors of one pyramid level form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchorGrid {
    /// Number of rows and columns.
    pub size: GridSize,
    /// Distance of two rows in pixels.
    pub stride_y: usize,
    /// Distance of two columns in pixels.
    pub stride_x: usize,
}

impl AnchorGrid {
    /// The centre `[x, y]` of the anchors of a location, in pixels of the padded image. It is the exact centre: that of
    /// the edges of an anchor can differ from it by the rounding of the edges.
    pub fn center(&self, row: usize, column: usize) -> [f32; 2] {
        [(column * self.stride_x) as f32, (row * self.stride_y) as f32]
    }

    /// The centre `[x, y]` of the location that is nearest to a point, in pixels of the padded image.
    pub(crate) fn nearest_center(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let nearest = |at: f32, stride: usize, count: usize| {
            ((at / stride as f32).round().max(0.0) as usize).min(count.saturating_sub(1))
        };
        self.center(nearest(y, self.stride_y, self.size.height), nearest(x, self.stride_x, self.size.width))
    }
}

/// The sizes of the feature maps P3 to P7 for a padded image of the given height and width in pixels.
///
/// Each level halves the height and width of the level below it and rounds up, as a 3x3 convolution with stride 2 and
/// padding 1 does. P3 is halved three times.
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

    #[test]
    fn the_nearest_centre_is_on_the_grid() {
        let grid = AnchorGrid { size: GridSize { height: 3, width: 5 }, stride_y: 10, stride_x: 8 };
        assert_eq!(grid.nearest_center([13.0, 14.0]), [16.0, 10.0]);
        assert_eq!(grid.nearest_center([-9.0, 500.0]), [0.0, 20.0]);
        assert_eq!(grid.nearest_center([f32::INFINITY, f32::NAN]), [32.0, 0.0]);
    }
}
