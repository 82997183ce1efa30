//! The class loss that is expected before the first update, and the likely cause if the first loss is another.
//!
//! The check has two parts, and neither needs an assumption about the data:
//!
//! 1. **The scores** (`start/scores.rs`). The logits of a new class layer are the bias of the prior and the noise of
//!    its random weights. The mean logits of the background and of the positives may differ from the bias only by as
//!    much as that noise explains.
//! 2. **The loss** (`start/closed_form.rs`). The class loss is computed a second time, in `f64` and in closed form,
//!    from the logits and the boxes that the network predicted. The positives are computed exactly, including the IoU
//!    of their predicted boxes, which is the target of the quality focal loss. The background is sampled. The two
//!    losses may differ by [`TOLERANCE`].

mod closed_form;
mod scores;

use burn::tensor::Tensor;
use foveal_anchors::ImageTargets;

use crate::analysis::{Sums, prior_bias};
use crate::breakdown::BreakdownRecord;
use crate::config::LossConfig;
use crate::losses::Normalizer;
use scores::Logits;

/// Factor by which the first class loss may differ from [`Expected::loss`], in both directions. Rounding explains less
/// than a thousandth of it; the rest is left for the sample of the background.
pub const TOLERANCE: f64 = 1.5;
/// Part of the class loss by which one side may differ in addition. It matters where a side has hardly any loss, such
/// as a quality focal loss whose only positive has a score equal to its IoU.
const NEGLIGIBLE: f64 = 1e-3;
/// Standard deviation of the new weights of the class layer (arXiv 1708.02002, section 4.1).
const WEIGHT_STD: f64 = 0.01;
/// Positions of a 3x3 convolution.
const PIXELS: f64 = 9.0;

/// Check of the first class loss of a run with a new class layer: before the first update, the loss follows from the
/// prior, the loss configuration and the targets (arXiv 1708.02002, section 4.1). Another value points to an error, for
/// example a prior that is not applied. The fields are what the loss depends on.
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

/// The class loss that is expected before the first update, divided by the normalizer, and the logits that it was
/// computed from. It covers one batch or, after [`Expected::after`], several batches of one update.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The class loss in closed form for the logits and boxes that the network predicted.
    pub loss: Sums,
    /// The class loss if every score equals the prior.
    pub at_prior: Sums,
    /// Number of positive anchors of all images.
    pub positives: usize,
    normalizer: Normalizer,
    logits: Logits,
}

impl Expected {
    /// Returns the sum of this expectation and that of an earlier batch of the same update, or this one unchanged if
    /// there is no earlier batch.
    pub fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(earlier) = earlier {
            self.loss = self.loss.plus(earlier.loss);
            self.at_prior = self.at_prior.plus(earlier.at_prior);
            self.positives += earlier.positives;
            self.logits.add(&earlier.logits);
        }
        self
    }

    /// Returns the number that the sum of the class loss over all anchors should be divided by: the number of positive
    /// anchors ([`Normalizer::Positives`]), their moving average ([`Normalizer::Smoothed`]), or their mean number per
    /// image ([`Normalizer::Images`]).
    pub fn divisor(&self) -> f64 {
        match self.normalizer {
            Normalizer::Positives(n) => n.max(1) as f64,
            Normalizer::Smoothed(n) => n.max(1.0),
            Normalizer::Images(n) => self.positives.max(1) as f64 / n.max(1) as f64,
        }
    }
}

/// The likely cause of an unexpected first class loss. The message states the cause and its numbers.
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
    /// The loss differs from the expected loss, and no known cause explains it.
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

