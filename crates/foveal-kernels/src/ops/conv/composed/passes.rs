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
    /// Activation that is applied to the sum.
    pub(super) activation: Activation,
    /// Whether the scale is folded into the weight; it is else applied to the result of the convolution.
    pub(super) scale_in_weight: bool,
    /// Whether nothing but a bias is added to the result of the convolution, by Burn's convolution itself.
    pub(super) only_bias: bool,
}

/// What is done with the result of a convolution.
pub(super) struct After<T> {
    /// Factor of each channel, `[1, out_channels, 1, 1]`.
    pub(super) scale: Option<T>,
    /// Number added to each channel, `[1, out_channels, 1, 1]`.
    pub(super) shift: Option<T>,
    /// Tensor that is added, of the shape of the result.
    pub(super) residual: Option<T>,
    /// Activation of the sum.
    pub(super) activation: Activation,
    /// Factor of each pixel after the activation, `[1, 1, out_height, out_width]`.
    pub(super) mask: Option<T>,
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

/// Computes `conv(x, kernel)`.
pub(super) fn convolved<B: Backend>(x: FloatTensor<B>, kernel: Kernel<FloatTensor<B>>, spec: &Spec) -> FloatTensor<B> {
    match kernel {
        Kernel::Turned { weight, at_once } => by_input_gradient::<B>(x, weight, at_once, &spec.geometry),
        Kernel::Folded(weight) => B::conv2d(x, weight, None, spec.geometry.burn_options()),
    }
}

/// Computes `conv(x, kernel) + bias`, where the convolution adds the bias `[out_channels]` while it stores its result.
pub(super) fn biased<B: Backend>(
    x: FloatTensor<B>,
    kernel: Kernel<FloatTensor<B>>,
    bias: Option<FloatTensor<B>>,
    spec: &Spec,
) -> FloatTensor<B> {
    let Kernel::Folded(weight) = kernel else { unreachable!("the input's gradient adds no bias") };
    let bias = bias.map(|bias| cast::<B>(bias, x.dtype()));
    B::conv2d(x, weight, bias, spec.geometry.burn_options())
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

/// Computes `activation(y * scale + shift + residual) * mask` in the data type of scale and shift and returns it in
/// that of `y`. Burn fuses these operations into one pass over the maps.
pub(super) fn finish<B: Backend>(y: FloatTensor<B>, after: After<FloatTensor<B>>) -> FloatTensor<B> {
    let After { scale, shift, residual, activation, mask } = after;
    let maps = y.dtype();
    let inner = scale.as_ref().or(shift.as_ref()).map_or(maps, TensorMetadata::dtype);
    let mut y = cast::<B>(y, inner);
    if let Some(scale) = scale {
        y = B::float_mul(y, scale);
    }
    if let Some(shift) = shift {
        y = B::float_add(y, shift);
    }
    if let Some(residual) = residual {
        y = B::float_add(y, cast::<B>(residual, inner));
    }
    if activation == Activation::Relu {
        y = B::relu(y);
    }
    y = cast::<B>(y, maps);
    match mask {
        Some(mask) => B::float_mul(y, mask),
        None => y,
    }
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

/// The gradient of the sum before the activation, from the gradient of the final result. `y` is the final result if
/// there is an activation: it is 0 where the activation or the mask is 0. The mask is needed only without an
/// activation.
pub(super) fn masked<B: Backend>(
    grad: FloatTensor<B>,
    y: Option<FloatTensor<B>>,
    mask: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    match (y, mask) {
        (Some(y), _) => B::relu_backward(y, grad),
        (None, Some(mask)) => B::float_mul(grad, mask),
        (None, None) => grad,
    }
}

/// Gradient of the weight, in the data type `to`. The folded weight gives the shape; `scale` is the factor that is
/// folded into it, `[1, out_channels, 1, 1]`.
pub(super) fn weight_grad<B: Backend>(
    x: FloatTensor<B>,
    folded: FloatTensor<B>,
    grad: FloatTensor<B>,
    scale: Option<FloatTensor<B>>,
    to: DType,
    g: &Geometry,
) -> FloatTensor<B> {
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
    g: &Geometry,
) -> FloatTensor<B> {
    let x = x.unwrap_or_else(|| of_shape::<B>(&grad, [g.batch, g.in_channels, g.height, g.width]));
    B::conv2d_x_backward(x, folded, grad, g.burn_options())
}
