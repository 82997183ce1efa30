//! The normalisation layer: frozen batch norm, batch norm or group norm, with torchvision's parameter names.

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};

use foveal_kernels::{Activation, MapSize, affine, batch_norm_train, group_norm, group_norm_maps, relu};

/// The value that is added to the variance by default: 1e-5, torch's `eps` for batch norm, frozen batch norm and group
/// norm.
pub const NORM_EPS: f64 = 1e-5;
/// Momentum of the running statistics of batch norm, 0.1 as in torch: `new = (1 - momentum) * old + momentum * batch`.
pub const RUNNING_MOMENTUM: f64 = 0.1;
/// Default number of groups of a group norm: 32 (Wu & He, arXiv 1803.08494, section 4.1).
pub const NORM_GROUPS: usize = 32;

/// The kind of a [`Norm`]: the source of the mean and the variance by which it normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Frozen batch norm: normalises by stored statistics and has no trained parameters (torchvision's
    /// `FrozenBatchNorm2d`). It is an affine map of each channel.
    Frozen,
    /// Batch norm: normalises by the statistics of the batch in training and by the running statistics otherwise (Ioffe
    /// & Szegedy, arXiv 1502.03167).
    Batch,
    /// Group norm: normalises each image by its statistics over groups of channels (Wu & He, arXiv 1803.08494).
    Group {
        /// Number of groups, a divisor of the number of channels.
        groups: usize,
    },
}

/// A norm as an affine map of each channel, `x * scale + shift`.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    /// Factor of each channel, `[channels]`.
    pub(crate) scale: Tensor<1>,
    /// Number added to each channel, `[channels]`.
    pub(crate) shift: Tensor<1>,
}

/// A normalisation layer, with the parameter names of torch. It is fused with the residual sum and the activation that
/// follow it.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale by which the normalised values of each channel are multiplied, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift that is added to the scaled values of each channel, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean of each channel over the training data, `[channels]`; `None` for group norm.
    pub running_mean: Option<RunningState<Tensor<1>>>,
    /// Running variance of each channel over the training data, `[channels]`; `None` for group norm.
    pub running_var: Option<RunningState<Tensor<1>>>,
    /// The kind of norm: frozen batch norm, batch norm or group norm.
    #[module(skip)]
    pub kind: NormKind,
    /// Value that is added to the variance before the division.
    #[module(skip)]
    pub eps: f64,
}

impl Norm {
    /// Makes a norm with scale 1, shift 0, mean 0 and variance 1 for `channels` channels; `eps` is added to the
    /// variance. The parameters of a frozen batch norm are not trained.
    ///
    /// # Panics
    /// If the number of groups of a group norm is 0 or does not divide the channels.
    pub fn new(channels: usize, kind: NormKind, eps: f64, device: &Device) -> Self {
        if let NormKind::Group { groups } = kind {
            assert!(groups > 0 && channels.is_multiple_of(groups), "{groups} groups do not divide {channels} channels");
        }
        let stats = |value: f64| {
            (!matches!(kind, NormKind::Group { .. }))
                .then(|| RunningState::new(Tensor::full([channels], value, device)))
        };
        let param = |value: f64| {
            Param::from_tensor(Tensor::full([channels], value, device)).set_require_grad(kind != NormKind::Frozen)
        };
        Self { weight: param(1.0), bias: param(0.0), running_mean: stats(0.0), running_var: stats(1.0), kind, eps }
    }

