//! The places of the tiles of an image.

/// A tile in its image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// The tiles of an image of this width and height, row by row.
pub(super) fn windows((width, height): (u32, u32), size: u32, overlap: f64) -> Vec<Window> {
    let columns = starts(width, size, overlap);
    let rows = starts(height, size, overlap);
    let row = |y: &u32| {
        let y = *y;
        columns.iter().map(move |x| Window { x: *x, y, width: width.min(size), height: height.min(size) })
    };
    rows.iter().flat_map(row).collect()
}

/// Where the tiles begin along a side of an image. The last one ends where the image ends.
fn starts(length: u32, size: u32, overlap: f64) -> Vec<u32> {
    let Some(last) = length.checked_sub(size) else { return vec![0] };
    // Rounding down gives at least the overlap that was asked for.
    let step = ((f64::from(size) * (1.0 - overlap)).floor() as u32).max(1);
    (0..last).step_by(step as usize).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_tile_is_shifted_inwards() {
        assert_eq!(starts(100, 40, 0.0), [0, 40, 60]);
        assert_eq!(starts(100, 40, 0.5), [0, 20, 40, 60]);
        assert_eq!(starts(100, 40, 0.26), [0, 29, 58, 60]);
        assert_eq!((starts(40, 40, 0.2), starts(30, 40, 0.2), starts(41, 40, 0.2)), (vec![0], vec![0], vec![0, 1]));
        let all = windows((100, 30), 40, 0.0);
        assert_eq!(all.len(), 3);
        assert_eq!(all[2], Window { x: 60, y: 0, width: 40, height: 30 });
    }

    #[test]
    fn every_pixel_is_on_a_tile_and_neighbours_overlap() {
        for length in 1..60 {
            for size in 1..30 {
                for overlap in [0.0, 0.2, 0.9, 0.999] {
                    let starts = starts(length, size, overlap);
                    assert_eq!(starts[0], 0);
                    assert_eq!(starts.last().unwrap() + size.min(length), length);
                    for pair in starts.windows(2) {
                        let shared = pair[0] + size - pair[1];
                        assert!(pair[0] < pair[1] && shared >= (f64::from(size) * overlap).floor() as u32);
                    }
                }
            }
        }
    }
}
