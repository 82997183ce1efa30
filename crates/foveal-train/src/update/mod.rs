//! One optimizer step: forward and backward passes, the norm of all gradients, the masked update, the moving average.
//!
//! Losses, norm, clipping factor and the flag of what is finite stay tensors. Nothing here waits for the device.

mod clip;
mod ema;
mod grads;
mod optim;
mod params;
mod schedule;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use foveal_anchors::ImageTargets;
use foveal_criterion::{BatchBreakdown, BreakdownLayout, LossConfig, Losses, Normalizer};
use foveal_detector::RetinaNet;

pub use clip::{Clipping, clip_factor};
pub use ema::Ema;
pub use grads::Grads;
pub use optim::{LrGroups, Optimizer, Rule};
pub use params::{FlatTensors, from_host, to_host};
pub use schedule::learning_rate;

use crate::pass::{self, Activations};

/// Where the total loss stands among a batch's losses.
const TOTAL: usize = 2;
/// A learner is without a network only while the optimizer maps it.
const PUT_BACK: &str = "the network is put back after each update";

/// All that an update changes: network, optimizer and moving average.
pub(crate) struct Learner {
    model: Option<RetinaNet>,
    pub(crate) optimizer: Optimizer,
    pub(crate) ema: Option<Ema>,
}

/// How the gradients of an update are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradientOptions<'a> {
    pub(crate) loss: &'a LossConfig,
    /// The divisor of the losses, that of all batches of the update together.
    pub(crate) normalizer: Normalizer,
    pub(crate) anchors_per_location: usize,
    pub(crate) activations: Activations,
    /// Whether the losses come with their breakdown.
    pub(crate) breakdown: bool,
    /// The largest norm of all gradients; 0: no limit.
    pub(crate) clip_norm: f64,
}

/// The gradients of an update, with the losses that they are of, added up over the update's batches.
pub(crate) struct Gradients {
    grads: Grads,
    clipping: Clipping,
    /// `[6]`: class, box and total loss, the class loss of positives and of all else, the norm of all gradients. f32.
    pub(crate) values: Tensor<1>,
    /// Where the class loss came from, if it was asked for.
    pub(crate) breakdown: Option<BatchBreakdown>,
    /// Positive anchors.
    pub(crate) positives: usize,
}

impl Learner {
    pub(crate) fn new(model: RetinaNet, optimizer: Optimizer, ema: Option<Ema>) -> Self {
        Self { model: Some(model), optimizer, ema }
    }

    /// The network that the optimizer updates.
    pub(crate) fn model(&self) -> &RetinaNet {
        self.model.as_ref().expect(PUT_BACK)
    }

    /// The network that is evaluated and kept, without autodiff: the moving average where there is one.
    pub(crate) fn network(&self) -> RetinaNet {
        match &self.ema {
            Some(ema) => ema.apply(self.model()),
            None => self.model().valid(),
        }
    }

    /// Forward, loss and backward of each batch, then the norm of the sum of all gradients and what clipping makes of
    /// it.
    ///
    /// # Shapes
    /// - batches: images `[batch, 3, height, width]` on `device`, which has autodiff, and targets for each image
    ///
    /// # Panics
    /// Without a batch.
    pub(crate) fn gradients(
        &self,
        batches: impl IntoIterator<Item = (Tensor<4>, Vec<ImageTargets>)>,
        options: &GradientOptions<'_>,
        device: &Device,
    ) -> Gradients {
        let mut grads = Grads::default();
        let (mut losses, mut breakdown, mut positives) = (None, None, 0);
        for (images, targets) in batches {
            // Forward.
            let (dense, backward) = pass::forward(self.model(), images, options.activations);
            let level_anchors = std::array::from_fn(|l| dense.grids[l].positions() * options.anchors_per_location);

            // Loss.
            let layout = options.breakdown.then_some(BreakdownLayout { level_anchors });
            let batch = options.loss.forward_with(dense.logits, dense.deltas, &targets, options.normalizer, layout);
            positives += batch.positives;
            losses = Some(match losses {
                Some(before) => before + row(&batch),
                None => row(&batch),
            });
            breakdown = batch.breakdown.map(|own| own.without_autodiff().after(breakdown));

            // Backward.
            backward.run(self.model(), batch.total, &mut grads);
        }
        let losses = losses.expect("an update has a batch");
        let norm = grads.norm(device);
        let clipping = Clipping::new(losses.clone().narrow(0, TOTAL, 1), norm.clone(), options.clip_norm);
        let values = Tensor::cat(vec![losses, norm.cast(DType::F32)], 0);
        Gradients { grads, clipping, values, breakdown, positives }
    }

    /// The update. It changes nothing where the loss or the norm of the gradients is not finite.
    pub(crate) fn apply(&mut self, gradients: Gradients, lr: f64) {
        let Gradients { grads, clipping, .. } = gradients;
        let model = self.model.take().expect(PUT_BACK);
        let model = self.optimizer.step(model, grads, lr, &clipping);
        if let Some(ema) = &mut self.ema {
            ema.update(&model, &clipping.finite);
        }
        self.model = Some(model);
    }
}

/// A batch's losses in the order of [`Gradients::values`], `[5]`, without autodiff.
fn row(losses: &Losses) -> Tensor<1> {
    let parts = [&losses.class, &losses.boxes, &losses.total, &losses.class_sums];
    Tensor::cat(parts.map(|part| part.clone().without_autodiff()).to_vec(), 0)
}
