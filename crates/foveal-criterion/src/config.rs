//! The `loss` section of a configuration.

use foveal_base::{SettingError, check};
use foveal_kernels::{ClassLossParams, ClassTerms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::PairLoss;
use crate::kind::ClassLossKind;
use crate::weights::{effective_number, inverse_frequency};

/// A constant of the class loss: one number for all classes, or a list with one number per class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, or a list with one number for each class")]
pub enum PerClass {
    /// One number that applies to all classes.
    Same(f64),
    /// One number per class channel of the network, in class order.
    Each(Vec<f64>),
}

impl From<f64> for PerClass {
    fn from(value: f64) -> Self {
        Self::Same(value)
    }
}

impl PerClass {
    /// Returns the numbers as a slice: one for [`PerClass::Same`], the whole list for [`PerClass::Each`].
    pub fn values(&self) -> &[f64] {
        match self {
            Self::Same(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }

    /// Returns the number for a class. A class beyond the end of the list gets the first number, and 0 if the list is
    /// empty.
    pub fn of(&self, class: usize) -> f64 {
        let values = self.values();
        values.get(class).or(values.first()).copied().unwrap_or_default()
    }
}

/// A rule that computes class weights from the number of training objects of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeightRule {
    /// Every class has the weight 1. This is the default.
    #[default]
    None,
    /// The weight of a class is `1 / n`, where `n` is its number of training objects. The weights are scaled to a mean
    /// of 1.
    InverseFrequency,
    /// The weight of a class with `n` training objects is `(1 - beta) / (1 - beta^n)` (Cui et al., arXiv 1901.05555,
    /// equation 2), with `beta` from `loss.class_weight_beta`. The weights are scaled to a mean of 1.
    EffectiveNumber,
}

/// Class weights (`loss.class_weights`): the class loss of a positive anchor is multiplied by the weight of its
/// object's class. Background anchors have the weight 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected none, inverse_frequency, effective_number, or a list with one number for each class"
)]
pub enum ClassWeights {
    /// Weights that are computed from the number of training objects of each class.
    Rule(ClassWeightRule),
    /// One weight per class channel of the network, in class order; each is greater than 0.
    Each(Vec<f64>),
}

/// The box loss (`loss.box`). It is computed for each positive anchor, either on the four deltas or on the decoded
/// boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BoxLossKind {
    /// Smooth L1 on the deltas: `0.5 d^2 / beta` for differences `d` below `beta`, and `d - 0.5 beta` from there on
    /// (Girshick, arXiv 1504.08083, equation 3). Detectron2's RetinaNet uses it.
    SmoothL1,
    /// Absolute difference of the deltas. This is the default, and torchvision's `retinanet_resnet50_fpn` uses it.
    #[default]
    L1,
    /// `1 - GIoU` of the decoded boxes (Rezatofighi et al., arXiv 1902.09630). torchvision's
    /// `retinanet_resnet50_fpn_v2` uses it.
    Giou,
    /// `1 - DIoU` of the decoded boxes: one minus their IoU, plus the squared distance of their centres divided by the
    /// squared diagonal of the box that encloses both (Zheng et al., arXiv 1911.08287, equation 7), as in torchvision's
    /// `distance_box_iou_loss`.
    Diou,
    /// `1 - CIoU` of the decoded boxes: that of `diou`, plus a penalty for another ratio of width to height (Zheng et
    /// al., arXiv 1911.08287, equation 10), as in torchvision's `complete_box_iou_loss`.
    Ciou,
}

impl BoxLossKind {
    /// Whether the loss is computed from the decoded boxes; otherwise it is computed from the four deltas.
    pub(crate) const fn reads_boxes(self) -> bool {
        match self {
            Self::SmoothL1 | Self::L1 => false,
            Self::Giou | Self::Diou | Self::Ciou => true,
        }
    }
}

/// The normalizer (`loss.normalizer`): the number that the sums of the class loss and the box loss are divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormalizerKind {
    /// The number of positive anchors of all images of an update, at least 1 (arXiv 1708.02002, section 4.1). This is
    /// the default.
    #[default]
    Batch,
    /// The sums of each image are divided by its own number of positive anchors, at least 1, and the results are
    /// averaged over the images, as in torchvision.
    PerImage,
    /// A moving average of the number of positive anchors per update, as in Detectron2. It starts at 100 and has a
    /// momentum of 0.9.
    Ema,
}

