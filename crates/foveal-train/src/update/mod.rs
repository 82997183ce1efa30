//! An optimizer step: forward and backward passes, gradient norm, parameter update, moving average of the weights.
//!
//! Losses, gradient norm, clipping factor and the flag that skips an update stay tensors, so that no device is waited
//! for.

mod broadcast;
mod clip;
mod ema;
mod grads;
mod optim;
mod params;
mod scale;
mod schedule;
mod statistics;
#[cfg(test)]
mod tests;

use burn::module::Module;
use burn::tensor::{Bool, DType, Device, Tensor};
use foveal_anchors::ImageTargets;
use foveal_criterion::{BatchBreakdown, BreakdownLayout, Expected, FirstLossCheck, LossConfig, Losses, Normalizer};
use foveal_detector::{ComputePrecision, RetinaNet};

pub use clip::{Clipping, clip_factor};
pub use ema::Ema;
pub use grads::Grads;
pub(crate) use optim::LrGroups;
pub use optim::{Optimizer, Rule};
pub use params::{ParamTensor, ParamTensors, from_host, to_host};
pub(crate) use scale::{FIRST_SCALE, LARGEST_SCALE, LossScaler};
pub use schedule::learning_rate;

use crate::device::on_pool;
use crate::pass::{self, Activations};
use statistics::RunningStatistics;

/// Index of the total loss in [`Gradients::values`].
const TOTAL: usize = 2;
/// Message of a panic: a learner has no network only while the optimizer updates it.
const PUT_BACK: &str = "the network is put back after each update";

/// Everything that an optimizer step changes: network, optimizer and moving average.
pub(crate) struct Learner {
    model: Option<RetinaNet>,
    /// The optimizer with its state.
    pub(crate) optimizer: Optimizer,
    /// The moving average of the weights, if `train.ema` is above 0.
    pub(crate) ema: Option<Ema>,
    /// The data type of convolutions and feature maps in the forward pass.
    precision: ComputePrecision,
    /// The loss scale, if the precision needs one.
    pub(crate) scaler: Option<LossScaler>,
    /// `[1]`: whether all steps so far were finite; `None` before the first step and with a loss scale.
    sound: Option<Tensor<1, Bool>>,
}

/// Settings for the gradients of an optimizer step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradientOptions<'a> {
    /// The `[loss]` section of the configuration.
    pub(crate) loss: &'a LossConfig,
    /// The normalizer of the losses, computed over all batches of the step.
    pub(crate) normalizer: Normalizer,
    /// Number of anchors at each location of a feature map.
    pub(crate) anchors_per_location: usize,
    /// Which activations of the backbone are stored and which are recomputed in the backward pass.
    pub(crate) activations: Activations,
    /// Whether the breakdown of the class loss is computed.
    pub(crate) breakdown: bool,
    /// The check of the first class loss, for the first step of a new class head.
    pub(crate) first_loss: Option<FirstLossCheck<'a>>,
    /// Largest L2 norm of all gradients together; 0 means no limit.
    pub(crate) clip_norm: f64,
}

/// The gradients and losses of an optimizer step, summed over its batches.
pub(crate) struct Gradients {
    grads: Grads,
    clipping: Clipping,
    /// `[6]`, f32: class loss, box loss, total loss, class loss of positives, class loss of all other pairs, gradient
    /// norm.
    pub(crate) values: Tensor<1>,
    /// `[1]`: the scale by which the loss was multiplied before the backward pass; `None` without a loss scale. The
    /// gradient norm is that of the loss without it.
    pub(crate) scale: Option<Tensor<1>>,
    /// Breakdown of the class loss, if [`GradientOptions::breakdown`] is set.
    pub(crate) breakdown: Option<BatchBreakdown>,
    /// The expected class loss, if [`GradientOptions::first_loss`] is set.
    pub(crate) expected: Option<Expected>,
    /// Number of positive anchors of all images of the step.
    pub(crate) positives: usize,
    /// The running statistics of trained batch norms before the forward passes of the step, which update them.
    statistics: RunningStatistics,
}

impl Learner {
    pub(crate) fn new(model: RetinaNet, optimizer: Optimizer, ema: Option<Ema>) -> Self {
        Self { model: Some(model), optimizer, ema, precision: ComputePrecision::F32, scaler: None, sound: None }
    }

    /// The same learner with forward passes in another precision than f32. If the precision needs a loss scale, it
    /// begins with `scale`; `device` is that of the network.
    #[must_use]
    pub(crate) fn in_precision(self, precision: ComputePrecision, scale: f64, device: &Device) -> Self {
        let scaler = precision.scales_loss().then(|| LossScaler::new(scale, device));
        Self { precision, scaler, ..self }
    }

    /// The network that the optimizer updates.
    pub(crate) fn model(&self) -> &RetinaNet {
        self.model.as_ref().expect(PUT_BACK)
    }

