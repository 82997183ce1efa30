//! What the class loss must be before the first update, and what may be wrong where it is not.
//!
//! A new class layer gives every pair the logit `b + n`: `b` is the prior's bias, and the noise `n` comes from its random
//! weights. With weights of deviation 0.01 over `9 * channels` inputs of mean square 1/2 (a norm and a ReLU before it;
//! without norms towers shrink their input, which makes less), `n` has the deviation `s = 0.01 * sqrt(9 * channels / 2)`
//! or less. A negative's loss goes with `exp((1 + gamma) n)` where scores are small, so that
//!
//! - its mean lies between the loss at `b` and `exp(((1 + gamma) s)^2 / 2)` times that (the mean of a log-normal; for
//!   larger scores the loss grows slower),
//! - all positions of one output of the layer share its weights: their common part deviates by `0.564 s` (a ReLU's mean
//!   over its root mean square), and the mean over all outputs by that over the root of their number. Three deviations
//!   are allowed. Positives have `-ln(p)`, nearly the noise itself: three deviations of their mean too.
//!
//! What remains (features that are not normal, boxes that are not quite their anchors) has [`TOLERANCE`], either way.

use foveal_anchors::{BACKGROUND, ImageTargets};

use crate::analysis::{Sums, prior_bias};
use crate::breakdown::BreakdownRecord;
use crate::config::LossConfig;
use crate::kind::Participants;
use crate::losses::Normalizer;

/// Factor around the range of the head's own spread.
pub const TOLERANCE: f64 = 1.5;
/// Fewer positives say too little for their part to be checked by itself.
const ENOUGH: usize = 20;
/// Deviation of new weights of the class layer (section 4.1), and the pixels that each sees.
const WEIGHT_STD: f64 = 0.01;
const PIXELS: f64 = 9.0;
/// Mean over root mean square of a normal number's positive part.
const RELU_MEAN: f64 = 0.564;
/// Deviations that are allowed.
const DEVIATIONS: f64 = 3.0;

/// What a first loss depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstLossCheck<'a> {
    /// The loss.
    pub config: &'a LossConfig,
    /// The score that a new class layer gives.
    pub prior: f64,
    /// Channels before the class layer.
    pub channels: usize,
    /// Layers before it; without any, its input is no ReLU's.
    pub convs: usize,
    /// Outputs of the class layer: cells times classes.
    pub outputs: usize,
    /// Class channels.
    pub classes: usize,
}

/// Class losses before the first update, divided by the normalizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Every score equal to the prior.
    pub at_prior: Sums,
    /// The least that the head's spread allows.
    pub low: Sums,
    /// The most.
    pub high: Sums,
    /// Positive anchors.
    pub positives: usize,
    /// What the sums should be divided by.
    pub divisor: f64,
}

/// The likely cause of a first loss that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Scores are not the prior's.
    #[error(
        "the prior is not applied: negatives have a mean score of {found:.3}, the prior is {prior}; the class layer's bias \
         is about {bias:.2} and should be {expected:.3}"
    )]
    Prior {
        /// Mean score of the negatives.
        found: f64,
        /// The score wanted.
        prior: f64,
        /// The bias that such a score comes from.
        bias: f64,
        /// The prior's.
        expected: f64,
    },
    /// The class layer has learnt.
    #[error(
        "the weights are trained already: positives have a mean score of {positive:.3}, negatives of {negative:.2e}, and a \
         new class layer gives both {prior}"
    )]
    Trained {
        /// Mean score of the positives.
        positive: f64,
        /// Mean score of the negatives.
        negative: f64,
        /// What both should be.
        prior: f64,
    },
    /// Scores are right, sums are not divided.
    #[error(
        "the normalizer is missing or another: scores are the prior's, but both parts of the loss are {factor:.3} times \
         what they should be; the divisor should be {divisor:.1}"
    )]
    Normalizer {
        /// Found over expected.
        factor: f64,
        /// What should have been divided by.
        divisor: f64,
    },
    /// Positives weigh what negatives should.
    #[error(
        "alpha and 1 - alpha are swapped: scores are the prior's, but positives have {positive:.3} times the loss that they \
         should have and negatives {negative:.3} times"
    )]
    AlphaSwapped {
        /// Found over expected.
        positive: f64,
        /// Found over expected.
        negative: f64,
    },
    /// None of these.
    #[error(
        "no known cause: scores are the prior's, but positives have {positive:.3} times and negatives {negative:.3} times \
             the loss that they should have"
    )]
    Unknown {
        /// Found over expected.
        positive: f64,
        /// Found over expected.
        negative: f64,
    },
}

/// Where logits are taken to be, from the prior's bias.
#[derive(Clone, Copy, Default)]
struct Shift {
    positives: f64,
    negatives: f64,
    /// A factor of each class's negatives by its gamma: the deviation that it comes from.
    spread: f64,
}