/// The `loss` section of a configuration: the class loss, the box loss and their normalizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The class loss. Default: `focal`.
    pub kind: ClassLossKind,
    /// Weight of the positive pairs of anchor and class, from 0 to 1; negative pairs have the weight `1 - alpha`
    /// (arXiv 1708.02002, equation 3). A number for all classes, or a list with one number per class. Only `focal` and
    /// `balanced_cross_entropy` use it. Default: 0.25.
    pub alpha: PerClass,
    /// Exponent of the focusing factor `(1 - p_t)^gamma`, 0 or more; a larger value gives easy pairs less weight
    /// (arXiv 1708.02002, equation 4). A number for all classes, or a list with one number per class. Only `focal` and
    /// `quality_focal` use it. Default: 2.
    pub gamma: PerClass,
    /// Number of background anchors that `ohem` keeps for each positive anchor of an image, greater than 0. Other class
    /// losses do not use it. Default: 3.
    pub ohem_ratio: f64,
    /// Factors of the class loss of positive anchors by class: `none`, `inverse_frequency`, `effective_number`, or a
    /// list with one number per class. Default: `none`.
    pub class_weights: ClassWeights,
    /// The constant `beta` of `class_weights = "effective_number"`, from 0 to below 1; a larger value increases the
    /// weights of rare classes (arXiv 1901.05555, equation 2). Default: 0.999.
    pub class_weight_beta: f64,
    /// The box loss. Default: `l1`.
    #[serde(rename = "box")]
    pub box_kind: BoxLossKind,
    /// Difference of the deltas from which `box = "smooth_l1"` is linear instead of quadratic, 0 or more; with 0 it is
    /// L1, as in PyTorch. Other box losses do not use it. Default: 0.1.
    pub beta: f64,
    /// Factor of the box loss in the total loss, 0 or more. Default: 1.
    pub box_weight: f64,
    /// The number that both losses are divided by. Default: `batch`.
    pub normalizer: NormalizerKind,
}

/// The `beta` of smooth L1 in Detectron2's RetinaNet. The paper's code (Detectron) has 1/9.
const SMOOTH_L1_BETA: f64 = 0.1;
/// Ratio of negatives to positives in SSD (arXiv 1512.02325, section 2.2) and in the comparison of arXiv 1708.02002,
/// section 5.1.
const OHEM_RATIO: f64 = 3.0;
/// A middle one of the values that Cui et al. try (arXiv 1901.05555): 0.9, 0.99, 0.999 and 0.9999.
const CLASS_WEIGHT_BETA: f64 = 0.999;

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            kind: ClassLossKind::Focal,
            alpha: PerClass::Same(0.25),
            gamma: PerClass::Same(2.0),
            ohem_ratio: OHEM_RATIO,
            class_weights: ClassWeights::Rule(ClassWeightRule::None),
            class_weight_beta: CLASS_WEIGHT_BETA,
            box_kind: BoxLossKind::L1,
            beta: SMOOTH_L1_BETA,
            box_weight: 1.0,
            normalizer: NormalizerKind::Batch,
        }
    }
}

impl LossConfig {
    /// Checks that every constant is in its range. Lengths of lists are checked by [`LossConfig::validate_lists`].
    ///
    /// # Errors
    /// A [`SettingError`] with the first invalid key (relative to the `loss` section), the expected range and the value
    /// found: `alpha` outside 0 to 1; `gamma`, `beta` or `box_weight` negative or not finite; `ohem_ratio` or an entry
    /// of `class_weights` not positive; `class_weight_beta` outside 0 to below 1.
    pub fn validate(&self) -> Result<(), SettingError> {
        self.alpha.values().iter().try_for_each(|alpha| check::fraction("alpha", *alpha))?;
        self.gamma.values().iter().try_for_each(|gamma| check::not_negative("gamma", *gamma))?;
        check::positive("ohem_ratio", self.ohem_ratio)?;
        check::below_one("class_weight_beta", self.class_weight_beta)?;
        if let ClassWeights::Each(weights) = &self.class_weights {
            weights.iter().try_for_each(|weight| check::positive("class_weights", *weight))?;
        }
        check::not_negative("beta", self.beta)?;
        check::not_negative("box_weight", self.box_weight)
    }

