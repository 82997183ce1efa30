//! One normalisation layer for every kind, under torchvision's parameter names.

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};

use foveal_kernels::{Activation, MapSize, affine, batch_norm_train, group_norm, group_norm_maps, relu};

/// torchvision's `eps` for batch, frozen-batch and group norm alike.
pub const NORM_EPS: f64 = 1e-5;
/// torch's momentum of running statistics: `new = (1 - momentum) * old + momentum * batch`.
pub const RUNNING_MOMENTUM: f64 = 0.1;
/// Number of groups of a group norm (Wu & He, arXiv 1803.08494, section 4.1).
pub const NORM_GROUPS: usize = 32;

/// How a [`Norm`] gets the mean and the variance that it divides out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Stored statistics, and nothing trained: an affine map of each channel (torchvision's `FrozenBatchNorm2d`).
    Frozen,
    /// The batch's own statistics in training, the running ones otherwise (Ioffe & Szegedy, arXiv 1502.03167).
    Batch,
    /// Statistics of each image over groups of channels (Wu & He, arXiv 1803.08494).
    Group {
        /// Number of groups; divides the channel count.
        groups: usize,
    },
}

/// A norm as an affine map `x * scale + shift`, both `[channels]`.
#[derive(Clone, Debug)]
pub(crate) struct Folded {
    pub(crate) scale: Tensor<1>,
    pub(crate) shift: Tensor<1>,
}

/// Normalisation over channels, fused with the activation and the residual sum that follow it.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Mean of the training data, `[channels]`; none for group norm.
    pub running_mean: Option<RunningState<Tensor<1>>>,
    /// Variance of the training data, `[channels]`; none for group norm.
    pub running_var: Option<RunningState<Tensor<1>>>,
    /// How the mean and the variance are got.
    #[module(skip)]
    pub kind: NormKind,
    /// Added to the variance.
    #[module(skip)]
    pub eps: f64,
}

impl Norm {
    /// A norm with scale 1, shift 0, mean 0 and variance 1. A frozen one has parameters that do not learn.
    ///
    /// # Panics
    /// If there are no groups or the groups do not divide the channels.
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

    /// `activation(norm(x) + residual)`; without a residual nothing is added. A batch norm in training
    /// ([`keeps_statistics`](Self::keeps_statistics)) adds the batch's statistics to the running ones.
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
                // torch keeps the unbiased variance, and normalises by the biased one.
                let unbiased = out.var * (count / (count - 1.0).max(1.0));
                for (running, batch) in [(&self.running_mean, out.mean), (&self.running_var, unbiased)] {
                    let running = running.as_ref().expect("batch norm keeps statistics");
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

    /// Turns this into a batch norm whose scale and shift are trained.
    pub fn train(&mut self) {
        self.kind = NormKind::Batch;
        self.weight = self.weight.clone().set_require_grad(true);
        self.bias = self.bias.clone().set_require_grad(true);
    }

    /// Whether a forward pass uses the batch's statistics and adds them to the running ones: true of a batch norm whose
    /// weight learns.
    pub fn keeps_statistics(&self) -> bool {
        self.kind == NormKind::Batch && self.weight.is_require_grad()
    }

    /// `activation(norm(x))` of several maps in one tensor, each by statistics of its own; for group norms.
    ///
    /// # Shapes
    /// - x, result: `[batch, channels, pixels]`: each channel holds the maps of `sizes`, row by row, one after the other
    ///
    /// # Panics
    /// If this is not a group norm, or the shapes do not fit each other.
    pub fn forward_maps(&self, x: Tensor<3>, sizes: &[MapSize], activation: Activation) -> Tensor<3> {
        let NormKind::Group { groups } = self.kind else { panic!("several maps: a group norm, not {:?}", self.kind) };
        group_norm_maps(x, sizes, self.weight.val(), self.bias.val(), groups, self.eps, activation)
    }

    /// The affine map that the stored statistics, scale and shift make.
    ///
    /// # Panics
    /// If this is a group norm, which stores no statistics.
    pub(crate) fn by_statistics(&self) -> Folded {
        let stat = |s: &Option<RunningState<Tensor<1>>>| s.as_ref().expect("statistics").value_sync();
        let scale = self.weight.val() / (stat(&self.running_var) + self.eps).sqrt();
        let shift = self.bias.val() - stat(&self.running_mean) * scale.clone();
        Folded { scale, shift }
    }

    /// Whether the norm is an affine map by its stored statistics, with neither scale nor shift in training.
    pub(crate) fn is_fixed_affine(&self) -> bool {
        let learns = self.weight.is_require_grad() || self.bias.is_require_grad();
        !matches!(self.kind, NormKind::Group { .. }) && !learns
    }
}

/// `activation(y + residual)`; without a residual nothing is added.
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
