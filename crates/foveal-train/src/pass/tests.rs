use burn::tensor::Device;
use foveal_backbone::BackboneNorm;
use foveal_criterion::Normalizer;
use foveal_detector::{ModelConfig, image_tensor};

use super::*;
use crate::testing::{first_batch, tiny};
use crate::update::to_host;

/// Losses and gradients of one batch.
fn gradients(model: &RetinaNet, device: &Device, activations: Activations) -> (f32, Vec<(String, Vec<f32>)>) {
    let config = tiny();
    let batch = first_batch(&config);
    let (dense, backward) = forward(model, image_tensor(batch.images, device), activations);
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
    type Change = fn(&mut ModelConfig);
    let cases: [(&str, Change, usize); 6] = [
        ("group norms", |_| (), 4),
        ("frozen norms", |m| m.norm = BackboneNorm::FrozenBatch, 4),
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
    for (what, change, stages) in cases {
        let model = model(change, &device);
        assert_eq!(checkpointed_stages(&model.backbone.body), stages, "{what}");
        let [(loss, whole), (again_loss, again)] =
            [Activations::Kept, Activations::Recomputed].map(|activations| gradients(&model, &device, activations));
        assert!((loss - again_loss).abs() <= 1e-6 * loss, "{what}: {loss} {again_loss}");
        assert!(whole.len() == again.len() && !whole.is_empty(), "{what}: {} {}", whole.len(), again.len());
        for ((name, a), (other, b)) in whole.iter().zip(&again) {
            assert_eq!(name, other, "{what}");
            let largest = a.iter().fold(0f32, |m, v| m.max(v.abs()));
            let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off <= 1e-5 * largest, "{what}: {name} differs by {off}, largest {largest}");
        }
    }
}