    /// Computes `activation(norm(x) + residual)`; without a residual, nothing is added. A batch norm that is trained
    /// (see [`keeps_statistics`](Self::keeps_statistics)) also updates its running statistics with those of the batch.
    ///
    /// # Shapes
    /// - x, residual, result: `[batch, channels, height, width]`
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn forward(&self, x: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        match self.kind {
            NormKind::Group { groups } if residual.is_none() => {
                group_norm(x, weight, bias, groups, self.eps, activation)
            }
            NormKind::Group { groups } => {
                finish(group_norm(x, weight, bias, groups, self.eps, Activation::None), residual, activation)
            }
            NormKind::Batch if self.keeps_statistics() => {
                let [batch, _, height, width] = x.dims();
                let count = (batch * height * width) as f64;
                let out = batch_norm_train(x, weight, bias, self.eps);
                // Like torch, the running variance is the unbiased one, although the biased one normalises the batch.
                let unbiased = out.var * (count / (count - 1.0).max(1.0));
                for (running, batch) in [(&self.running_mean, out.mean), (&self.running_var, unbiased)] {
                    let running = running.as_ref().expect("a batch norm has running statistics");
                    let old = running.value_sync() * (1.0 - RUNNING_MOMENTUM);
                    running.update(old + batch.detach() * RUNNING_MOMENTUM);
                }
                finish(out.y, residual, activation)
            }
            NormKind::Frozen | NormKind::Batch => {
                let Folded { scale, shift } = self.by_statistics();
                affine(x, scale, shift, residual, activation)
            }
        }
    }

    /// Computes `norm(x)` as [`forward`](Self::forward) does, without updating running statistics.
    ///
    /// # Shapes
    /// - x, result: `[batch, channels, height, width]`
    pub(crate) fn normalised(&self, x: Tensor<4>) -> Tensor<4> {
        match self.kind {
            NormKind::Batch if self.keeps_statistics() => {
                batch_norm_train(x, self.weight.val(), self.bias.val(), self.eps).y
            }
            _ => self.forward(x, None, Activation::None),
        }
    }

    /// Turns the layer into a batch norm whose scale and shift are trained.
    pub fn train(&mut self) {
        self.kind = NormKind::Batch;
        self.weight = self.weight.clone().set_require_grad(true);
        self.bias = self.bias.clone().set_require_grad(true);
    }

    /// Whether a forward pass normalises by the statistics of the batch and updates the running statistics with them.
    /// This is so for a batch norm whose weight is trained.
    pub fn keeps_statistics(&self) -> bool {
        self.kind == NormKind::Batch && self.weight.is_require_grad()
    }

    /// Computes `activation(norm(x))` of several maps in one tensor. Each map is normalised by its own statistics. The
    /// layer must be a group norm.
    ///
    /// # Shapes
    /// - x, result: `[batch, channels, pixels]`, where each channel contains the maps with the sizes `sizes`, each row
    ///   by row, one after the other
    ///
    /// # Panics
    /// If this is not a group norm, or the shapes do not fit each other.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        let NormKind::Group { groups } = self.kind else {
            panic!("several maps in one tensor need a group norm, found {:?}", self.kind)
        };
        group_norm_maps(x, sizes, self.weight.val(), self.bias.val(), groups, self.eps, activation)
    }

    /// The affine map that the norm applies by its stored statistics, scale and shift.
    ///
    /// # Panics
    /// If this is a group norm, which stores no statistics.
    pub(crate) fn by_statistics(&self) -> Folded {
        let stat = |s: &Option<RunningState<Tensor<1>>>| s.as_ref().expect("the norm stores statistics").value_sync();
        let scale = self.weight.val() / (stat(&self.running_var) + self.eps).sqrt();
        let shift = self.bias.val() - stat(&self.running_mean) * scale.clone();
        Folded { scale, shift }
    }

    /// Whether the norm is an affine map by stored statistics whose scale and shift are not trained.
    pub(crate) fn is_fixed_affine(&self) -> bool {
        let learns = self.weight.is_require_grad() || self.bias.is_require_grad();
        !matches!(self.kind, NormKind::Group { .. }) && !learns
    }
}

/// Computes `activation(y + residual)`; without a residual, nothing is added.
fn finish(y: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
    match (residual, activation) {
        (None, Activation::None) => y,
        (None, Activation::Relu) => relu(y),
        (residual, activation) => {
            let (channels, device) = (y.dims()[1], y.device());
            affine(y, Tensor::ones([channels], &device), Tensor::zeros([channels], &device), residual, activation)
        }
    }
}