impl FirstLossCheck<'_> {
    /// Deviation of the logits of a new class layer, at most.
    pub fn spread(&self) -> f64 {
        let mean_square = if self.convs == 0 { 1.0 } else { 0.5 };
        WEIGHT_STD * (PIXELS * self.channels as f64 * mean_square).sqrt()
    }

    /// The range of the first class loss over `targets`, all images of an update.
    pub fn expected(&self, targets: &[ImageTargets], normalizer: Normalizer) -> Expected {
        let positives: usize = targets.iter().map(|t| t.positives.len()).sum();
        let spread = self.spread();
        let common = DEVIATIONS * RELU_MEAN * spread / (self.outputs.max(1) as f64).sqrt();
        let own = common + DEVIATIONS * spread / (positives.max(1) as f64).sqrt();
        // The hardest of n normal numbers reach sqrt(2 ln n) deviations.
        let anchors = targets.first().map_or(1, |t| t.classes.len()).max(2) as f64;
        let hardest = if self.config.kind.form().anchors == Participants::Hardest {
            spread * (2.0 * (anchors * self.classes as f64).ln()).sqrt()
        } else {
            0.0
        };
        let sums = |shift: Shift| self.sums(targets, normalizer, shift);
        let divisor = match normalizer {
            Normalizer::Positives(n) => n.max(1) as f64,
            Normalizer::Smoothed(n) => n.max(1.0),
            Normalizer::Images(n) => positives.max(1) as f64 / n.max(1) as f64,
        };
        let low = sums(Shift { positives: own, negatives: -common, spread: 0.0 });
        let high = sums(Shift { positives: -own, negatives: common + hardest, spread });
        Expected { at_prior: sums(Shift::default()), low, high, positives, divisor }
    }

    fn sums(&self, targets: &[ImageTargets], normalizer: Normalizer, shift: Shift) -> Sums {
        let config = self.config;
        let bias = prior_bias(self.prior);
        let score = |shift: f64| 1.0 / (1.0 + (-bias - shift).exp());
        let (of_positives, of_negatives) = (score(shift.positives), score(shift.negatives));
        let negative = |class: usize| {
            let loss = config.pair_loss(class);
            loss.negative(of_negatives) * (((1.0 + loss.gamma) * shift.spread).powi(2) / 2.0).exp()
        };
        let all_negatives: f64 = (0..self.classes).map(negative).sum();
        let mut sums = Sums::default();
        for targets in targets {
            let weight = normalizer.weight(targets);
            let mut background = targets.classes.iter().filter(|c| **c == BACKGROUND).count() as f64;
            if config.kind.form().anchors == Participants::Hardest {
                background = background.min((config.ohem_ratio * targets.positives.len().max(1) as f64).round());
            }
            sums.negative += weight * background * all_negatives;
            for positive in &targets.positives {
                let class = targets.classes[positive.anchor as usize] as usize;
                let weight = weight * config.class_weight(class);
                sums.negative += weight * (all_negatives - negative(class));
                sums.positive += weight * config.positive_at(positive, class, of_positives);
            }
        }
        sums
    }

    /// Compares a first breakdown with what it must be.
    ///
    /// # Errors
    /// The likely cause, where it cannot be.
    pub fn check(&self, found: &BreakdownRecord, expected: &Expected) -> Result<(), Fault> {
        let is_inside = |value: f64, of: fn(&Sums) -> f64| {
            (of(&expected.low) / TOLERANCE..=of(&expected.high) * TOLERANCE).contains(&value)
        };
        let (positive, negative) = (found.positive.loss, found.negative.loss);
        let whole = is_inside(positive + negative, Sums::total);
        let parts =
            expected.positives < ENOUGH || is_inside(positive, |s| s.positive) && is_inside(negative, |s| s.negative);
        if whole && parts { Ok(()) } else { Err(self.cause(found, expected)) }
    }

    fn cause(&self, found: &BreakdownRecord, expected: &Expected) -> Fault {
        let prior = self.prior;
        let bias = prior_bias(prior);
        let (of_positives, of_negatives) = (found.positive.mean_p_t, 1.0 - found.negative.mean_p_t);
        let logit = |score: f64| prior_bias(score.clamp(1e-12, 1.0 - 1e-12));
        // A mean of scores is that of log-normal numbers.
        let spread = self.spread();
        let margin = TOLERANCE.ln() + DEVIATIONS * spread;
        let apart = logit(of_positives) - logit(of_negatives);
        let moved = logit(of_negatives) - bias;
        if expected.positives > 0 && apart > 2.0 * margin || moved < -margin {
            return Fault::Trained { positive: of_positives, negative: of_negatives, prior };
        }
        if moved > margin {
            return Fault::Prior { found: of_negatives, prior, bias: logit(of_negatives), expected: bias };
        }
        let ratio = |found: f64, of: fn(&Sums) -> f64| found / of(&expected.at_prior);
        let (positive, negative) =
            (ratio(found.positive.loss, |s| s.positive), ratio(found.negative.loss, |s| s.negative));
        // How far the negatives' ratio may be from 1 by the spread alone.
        let allowed = TOLERANCE * expected.high.negative / expected.at_prior.negative;
        let near = |found: f64, wanted: f64| (wanted / allowed..=wanted * allowed).contains(&found);
        let alpha = self.config.alpha.of(0);
        let has_alpha = self.config.kind.form().has_alpha;
        let swapped = (1.0 - alpha) / alpha;
        if has_alpha && near(positive, swapped) && near(negative, 1.0 / swapped) && !near(positive, negative) {
            return Fault::AlphaSwapped { positive, negative };
        }
        if near(negative, positive) || expected.positives == 0 {
            return Fault::Normalizer { factor: negative, divisor: expected.divisor };
        }
        Fault::Unknown { positive, negative }
    }
}
