//! The gradient norm, clipping and parameter updates on a GPU, for all parameters of a network in a few launches.
//!
//! A network has about a hundred parameters, most of them small. On a GPU, the cost of launching kernels for each of
//! them is higher than that of the arithmetic. These kernels therefore take as many tensors as an adapter can bind.
//! They exist on GPUs only. `foveal-train` computes the same by slices on CPUs and by Burn's operations elsewhere, and
//! the tests compare the two.
#[cfg(feature = "wgpu")]
mod kernel;
#[cfg(feature = "wgpu")]
mod launch;
#[cfg(feature = "wgpu")]
mod node;
#[cfg(feature = "wgpu")]
mod order;

use burn::backend::TensorMetadata;
use burn::tensor::{Bool, DispatchTensor, Tensor};

/// A parameter `p` and what its optimizer keeps for it, all of the same shape.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The parameter `p`.
    pub param: DispatchTensor,
    /// The momentum of SGD or the first moment of AdamW, `m`.
    pub first: DispatchTensor,
    /// The second moment of AdamW, `v`; `None` with SGD.
    pub second: Option<DispatchTensor>,
}

/// One update of one parameter.
#[derive(Clone, Debug)]
pub struct Update {
    /// The parameter with its state.
    pub trained: Trained,
    /// Its gradient, of the same shape.
    pub gradient: DispatchTensor,
    /// The learning rate; with AdamW, divided by the bias correction of the first moment.
    pub rate: f32,
    /// With SGD the weight decay; with AdamW the factor of the parameter, `1 - learning rate * weight decay`.
    pub decay: f32,
}

/// How a parameter `p` is updated with a gradient `g`, with the [rate and decay](Update) of the parameter. The gradient
/// has been multiplied by the factor of clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// `m = momentum * m + (g + decay * p)`, then `p = p - rate * m`.
    Sgd {
        /// Momentum.
        momentum: f32,
    },
    /// `m = m + rest[0] * (g - m)` and `v = beta2 * v + rest[1] * g * g`, then
    /// `p = p * decay - rate * (m / (sqrt(v) / root + eps))`.
    AdamW {
        /// Decay rate of the second moment.
        beta2: f32,
        /// 1 minus the decay rate of both moments.
        rest: [f32; 2],
        /// Square root of the bias correction of the second moment.
        root: f32,
        /// Added to the root of the bias-corrected second moment.
        eps: f32,
    },
}

/// Whether [`l2_norm`], [`clip`], [`update_parameters`] and [`update_averages`] take the tensor: it is an `f32` tensor
/// on a GPU, without autodiff, and [`reference`](crate::reference) is false.
pub fn has_update_kernels(tensor: &DispatchTensor) -> bool {
    #[cfg(feature = "wgpu")]
    return !crate::reference() && node::takes(tensor);
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = tensor;
        false
    }
}

/// Computes the L2 norm of all elements of all tensors together: `[1]`. Nothing is read from the device.
///
/// The squares are added in an order that depends on the shapes and memory layouts alone. The relative error of the
/// norm is at most about 1e-6.
///
/// # Panics
/// If there is no tensor, or if [`has_update_kernels`] is false for one.
pub fn l2_norm(tensors: Vec<DispatchTensor>) -> Tensor<1> {
    assert!(!tensors.is_empty(), "l2_norm: a tensor");
    assert!(tensors.iter().all(has_update_kernels), "l2_norm: tensors on a GPU");
    #[cfg(feature = "wgpu")]
    return node::l2_norm(tensors);
    #[cfg(not(feature = "wgpu"))]
    unreachable!("no tensor is on a GPU")
}

/// Returns the factor of clipping, `min(1, limit / (norm + epsilon))` or 1 if `limit` is 0, and whether both loss and
/// norm are finite. Nothing is read from the device.
///
/// # Shapes
/// - loss, norm, results: `[1]`
///
/// # Panics
/// If [`has_update_kernels`] is false for the loss or the norm.
pub fn clip(loss: Tensor<1>, norm: Tensor<1>, limit: f32, epsilon: f32) -> (Tensor<1>, Tensor<1, Bool>) {
    let on_gpu = [&loss, &norm].into_iter().all(|tensor| has_update_kernels(&tensor.clone().into_dispatch()));
    assert!(on_gpu, "clip: loss and norm on a GPU");
    assert_eq!((loss.dims(), norm.dims()), ([1], [1]), "clip: shapes of loss and norm");
    #[cfg(feature = "wgpu")]
    return node::clip(loss, norm, [limit, epsilon]);
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = (limit, epsilon);
        unreachable!("no tensor is on a GPU")
    }
}

/// Updates parameters and their states by `rule`, with gradients multiplied by `factor`. If `finite` is false, no value
/// changes. Nothing is read from the device.
///
/// The results have the memory layouts of the gradients. They take the memory of the parameters and states, as far as
/// these have the layout of their gradient and nothing else uses them; others are copied first.
///
/// # Shapes
/// - factor, finite: `[1]`
///
/// # Panics
/// If [`has_update_kernels`] is false for a tensor, if the tensors of a parameter differ in shape, or if one has no
/// second moment with AdamW or has one with SGD.
pub fn update_parameters(
    updates: Vec<Update>,
    rule: UpdateRule,
    factor: Tensor<1>,
    finite: Tensor<1, Bool>,
) -> Vec<Trained> {
    assert_eq!((factor.dims(), finite.dims()), ([1], [1]), "update_parameters: shapes of factor and flag");
    assert!(has_update_kernels(&factor.clone().into_dispatch()), "update_parameters: a factor on a GPU");
    for Update { trained, gradient, .. } in &updates {
        let Trained { param, first, second } = trained;
        let second_moment = matches!(rule, UpdateRule::AdamW { .. });
        assert_eq!(second.is_some(), second_moment, "update_parameters: second moment");
        for tensor in [gradient, param, first].into_iter().chain(second) {
            assert!(has_update_kernels(tensor), "update_parameters: tensors on a GPU");
            assert_eq!(tensor.shape(), gradient.shape(), "update_parameters: shapes of the tensors of a parameter");
        }
    }
    #[cfg(feature = "wgpu")]
    return node::update(updates, rule, factor, finite);
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = (factor, finite);
        unreachable!("no tensor is on a GPU")
    }
}

/// Moves averages towards values: for each pair of an average `a` and a value `v` returns `a + share * (v - a)`, or `a`
/// if `finite` is false. Nothing is read from the device. Memory layouts and memory are as in [`update_parameters`],
/// with the values in place of the gradients.
///
/// # Shapes
/// - finite: `[1]`
///
/// # Panics
/// If [`has_update_kernels`] is false for a tensor, or if the tensors of a pair differ in shape.
pub fn update_averages(
    pairs: Vec<(DispatchTensor, DispatchTensor)>,
    share: f32,
    finite: Tensor<1, Bool>,
) -> Vec<DispatchTensor> {
    assert_eq!(finite.dims(), [1], "update_averages: shape of the flag");
    for (average, value) in &pairs {
        assert!(has_update_kernels(average) && has_update_kernels(value), "update_averages: tensors on a GPU");
        assert_eq!(average.shape(), value.shape(), "update_averages: shapes of a pair");
    }
    #[cfg(feature = "wgpu")]
    return node::average(pairs, share, finite);
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = (share, finite);
        unreachable!("no tensor is on a GPU")
    }
}
