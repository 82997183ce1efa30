//! A training step of a RetinaNet with ResNet-50, frozen norms and few channels, on withheld images.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use foveal_anchors::{ImageTargets, MatcherConfig, grid_sizes, image_targets};
use foveal_backbone::BackboneNorm;
use foveal_boxes::BBox;
use foveal_criterion::{LossConfig, Losses, Normalizer};
use foveal_detector::{ModelConfig, RetinaNet};
use foveal_train::{Clipping, Grads, Optimizer, TrainConfig};

/// Number of images of a batch.
pub(crate) const BATCH: usize = 2;
/// Height and width of the images in pixels. Every level of the pyramid has more than one pixel.
pub(crate) const SIDE: usize = 256;
/// Number of classes.
pub(crate) const CLASSES: usize = 3;
/// Number of trained parameters of the network: 53 weights of the backbone, and weights and biases of the 8
/// convolutions of the pyramid and of the 10 of the heads.
pub(crate) const PARAMETERS: usize = 53 + 2 * (8 + 10);

fn config() -> ModelConfig {
    ModelConfig { base_width: 4, norm: BackboneNorm::FrozenBatch, fpn_channels: 8, ..ModelConfig::default() }
}

/// A network with as many layers and trained parameters as that of `configs/retinanet_r50_torchvision.toml` with all
/// stages trained, but with few channels.
pub(crate) fn network(device: &Device) -> RetinaNet {
    let model = config().seeded(CLASSES, 0, device);
    let mut trained = CountTrained(0);
    model.visit(&mut trained);
    assert_eq!(trained.0, PARAMETERS, "trained parameters of the network");
    model
}

struct CountTrained(usize);

impl ModuleVisitor for CountTrained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += usize::from(param.is_require_grad());
    }
}

/// Targets of a batch, with positive anchors in each image.
pub(crate) fn targets() -> Vec<ImageTargets> {
    let anchors = config().anchor_boxes(SIDE, SIDE, &grid_sizes(SIDE, SIDE));
    let objects = [BBox::new(20.0, 30.0, 84.0, 90.0), BBox::new(100.0, 60.0, 240.0, 200.0)];
    let image = image_targets(&anchors, &objects, &[0, 2], &[], &MatcherConfig::default());
    assert!(image.positives.len() > 1, "the objects have positive anchors");
    vec![image; BATCH]
}

/// The losses of a batch.
///
/// # Shapes
/// - logits: `[BATCH, anchors, CLASSES]`
/// - deltas: `[BATCH, anchors, 4]`
pub(crate) fn losses(config: &LossConfig, logits: Tensor<3>, deltas: Tensor<3>, targets: &[ImageTargets]) -> Losses {
    config.forward(logits, deltas, targets, Normalizer::of(config.normalizer, targets))
}

/// A network in training.
pub(crate) struct Trained {
    model: Option<RetinaNet>,
    optimizer: Optimizer,
    targets: Vec<ImageTargets>,
    device: Device,
}

impl Trained {
    pub(crate) fn new(device: &Device) -> Self {
        let optimizer = Optimizer::new(&TrainConfig::default());
        Self { model: Some(network(device)), optimizer, targets: targets(), device: device.clone() }
    }

    /// The losses of a batch and the gradients of all trained parameters.
    ///
    /// # Shapes
    /// - images: `[BATCH, 3, SIDE, SIDE]`
    pub(crate) fn gradients(&self, images: Tensor<4>, config: &LossConfig) -> (Losses, Gradients) {
        let model = self.model.as_ref().expect("the network is put back after each update");
        let dense = model.forward(images);
        let losses = losses(config, dense.logits, dense.deltas, &self.targets);
        let gradients = losses.total.backward();
        (losses, gradients)
    }

    /// Updates the parameters by the gradients of [`Trained::gradients`]. Returns the losses and the gradient norm in
    /// one tensor, which training reads at the steps that it logs.
    pub(crate) fn update(&mut self, losses: Losses, gradients: Gradients) -> Tensor<1> {
        let model = self.model.take().expect("the network is put back after each update");
        let mut grads = Grads::default();
        grads.accumulate(&model, gradients);
        let norm = grads.norm(&self.device);
        let row = [losses.class, losses.boxes, losses.total.clone(), losses.class_sums];
        let row = Tensor::cat(row.map(Tensor::without_autodiff).to_vec(), 0);
        let clipping = Clipping::new(losses.total.without_autodiff(), norm.clone(), TrainConfig::default().clip_norm);
        self.model = Some(self.optimizer.step(model, grads, 1e-3, &clipping));
        Tensor::cat(vec![row, norm], 0)
    }

    /// A whole step.
    ///
    /// # Shapes
    /// - images: `[BATCH, 3, SIDE, SIDE]`
    pub(crate) fn step(&mut self, images: Tensor<4>, config: &LossConfig) -> Tensor<1> {
        let (losses, gradients) = self.gradients(images, config);
        self.update(losses, gradients)
    }
}
