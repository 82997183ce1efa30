//! The positions of the tiles, and the rows of memory from which their patches are read.
use super::transform::{PATCH, TILE};
use crate::cpu::matmul::COLUMNS;
use crate::ops::conv::maps::Maps;

/// A tile of the output: 4x4 values, or fewer at the lower and right edges of a map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    image: usize,
    /// Index of the map's first element within a channel.
    offset: usize,
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
    let mut tiles = Vec::new();
    for image in 0..maps.batch {
        for level in &maps.levels {
            for row in (0..level.height).step_by(TILE) {
                tiles.extend((0..level.width).step_by(TILE).map(|column| Tile {
                    image,
                    offset: level.offset,
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
    /// The index of the tile's upper left value in channel 0, in a buffer `[batch, channels, pixels]`.
    pub(super) fn start(&self, channels: usize, pixels: usize) -> usize {
        self.image * channels * pixels + self.offset + self.row * self.width + self.column
    }

    pub(super) fn rows(&self) -> usize {
        (self.height - self.row).min(TILE)
    }

    pub(super) fn columns(&self) -> usize {
        (self.width - self.column).min(TILE)
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }
}

/// A row outside of a map.
static ZEROS: [f32; 8] = [0.0; 8];
/// Marks a row of a window that lies outside of the map.
const ABSENT: isize = isize::MIN;

/// The rows of a square window around a tile: `SIDE` rows of `SIDE` values, with a border of `(SIDE - TILE) / 2` values
/// on each side of the tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<const SIDE: usize> {
    /// For each row, the index of its first element in channel 0, or [`ABSENT`]. If the window extends beyond the left
    /// edge of the map, that element belongs to the previous row in memory.
    rows: [isize; SIDE],
    /// The first column within the map, and the first one beyond it.
    inside: [usize; 2],
}

impl<const SIDE: usize> Window<SIDE> {
    pub(super) fn new(tile: Option<&Tile>, channels: usize, pixels: usize) -> Self {
        let Some(tile) = tile else { return Self { rows: [ABSENT; SIDE], inside: [0, SIDE] } };
        let border = (SIDE - TILE) / 2;
        let start = tile.start(channels, pixels) as isize - (border * tile.width + border) as isize;
        let rows = std::array::from_fn(|r| {
            let row = (tile.row + r).checked_sub(border).filter(|&row| row < tile.height);
            row.map_or(ABSENT, |_| start + (r * tile.width) as isize)
        });
        let first = border.saturating_sub(tile.column);
        Self { rows, inside: [first, (tile.width + border - tile.column).min(SIDE)] }
    }

    pub(super) fn has(&self, column: usize) -> bool {
        (self.inside[0]..self.inside[1]).contains(&column)
    }

    fn is_whole(&self) -> bool {
        self.inside == [0, SIDE]
    }
}

/// Space for copies of rows that are too close to the buffer's ends to be read eight elements at a time.
pub(super) type Spare<const SIDE: usize> = [[[f32; 8]; COLUMNS]; SIDE];
/// The address of each row of [`COLUMNS`] windows.
pub(super) type Rows<const SIDE: usize> = [[*const f32; COLUMNS]; SIDE];

/// The address of the row that begins at `at`, or of a copy of the row. Eight elements can be read at the address.
#[inline(always)]
fn row_at(x: &[f32], at: isize, spare: &mut [f32; 8]) -> *const f32 {
    if at >= 0 && at as usize + 8 <= x.len() {
        return x[at as usize..].as_ptr();
    }
    for (i, to) in spare.iter_mut().enumerate() {
        *to = usize::try_from(at + i as isize).ok().and_then(|i| x.get(i)).copied().unwrap_or(0.0);
    }
    spare.as_ptr()
}

/// The windows of [`COLUMNS`] tiles.
#[derive(Clone, Debug)]
pub(super) struct Windows<const SIDE: usize> {
    rows: [[isize; COLUMNS]; SIDE],
    /// The smallest and the largest start of a row that is not absent.
    range: [isize; 2],
    /// For each column of the windows, all bits set if it lies within the map, else none. `None` if all columns of all
    /// windows lie within their maps.
    masks: Option<Box<[[f32; COLUMNS]; SIDE]>>,
}

impl<const SIDE: usize> Windows<SIDE> {
    /// The windows of at most [`COLUMNS`] tiles in a buffer `[batch, channels, pixels]`.
    pub(super) fn new(tiles: &[Tile], channels: usize, pixels: usize) -> Self {
        let windows: [Window<SIDE>; COLUMNS] = std::array::from_fn(|i| Window::new(tiles.get(i), channels, pixels));
        let rows: [[isize; COLUMNS]; SIDE] = std::array::from_fn(|r| windows.map(|w| w.rows[r]));
        let present = || rows.as_flattened().iter().copied().filter(|&at| at != ABSENT);
        let range = [present().min().unwrap_or(0), present().max().unwrap_or(0)];
        let bits = |is: bool| f32::from_bits(if is { u32::MAX } else { 0 });
        let masks = (!windows.iter().all(Window::is_whole))
            .then(|| Box::new(std::array::from_fn(|c| windows.map(|w| bits(w.has(c))))));
        Self { rows, range, masks }
    }

    /// The rows of channel `shift / pixels`.
    #[inline(always)]
    pub(super) fn rows(&self, x: &[f32], shift: usize, spare: &mut Spare<SIDE>) -> Rows<SIDE> {
        let mut rows = [[ZEROS.as_ptr(); COLUMNS]; SIDE];
        let shift = shift as isize;
        if self.range[0] + shift >= 0 && (self.range[1] + shift) as usize + 8 <= x.len() {
            for (row, starts) in rows.iter_mut().zip(&self.rows) {
                for (row, start) in row.iter_mut().zip(starts) {
                    let at = x.as_ptr().wrapping_offset(start.wrapping_add(shift));
                    *row = if *start == ABSENT { *row } else { at };
                }
            }
            return rows;
        }
        for (r, starts) in self.rows.iter().enumerate() {
            for (lane, start) in starts.iter().enumerate().filter(|(_, start)| **start != ABSENT) {
                rows[r][lane] = row_at(x, start + shift, &mut spare[r][lane]);
            }
        }
        rows
    }

    pub(super) fn masks(&self) -> Option<&[[f32; COLUMNS]; SIDE]> {
        self.masks.as_deref()
    }
}

impl<const SIDE: usize> Window<SIDE> {
    /// The rows of `channels` (at most [`COLUMNS`]) channels of one window; the first begins at `shift`, and each of
    /// the others `pixels` after the one before.
    #[inline(always)]
    pub(super) fn channels(
        &self,
        x: &[f32],
        shift: usize,
        pixels: usize,
        channels: usize,
        spare: &mut Spare<SIDE>,
    ) -> Rows<SIDE> {
        let mut rows = [[ZEROS.as_ptr(); COLUMNS]; SIDE];
        for (r, start) in self.rows.iter().enumerate().filter(|(_, start)| **start != ABSENT) {
            let (first, last) = (start + shift as isize, start + (shift + (channels - 1) * pixels) as isize);
            if first >= 0 && last as usize + 8 <= x.len() {
                for (lane, row) in rows[r].iter_mut().enumerate().take(channels) {
                    *row = x.as_ptr().wrapping_offset(first + (lane * pixels) as isize);
                }
                continue;
            }
            for lane in 0..channels {
                rows[r][lane] = row_at(x, first + (lane * pixels) as isize, &mut spare[r][lane]);
            }
        }
        rows
    }
}

/// The windows of the input, with a border of one value around each tile.
pub(super) type PatchWindows = Windows<PATCH>;
