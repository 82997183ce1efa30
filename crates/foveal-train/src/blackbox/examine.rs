//! Runs the batches of a step again with statistics of every layer, and finds where the values turned.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use foveal_criterion::{LossConfig, Losses, Normalizer};
use foveal_detector::{ComputePrecision, Dense, RetinaNet, image_tensor};
use foveal_nn::{Graph, LayerTrace, Simulated, Traced, ValueStats};
use serde::{Deserialize, Serialize};

use super::{Finding, LossPart, Number, RecordedBatch, Report};
use crate::pass::{self, Activations, Backward};
use crate::update::{Grads, ParamTensors};

/// Statistics of one batch of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchTrace {
    /// Statistics of the input of each image, `[3, height, width]` with its padding.
    pub images: Vec<ValueStats>,
    /// The layers in the order of the forward pass.
    pub layers: Vec<LayerRecord>,
    /// Statistics of the class logits, `[batch, anchors, classes]`.
    pub logits: ValueStats,
    /// Statistics of the box deltas, `[batch, anchors, 4]`.
    pub deltas: ValueStats,
    /// Class loss of the batch.
    pub class_loss: Number,
    /// Box loss of the batch, before `loss.box_weight`.
    pub box_loss: Number,
    /// Total loss of the batch.
    pub total_loss: Number,
    /// Statistics of the gradient of the total loss with respect to the class logits. The loss is multiplied by the
    /// loss scale, as for all gradients here.
    pub logits_gradient: ValueStats,
    /// Statistics of the gradient of the total loss with respect to the box deltas.
    pub deltas_gradient: ValueStats,
}

/// Statistics of a layer: its output in the forward pass and the gradients of its trained parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The forward pass.
    #[serde(flatten)]
    pub trace: LayerTrace,
    /// Statistics of the gradients of the layer's trained parameters, by their full names.
    pub gradients: BTreeMap<String, ValueStats>,
}

impl LayerRecord {
    /// The layer with those of `gradients` that belong to its convolution or norm.
    fn new(trace: LayerTrace, gradients: &ParamTensors) -> Self {
        let is_own = |name: &str| {
            let layer = name.rsplit_once('.').map(|(layer, _)| layer);
            layer == Some(&trace.name) || (layer.is_some() && layer == trace.norm.as_deref())
        };
        let own = gradients.iter().filter(|(name, _)| is_own(name));
        let gradients = own.map(|(name, grad)| (name.clone(), ValueStats::of_tensor(&grad.clone().flat()))).collect();
        Self { trace, gradients }
    }
}

/// How the batches of a step are computed.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) model: &'a RetinaNet,
    pub(super) loss: &'a LossConfig,
    pub(super) normalizer: Normalizer,
    pub(super) precision: ComputePrecision,
    /// The scale by which the loss is multiplied before the backward pass; 1 without a loss scale.
    pub(super) scale: f64,
    pub(super) activations: Activations,
    /// With autodiff.
    pub(super) device: &'a Device,
}

impl Pass<'_> {
    fn losses(&self, logits: Tensor<3>, deltas: Tensor<3>, batch: &RecordedBatch) -> Losses {
        self.loss.forward(logits, deltas, &batch.targets, self.normalizer)
    }

    /// Runs the forward pass of a batch on `graph`. Returns the output of the network, the backward pass that belongs
    /// to it, and the records of all layers.
    fn forward<G>(&self, mut graph: Traced<G>, batch: &RecordedBatch) -> (Dense, Backward, Vec<LayerTrace>)
    where
        Traced<G>: Graph<Map = Tensor<4>, Rows = Tensor<3>>,
    {
        let input = image_tensor(batch.images.clone(), self.device);
        let (dense, backward) = pass::forward_on(&mut graph, self.model, input, self.precision, self.activations);
        (dense, backward, graph.into_layers())
    }

    /// Multiplies a loss by the loss scale.
    fn scaled(&self, loss: Tensor<1>) -> Tensor<1> {
        if self.precision.scales_loss() { loss * self.scale } else { loss }
    }

    /// Runs forward pass, loss and backward pass of a batch and reads statistics of all values.
    pub(super) fn trace(&self, batch: &RecordedBatch) -> BatchTrace {
        let image = 3 * batch.images.height * batch.images.width;
        let images = batch.images.data.chunks_exact(image).map(ValueStats::of).collect();

        // Forward and backward pass of the network.
        let (dense, backward, layers) = if self.precision.is_simulated() {
            self.forward(Traced::over(Simulated), batch)
        } else {
            self.forward(Traced::new(), batch)
        };
        let outputs = [&dense.logits, &dense.deltas].map(|t| t.clone().without_autodiff());
        let losses = self.losses(dense.logits, dense.deltas, batch);
        let number = |loss: &Tensor<1>| Number(loss.clone().without_autodiff().into_scalar::<f64>());
        let [class_loss, box_loss, total_loss] = [&losses.class, &losses.boxes, &losses.total].map(number);
        let mut gradients = Grads::default();
        backward.run(self.model, self.scaled(losses.total), &mut gradients);

        // Gradients of the losses alone, with the outputs of the network as leaves.
        let [logits, deltas] = outputs.clone().map(|t| Tensor::from_inner(t).require_grad());
        let by_output = self.scaled(self.losses(logits.clone(), deltas.clone(), batch).total).backward();
        let gradient = |t: &Tensor<3>| t.grad(&by_output).as_ref().map(ValueStats::of_tensor).unwrap_or_default();
        let layers = layers.into_iter().map(|layer| LayerRecord::new(layer, &gradients.0));
        BatchTrace {
            images,
            layers: layers.collect(),
            logits: ValueStats::of_tensor(&outputs[0]),
            deltas: ValueStats::of_tensor(&outputs[1]),
            class_loss,
            box_loss,
            total_loss,
            logits_gradient: gradient(&logits),
            deltas_gradient: gradient(&deltas),
        }
    }
}

