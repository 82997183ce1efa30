//! The normalisation layer: frozen batch norm, batch norm with or without fixed statistics, or group norm, with
//! torchvision's parameter names.

use burn::module::{Module, Param, RunningState};
use burn::tensor::{Device, Tensor};

use foveal_kernels::{
    Activation, Kept, MapSize, ValueId, affine, batch_norm_train, group_norm, group_norm_maps, relu, takes_maps,
    value_id,
};

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
    /// Batch norm with fixed statistics: normalises by stored statistics, which never change, and trains scale and
    /// shift, as torch's `BatchNorm2d` does in evaluation mode and MMDetection with `norm_eval=True`. It is an affine
    /// map of each channel.
    FrozenStatistics,
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

/// What the affine map of a norm is computed from: the identities of scale, shift, mean and variance, and the bits of
/// the value that is added to the variance.
type FoldedFrom = ([ValueId; 4], u64);

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
    /// The kind of norm, which determines by what it normalises and what of it is trained.
    #[module(skip)]
    pub kind: NormKind,
    /// Value that is added to the variance before the division.
    #[module(skip)]
    pub eps: f64,
    /// The affine map of a norm that is not trained, as long as nothing that it is computed from changes. GPUs only.
    #[module(skip)]
    folded: Kept<FoldedFrom, Folded>,
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
        Self {
            weight: param(1.0),
            bias: param(0.0),
            running_mean: stats(0.0),
            running_var: stats(1.0),
            kind,
            eps,
            folded: Kept::default(),
        }
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
            NormKind::Frozen | NormKind::FrozenStatistics | NormKind::Batch => {
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

    /// Turns the layer into a batch norm whose scale and shift are trained, and which normalises by the statistics of
    /// the batch during training.
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
    /// On GPUs, the map of a norm that is not trained is kept and has no autodiff. It is computed again if a parameter
    /// or a statistic has another value than before, however it was changed.
    ///
    /// # Panics
    /// If this is a group norm, which stores no statistics.
    pub(crate) fn by_statistics(&self) -> Folded {
        let stat = |s: &Option<RunningState<Tensor<1>>>| s.as_ref().expect("the norm stores statistics").value_sync();
        let from = [self.weight.val(), self.bias.val(), stat(&self.running_mean), stat(&self.running_var)];
        let fold = |[weight, bias, mean, var]: [Tensor<1>; 4]| {
            let scale = weight / (var + self.eps).sqrt();
            let shift = bias - mean * scale.clone();
            Folded { scale, shift }
        };
        match from.each_ref().map(value_id) {
            [Some(weight), Some(bias), Some(mean), Some(var)] if self.is_fixed_affine() => {
                let key = ([weight, bias, mean, var], self.eps.to_bits());
                self.folded.get(key, || fold(from.map(Tensor::without_autodiff)))
            }
            _ => fold(from),
        }
    }

    /// Whether the norm is an affine map of each channel by stored statistics, in training too. Its scale and shift may
    /// be trained.
    pub(crate) fn is_affine(&self) -> bool {
        !matches!(self.kind, NormKind::Group { .. }) && !self.keeps_statistics()
    }

    /// Whether the norm is an affine map by stored statistics whose scale and shift are not trained.
    pub(crate) fn is_fixed_affine(&self) -> bool {
        self.is_affine() && !self.learns()
    }

    /// Whether the scale or the shift is trained.
    pub(crate) fn learns(&self) -> bool {
        self.weight.is_require_grad() || self.bias.is_require_grad()
    }
}

