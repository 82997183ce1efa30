//! The positions of the tiles, and the pixels from which their windows are read.
use super::transform::TILE;
use crate::ops::conv::maps::Maps;

/// A tile of the output: 4x4 values, or fewer at the lower and right edges of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Index of the map's first pixel, counted over all images.
    start: usize,
    /// Height of the map.
    height: usize,
    /// Width of the map.
    width: usize,
    /// Row of the tile's upper left value in the map.
    row: usize,
    /// Column of the tile's upper left value in the map.
    column: usize,
}

/// All tiles of all maps, in the order of memory.
pub(super) fn tiles(maps: &Maps) -> Vec<Tile> {
    let mut tiles = Vec::with_capacity(count(maps));
    for image in 0..maps.batch {
        for level in &maps.levels {
            let start = image * maps.pixels + level.offset;
            for row in (0..level.height).step_by(TILE) {
                tiles.extend((0..level.width).step_by(TILE).map(|column| Tile {
                    start,
                    height: level.height,
                    width: level.width,
                    row,
                    column,
                }));
            }
        }
    }
    tiles
}

/// The number of tiles that [`tiles`] returns.
pub(super) fn count(maps: &Maps) -> usize {
    maps.batch * maps.levels.iter().map(|l| l.height.div_ceil(TILE) * l.width.div_ceil(TILE)).sum::<usize>()
}

impl Tile {
    /// The index of the pixel at row `r` and column `c` of the tile's window of `SIDE x SIDE` pixels, which has the tile
    /// in its centre; `None` outside of the map.
    #[inline(always)]
    pub(super) fn pixel<const SIDE: usize>(&self, r: usize, c: usize) -> Option<usize> {
        let border = (SIDE - TILE) / 2;
        let row = (self.row + r).checked_sub(border).filter(|&row| row < self.height)?;
        let column = (self.column + c).checked_sub(border).filter(|&column| column < self.width)?;
        Some(self.start + row * self.width + column)
    }
}

/// The addresses of the pixels of a tile's window in a tensor `[pixels, channels]`; those outside of the map point to
/// `zeros`, which has at least `channels` elements.
#[inline(always)]
pub(super) fn window<const SIDE: usize>(
    x: &[f32],
    channels: usize,
    tile: &Tile,
    zeros: &[f32],
) -> [[*const f32; SIDE]; SIDE] {
    std::array::from_fn(|r| {
        std::array::from_fn(|c| match tile.pixel::<SIDE>(r, c) {
            Some(pixel) => x[pixel * channels..][..channels].as_ptr(),
            None => zeros.as_ptr(),
        })
    })
}