/// Where the values of a step first became NaN or infinite, in the order of the computation: the images, forward pass,
/// losses and backward pass of each batch, then the sums over the batches.
pub(super) fn finding(report: &Report, batches: &[RecordedBatch], traces: &[BatchTrace]) -> Finding {
    let each = traces.iter().zip(batches).enumerate();
    each.clone()
        .find_map(|(k, (trace, _))| images(report, k, trace))
        .or_else(|| traces.iter().find_map(forward))
        .or_else(|| each.clone().find_map(|(k, (trace, batch))| losses(report, k, trace, batch)))
        .or_else(|| traces.iter().find_map(backward))
        .unwrap_or(Finding::Sum)
}

/// The id of image `i` of batch `k`.
fn image_id(report: &Report, k: usize, i: usize) -> Option<i64> {
    report.images.iter().filter(|image| image.batch == Some(k)).nth(i).map(|image| image.image_id)
}

fn images(report: &Report, k: usize, trace: &BatchTrace) -> Option<Finding> {
    let i = trace.images.iter().position(|image| image.non_finite() > 0)?;
    let image = report.images.iter().filter(|image| image.batch == Some(k)).nth(i)?;
    Some(Finding::Image { image_id: image.image_id, file: image.file.clone(), values: trace.images[i] })
}

fn forward(trace: &BatchTrace) -> Option<Finding> {
    let turn = trace.layers.iter().find_map(|layer| layer.trace.turn.clone())?;
    let broken: Vec<_> = turn.tensors.iter().filter(|tensor| tensor.stats.non_finite() > 0).cloned().collect();
    if !broken.is_empty() {
        return Some(Finding::Weights { layer: turn.layer, tensors: broken });
    }
    let largest_weight = turn.tensors.iter().map(|tensor| tensor.stats.largest()).fold(0.0, f32::max);
    Some(Finding::Layer { layer: turn.layer, operation: turn.operation, input: turn.input, largest_weight })
}

fn losses(report: &Report, k: usize, trace: &BatchTrace, batch: &RecordedBatch) -> Option<Finding> {
    let is_whole = |number: Number| number.0.is_finite();
    if is_whole(trace.class_loss) && is_whole(trace.box_loss) && is_whole(trace.total_loss) {
        return None;
    }
    if !is_whole(trace.box_loss) {
        let broken = |p: &foveal_anchors::Positive| p.delta.to_array().iter().any(|value| !value.is_finite());
        let i = batch.targets.iter().position(|targets| targets.positives.iter().any(broken));
        if let Some(image_id) = i.and_then(|i| image_id(report, k, i)) {
            return Some(Finding::Targets { image_id });
        }
    }
    let (part, outputs) = match (is_whole(trace.class_loss), is_whole(trace.box_loss)) {
        (false, _) => (LossPart::Class, trace.logits),
        (_, false) => (LossPart::Box, trace.deltas),
        _ => (LossPart::Total, trace.logits.merged(trace.deltas)),
    };
    Some(Finding::Loss { part, outputs })
}

fn backward(trace: &BatchTrace) -> Option<Finding> {
    for (part, gradient) in [(LossPart::Class, trace.logits_gradient), (LossPart::Box, trace.deltas_gradient)] {
        if gradient.non_finite() > 0 {
            return Some(Finding::LossGradient { part, gradient });
        }
    }
    // The layers in the order of the backward pass: the last first, and the norm of a layer before its convolution.
    let mut gradients = trace.layers.iter().rev().flat_map(|layer| {
        let is_norm = |name: &&String| layer.trace.norm.as_ref().is_some_and(|norm| name.starts_with(norm.as_str()));
        let (norm, conv): (Vec<_>, Vec<_>) = layer.gradients.iter().partition(|(name, _)| is_norm(name));
        norm.into_iter().chain(conv)
    });
    let (name, gradient) = gradients.find(|(_, gradient)| gradient.non_finite() > 0)?;
    let layer = name.rsplit_once('.').map_or(name.as_str(), |(layer, _)| layer);
    Some(Finding::Gradient { layer: layer.to_owned(), tensor: name.clone(), gradient: *gradient })
}
