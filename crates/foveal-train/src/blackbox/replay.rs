//! Runs the step of a black box again.

use burn::tensor::Device;
use foveal_detector::{RetinaNet, image_tensor};
use foveal_nn::{TensorStats, ValueStats};
use foveal_weights::load_tensors;
use serde::Serialize;

use super::examine::{Pass, finding};
use super::report::device_name;
use super::{BatchTrace, BlackBox, Finding, StepLosses};
use crate::device::is_host;
use crate::update::{GradientOptions, Learner, Optimizer};

/// The result of running the step of a black box again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The device of the replay, such as `flex`.
    pub device: String,
    /// Losses and gradient norm of the replay; `replayed` in JSON.
    #[serde(rename = "replayed")]
    pub losses: StepLosses,
    /// Whether losses and gradient norm are exactly the recorded ones.
    pub identical: bool,
    /// Whether the step ran on the same device.
    pub same_device: bool,
    /// All tensors of the network that hold values that are not finite.
    pub broken_tensors: Vec<TensorStats>,
    /// Where the values turned.
    pub finding: Finding,
    /// Statistics by layer for each batch of the step.
    pub batches: Vec<BatchTrace>,
}

impl BlackBox {
    /// Runs the step again on `device` and records in the report where the values turned, with statistics by layer.
    ///
    /// # Errors
    /// A description of what was expected and what was found, if the batch is missing.
    pub(crate) fn examine(&mut self, device: &Device) -> Result<Finding, String> {
        let Replay { finding, batches, .. } = self.run(device)?;
        self.report.finding = Some(finding.clone());
        self.report.batches = batches;
        Ok(finding)
    }

    /// Runs forward pass, loss and backward pass of the step again on `device`, which may have autodiff or not, and
    /// finds where the values turned.
    ///
    /// # Errors
    /// A description of what was expected and what was found, if batch or weights do not fit the network.
    pub(super) fn run(&self, device: &Device) -> Result<Replay, String> {
        let device = device.clone().without_autodiff().autodiff();
        if let Some(reason) = &self.report.missing_batch {
            return Err(format!("expected the batch of the step, found none: it could not be loaded again ({reason})"));
        }
        let precision = self.config.train.precision;
        precision.check(&device).map_err(|expected| {
            format!("the step ran with train.precision = {}; expected {expected}", precision.name())
        })?;
        let model = self.network(&device)?;
        let channels = self.report.model.channels(self.report.classes);
        self.config.loss.validate_lists(channels).map_err(|e| e.within("loss").to_string())?;
        self.batches.iter().try_for_each(|batch| batch.check(&self.report.model, channels))?;

        // Statistics by layer.
        let (normalizer, activations) = (self.report.normalizer.into(), self.config.train.activations());
        let scale = self.report.loss_scale.map_or(1.0, |scale| scale.0);
        let loss = &self.config.loss;
        let pass = Pass { model: &model, loss, normalizer, precision, scale, activations, device: &device };
        let batches: Vec<BatchTrace> = self.batches.iter().map(|batch| pass.trace(batch)).collect();

        // The step exactly as training computes it.
        let options = GradientOptions {
            loss: &self.config.loss,
            normalizer,
            anchors_per_location: self.report.model.anchors.anchors_per_location(),
            activations,
            breakdown: is_host(&device),
            first_loss: None,
            clip_norm: self.config.train.clip_norm,
        };
        let inputs = self.batches.iter().map(|b| (image_tensor(b.images.clone(), &device), b.targets.clone()));
        let learner = Learner::new(model, Optimizer::new(&self.config.train), None);
        let learner = learner.in_precision(precision, scale, &device);
        let values = learner.gradients(inputs, &options, &device).values.into_data().convert::<f32>();
        let values = values.as_slice::<f32>().expect("losses are readable as f32");
        let losses = StepLosses::of(values.first_chunk().expect("six values of a step"));

        let broken = self.weights.iter().map(|(name, t)| (name, ValueStats::of(&t.values)));
        let broken = broken.filter(|(_, stats)| stats.non_finite() > 0);
        let device = device_name(&device);
        Ok(Replay {
            same_device: device == self.report.device,
            device,
            identical: losses == self.report.losses,
            finding: if losses.is_finite() { Finding::Nothing } else { finding(&self.report, &self.batches, &batches) },
            losses,
            broken_tensors: broken.map(|(name, stats)| TensorStats { name: name.clone(), stats }).collect(),
            batches,
        })
    }

    /// The network with the weights of before the step, with the frozen stages of the run.
    fn network(&self, device: &Device) -> Result<RetinaNet, String> {
        let config = &self.report.model;
        config.validate().map_err(|e| e.within("model").to_string())?;
        let (mut model, loaded) = load_tensors(config.skeleton(self.report.classes, device), &self.weights);
        if let Some(name) = loaded.missing.first().or(loaded.mismatched.first().map(|m| &m.name)) {
            return Err(format!("expected a tensor {name} with the shape that the network has, found none"));
        }
        model.backbone.body = model.backbone.body.freeze_stages(config.freeze_stages);
        Ok(model)
    }
}