    /// The network for evaluations and checkpoints, without autodiff: with averaged weights if there is a moving
    /// average.
    pub(crate) fn network(&self) -> RetinaNet {
        match &self.ema {
            Some(ema) => ema.apply(self.model()),
            None => self.model().valid(),
        }
    }

    /// Runs forward pass, loss and backward pass of each batch, sums the gradients, and computes their norm and
    /// clipping.
    ///
    /// # Shapes
    /// - batches: images `[batch, 3, height, width]` on `device`, which has autodiff, and targets for each image
    ///
    /// # Panics
    /// When there is no batch.
    pub(crate) fn gradients(
        &self,
        batches: impl IntoIterator<Item = (Tensor<4>, Vec<ImageTargets>)>,
        options: &GradientOptions<'_>,
        device: &Device,
    ) -> Gradients {
        let statistics = RunningStatistics::of(self.model());
        let mut grads = Grads::default();
        let (mut losses, mut breakdown, mut expected, mut positives) = (None, None, None, 0);
        for (images, targets) in batches {
            on_pool(device, || {
                // Forward.
                let (dense, backward) = pass::forward(self.model(), images, self.precision, options.activations);
                let level_anchors = std::array::from_fn(|l| dense.grids[l].positions() * options.anchors_per_location);

                // Expected loss. Waits for the device, but only in the first step of a run.
                if let Some(check) = &options.first_loss {
                    let own = check.expected(&dense.logits, &dense.deltas, &targets, options.normalizer);
                    expected = Some(own.after(expected.take()));
                }

                // Loss.
                let layout = options.breakdown.then_some(BreakdownLayout { level_anchors });
                let batch = options.loss.forward_with(dense.logits, dense.deltas, &targets, options.normalizer, layout);
                positives += batch.positives;
                losses = Some(match losses.take() {
                    Some(before) => before + row(&batch),
                    None => row(&batch),
                });
                breakdown = batch.breakdown.map(|own| own.without_autodiff().after(breakdown.take()));

                // Backward.
                let total = match &self.scaler {
                    Some(scaler) => scaler.scaled(batch.total),
                    None => batch.total,
                };
                backward.run(self.model(), total, &mut grads);
            });
        }
        let losses = losses.expect("an update has a batch");
        let norm = on_pool(device, || grads.norm(device));
        let total = losses.clone().narrow(0, TOTAL, 1);
        let (norm, clipping) = match &self.scaler {
            Some(scaler) => {
                let norm = scaler.unscaled(norm);
                (norm.clone(), Clipping::new(total, norm, options.clip_norm).of_scaled(scaler))
            }
            None => (norm.clone(), Clipping::new(total, norm, options.clip_norm)),
        };
        let values = Tensor::cat(vec![losses, norm.cast(DType::F32)], 0);
        let scale = self.scaler.as_ref().map(LossScaler::scale);
        Gradients { grads, clipping, values, scale, breakdown, expected, positives, statistics }
    }

    /// Updates network, optimizer and moving average. If the loss or the gradient norm is not finite, nothing changes
    /// except the counts of updates, neither in this step nor in any later one: a device whose losses are read late
    /// keeps the weights of before the first such step. [`Learner::discard`] leaves out a single step.
    ///
    /// With a loss scale, only this step changes nothing, and the scale is adapted.
    pub(crate) fn apply(&mut self, gradients: Gradients, lr: f64) {
        let Gradients { grads, mut clipping, statistics, .. } = gradients;
        match (&mut self.scaler, self.sound.take()) {
            (Some(scaler), _) => scaler.update(&clipping.finite),
            (None, Some(sound)) => clipping.finite = sound.bool_and(clipping.finite),
            (None, None) => {}
        }
        let model = self.model.take().expect(PUT_BACK);
        let device = clipping.factor.device();
        let (optimizer, ema) = (&mut self.optimizer, &mut self.ema);
        let model = on_pool(&device, || {
            let model = statistics.put_back_unless(&clipping.finite, model);
            let model = optimizer.step(model, grads, lr, &clipping);
            if let Some(ema) = ema {
                ema.update(&model, &clipping.finite);
            }
            model
        });
        self.model = Some(model);
        self.sound = self.scaler.is_none().then_some(clipping.finite);
    }

    /// Leaves out the step of `gradients`: everything is as before its forward passes.
    pub(crate) fn discard(&mut self, gradients: Gradients) {
        let model = self.model.take().expect(PUT_BACK);
        self.model = Some(gradients.statistics.put_back(model));
    }
}

/// A batch's losses in the order of [`Gradients::values`], `[5]`, without autodiff.
fn row(losses: &Losses) -> Tensor<1> {
    let parts = [&losses.class, &losses.boxes, &losses.total, &losses.class_sums];
    Tensor::cat(parts.map(|part| part.clone().without_autodiff()).to_vec(), 0)
}