impl FirstLossCheck<'_> {
    /// Returns the standard deviation of the logits of a new class layer around the bias of the prior if the input of
    /// the class layer is normalised: `0.01 * sqrt(9 * channels / 2)`, because the weights have the standard deviation
    /// 0.01 and each output sums `9 * channels` values with a mean square of 1/2 after a norm and a ReLU. The factor
    /// 1/2 is left out if there are no convolutions before the class layer.
    pub fn spread(&self) -> f64 {
        let mean_square = if self.convs == 0 { 1.0 } else { 0.5 };
        WEIGHT_STD * (PIXELS * self.channels as f64 * mean_square).sqrt()
    }

    /// Returns the expected class loss of a batch of the first update. Waits for the device, from which it reads the
    /// logits of all positive anchors and of a sample of the other anchors.
    ///
    /// # Shapes
    /// - logits, deltas: what the network predicts, `[batch, anchors, classes]` and `[batch, anchors, 4]`
    /// - targets: one entry per image
    ///
    /// # Panics
    /// If the targets were made for another number of images or anchors.
    pub fn expected(
        &self,
        logits: &Tensor<3>,
        deltas: &Tensor<3>,
        targets: &[ImageTargets],
        normalizer: Normalizer,
    ) -> Expected {
        let sums = closed_form::of(self, logits, deltas, targets, normalizer);
        Expected {
            loss: sums.loss,
            at_prior: sums.at_prior,
            positives: targets.iter().map(|t| t.positives.len()).sum(),
            normalizer,
            logits: sums.logits,
        }
    }

    /// Compares the breakdown of the first step with the expected loss: the mean logits with the bias of the prior, and
    /// the losses of positives and negatives with those in closed form.
    ///
    /// # Errors
    /// The likely cause of a difference that is too large: [`Fault`].
    pub fn check(&self, found: &BreakdownRecord, expected: &Expected) -> Result<(), Fault> {
        let (prior, bias) = (self.prior, prior_bias(self.prior));
        let (of_positives, of_negatives) = (found.positive.mean_p_t, 1.0 - found.negative.mean_p_t);
        let trained = Fault::Trained { positive: of_positives, negative: of_negatives, prior };
        let (background, positives) = (expected.logits.background(self), expected.logits.positives(self));
        // A wrong bias moves all logits together; training moves those of objects away from the others.
        if let (Some(background), Some(positives)) = (background, positives)
            && positives.mean - background.mean > positives.allowed + background.allowed
        {
            return Err(trained);
        }
        if let Some(background) = background {
            if background.mean < bias - background.allowed {
                return Err(trained);
            }
            if background.mean > bias + background.allowed {
                return Err(Fault::Prior { found: of_negatives, prior, bias: background.mean, expected: bias });
            }
        }
        if let Some(positives) = positives
            && (positives.mean - bias).abs() > positives.allowed
        {
            return Err(trained);
        }

        let sides = [(found.positive.loss, expected.loss.positive), (found.negative.loss, expected.loss.negative)];
        let slack = NEGLIGIBLE * expected.loss.total();
        let is_near = |(found, of): &(f64, f64)| (of / TOLERANCE - slack..=of * TOLERANCE + slack).contains(found);
        if sides.iter().all(is_near) { Ok(()) } else { Err(self.fault_of_loss(found, expected)) }
    }

    /// The likely cause of a loss that does not follow from its scores.
    fn fault_of_loss(&self, found: &BreakdownRecord, expected: &Expected) -> Fault {
        let (positive, negative) =
            (found.positive.loss / expected.loss.positive, found.negative.loss / expected.loss.negative);
        let near = |found: f64, wanted: f64| (wanted / TOLERANCE..=wanted * TOLERANCE).contains(&found);
        let alpha = self.config.alpha.of(0);
        let swapped = (1.0 - alpha) / alpha;
        let has_alpha = self.config.kind.form().has_alpha;
        if has_alpha && near(positive, swapped) && near(negative, 1.0 / swapped) && !near(positive, negative) {
            return Fault::AlphaSwapped { positive, negative };
        }
        let divisor = expected.divisor();
        if near(negative, positive) || expected.loss.positive == 0.0 {
            return Fault::Normalizer { factor: negative, divisor };
        }
        if expected.loss.negative == 0.0 {
            return Fault::Normalizer { factor: positive, divisor };
        }
        Fault::Unknown { positive, negative }
    }
}
