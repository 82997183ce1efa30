//! The check of the first loss on deliberate faults of a real network, with real targets and losses.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use foveal_criterion::{
    BreakdownLayout, ClassLossKind, ClassWeights, Fault, LossBreakdown, Normalizer, NormalizerKind, PerClass,
};
use foveal_detector::{RetinaNet, image_tensor};

use super::*;
use crate::config::RunConfig;
use crate::testing::first_batch;

fn tiny() -> RunConfig {
    let mut config = crate::testing::tiny();
    // All images of the set at once.
    config.train.batch_size = 8;
    config
}

/// A network and the configuration whose first class loss is checked.
struct Trial {
    config: RunConfig,
    network: RetinaNet,
    device: Device,
}

impl Trial {
    fn new(config: RunConfig) -> Self {
        let device = Device::flex();
        let network = config.model.build(3, 1, &device).unwrap().model;
        Self { config, network, device }
    }

    /// Checks a class loss that is computed with the settings `computed`, against the loss expected from the
    /// configuration. `undivided` omits the normalizer.
    fn check(&self, computed: &LossConfig, undivided: bool) -> Result<(), TrainError> {
        let config = &self.config;
        let batch = first_batch(config);
        let normalizer = Normalizer::of(config.loss.normalizer, &batch.targets);
        let check = first_loss_check(&config.loss, &config.model, 3);
        let dense = self.network.forward(image_tensor(batch.images, &self.device));
        let expected = check.expected(&dense.logits, &dense.deltas, &batch.targets, normalizer);
        let anchors_per_location = config.model.anchors.anchors_per_location();
        let layout = BreakdownLayout {
            level_anchors: std::array::from_fn(|l| dense.grids[l].positions() * anchors_per_location),
        };
        let used = if undivided { Normalizer::Positives(1) } else { normalizer };
        let losses = computed.forward_with(dense.logits, dense.deltas, &batch.targets, used, Some(layout));
        let breakdown = losses.breakdown.unwrap();
        let values: Vec<f32> = breakdown.values.into_data().try_to_vec().unwrap();
        compare(&check, &expected, &LossBreakdown::read(breakdown.counts, &values).record())
    }

