//! `[loss]`.

use foveal_kernels::{ClassLossKind, ClassLossParams, ClassTerms};
use serde::{Deserialize, Serialize};

use crate::weights::{effective_number, inverse_frequency};

/// The loss over anchors and classes (`loss.kind`; arXiv 1708.02002, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassLossChoice {
    /// -alpha_t (1 - p_t)^gamma ln p_t.
    #[default]
    Focal,
    /// -ln p_t.
    CrossEntropy,
    /// -alpha_t ln p_t.
    BalancedCrossEntropy,
    /// -ln p_t over the positives and, for each of an image's positives, the `ohem_ratio` background anchors that cost
    /// most (OHEM, arXiv 1604.03540, as SSD has it and section 5.1 compares with).
    Ohem,
    /// |q - p|^gamma times the cross entropy with q, the overlap of the predicted box with the object, in place of 1
    /// (quality focal loss, arXiv 2006.04388, equation 2; its beta is `gamma`).
    QualityFocal,
}

/// A number for all classes, or one for each in class order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a list with one for each class")]
pub enum PerClass {
    /// For all.
    Same(f64),
    /// For each.
    Each(Vec<f64>),
}

impl From<f64> for PerClass {
    fn from(value: f64) -> Self {
        Self::Same(value)
    }
}

impl PerClass {
    /// All numbers that occur.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::Same(value) => std::slice::from_ref(value),
            Self::Each(values) => values,
        }
    }

    /// That of a class; of classes beyond the list, the first.
    pub fn of(&self, class: usize) -> f64 {
        let values = self.values();
        values.get(class).or(values.first()).copied().unwrap_or_default()
    }
}

/// Where class weights come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeightRule {
    /// No weights.
    #[default]
    None,
    /// One over the class's number of training objects.
    InverseFrequency,
    /// `(1 - beta) / (1 - beta^n)` of its number n (Cui et al., arXiv 1901.05555, equation 2).
    EffectiveNumber,
}

/// Factors of the class loss of anchors that show an object, by its class; background has 1 (`loss.class_weights`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected none, inverse_frequency, effective_number, or a list with one for each class")]
pub enum ClassWeights {
    /// From the training set's numbers of objects, with a mean of 1.
    Rule(ClassWeightRule),
    /// As given.
    Each(Vec<f64>),
}

/// The loss over positive anchors (`loss.box`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoxLossKind {
    /// Quadratic below `beta`, linear above, on deltas: Detectron2's.
    SmoothL1,
    /// Absolute difference of deltas: torchvision's v1.
    #[default]
    L1,
    /// 1 - GIoU of the decoded boxes (arXiv 1902.09630): torchvision's v2.
    Giou,
}

/// What the sums are divided by (`loss.normalizer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalizerKind {
    /// Positive anchors of the whole batch, at least 1: the paper (section 4.1).
    #[default]
    Batch,
    /// Each image by its own positive anchors, then the mean over images: torchvision.
    PerImage,
    /// A moving average of the updates' positive anchors, from 100 on, with a momentum of 0.9: Detectron2.
    Ema,
}

/// Both losses and what they are divided by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Class loss.
    pub kind: ClassLossChoice,
    /// Weight of positives; negatives have 1 - alpha.
    pub alpha: PerClass,
    /// Exponent that turns easy anchors down; focal losses only.
    pub gamma: PerClass,
    /// Background anchors for each positive one of an image; OHEM only.
    pub ohem_ratio: f64,
    /// Weights of the classes.
    pub class_weights: ClassWeights,
    /// Beta of the effective number of objects.
    pub class_weight_beta: f64,
    /// Box loss.
    #[serde(rename = "box")]
    pub box_kind: BoxLossKind,
    /// Where smooth L1 turns linear.
    pub beta: f64,
    /// Factor of the box loss in the total.
    pub box_weight: f64,
    /// The divisor.
    pub normalizer: NormalizerKind,
}

/// Smooth L1's beta of the paper's code (Detectron: 1/9; kept by Detectron2's RetinaNet as 0.1).
const SMOOTH_L1_BETA: f64 = 0.1;
/// SSD's and the paper's ratio of negatives to positives (section 5.1: 1:3).
const OHEM_RATIO: f64 = 3.0;
/// The middle one of the betas that Cui et al. try.
const CLASS_WEIGHT_BETA: f64 = 0.999;

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            kind: ClassLossChoice::Focal,
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
    /// The class loss as the kernel takes it; the positives of the quality focal loss are no part of it.
    pub fn class_params(&self) -> ClassLossParams {
        let kind = match self.kind {
            ClassLossChoice::Focal => ClassLossKind::Focal,
            ClassLossChoice::CrossEntropy | ClassLossChoice::Ohem => ClassLossKind::CrossEntropy,
            ClassLossChoice::BalancedCrossEntropy => ClassLossKind::BalancedCrossEntropy,
            ClassLossChoice::QualityFocal => ClassLossKind::FocalNegatives,
        };
        ClassLossParams { kind, alpha: self.alpha.of(0) as f32, gamma: self.gamma.of(0) as f32 }
    }

    /// What differs between classes.
    pub(crate) fn class_terms(&self) -> ClassTerms {
        let list = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let each = |value: &PerClass| match value {
            PerClass::Same(_) => Vec::new(),
            PerClass::Each(values) => list(values),
        };
        // Cross entropy reads neither.
        let has_alpha = matches!(self.kind, ClassLossChoice::Focal | ClassLossChoice::BalancedCrossEntropy);
        let has_gamma = matches!(self.kind, ClassLossChoice::Focal | ClassLossChoice::QualityFocal);
        ClassTerms {
            alpha: if has_alpha { each(&self.alpha) } else { Vec::new() },
            gamma: if has_gamma { each(&self.gamma) } else { Vec::new() },
            weight: match &self.class_weights {
                ClassWeights::Rule(_) => Vec::new(),
                ClassWeights::Each(weights) => list(weights),
            },
        }
    }

    /// The factor of anchors that show a class.
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        match &self.class_weights {
            ClassWeights::Rule(_) => 1.0,
            ClassWeights::Each(weights) => weights.get(class).copied().unwrap_or(1.0),
        }
    }

    /// The same with class weights in numbers, from the number of training objects of each class.
    pub fn with_counts(&self, objects: &[usize]) -> Self {
        let weights = match self.class_weights {
            ClassWeights::Rule(ClassWeightRule::InverseFrequency) => inverse_frequency(objects),
            ClassWeights::Rule(ClassWeightRule::EffectiveNumber) => effective_number(objects, self.class_weight_beta),
            ClassWeights::Rule(ClassWeightRule::None) | ClassWeights::Each(_) => return self.clone(),
        };
        Self { class_weights: ClassWeights::Each(weights), ..self.clone() }
    }

    /// The lists that must have one entry for each class: key and length.
    pub fn lists(&self) -> Vec<(&'static str, usize)> {
        let mut lists = Vec::new();
        for (key, value) in [("loss.alpha", &self.alpha), ("loss.gamma", &self.gamma)] {
            if let PerClass::Each(values) = value {
                lists.push((key, values.len()));
            }
        }
        if let ClassWeights::Each(values) = &self.class_weights {
            lists.push(("loss.class_weights", values.len()));
        }
        lists
    }
}
