//! Several feature maps of each image in one tensor.
use burn::tensor::Tensor;

/// Height and width of a feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSize {
    /// Number of rows of the feature map.
    pub height: usize,
    /// Number of columns of the feature map.
    pub width: usize,
}

impl MapSize {
    /// Returns the size of the maps in a tensor `[batch, channels, height, width]`.
    pub fn of(map: &Tensor<4>) -> Self {
        let [_, _, height, width] = map.dims();
        Self { height, width }
    }
}

/// Position and size of one map within each channel of a tensor `[batch, channels, pixels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Index of the map's first element within a channel.
    pub(crate) offset: usize,
    /// Number of rows of the map.
    pub(crate) height: usize,
    /// Number of columns of the map.
    pub(crate) width: usize,
}

/// The maps in a tensor `[batch, channels, pixels]`: one after the other within each channel, each row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maps {
    /// Number of images.
    pub(crate) batch: usize,
    /// Number of pixels of all maps together.
    pub(crate) pixels: usize,
    /// Position and size of each map, in the order in which they are stored.
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
