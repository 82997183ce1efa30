//! The forward and backward passes of one update.

use burn::tensor::{Device, Tensor};
use foveal_criterion::{BatchBreakdown, BreakdownLayout, LossConfig, Losses, Normalizer};
use foveal_data::Batch;
use foveal_detector::RetinaNet;

use super::Reading;
use crate::clip::{clip_factor, clip_factor_on_device};
use crate::evaluate::image_tensor;
use crate::grads::Grads;
use crate::optim::{DeviceScale, Scale};
use crate::pass::{self, Activations};
use crate::step_log::StepValues;

/// What the batches of an update go through.
pub(super) struct Passes<'a> {
    pub(super) model: &'a RetinaNet,
    pub(super) loss: &'a LossConfig,
    pub(super) normalizer: Normalizer,
    pub(super) device: &'a Device,
    /// Anchors of each position.
    pub(super) anchors_per_location: usize,
    pub(super) activations: Activations,
    /// Whether the loss tells where it comes from.
    pub(super) breakdown: bool,
}

/// Gradients and losses, added up over the batches of an update.
pub(super) struct Summed {
    pub(super) grads: Grads,
    /// In the breakdown's order, `[5]`, without autodiff.
    losses: Tensor<1>,
    pub(super) class: Option<BatchBreakdown>,
    pub(super) positives: usize,
}

impl Passes<'_> {
    /// Forward, loss, backward, batch by batch.
    ///
    /// # Panics
    /// Without a batch.
    pub(super) fn run(&self, group: Vec<Batch>) -> Summed {
        let mut grads = Grads::default();
        let (mut losses, mut class, mut positives) = (None, None, 0);
        for batch in group {
            let images = image_tensor(batch.images, self.device);
            let (dense, backward) = pass::forward(self.model, images, self.activations);
            let level_anchors = std::array::from_fn(|l| dense.grids[l].positions() * self.anchors_per_location);
            let layout = self.breakdown.then_some(BreakdownLayout { level_anchors });
            let of_batch = self.loss.forward_with(dense.logits, dense.deltas, &batch.targets, self.normalizer, layout);
            positives += of_batch.positives;
            losses = Some(match losses {
                Some(before) => before + row(&of_batch),
                None => row(&of_batch),
            });
            class = of_batch.breakdown.map(|own| own.without_autodiff().after(class));
            backward.run(self.model, of_batch.total, &mut grads);
        }
        Summed { grads, losses: losses.expect("a group has a batch"), class, positives }
    }
}

impl Summed {
    /// The losses with the norm of all gradients, and what clipping makes of these. The update is masked where a value is
    /// not finite.
    pub(super) fn values(&mut self, reading: Reading, clip_norm: f64) -> (StepValues, Scale) {
        let losses = self.losses.clone();
        if reading == Reading::EachStep {
            let norm = self.grads.norm_on_host();
            let mut values = [0.0; 6];
            // Host memory: no device is waited for.
            values[..5].copy_from_slice(losses.into_data().as_slice::<f32>().expect("losses are f32"));
            values[5] = norm as f32;
            (StepValues::Read(values), Scale::Host(clip_factor(norm, clip_norm)))
        } else {
            let norm = self.grads.norm_on_device().unwrap_or_else(|| losses.clone().sum().zeros_like());
            let values = Tensor::cat(vec![losses, norm.clone()], 0);
            let finite = values.clone().is_finite().all();
            let factor = clip_factor_on_device(norm, clip_norm);
            (StepValues::OnDevice(Box::new(values)), Scale::Device(Box::new(DeviceScale { factor, finite })))
        }
    }
}

/// A batch's losses in the breakdown's order, `[5]`, without autodiff.
fn row(losses: &Losses) -> Tensor<1> {
    let scalars = [&losses.class, &losses.boxes, &losses.total].map(|t| t.clone().without_autodiff());
    let mut parts = scalars.to_vec();
    parts.push(losses.class_sums.clone().without_autodiff());
    Tensor::cat(parts, 0)
}