    /// Checks that the lists `alpha`, `gamma` and `class_weights` have as many entries as the network has class
    /// channels.
    ///
    /// # Errors
    /// A [`SettingError`] with the first list of another length, the expected length and the length found.
    pub fn validate_lists(&self, channels: usize) -> Result<(), SettingError> {
        let length = |value: &PerClass| match value {
            PerClass::Same(_) => None,
            PerClass::Each(values) => Some(values.len()),
        };
        let weights = match &self.class_weights {
            ClassWeights::Rule(_) => None,
            ClassWeights::Each(weights) => Some(weights.len()),
        };
        for (key, length) in
            [("alpha", length(&self.alpha)), ("gamma", length(&self.gamma)), ("class_weights", weights)]
        {
            let found = length.unwrap_or(channels);
            let expected = format!("a list of {channels} numbers, one for each class channel of the network");
            check::that(found == channels, key, &expected, &format_args!("{found} numbers"))?;
        }
        Ok(())
    }

    /// Returns the closed form of the loss of one pair of an anchor and this class: its weights and its exponent,
    /// without class weights. For [`ClassLossKind::QualityFocal`] it holds for negative pairs only.
    pub fn pair_loss(&self, class: usize) -> PairLoss {
        let form = self.kind.form();
        let alpha = self.alpha.of(class);
        let (positive_weight, negative_weight) = if form.has_alpha { (alpha, 1.0 - alpha) } else { (1.0, 1.0) };
        PairLoss { positive_weight, negative_weight, gamma: if form.has_gamma { self.gamma.of(class) } else { 0.0 } }
    }

    /// Returns the parameters of the class loss kernel ([`foveal_kernels::class_loss`]). If `alpha` or `gamma` is a
    /// list, its first number is used. For [`ClassLossKind::QualityFocal`] the kernel computes the negatives only.
    pub fn class_params(&self) -> ClassLossParams {
        let kind = self.kind.form().kernel;
        ClassLossParams { kind, alpha: self.alpha.of(0) as f32, gamma: self.gamma.of(0) as f32 }
    }

    /// The constants of the kernel that differ between classes; empty lists where one number applies to all classes.
    pub(crate) fn class_terms(&self) -> ClassTerms {
        let list = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let each = |value: &PerClass| match value {
            PerClass::Same(_) => Vec::new(),
            PerClass::Each(values) => list(values),
        };
        let form = self.kind.form();
        ClassTerms {
            alpha: if form.has_alpha { each(&self.alpha) } else { Vec::new() },
            gamma: if form.has_gamma { each(&self.gamma) } else { Vec::new() },
            weight: match &self.class_weights {
                ClassWeights::Rule(_) => Vec::new(),
                ClassWeights::Each(weights) => list(weights),
            },
        }
    }

    /// The class weight of a class; 1 where no list of weights is given.
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        match &self.class_weights {
            ClassWeights::Rule(_) => 1.0,
            ClassWeights::Each(weights) => weights.get(class).copied().unwrap_or(1.0),
        }
    }

    /// Returns the configuration with the class weight rule replaced by a list of weights. `objects` is the number of
    /// training objects of each class, in class order. Without a rule the configuration is returned unchanged.
    pub fn with_counts(&self, objects: &[usize]) -> Self {
        let weights = match self.class_weights {
            ClassWeights::Rule(ClassWeightRule::InverseFrequency) => inverse_frequency(objects),
            ClassWeights::Rule(ClassWeightRule::EffectiveNumber) => effective_number(objects, self.class_weight_beta),
            ClassWeights::Rule(ClassWeightRule::None) | ClassWeights::Each(_) => return self.clone(),
        };
        Self { class_weights: ClassWeights::Each(weights), ..self.clone() }
    }
}
