//! The class loss and the box loss of a batch, and the normalizer that they are divided by.

use burn::tensor::Tensor;
use foveal_anchors::ImageTargets;
use foveal_kernels::{BreakdownLayout, is_gpu};

use crate::breakdown::{AnchorCounts, BatchBreakdown};
use crate::config::{LossConfig, NormalizerKind};
use crate::kind::Participants;
use crate::mining::Selection;
use crate::target_tensors::{BatchTargets, TargetTensors};
use crate::{boxes, mining};

/// The number that the sums of the losses are divided by.
///
/// Targets are made on the host, so the normalizer is known before the forward pass and can cover several accumulated
/// batches: `k` batches of `b` images that share one normalizer give the same gradients as one batch of `k * b` images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normalizer {
    /// Divides by the number of positive anchors of all images of an update, at least 1 (arXiv 1708.02002, section
    /// 4.1).
    Positives(usize),
    /// Divides the sums of each image by its own number of positive anchors, at least 1, and by this number of images
    /// of an update, as in torchvision.
    Images(usize),
    /// Divides by a moving average of the number of positive anchors, which [`SmoothedPositives::update`] returns.
    Smoothed(f64),
}

/// The moving average of the number of positive anchors per update, used with `loss.normalizer = "ema"`. It keeps the
/// gradients of an update with few positives from becoming large. It starts at 100 and has a momentum of 0.9, as
/// `loss_normalizer` of Detectron2's RetinaNet. It is saved with the state of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SmoothedPositives(
    /// The average number of positive anchors per update.
    pub f64,
);

/// Start and momentum of `loss_normalizer` in Detectron2's RetinaNet.
const SMOOTHED_START: f64 = 100.0;
const SMOOTHED_MOMENTUM: f64 = 0.9;

impl Default for SmoothedPositives {
    fn default() -> Self {
        Self(SMOOTHED_START)
    }
}

impl SmoothedPositives {
    /// Adds the number of positive anchors of an update to the average and returns the new average. A `positives` of 0
    /// counts as 1.
    pub fn update(&mut self, positives: usize) -> f64 {
        self.0 = SMOOTHED_MOMENTUM * self.0 + (1.0 - SMOOTHED_MOMENTUM) * positives.max(1) as f64;
        self.0
    }
}

impl Normalizer {
    /// Returns the normalizer for `targets`, which are the targets of all images of one update.
    ///
    /// The moving average of [`NormalizerKind::Ema`] needs the state in [`SmoothedPositives`]. Without it, this
    /// function returns the number of positive anchors, as for [`NormalizerKind::Batch`].
    pub fn of<'a>(kind: NormalizerKind, targets: impl IntoIterator<Item = &'a ImageTargets>) -> Self {
        let targets = targets.into_iter();
        match kind {
            NormalizerKind::Batch | NormalizerKind::Ema => Self::Positives(targets.map(|t| t.positives.len()).sum()),
            NormalizerKind::PerImage => Self::Images(targets.count()),
        }
    }

    /// The factor that the sums of an image are multiplied by.
    pub(crate) fn weight(self, targets: &ImageTargets) -> f64 {
        match self {
            Self::Positives(n) => 1.0 / n.max(1) as f64,
            Self::Smoothed(n) => 1.0 / n.max(1.0),
            Self::Images(n) => 1.0 / (targets.positives.len().max(1) * n.max(1)) as f64,
        }
    }

    /// The factor of all images; `None` if it differs between images.
    fn shared(self) -> Option<f64> {
        (!matches!(self, Self::Images(_))).then(|| self.weight(&ImageTargets::default()))
    }
}

/// The losses of a batch, already divided by the normalizer.
#[derive(Debug, Clone)]
pub struct Losses {
    /// The class loss, `[1]`, divided by the normalizer.
    pub class: Tensor<1>,
    /// The box loss, `[1]`, divided by the normalizer and not yet multiplied by `loss.box_weight`.
    pub boxes: Tensor<1>,
    /// The total loss, `class + box_weight * boxes`, `[1]`. Call `backward` on this tensor.
    pub total: Tensor<1>,
    /// The class loss in two parts, `[2]`: the loss of the positive pairs (an anchor and the class of its object) and
    /// the loss of the negative pairs (a background anchor and any class, or a positive anchor and a class other than
    /// that of its object). Both are divided by the normalizer. The tensor carries no gradient.
    pub class_sums: Tensor<1>,
    /// Number of positive anchors of all images of the batch.
    pub positives: usize,
    /// The breakdown of the class loss, if a layout was given to [`LossConfig::forward_with`].
    pub breakdown: Option<BatchBreakdown>,
}