/// Computes `activation(y + residual)`; without a residual, nothing is added.
fn finish(y: Tensor<4>, residual: Option<Tensor<4>>, activation: Activation) -> Tensor<4> {
    let y = match residual {
        // The fused kernels of the CPUs add and activate in one pass, as Burn does on GPUs by itself.
        Some(residual) if takes_maps(&y) => {
            let (channels, device) = (y.dims()[1], y.device());
            let (scale, shift) = (Tensor::ones([channels], &device), Tensor::zeros([channels], &device));
            return affine(y, scale, shift, Some(residual), activation);
        }
        Some(residual) => y + residual,
        None => y,
    };
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ModuleMapper;

    use super::*;

    fn values(t: Tensor<1>) -> Vec<f32> {
        t.into_data().try_to_vec().expect("f32 values")
    }

    /// A frozen norm of two channels whose scale, shift, mean and variance are all different.
    fn frozen(device: &Device) -> Norm {
        let fixed = |values: [f32; 2]| Param::from_tensor(Tensor::from_floats(values, device)).set_require_grad(false);
        let stored = |values: [f32; 2]| Some(RunningState::new(Tensor::from_floats(values, device)));
        Norm {
            weight: fixed([2.0, 3.0]),
            bias: fixed([0.5, -1.0]),
            running_mean: stored([1.0, -2.0]),
            running_var: stored([4.0, 0.25]),
            ..Norm::new(2, NormKind::Frozen, 0.0, device)
        }
    }

    /// Checks that the folded map of a norm is that of its present parameters and statistics.
    fn check(norm: &Norm) -> Folded {
        let read = |t: Tensor<1>| values(t).into_iter().map(f64::from).collect::<Vec<f64>>();
        let stat = |s: &Option<RunningState<Tensor<1>>>| read(s.as_ref().expect("a statistic").value_sync());
        let (weight, bias) = (read(norm.weight.val()), read(norm.bias.val()));
        let (mean, var) = (stat(&norm.running_mean), stat(&norm.running_var));
        let folded = norm.by_statistics();
        let (scale, shift) = (values(folded.scale.clone()), values(folded.shift.clone()));
        for c in 0..2 {
            let expected = weight[c] / (var[c] + norm.eps).sqrt();
            assert!(
                (f64::from(scale[c]) - expected).abs() < 1e-5,
                "scale of channel {c}: {}, not {expected}",
                scale[c]
            );
            let expected = bias[c] - mean[c] * expected;
            assert!(
                (f64::from(shift[c]) - expected).abs() < 1e-5,
                "shift of channel {c}: {}, not {expected}",
                shift[c]
            );
        }
        folded
    }

    struct Double;

    impl ModuleMapper for Double {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, mapper) = param.consume();
            Param::from_mapped_value(id, tensor * 2.0, mapper)
        }
    }

    /// Every way by which a parameter or a statistic gets another value; each is followed by `then`.
    fn change_everything(norm: &mut Norm, device: &Device, mut then: impl FnMut(&Norm)) {
        norm.weight = Param::from_tensor(Tensor::from_floats([5.0, 6.0], device)).set_require_grad(false);
        then(norm);
        norm.bias = norm.bias.clone().map(|bias| bias + 1.0);
        then(norm);
        norm.running_mean.as_ref().expect("a mean").update(Tensor::from_floats([3.0, 4.0], device));
        then(norm);
        norm.running_var = Some(RunningState::new(Tensor::from_floats([9.0, 16.0], device)));
        then(norm);
        norm.eps = 7.0;
        then(norm);
        // The statistics of a clone are those of the norm itself.
        let _ = norm.clone().map(&mut Double);
        then(norm);
        *norm = norm.clone().map(&mut Double);
        then(norm);
    }

    #[test]
    fn the_folded_map_is_that_of_the_present_values() {
        let device = Device::flex().autodiff();
        let mut norm = frozen(&device);
        check(&norm);
        change_everything(&mut norm, &device, |norm| drop(check(norm)));
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn wgpu_keeps_the_folded_map_until_something_changes() {
        let device = foveal_kernels::test_adapter().autodiff();
        let mut norm = frozen(&device);
        let id = |norm: &Norm| value_id(&check(norm).scale).expect("a tensor of a GPU has an identity");
        let mut last = id(&norm);
        assert_eq!(id(&norm), last, "the map is kept");
        assert_eq!(id(&norm.valid()), last, "a copy for inference keeps it too");
        assert_eq!(id(&norm.clone()), last);
        change_everything(&mut norm, &device, |norm| {
            let new = id(norm);
            assert_ne!(new, last, "the map is computed again");
            assert_eq!(id(norm), new, "the new map is kept");
            last = new;
        });
        Norm::train(&mut norm);
        assert!(norm.by_statistics().scale.is_autodiff(), "the map of a norm that is trained has gradients");
        assert_ne!(id(&norm), id(&norm), "it is not kept");
    }
}
