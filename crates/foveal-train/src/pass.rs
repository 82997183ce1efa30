//! A forward and backward pass of the network, with or without activation checkpointing.

use burn::module::Module;
use burn::tensor::Tensor;
use foveal_backbone::{Body, STAGES, StageMaps};
use foveal_detector::{Dense, RetinaNet};
use foveal_nn::Eager;

use crate::update::Grads;

#[cfg(test)]
mod tests;

/// What a forward pass keeps for the gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activations {
    /// Everything.
    Kept,
    /// Of the backbone's stages their ends alone: activation checkpointing (Chen et al., arXiv 1604.06174).
    Recomputed,
}

/// The backward pass that belongs to a forward pass.
#[must_use]
pub(crate) struct Backward {
    /// What is computed again, first stage first; nothing without checkpointing.
    again: Vec<Stage>,
}

/// A stage of the backbone of which nothing but both ends is kept.
struct Stage {
    index: usize,
    input: Tensor<4>,
    /// A leaf of the graph of all that follows: the gradient of the stage's result arrives here.
    output: Tensor<4>,
}

/// Runs the network.
///
/// Activations that are not kept are computed once more by [`Backward::run`]: the same losses and gradients in less memory
/// and more time. That ends at the first stage that [keeps statistics](Body::keeps_statistics), of which a second pass
/// would count the batch twice: [`checkpointed_stages`].
///
/// # Shapes
/// - images: `[batch, 3, height, width]`, on an autodiff device
pub(crate) fn forward(model: &RetinaNet, images: Tensor<4>, activations: Activations) -> (Dense, Backward) {
    let mut again = Vec::new();
    if activations == Activations::Kept {
        return (model.forward(images), Backward { again });
    }
    let body = &model.backbone.body;
    let (checkpointed, plain) = (checkpointed_stages(body), body.valid());
    let mut x = images;
    let [_, c3, c4, c5]: [_; STAGES] = std::array::from_fn(|index| {
        let input = x.clone();
        x = if index < checkpointed {
            let output = Tensor::from_inner(plain.stage(&mut Eager, index, input.clone().without_autodiff()));
            // Frozen stages at the beginning have no gradient, and no use for that of their result.
            if again.is_empty() && !body.learns(index) {
                output
            } else {
                let output = output.require_grad();
                again.push(Stage { index, input, output: output.clone() });
                output
            }
        } else {
            body.stage(&mut Eager, index, input)
        };
        x.clone()
    });
    (model.forward_from_stages(StageMaps { c3, c4, c5 }), Backward { again })
}

/// How many of the [`STAGES`] checkpointing computes twice.
pub(crate) fn checkpointed_stages(body: &Body) -> usize {
    (0..STAGES).take_while(|stage| !body.keeps_statistics(*stage)).count()
}

impl Backward {
    /// Adds the gradients of `loss`, which the forward pass of `model` led to.
    pub(crate) fn run(self, model: &RetinaNet, loss: Tensor<1>, grads: &mut Grads) {
        let mut gradients = loss.backward();
        // Gradients of the stage outputs from pyramid and heads; the next stage's are added below.
        let direct: Vec<_> = self.again.iter().map(|stage| stage.output.grad_remove(&mut gradients)).collect();
        grads.accumulate(model, gradients);
        let mut from_next: Option<Tensor<4>> = None;
        for (stage, direct) in self.again.into_iter().zip(direct).rev() {
            let Some(grad) = direct.into_iter().chain(from_next.take()).reduce(|a, b| a + b) else { continue };
            let output = model.backbone.body.stage(&mut Eager, stage.index, stage.input.clone());
            // The gradient of this sum is that of the loss.
            let mut gradients = (output * Tensor::from_inner(grad)).sum().backward();
            from_next = stage.input.grad_remove(&mut gradients);
            grads.accumulate(model, gradients);
        }
    }
}
