use burn::tensor::Device;
use foveal_backbone::BackboneNorm;
use foveal_criterion::Normalizer;
use foveal_detector::{ModelConfig, image_tensor};

use super::*;
use crate::testing::{first_batch, tiny};
use crate::update::to_host;

/// The total loss of a batch and the gradients of all parameters by name.
type Computed = (f32, Vec<(String, Vec<f32>)>);

/// Losses and gradients of one batch.
fn gradients(model: &RetinaNet, device: &Device, precision: ComputePrecision, activations: Activations) -> Computed {
    let config = tiny();
    let batch = first_batch(&config);
    let (dense, backward) = forward(model, image_tensor(batch.images, device), precision, activations);
    let normalizer = Normalizer::of(config.loss.normalizer, &batch.targets);
    let losses = config.loss.forward(dense.logits, dense.deltas, &batch.targets, normalizer);
    let mut grads = Grads::default();
    let loss = losses.total.clone().without_autodiff().into_scalar();
    backward.run(model, losses.total, &mut grads);
    let values = to_host(&grads.0).into_iter().map(|(name, tensor)| (name, tensor.values)).collect();
    (loss, values)
}

fn model(change: impl FnOnce(&mut ModelConfig), device: &Device) -> RetinaNet {
    let mut config = tiny().model;
    change(&mut config);
    let mut model = config.seeded(3, 0, device);
    model.backbone.body = model.backbone.body.freeze_stages(config.freeze_stages);
    model
}

#[test]
fn gradients_are_those_of_the_whole_graph() {
    let device = Device::flex().autodiff();
    for (what, change, stages) in CASES {
        let model = model(change, &device);
        assert_eq!(checkpointed_stages(&model.backbone.body), stages, "{what}");
        let run = |activations| gradients(&model, &device, ComputePrecision::F32, activations);
        same_gradients(what, [Activations::Kept, Activations::Recomputed].map(run), 1e-6, 1e-5);
    }
}

#[test]
fn first_losses_in_half_precision_are_close_to_those_in_single_precision() {
    let device = Device::flex().autodiff();
    for (what, change, _) in CASES {
        let model = model(change, &device);
        let run = |precision, activations| gradients(&model, &device, precision, activations);
        let (single, _) = run(ComputePrecision::F32, Activations::Kept);
        let (half, recomputed) = foveal_detector::with_simulated_f16(|| {
            let run = |activations| run(ComputePrecision::F16, activations);
            (run(Activations::Kept), run(Activations::Recomputed))
        });
        assert!(half.0 != single && (half.0 - single).abs() <= 1e-2 * single, "{what}: {} {single}", half.0);
        same_gradients(what, [half, recomputed], 1e-6, 1e-2);
    }
}

type Change = fn(&mut ModelConfig);

/// Networks, and how many of their stages are recomputed.
const CASES: [(&str, Change, usize); 7] = [
    ("group norms", |_| (), 4),
    ("frozen norms", |m| m.norm = BackboneNorm::FrozenBatch, 4),
    ("fixed statistics", |m| (m.norm, m.freeze_stages) = (BackboneNorm::FrozenStatistics, 1), 4),
    ("two stages frozen", |m| m.freeze_stages = 2, 4),
    ("all frozen", |m| m.freeze_stages = 5, 4),
    ("frozen batch norms", |m| (m.norm, m.freeze_stages) = (BackboneNorm::Batch, 3), 2),
    (
        "one trained batch norm",
        |m| {
            m.norm = BackboneNorm::FrozenBatch;
            m.live_norms = vec!["layer3.1.bn2".into()];
        },
        2,
    ),
];

/// Asserts that losses and gradients of the same batch are the same up to rounding.
fn same_gradients(what: &str, [(loss_a, a), (loss_b, b)]: [Computed; 2], loss: f32, gradient: f32) {
    assert!((loss_a - loss_b).abs() <= loss * loss_a, "{what}: {loss_a} {loss_b}");
    assert!(a.len() == b.len() && !a.is_empty(), "{what}: {} {}", a.len(), b.len());
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other, "{what}");
        let largest = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off <= gradient * largest, "{what}: {name} differs by {off}, largest {largest}");
    }
}