    fn fault(&self, computed: &LossConfig, undivided: bool) -> (Fault, String) {
        match self.check(computed, undivided) {
            Err(error @ TrainError::FirstLossCheck { fault, .. }) => (fault, error.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

/// Changes the bias of the class layer.
fn set_bias(network: &mut RetinaNet, change: impl Fn(Tensor<1>) -> Tensor<1>) {
    let layer = &mut network.head.classification_head.cls_logits;
    let bias = layer.bias.take().unwrap().val();
    layer.bias = Some(Param::from_tensor(change(bias)));
}

#[test]
fn a_new_network_passes_with_every_loss() {
    let kinds = [
        ClassLossKind::Focal,
        ClassLossKind::CrossEntropy,
        ClassLossKind::BalancedCrossEntropy,
        ClassLossKind::Ohem,
        ClassLossKind::QualityFocal,
    ];
    for kind in kinds {
        for normalizer in [NormalizerKind::Batch, NormalizerKind::PerImage] {
            for prior in [0.01, 0.5] {
                let mut config = tiny();
                (config.loss.kind, config.loss.normalizer, config.model.head.prior) = (kind, normalizer, prior);
                let trial = Trial::new(config);
                trial
                    .check(&trial.config.loss, false)
                    .unwrap_or_else(|e| panic!("{kind:?} {normalizer:?} {prior}: {e}"));
            }
        }
    }
}

#[test]
fn wide_heads_with_norms_and_lists_pass_too() {
    for (channels, seed) in [(64, 1), (64, 2), (256, 3)] {
        let mut config = tiny();
        config.model.fpn_channels = channels;
        config.model.head.norm = serde_json::from_value("group".into()).unwrap();
        config.model.head.groups = 8;
        config.loss.alpha = PerClass::Each(vec![0.25, 0.5, 0.75]);
        config.loss.gamma = PerClass::Each(vec![2.0, 1.0, 0.0]);
        config.loss.class_weights = ClassWeights::Each(vec![0.5, 1.0, 3.0]);
        let mut trial = Trial::new(config);
        trial.network = trial.config.model.build(3, seed, &trial.device).unwrap().model;
        trial.check(&trial.config.loss, false).unwrap_or_else(|e| panic!("{channels} channels: {e}"));
    }
}

#[test]
fn small_objects_and_other_anchors_pass_with_every_loss() {
    let kinds = [
        ClassLossKind::Focal,
        ClassLossKind::CrossEntropy,
        ClassLossKind::BalancedCrossEntropy,
        ClassLossKind::Ohem,
        ClassLossKind::QualityFocal,
    ];
    // The smallest object and the first base size in pixels: objects far smaller than the anchors, and far larger.
    for (smallest, base, convs, norm) in
        [(4.0, 32.0, 1, "none"), (4.0, 16.0, 2, "group"), (28.0, 4.0, 0, "none"), (6.0, 48.0, 4, "group")]
    {
        for kind in kinds {
            let mut config = tiny();
            (config.data.shapes.min_object, config.data.shapes.max_objects) = (smallest, 6);
            config.data.shapes.seed = smallest as u64;
            config.model.anchors.base_sizes = (0..5).map(|level| base * (1 << level) as f32).collect();
            (config.model.head.convs, config.model.head.groups, config.model.fpn_channels) = (convs, 8, 64);
            config.model.head.norm = serde_json::from_value(norm.into()).unwrap();
            config.loss.kind = kind;
            let trial = Trial::new(config);
            trial
                .check(&trial.config.loss, false)
                .unwrap_or_else(|e| panic!("{kind:?}, objects from {smallest} pixels, anchors from {base}: {e}"));
        }
    }
}

#[test]
fn faults_are_caught_under_the_quality_focal_loss_too() {
    let mut config = tiny();
    config.loss.kind = ClassLossKind::QualityFocal;
    let mut trial = Trial::new(config.clone());
    let (fault, _) = trial.fault(&trial.config.loss, true);
    assert!(matches!(fault, Fault::Normalizer { .. }), "{fault:?}");
    set_bias(&mut trial.network, |bias| bias * 0.0);
    let (fault, _) = trial.fault(&trial.config.loss, false);
    assert!(matches!(fault, Fault::Prior { .. }), "{fault:?}");
    let mut trial = Trial::new(config);
    set_bias(&mut trial.network, |bias| bias - 2.0);
    let (fault, _) = trial.fault(&trial.config.loss, false);
    assert!(matches!(fault, Fault::Trained { .. }), "{fault:?}");
}

#[test]
fn a_bias_of_zero_is_a_prior_not_applied() {
    let mut trial = Trial::new(tiny());
    set_bias(&mut trial.network, |bias| bias * 0.0);
    let (fault, message) = trial.fault(&trial.config.loss, false);
    let Fault::Prior { found, bias, expected, .. } = fault else { panic!("{fault:?}") };
    assert!((found - 0.5).abs() < 0.02 && bias.abs() < 0.1 && (expected + 4.595).abs() < 1e-3, "{fault:?}");
    assert!(message.contains("the prior is not applied") && message.contains("--no-step0-check"), "{message}");
}

#[test]
fn a_missing_normalizer_is_named_with_its_divisor() {
    let trial = Trial::new(tiny());
    let (fault, _) = trial.fault(&trial.config.loss, true);
    let Fault::Normalizer { factor, divisor } = fault else { panic!("{fault:?}") };
    assert!((factor / divisor - 1.0).abs() < 0.1, "{fault:?}");
}

#[test]
fn swapped_alphas_are_told_from_other_causes() {
    for alpha in [0.25, 0.1, 0.9] {
        let mut config = tiny();
        config.loss.alpha = alpha.into();
        let trial = Trial::new(config);
        let swapped = LossConfig { alpha: (1.0 - alpha).into(), ..trial.config.loss.clone() };
        let (fault, _) = trial.fault(&swapped, false);
        let Fault::AlphaSwapped { positive, .. } = fault else { panic!("{alpha}: {fault:?}") };
        assert!((positive * alpha / (1.0 - alpha) - 1.0).abs() < 0.05, "{fault:?}");
    }
}

#[test]
fn trained_weights_are_recognised_by_their_scores() {
    // As after some training: the background has low scores.
    let mut trial = Trial::new(tiny());
    set_bias(&mut trial.network, |bias| bias - 4.0);
    let (fault, _) = trial.fault(&trial.config.loss, false);
    assert!(matches!(fault, Fault::Trained { .. }), "{fault:?}");

    let dir = tempfile::tempdir().unwrap();
    let run = crate::RunDir::create(&dir.path().join("r")).unwrap();
    let mut config = tiny();
    (config.train.epochs, config.train.batch_size, config.train.eval_every) = (40, 4, 0);
    (config.train.optimizer, config.train.lr) = (crate::OptimizerKind::AdamW, 3e-3);
    let stop = std::sync::atomic::AtomicBool::new(false);
    crate::train(&config, &Device::flex(), &run, crate::Start::New, &mut crate::Silent, &stop).unwrap();
    let trained = foveal_detector::Checkpoint::load(&run.last(), &Device::flex()).unwrap().model;
    let trial = Trial { network: trained, ..Trial::new(tiny()) };
    let (fault, message) = trial.fault(&trial.config.loss, false);
    assert!(matches!(fault, Fault::Trained { .. }), "{message}");
}
