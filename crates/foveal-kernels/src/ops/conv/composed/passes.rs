//! The forward pass and the gradients of the composed convolution, in the operations of any backend.
use burn::backend::{Backend, TensorMetadata, tensor::FloatTensor};
use burn::tensor::{DType, Shape, Slice};

use super::super::geometry::Geometry;
use crate::ops::elementwise::Activation;

/// Description of a composed convolution.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Sizes of the input, the output and the kernel, with stride, padding and groups.
    pub(super) geometry: Geometry,
    /// Activation that is applied last.
    pub(super) activation: Activation,
}

/// The weight that the forward pass reads.
pub(super) enum Kernel<T> {
    /// The folded weight, `[out_channels, in_channels / groups, kernel, kernel]`, for Burn's forward pass.
    Folded(T),
    /// The turned weight for Burn's input gradient.
    Turned {
        /// `[in_channels, out_channels, kernel, kernel]`.
        weight: T,
        /// Number of output channels that are computed at a time.
        at_once: usize,
    },
}

/// Bytes of 32-bit columns up to which all output channels are computed at a time.
const COLUMN_BYTES: usize = 64 << 20;

/// Number of output channels that the input gradient of a turned weight computes at a time.
///
/// By matrix multiplication, it stores `kernel^2` numbers for each output pixel and output channel. The layer that
/// predicts 80 classes at nine anchors has 720 output channels: 435 MB for each image at 800x1344. The limits are
/// [`COLUMN_BYTES`] and the size of what the gradient of the weight stores, `kernel^2` numbers for each output pixel
/// and input channel, so that the forward pass needs no more memory than the backward pass does.
pub(super) fn outputs_at_once(geometry: &Geometry) -> usize {
    let bytes_per_channel = 4 * geometry.batch * geometry.out_plane() * geometry.taps();
    geometry.out_channels.min(geometry.in_channels.max(COLUMN_BYTES / bytes_per_channel.max(1)))
}

/// Converts to a data type; a tensor that has it already is returned as it is.
fn cast<B: Backend>(tensor: FloatTensor<B>, to: DType) -> FloatTensor<B> {
    if tensor.dtype() == to { tensor } else { B::float_cast(tensor, to.into()) }
}

/// Computes `activation(conv(x, kernel) + shift + residual)` in the data type of `x`.
pub(super) fn forward<B: Backend>(
    x: FloatTensor<B>,
    kernel: Kernel<FloatTensor<B>>,
    shift: Option<FloatTensor<B>>,
    residual: Option<FloatTensor<B>>,
    spec: &Spec,
) -> FloatTensor<B> {
    let (maps, options) = (x.dtype(), spec.geometry.burn_options());
    let y = match kernel {
        Kernel::Turned { weight, at_once } => by_input_gradient::<B>(x, weight, at_once, &spec.geometry),
        // Without further operations on the result, the convolution adds the shift while it stores its result.
        Kernel::Folded(weight) if residual.is_none() && spec.activation == Activation::None => {
            return B::conv2d(x, weight, shift.map(|shift| cast::<B>(shift, maps)), options);
        }
        Kernel::Folded(weight) => B::conv2d(x, weight, None, options),
    };
    finish::<B>(y, shift, residual, spec.activation)
}

/// Computes the convolution as the input's gradient of the one with the turned weight, `at_once` output channels at a
/// time.
fn by_input_gradient<B: Backend>(
    x: FloatTensor<B>,
    turned: FloatTensor<B>,
    at_once: usize,
    geometry: &Geometry,
) -> FloatTensor<B> {
    let [batch, out_channels, height, width] = geometry.output_dims();
    let run = |x: FloatTensor<B>, turned: FloatTensor<B>, channels: usize| {
        let y = of_shape::<B>(&x, [batch, channels, height, width]);
        B::conv2d_x_backward(y, turned, x, geometry.burn_options())
    };
    if at_once >= out_channels {
        return run(x, turned, out_channels);
    }
    let parts = (0..out_channels).step_by(at_once).map(|first| {
        let channels = at_once.min(out_channels - first);
        let mut slices = [Slice::full(); 4];
        slices[1] = Slice::from(first..first + channels);
        run(x.clone(), B::float_slice(turned.clone(), &slices), channels)
    });
    B::float_cat(parts.collect(), 1)
}

