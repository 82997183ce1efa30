//! Several maps of each image in one tensor.
use burn::tensor::Tensor;

/// Height and width of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl MapSize {
    /// The size of the maps in a tensor `[batch, channels, height, width]`.
    pub fn of(map: &Tensor<4>) -> Self {
        let [_, _, height, width] = map.dims();
        Self { height, width }
    }
}

/// One map within every channel of `[batch, channels, pixels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// The map's first element within a channel.
    pub(crate) offset: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

/// Which maps a tensor `[batch, channels, pixels]` holds, each row by row, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) batch: usize,
    /// Pixels of all maps together.
    pub(crate) pixels: usize,
    pub(crate) levels: Vec<Level>,
}

impl Maps {
    pub(crate) fn new(batch: usize, sizes: &[MapSize]) -> Self {
        let mut pixels = 0;
        let levels = sizes
            .iter()
            .map(|&MapSize { height, width }| {
                let level = Level { offset: pixels, height, width };
                pixels += height * width;
                level
            })
            .collect();
        Self { batch, pixels, levels }
    }
}
