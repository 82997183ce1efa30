//! The class loss that is expected before the first update, and the likely cause if the first loss is another.
//!
//! A new class layer gives every pair of anchor and class the logit `b + n`, where `b` is the bias of the prior and the
//! noise `n` comes from the random weights. The weights have the standard deviation 0.01 and each output sums
//! `9 * channels` inputs. After a norm and a ReLU the inputs have a mean square of 1/2; without norms, the layers of
//! the head make it smaller. The standard deviation of `n` is therefore `s = 0.01 * sqrt(9 * channels / 2)` or less.
//!
//! - Where scores are small, the loss of a negative pair is proportional to `exp((1 + gamma) n)`. Its mean lies between
//!   the loss at `b` and `exp(((1 + gamma) s)^2 / 2)` times that value, which is the mean of a log-normal variable. For
//!   larger scores the loss grows more slowly.
//! - All positions of one output of the layer share its weights. Their common part has the standard deviation
//!   `0.564 s`, where 0.564 is the mean of a ReLU's output over its root mean square. The mean over all outputs has
//!   that standard deviation over the square root of their number. Three standard deviations are allowed.
//! - The loss of a positive pair is `-ln(p)`, which is nearly linear in the noise. Three standard deviations of the
//!   mean are allowed here too.
//!
//! [`TOLERANCE`] covers the rest, in both directions: features that are not normally distributed, and predicted boxes
//! that differ slightly from their anchors.

use foveal_anchors::{BACKGROUND, ImageTargets};

use crate::analysis::{Sums, prior_bias};
use crate::breakdown::BreakdownRecord;
use crate::config::LossConfig;
use crate::kind::Participants;
use crate::losses::Normalizer;

/// Factor by which the first class loss may be outside the expected range: [`FirstLossCheck::check`] accepts losses
/// from `low / TOLERANCE` to `high * TOLERANCE` of [`Expected`].
pub const TOLERANCE: f64 = 1.5;
/// With fewer positives, only the whole class loss is checked, not its two parts.
const MIN_POSITIVES: usize = 20;
/// Standard deviation of the new weights of the class layer (arXiv 1708.02002, section 4.1).
const WEIGHT_STD: f64 = 0.01;
/// Positions of a 3x3 convolution.
const PIXELS: f64 = 9.0;
/// Mean over root mean square of the ReLU of a normally distributed variable.
const RELU_MEAN: f64 = 0.564;
/// Number of standard deviations that are allowed.
const DEVIATIONS: f64 = 3.0;

/// Check of the first class loss of a run with a new class layer: before the first update, the loss follows from the
/// prior, the loss configuration and the targets (arXiv 1708.02002, section 4.1). A value outside the expected range
/// points to an error, for example a prior that is not applied. The fields are what the loss depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FirstLossCheck<'a> {
    /// The `loss` section of the configuration.
    pub config: &'a LossConfig,
    /// The prior: the score from 0 to 1 that a new class layer gives every pair (`model.head.prior`).
    pub prior: f64,
    /// Number of input channels of the class layer.
    pub channels: usize,
    /// Number of convolutions before the class layer (`model.head.convs`). If it is 0, the input of the class layer
    /// does not come from a ReLU.
    pub convs: usize,
    /// Number of output channels of the class layer: anchors per location times classes.
    pub outputs: usize,
    /// Number of class channels of the network.
    pub classes: usize,
}

/// The class loss that is expected before the first update, in its parts from positives and negatives, divided by the
/// normalizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The class loss if every score equals the prior, divided by the normalizer.
    pub at_prior: Sums,
    /// The lowest loss that the random weights of the class layer explain, without [`TOLERANCE`].
    pub low: Sums,
    /// The highest loss that the random weights of the class layer explain, without [`TOLERANCE`].
    pub high: Sums,
    /// Number of positive anchors of all images of the update.
    pub positives: usize,
    /// The number that the sum of the loss over all anchors should be divided by: the number of positive anchors
    /// ([`Normalizer::Positives`]), their moving average ([`Normalizer::Smoothed`]), or their mean number per image
    /// ([`Normalizer::Images`]).
    pub divisor: f64,
}

