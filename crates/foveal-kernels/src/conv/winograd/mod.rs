//! 3x3 convolutions, stride 1 and padding 1, by Winograd's minimal filtering F(4x4, 3x3): 36 multiplications for the
//! 144 of a tile (Lavin & Gray, arXiv 1509.09308). The input's gradient is such a convolution too; the weight's is
//! F(3x3, 4x4), on the same points.
mod forward;
mod gradient;
mod tiling;
mod transform;
mod weight;

pub(crate) use forward::convolve;
pub(crate) use gradient::weight_grad;
pub(crate) use weight::Weights;

use super::maps::Maps;

/// Channels below which the transforms cost more than they save.
const MIN_CHANNELS: usize = 16;
/// Tiles below which the transforms of the weights cost more than the products save.
const MIN_TILES: usize = 24;

/// Whether this is the faster way.
pub(crate) fn pays(inputs: usize, outputs: usize, maps: &Maps) -> bool {
    inputs.min(outputs) >= MIN_CHANNELS && tiling::count(maps) >= MIN_TILES
}