impl LossConfig {
    /// Computes the class loss and the box loss of one batch.
    ///
    /// # Shapes
    /// - logits: `[batch, anchors, classes]`
    /// - deltas: `[batch, anchors, 4]`
    /// - targets: one entry per image
    ///
    /// # Panics
    /// If the targets were made for another number of images or anchors, or if `alpha`, `gamma` or `class_weights` is a
    /// list with another number of entries than there are classes.
    pub fn forward(
        &self,
        logits: Tensor<3>,
        deltas: Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
    ) -> Losses {
        self.forward_with(logits, deltas, targets, normalizer, None)
    }

    /// Computes the class loss and the box loss of one batch and, if `breakdown` gives the number of anchors of each
    /// pyramid level, the breakdown of the class loss.
    ///
    /// # Shapes
    /// - logits: `[batch, anchors, classes]`
    /// - deltas: `[batch, anchors, 4]`
    /// - targets: one entry per image
    ///
    /// # Panics
    /// If the targets were made for another number of images or anchors, if the layout has another number of anchors,
    /// or if `alpha`, `gamma` or `class_weights` is a list with another number of entries than there are classes.
    pub fn forward_with(
        &self,
        logits: Tensor<3>,
        deltas: Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
        breakdown: Option<BreakdownLayout>,
    ) -> Losses {
        let selection = Selection::of(&logits.device());
        self.forward_selecting(logits, deltas, targets, normalizer, breakdown, selection)
    }

    /// Computes the losses of [`forward_with`](Self::forward_with), with the given place for the selection of
    /// background anchors, if the class loss has one.
    pub(crate) fn forward_selecting(
        &self,
        logits: Tensor<3>,
        deltas: Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
        breakdown: Option<BreakdownLayout>,
        selection: Selection,
    ) -> Losses {
        let [batch, anchors, classes] = logits.dims();
        assert_eq!(batch, targets.len(), "the targets must have one entry per image of the batch");
        let mut ids: Vec<i32> = targets.iter().flat_map(|t| t.classes.iter().copied()).collect();
        assert_eq!(ids.len(), batch * anchors, "the targets must have one class per anchor of the batch");
        // A GPU kernel would take such an anchor for background.
        let beyond = ids.iter().find(|class| usize::try_from(**class).is_ok_and(|class| class >= classes));
        assert!(beyond.is_none(), "the targets have the class {beyond:?}, and the logits have {classes} classes");
        let keep = match (self.kind.form().anchors, selection) {
            (Participants::All, _) => None,
            (Participants::Hardest, Selection::Device) => Some(mining::counts(&ids, anchors, self.ohem_ratio)),
            (Participants::Hardest, Selection::Host) => {
                mining::keep_on_host(&logits, &mut ids, self.ohem_ratio);
                None
            }
        };
        let weights: Vec<f64> = targets.iter().map(|t| normalizer.weight(t)).collect();
        let host = BatchTargets { ids: &ids, keep, images: targets, weights: &weights, layout: breakdown };
        let on_device = TargetTensors::new(self, &host, &logits.device());
        let breakdown = breakdown.map(|layout| (layout, AnchorCounts::of(&ids, layout, classes)));
        // If all images have the same factor, the class loss of the batch is computed in one pass.
        let class_weights = normalizer.shared().map_or_else(|| weights.clone(), |weight| vec![weight]);
        // On a GPU, Burn 0.22 fuses none of the operations of the losses if the first of them consumes the logits.
        // Their gradient then gets memory of its own.
        let kept = is_gpu(&logits.device()).then(|| logits.clone());
        let class = self.class_part(logits, &deltas, &on_device, &class_weights, breakdown);
        let boxes = boxes::weighted(deltas, on_device.positives.as_ref(), self.box_kind, self.beta);
        let total = class.loss.clone() + boxes.clone() * self.box_weight;
        let positives = targets.iter().map(|t| t.positives.len()).sum();
        drop(kept);
        Losses { class: class.loss, boxes, total, class_sums: class.sums, positives, breakdown: class.breakdown }
    }
}
