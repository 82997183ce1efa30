//! `[loss]`.

use foveal_base::{SettingError, check};
use foveal_kernels::{ClassLossParams, ClassTerms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::PairLoss;
use crate::kind::ClassLossKind;
use crate::weights::{effective_number, inverse_frequency};

/// A number for all classes, or one for each in class order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected none, inverse_frequency, effective_number, or a list with one for each class")]
pub enum ClassWeights {
    /// From the training set's numbers of objects, with a mean of 1.
    Rule(ClassWeightRule),
    /// As given.
    Each(Vec<f64>),
}

/// The loss over positive anchors (`loss.box`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Class loss.
    pub kind: ClassLossKind,
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
    /// Refuses constants that no loss has.
    ///
    /// # Errors
    /// The first such key below `loss`, what is possible, and the value.
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

    /// Refuses lists with another number of entries than the network has class channels.
    ///
    /// # Errors
    /// The first such key below `loss`, and how many entries it has.
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

    /// The loss of a pair of anchor and class in closed form: its weights and its exponent.
    pub fn pair_loss(&self, class: usize) -> PairLoss {
        let form = self.kind.form();
        let alpha = self.alpha.of(class);
        let (positive_weight, negative_weight) = if form.has_alpha { (alpha, 1.0 - alpha) } else { (1.0, 1.0) };
        PairLoss { positive_weight, negative_weight, gamma: if form.has_gamma { self.gamma.of(class) } else { 0.0 } }
    }

    /// The class loss as the kernel takes it; the positives of the quality focal loss are no part of it.
    pub fn class_params(&self) -> ClassLossParams {
        let kind = self.kind.form().kernel;
        ClassLossParams { kind, alpha: self.alpha.of(0) as f32, gamma: self.gamma.of(0) as f32 }
    }

    /// What differs between classes.
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

    /// The factor of anchors that show a class.
    pub(crate) fn class_weight(&self, class: usize) -> f64 {
        match &self.class_weights {
            ClassWeights::Rule(_) => 1.0,
            ClassWeights::Each(weights) => weights.get(class).copied().unwrap_or(1.0),
        }
    }

    /// The config with class weights in numbers, by the number of training objects of each class.
    pub fn with_counts(&self, objects: &[usize]) -> Self {
        let weights = match self.class_weights {
            ClassWeights::Rule(ClassWeightRule::InverseFrequency) => inverse_frequency(objects),
            ClassWeights::Rule(ClassWeightRule::EffectiveNumber) => effective_number(objects, self.class_weight_beta),
            ClassWeights::Rule(ClassWeightRule::None) | ClassWeights::Each(_) => return self.clone(),
        };
        Self { class_weights: ClassWeights::Each(weights), ..self.clone() }
    }
}