/// The likely cause of a first class loss outside the expected range. The message states the cause and its numbers.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The scores do not equal the prior, so the bias of the class layer is wrong.
    #[error(
        "the prior is not applied: the mean score of negatives is {found:.3}, expected the prior {prior}; the bias of \
         the class layer is about {bias:.2}, expected {expected:.3}"
    )]
    Prior {
        /// Mean score of the negatives, from 0 to 1.
        found: f64,
        /// The prior, from 0 to 1.
        prior: f64,
        /// The bias of the class layer that gives the mean score of the negatives.
        bias: f64,
        /// The bias of the class layer that gives the prior.
        expected: f64,
    },
    /// The class layer is already trained: its scores differ between positives and negatives.
    #[error(
        "the class layer is already trained: the mean scores are {positive:.3} for positives and {negative:.2e} for \
         negatives; with a new class layer, both equal the prior {prior}"
    )]
    Trained {
        /// Mean score of the positives, from 0 to 1.
        positive: f64,
        /// Mean score of the negatives, from 0 to 1.
        negative: f64,
        /// The prior, from 0 to 1, which both mean scores should equal.
        prior: f64,
    },
    /// The scores equal the prior, but the loss is divided by a wrong number or not divided at all.
    #[error(
        "the normalizer is missing or wrong: the scores equal the prior, but the losses of positives and negatives are \
         {factor:.3} times the expected values; the sum of the loss over all anchors should be divided by {divisor:.1}"
    )]
    Normalizer {
        /// The loss found over the loss expected.
        factor: f64,
        /// The number that the loss should be divided by.
        divisor: f64,
    },
    /// The weights of positives and negatives, `alpha` and `1 - alpha`, are swapped.
    #[error(
        "alpha and 1 - alpha are swapped: the scores equal the prior, but the loss of positives is {positive:.3} \
         times its expected value, and the loss of negatives is {negative:.3} times its expected value"
    )]
    AlphaSwapped {
        /// The loss of the positives found over the loss expected.
        positive: f64,
        /// The loss of the negatives found over the loss expected.
        negative: f64,
    },
    /// The loss is outside the expected range, and no known cause explains it.
    #[error(
        "no known cause: the scores equal the prior, but the loss of positives is {positive:.3} times its expected \
         value, and the loss of negatives is {negative:.3} times its expected value"
    )]
    Unknown {
        /// The loss of the positives found over the loss expected.
        positive: f64,
        /// The loss of the negatives found over the loss expected.
        negative: f64,
    },
}

/// Assumed distance of the logits from the bias of the prior.
#[derive(Clone, Copy, Default)]
struct Shift {
    positives: f64,
    negatives: f64,
    /// Standard deviation of the logits, from which a factor for the negatives of each class follows by its gamma.
    spread: f64,
}

impl FirstLossCheck<'_> {
    /// Returns the highest standard deviation of the logits of a new class layer around the bias of the prior:
    /// `0.01 * sqrt(9 * channels / 2)`, without the factor 1/2 if there are no convolutions before the class layer.
    pub fn spread(&self) -> f64 {
        let mean_square = if self.convs == 0 { 1.0 } else { 0.5 };
        WEIGHT_STD * (PIXELS * self.channels as f64 * mean_square).sqrt()
    }

    /// Returns the range of the first class loss for `targets`, which are the targets of all images of the first
    /// update, divided by `normalizer`.
    pub fn expected(&self, targets: &[ImageTargets], normalizer: Normalizer) -> Expected {
        let positives: usize = targets.iter().map(|t| t.positives.len()).sum();
        let spread = self.spread();
        let common = DEVIATIONS * RELU_MEAN * spread / (self.outputs.max(1) as f64).sqrt();
        let own = common + DEVIATIONS * spread / (positives.max(1) as f64).sqrt();
        // The largest of n normally distributed values is about sqrt(2 ln n) standard deviations above the mean.
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

    /// The class loss of the positives and of the negatives if the logits differ from the bias of the prior by `shift`.
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

    /// Compares the breakdown of the first step with the expected loss. The whole class loss must be in the range of
    /// `expected` widened by [`TOLERANCE`], and with 20 positives or more also its parts from positives and negatives.
    ///
    /// # Errors
    /// The likely cause of a loss outside the range: [`Fault`].
    pub fn check(&self, found: &BreakdownRecord, expected: &Expected) -> Result<(), Fault> {
        let is_inside = |value: f64, of: fn(&Sums) -> f64| {
            (of(&expected.low) / TOLERANCE..=of(&expected.high) * TOLERANCE).contains(&value)
        };
        let (positive, negative) = (found.positive.loss, found.negative.loss);
        let whole = is_inside(positive + negative, Sums::total);
        let parts = expected.positives < MIN_POSITIVES
            || is_inside(positive, |s| s.positive) && is_inside(negative, |s| s.negative);
        if whole && parts { Ok(()) } else { Err(self.likely_fault(found, expected)) }
    }

    /// The likely cause of a first loss outside the expected range.
    fn likely_fault(&self, found: &BreakdownRecord, expected: &Expected) -> Fault {
        let prior = self.prior;
        let bias = prior_bias(prior);
        let (of_positives, of_negatives) = (found.positive.mean_p_t, 1.0 - found.negative.mean_p_t);
        let logit = |score: f64| prior_bias(score.clamp(1e-12, 1.0 - 1e-12));
        // Scores are log-normally distributed, so their mean lies above the score at the mean logit.
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
        // The factor by which the ratio of the negatives may differ from 1 through the random weights alone.
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
