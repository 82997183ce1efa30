//! Forward and backward pass of the network, with or without activation checkpointing (arXiv 1604.06174).

use burn::module::Module;
use burn::tensor::Tensor;
use foveal_backbone::{Body, STAGES, StageMaps};
use foveal_detector::{ComputePrecision, Dense, RetinaNet};
use foveal_nn::{Eager, Graph, Simulated};

use crate::update::Grads;

#[cfg(test)]
mod tests;

/// Which activations a forward pass stores for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activations {
    /// All activations.
    Kept,
    /// Only inputs and outputs of the backbone's stages; activations inside them are recomputed in the backward pass:
    /// activation checkpointing (Chen et al., arXiv 1604.06174).
    Recomputed,
}

/// Path of the backbone's body in the network, the prefix of the names of its layers.
const BODY: &str = "backbone.body";

/// The backward pass that belongs to a forward pass.
#[must_use]
pub(crate) struct Backward {
    /// Stages to recompute, in the order of the forward pass; empty without checkpointing.
    recomputed: Vec<RecomputedStage>,
    /// The precision of the forward pass, in which the stages are recomputed.
    precision: ComputePrecision,
}

/// A stage of the backbone of which only input and output are stored.
struct RecomputedStage {
    index: usize,
    input: Tensor<4>,
    /// The output as a leaf of the autodiff graph of the later layers, where the gradient of the output is collected.
    output: Tensor<4>,
}

/// Runs the forward pass of the network and returns its output with the matching backward pass.
///
/// With [`Activations::Recomputed`], [`Backward::run`] computes the activations of the first [`checkpointed_stages`]
/// stages a second time, which gives the same losses and gradients with less memory and more time. Later stages store
/// their activations, because a second pass would count the batch twice in the statistics of their trained batch norms.
///
/// # Shapes
/// - images: `[batch, 3, height, width]`, f32, on an autodiff device
pub(crate) fn forward(
    model: &RetinaNet,
    images: Tensor<4>,
    precision: ComputePrecision,
    activations: Activations,
) -> (Dense, Backward) {
    if precision.is_simulated() {
        return forward_on(&mut Simulated, model, images, precision, activations);
    }
    forward_on(&mut Eager, model, images, precision, activations)
}

/// Runs the same forward pass as [`forward`] on another interpreter that computes tensors. `graph` must compute in
/// `precision`: with or without the rounding of a simulation.
///
/// # Shapes
/// - images: `[batch, 3, height, width]`, f32, on an autodiff device
pub(crate) fn forward_on<G: Graph<Map = Tensor<4>, Rows = Tensor<3>>>(
    graph: &mut G,
    model: &RetinaNet,
    images: Tensor<4>,
    precision: ComputePrecision,
    activations: Activations,
) -> (Dense, Backward) {
    let images = precision.cast(images);
    let mut recomputed = Vec::new();
    if activations == Activations::Kept {
        return (model.run(graph, images).into(), Backward { recomputed, precision });
    }
    let body = &model.backbone.body;
    let (checkpointed, plain) = (checkpointed_stages(body), body.valid());
    let mut x = images;
    let [_, c3, c4, c5]: [_; STAGES] = std::array::from_fn(|index| {
        let input = x.clone();
        let mut stage =
            |body: &Body, x: Tensor<4>| graph.scope(format_args!("{BODY}"), |graph| body.stage(graph, index, x));
        x = if index < checkpointed {
            let output = Tensor::from_inner(stage(&plain, input.clone().without_autodiff()));
            // Frozen stages at the beginning need no gradient, neither of their weights nor of their output.
            if recomputed.is_empty() && !body.learns(index) {
                output
            } else {
                let output = output.require_grad();
                recomputed.push(RecomputedStage { index, input, output: output.clone() });
                output
            }
        } else {
            stage(body, input)
        };
        x.clone()
    });
    (model.run_from_stages(graph, StageMaps { c3, c4, c5 }).into(), Backward { recomputed, precision })
}

/// Number of stages, counted from the first, that activation checkpointing recomputes: all before the first stage with
/// trained batch norms, at most [`STAGES`].
pub(crate) fn checkpointed_stages(body: &Body) -> usize {
    (0..STAGES).take_while(|stage| !body.keeps_statistics(*stage)).count()
}

impl Backward {
    /// Runs the backward pass from `loss`, `[1]`, which was computed from the output of the forward pass of `model`,
    /// and adds the gradients of all trained parameters to `grads`.
    pub(crate) fn run(self, model: &RetinaNet, loss: Tensor<1>, grads: &mut Grads) {
        let mut gradients = loss.backward();
        // Gradients of the stage outputs from the pyramid and the heads. Those from the next stage are added below.
        let direct: Vec<_> = self.recomputed.iter().map(|stage| stage.output.grad_remove(&mut gradients)).collect();
        grads.accumulate(model, gradients);
        let mut from_next: Option<Tensor<4>> = None;
        for (stage, direct) in self.recomputed.into_iter().zip(direct).rev() {
            let Some(grad) = direct.into_iter().chain(from_next.take()).reduce(|a, b| a + b) else { continue };
            let (body, input) = (&model.backbone.body, stage.input.clone());
            let output = match self.precision.is_simulated() {
                true => body.stage(&mut Simulated, stage.index, input),
                false => body.stage(&mut Eager, stage.index, input),
            };
            // The gradient of this sum with respect to the stage's weights and input equals that of the loss.
            let mut gradients = (output * Tensor::from_inner(grad)).sum().backward();
            from_next = stage.input.grad_remove(&mut gradients);
            grads.accumulate(model, gradients);
        }
    }
}