/// Computes `activation(y + shift + residual)` in the data type of the shift and returns it in that of `y`. Burn fuses
/// these operations into one pass over the maps.
fn finish<B: Backend>(
    y: FloatTensor<B>,
    shift: Option<FloatTensor<B>>,
    residual: Option<FloatTensor<B>>,
    activation: Activation,
) -> FloatTensor<B> {
    let maps = y.dtype();
    let inner = shift.as_ref().map_or(maps, TensorMetadata::dtype);
    let mut y = y;
    if let Some(shift) = shift {
        let channels = shift.shape().num_elements();
        y = B::float_add(cast::<B>(y, inner), B::float_reshape(shift, Shape::from([1, channels, 1, 1])));
    }
    if let Some(residual) = residual {
        y = B::float_add(y, cast::<B>(residual, inner));
    }
    if activation == Activation::Relu {
        y = B::relu(y);
    }
    cast::<B>(y, maps)
}

/// A tensor with the dimensions `dims` for operations that read nothing but the shape. It is `x` if that has the
/// dimensions, else a single number seen as such a tensor.
fn of_shape<B: Backend>(x: &FloatTensor<B>, dims: [usize; 4]) -> FloatTensor<B> {
    let shape = Shape::from(dims);
    if x.shape() == shape {
        return x.clone();
    }
    B::float_expand(B::float_empty(Shape::from([1; 4]), &x.device(), x.dtype().into()), shape)
}

/// The gradient of the result before the activation, from the gradient of the result `y`; without `y` there is no
/// activation.
pub(super) fn masked<B: Backend>(grad: FloatTensor<B>, y: Option<FloatTensor<B>>) -> FloatTensor<B> {
    match y {
        Some(y) => B::relu_backward(y, grad),
        None => grad,
    }
}

/// Gradient of the shift, `[out_channels]`, in the data type `to`: the sum of the gradient over images and pixels. On
/// GPUs this is one reduction of channels-last maps, which sums 16-bit numbers in 32 bits.
pub(super) fn shift_grad<B: Backend>(grad: FloatTensor<B>, to: DType) -> FloatTensor<B> {
    let [_, channels, _, _] = grad.shape().dims();
    let sums = cast::<B>(B::float_sum_dims(grad, &[0, 2, 3]), to);
    B::float_reshape(sums, Shape::from([channels]))
}

/// Gradient of the weight, in the data type `to`. The folded weight gives the shape.
pub(super) fn weight_grad<B: Backend>(
    x: FloatTensor<B>,
    folded: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: Option<FloatTensor<B>>,
    to: DType,
    spec: &Spec,
) -> FloatTensor<B> {
    let g = &spec.geometry;
    let dw = cast::<B>(B::conv2d_weight_backward(x, folded, grad, g.burn_options()), to);
    match scale {
        Some(scale) => B::float_mul(dw, B::float_reshape(scale, Shape::from([g.out_channels, 1, 1, 1]))),
        None => dw,
    }
}

/// Gradient of the input. `x` gives the shape; it may be absent, if nothing else needed it.
pub(super) fn input_grad<B: Backend>(
    x: Option<FloatTensor<B>>,
    folded: FloatTensor<B>,
    grad: FloatTensor<B>,
    spec: &Spec,
) -> FloatTensor<B> {
    let g = &spec.geometry;
    let x = x.unwrap_or_else(|| of_shape::<B>(&grad, [g.batch, g.in_channels, g.height, g.width]));
    B::conv2d_x_backward(x, folded, grad, g.burn_options())
}
