//! Both losses of a batch.

use burn::tensor::Tensor;
use foveal_anchors::ImageTargets;
use foveal_kernels::BreakdownLayout;

use crate::boxes;
use crate::breakdown::BatchBreakdown;
use crate::config::{LossConfig, NormalizerKind};
use crate::predicted::Predicted;

/// What the sums of a batch are divided by. Targets are made on the host, so it is known before the forward pass
/// and can span several batches: k batches of b with one normalizer give the gradients of one batch of k * b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalizer {
    /// Positive anchors of all that shares an update.
    Positives(usize),
    /// Images of all that shares an update; each is divided by its own positives first.
    Images(usize),
    /// A number that [`SmoothedPositives`] gave.
    Smoothed(f64),
}

/// The moving average of the positives of an update, `loss.normalizer = "ema"`: Detectron2's, so that an update with few
/// positives is not blown up. Part of a run's state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmoothedPositives(pub f64);

/// Detectron2's start and momentum (RetinaNet's `loss_normalizer`).
const SMOOTHED_START: f64 = 100.0;
const SMOOTHED_MOMENTUM: f64 = 0.9;

impl Default for SmoothedPositives {
    fn default() -> Self {
        Self(SMOOTHED_START)
    }
}

impl SmoothedPositives {
    /// Takes in the positives of an update, at least 1, and gives the average.
    pub fn update(&mut self, positives: usize) -> f64 {
        self.0 = SMOOTHED_MOMENTUM * self.0 + (1.0 - SMOOTHED_MOMENTUM) * positives.max(1) as f64;
        self.0
    }
}

impl Normalizer {
    /// The normalizer of all `targets` that share one update. The moving average is another matter
    /// ([`SmoothedPositives`]); where there is none, all positives are its stead.
    pub fn of<'a>(kind: NormalizerKind, targets: impl IntoIterator<Item = &'a ImageTargets>) -> Self {
        let targets = targets.into_iter();
        match kind {
            NormalizerKind::Batch | NormalizerKind::Ema => Self::Positives(targets.map(|t| t.positives.len()).sum()),
            NormalizerKind::PerImage => Self::Images(targets.count()),
        }
    }

    /// What an image's sums are multiplied by.
    pub(crate) fn weight(self, targets: &ImageTargets) -> f64 {
        match self {
            Self::Positives(n) => 1.0 / n.max(1) as f64,
            Self::Smoothed(n) => 1.0 / n.max(1.0),
            Self::Images(n) => 1.0 / (targets.positives.len().max(1) * n.max(1)) as f64,
        }
    }

    /// That of every image, where they all have the same.
    fn shared(self) -> Option<f64> {
        (!matches!(self, Self::Images(_))).then(|| self.weight(&ImageTargets::default()))
    }
}

/// The losses of a batch, each `[1]` and already divided.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Over anchors and classes.
    pub class: Tensor<1>,
    /// Over positive anchors.
    pub boxes: Tensor<1>,
    /// `class + box_weight * boxes`: what is differentiated.
    pub total: Tensor<1>,
    /// `[2]`: the class loss's part from positives (the object's own class) and from all else. No gradient.
    pub class_sums: Tensor<1>,
    /// Positive anchors of the batch.
    pub positives: usize,
    /// Where it was asked for.
    pub breakdown: Option<BatchBreakdown>,
}

impl LossConfig {
    /// Both losses over one batch.
    ///
    /// # Shapes
    /// - logits: `[batch, anchors, classes]`
    /// - deltas: `[batch, anchors, 4]`
    /// - targets: one an image
    ///
    /// # Panics
    /// When the targets were made for another number of anchors or images.
    pub fn forward(
        &self,
        logits: Tensor<3>,
        deltas: Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
    ) -> Losses {
        self.forward_with(logits, deltas, targets, normalizer, None)
    }

    /// The same with the class loss's breakdown, for which the anchors of each level are needed.
    ///
    /// # Shapes
    /// As [`LossConfig::forward`].
    ///
    /// # Panics
    /// As [`LossConfig::forward`], and when the config has lists for another number of classes.
    pub fn forward_with(
        &self,
        logits: Tensor<3>,
        deltas: Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
        breakdown: Option<BreakdownLayout>,
    ) -> Losses {
        assert_eq!(logits.dims()[0], targets.len(), "targets for each image");
        let weights: Vec<f64> = targets.iter().map(|t| normalizer.weight(t)).collect();
        // With one number for all, the class loss takes the batch in one pass.
        let class_weights = normalizer.shared().map_or_else(|| weights.clone(), |weight| vec![weight]);
        let class =
            self.class_part(&Predicted { logits: &logits, deltas: &deltas }, targets, &class_weights, breakdown);
        let boxes = boxes::weighted(deltas, targets, &weights, self.box_kind, self.beta);
        let total = class.loss.clone() + boxes.clone() * self.box_weight;
        let positives = targets.iter().map(|t| t.positives.len()).sum();
        Losses { class: class.loss, boxes, total, class_sums: class.sums, positives, breakdown: class.breakdown }
    }
}
