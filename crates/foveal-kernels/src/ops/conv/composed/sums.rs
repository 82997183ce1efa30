//! The sums of a map's channels, which are the gradient of a bias.
use burn::backend::{Backend, Flex, NdArray, TensorMetadata, backend_extension, tensor::FloatTensor};
use burn::tensor::{DType, Shape};

/// Extension of Burn's backends by the sums of channels. It is one operation, because fusion would run the change of
/// the shape as an operation of its own.
#[backend_extension(NdArray, Flex, Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
pub(super) trait ChannelSumOps: Backend {
    /// Sums a map over images and pixels and converts the sums to the data type `to`. On GPUs this is one reduction of
    /// channels-last maps, which adds 16-bit numbers in 32 bits and rounds each sum to 16 bits.
    ///
    /// # Shapes
    /// - map: `[batch, channels, height, width]`
    /// - result: `[channels]`
    #[fusion(meta = channel_sums_spec)]
    fn channel_sums(map: FloatTensor<Self>, to: DType) -> FloatTensor<Self> {
        let [_, channels, _, _] = map.shape().dims();
        let sums = Self::float_sum_dims(map, &[0, 2, 3]);
        let sums = if sums.dtype() == to { sums } else { Self::float_cast(sums, to.into()) };
        Self::float_reshape(sums, Shape::from([channels]))
    }
}

impl ChannelSumOps for NdArray {}
impl ChannelSumOps for Flex {}
#[cfg(feature = "wgpu")]
impl ChannelSumOps for burn::backend::wgpu::CubeBackend {}

#[cfg(feature = "wgpu")]
type TensorSpec = burn::backend::fusion::custom::TensorSpec;

/// The shape and data type of the sums.
#[cfg(feature = "wgpu")]
fn channel_sums_spec(map: &TensorSpec, to: &DType) -> TensorSpec {
    let [_, channels, _, _] = map.shape.dims();
    TensorSpec::new(Shape::from([channels]), *to)
}
