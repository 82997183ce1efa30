//! The locations of a regular grid that are nearest to a point.

use crate::AnchorGrid;

/// A row or column of a grid, with the square of its distance to a point along its axis.
#[derive(Clone, Copy)]
struct Line {
    index: usize,
    square: f64,
}

/// A location of a grid.
#[derive(Clone, Copy)]
pub(super) struct Location {
    /// Index of its row.
    pub(super) row: usize,
    /// Index of its column.
    pub(super) column: usize,
    /// Square of its distance to the point, in square pixels.
    square: f64,
}

/// Finds the locations of grids that are nearest to points. It keeps its memory from one search to the next.
#[derive(Default)]
pub(super) struct NearestLocations {
    rows: Vec<Line>,
    columns: Vec<Line>,
    found: Vec<Location>,
}

impl NearestLocations {
    /// Returns the `count` locations of `grid`, or all if there are fewer, whose centres are nearest to the point
    /// `(x, y)` in pixels, the nearest first. Of locations at the same distance, those with the lower index come first.
    ///
    /// Only a small part of the grid is looked at. Let `i` be the position of a row among all rows in the order of
    /// their distances to the point, and `j` that of a column, both from 0. All locations in rows up to position `i`
    /// and columns up to position `j` are at most as far as the location where the two cross. The location can
    /// therefore be among the nearest `count` only if `(i + 1) * (j + 1) <= count`. Distances are computed in `f64`,
    /// which distinguishes those of all points up to 100,000 pixels from the grid.
    pub(super) fn of(&mut self, grid: &AnchorGrid, [x, y]: [f64; 2], count: usize) -> &[Location] {
        let count = count.min(grid.size.positions());
        nearest_lines(grid.size.height, grid.stride_y, y, count, &mut self.rows);
        nearest_lines(grid.size.width, grid.stride_x, x, count, &mut self.columns);
        self.found.clear();
        for (i, row) in self.rows.iter().enumerate() {
            let crossing = self.columns.iter().take(count / (i + 1));
            self.found.extend(crossing.map(|column| Location {
                row: row.index,
                column: column.index,
                square: column.square + row.square,
            }));
        }
        self.found.sort_unstable_by(|a, b| {
            a.square.total_cmp(&b.square).then(a.row.cmp(&b.row)).then(a.column.cmp(&b.column))
        });
        self.found.truncate(count);
        &self.found
    }
}

/// Finds the `count` lines, or all if there are fewer, of `lines` lines at multiples of `stride` pixels that are
/// nearest to the coordinate `at` in pixels, the nearest first. Of two lines at the same distance, the lower comes
/// first.
fn nearest_lines(lines: usize, stride: usize, at: f64, count: usize, found: &mut Vec<Line>) {
    found.clear();
    let square = |index: usize| {
        let distance = (index * stride) as f64 - at;
        distance * distance
    };
    // The next line on either side: `before - 1` and `after`.
    let mut before = (at / stride as f64 + 1.0).floor().clamp(0.0, lines as f64) as usize;
    let mut after = before;
    while found.len() < count.min(lines) {
        let is_before = before > 0 && (after == lines || square(before - 1) <= square(after));
        let index = if is_before { before - 1 } else { after };
        if is_before {
            before -= 1;
        } else {
            after += 1;
        }
        found.push(Line { index, square: square(index) });
    }
}
