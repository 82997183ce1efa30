//! The class loss in closed form, in `f64`, for known scores.
//!
//! The formulas are the same as in the kernels ([`foveal_kernels::class_loss`]); a test of this crate compares the two.
//! All logarithms are natural. `foveal loss` prints these numbers, and the check of a run's first loss uses them.

/// The loss of one pair of an anchor and a class in closed form: `weight * (1 - p_t)^gamma * -ln(p_t)`, where `p_t` is
/// the probability that the network gives to the truth (Lin et al., arXiv 1708.02002, equations 1, 3 and 5). A pair is
/// positive if the anchor was matched with an object of the class, otherwise negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairLoss {
    /// Weight of the loss of positive pairs: alpha in arXiv 1708.02002, equation 3, or 1 in a loss without alpha.
    pub positive_weight: f64,
    /// Weight of the loss of negative pairs: 1 - alpha in arXiv 1708.02002, equation 3, or 1 in a loss without alpha.
    pub negative_weight: f64,
    /// Exponent of the focusing factor `(1 - p_t)^gamma`; 0 turns the factor off.
    pub gamma: f64,
}

/// Numbers of positive and negative pairs of anchor and class, and the score of each kind. A score is the sigmoid of a
/// logit, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Number of positive pairs: an anchor and the class of its object.
    pub positives: f64,
    /// Number of negative pairs: a background anchor and any class, or a positive anchor and a class other than that of
    /// its object.
    pub negatives: f64,
    /// Score of every positive pair, which is its `p_t`.
    pub of_positives: f64,
    /// Score of every negative pair, which is `1 - p_t`.
    pub of_negatives: f64,
}

/// A sum of losses or gradients over all pairs of anchor and class, in its parts from positive and negative pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// Sum over the positive pairs: an anchor and the class of its object.
    pub positive: f64,
    /// Sum over the negative pairs: a background anchor and any class, or a positive anchor and a class other than that
    /// of its object.
    pub negative: f64,
}

impl Sums {
    /// Returns the sum over all pairs of anchor and class, positive and negative.
    pub fn total(&self) -> f64 {
        self.positive + self.negative
    }

    /// Returns the sum of both parts of this and another sum.
    pub fn plus(self, other: Self) -> Self {
        Self { positive: self.positive + other.positive, negative: self.negative + other.negative }
    }

    /// Returns the fraction of the total that comes from the positives, from 0 to 1; 0 if the total is 0.
    pub fn positive_share(&self) -> f64 {
        if self.total() > 0.0 { self.positive / self.total() } else { 0.0 }
    }
}

impl PairLoss {
    /// Cross entropy, `-ln(p_t)` (arXiv 1708.02002, equation 1).
    pub const fn cross_entropy() -> Self {
        Self { positive_weight: 1.0, negative_weight: 1.0, gamma: 0.0 }
    }

    /// Balanced cross entropy with the weights `alpha` and `1 - alpha` (arXiv 1708.02002, equation 3).
    pub const fn balanced(alpha: f64) -> Self {
        Self { positive_weight: alpha, negative_weight: 1.0 - alpha, gamma: 0.0 }
    }

    /// Focal loss with the weights `alpha` and `1 - alpha` and the exponent `gamma` (arXiv 1708.02002, equation 5).
    pub const fn focal(alpha: f64, gamma: f64) -> Self {
        Self { positive_weight: alpha, negative_weight: 1.0 - alpha, gamma }
    }

    /// Returns the loss of a positive pair with this score (the sigmoid of its logit, from 0 to 1).
    pub fn positive(&self, score: f64) -> f64 {
        self.positive_weight * (1.0 - score).powf(self.gamma) * -score.ln()
    }

    /// Returns the loss of a negative pair with this score (the sigmoid of its logit, from 0 to 1).
    pub fn negative(&self, score: f64) -> f64 {
        self.negative_weight * score.powf(self.gamma) * -(-score).ln_1p()
    }

    /// Returns the magnitude of the derivative of the unweighted loss with respect to the logit, for a pair with
    /// `p_t = truth` (arXiv 1708.02002, appendix B):
    /// `(1 - p_t)^gamma * ((1 - p_t) - gamma * p_t * ln(p_t))`.
    pub fn slope(&self, truth: f64) -> f64 {
        let other = 1.0 - truth;
        other.powf(self.gamma) * (other - self.gamma * truth * truth.ln())
    }

    /// Returns the sums of the losses over all positive pairs and over all negative pairs, whose numbers and scores are
    /// given by `scores`.
    pub fn sums(&self, scores: &Scores) -> Sums {
        Sums {
            positive: scores.positives * self.positive(scores.of_positives),
            negative: scores.negatives * self.negative(scores.of_negatives),
        }
    }

    /// Returns the sums of the magnitudes of the loss's derivatives with respect to the logits, over all positive pairs
    /// and over all negative pairs, whose numbers and scores are given by `scores`.
    pub fn gradients(&self, scores: &Scores) -> Sums {
        Sums {
            positive: scores.positives * self.positive_weight * self.slope(scores.of_positives),
            negative: scores.negatives * self.negative_weight * self.slope(1.0 - scores.of_negatives),
        }
    }

    /// Returns the sums of the losses over all pairs if every score equals `prior`, as before the first update
    /// (arXiv 1708.02002, section 4.1). `anchors` is the number of anchors that take part in the loss, `positives` the
    /// number of those that are positive, and each anchor has one pair per class.
    pub fn at_prior(&self, prior: f64, anchors: f64, classes: f64, positives: f64) -> Sums {
        let negatives = anchors * classes - positives;
        self.sums(&Scores { positives, negatives, of_positives: prior, of_negatives: prior })
    }
}

/// Returns the bias of the class layer that gives every pair the score `prior`: `-ln((1 - prior) / prior)`
/// (arXiv 1708.02002, section 4.1). `prior` is between 0 and 1.
pub fn prior_bias(prior: f64) -> f64 {
    prior.ln() - (-prior).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{found}, not {expected}");
    }

    #[test]
    fn hand_computed_pairs() {
        let ln2 = std::f64::consts::LN_2;
        close(PairLoss::cross_entropy().positive(0.5), ln2);
        close(PairLoss::balanced(0.25).positive(0.5), 0.25 * ln2);
        close(PairLoss::balanced(0.25).negative(0.5), 0.75 * ln2);
        close(PairLoss::focal(0.25, 2.0).positive(0.25), 0.25 * 0.5625 * 4f64.ln());
        close(PairLoss::focal(0.25, 2.0).negative(0.75), 0.75 * 0.5625 * 4f64.ln());
        // With alpha = 0.5 and gamma = 0, the focal loss is half of the cross entropy.
        close(PairLoss::focal(0.5, 0.0).negative(0.3), 0.5 * PairLoss::cross_entropy().negative(0.3));
        close(prior_bias(0.5) + 1.0, 1.0);
        assert!((prior_bias(0.01) + 4.59512).abs() < 5e-6);
    }

    #[test]
    fn the_slope_is_the_derivative_by_the_logit() {
        for gamma in [0.0, 0.5, 1.0, 2.0, 5.0] {
            let loss = PairLoss { positive_weight: 1.0, negative_weight: 1.0, gamma };
            for logit in [-6.0, -1.0, 0.0, 0.7, 4.0f64] {
                let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
                let step = 1e-5;
                let rise = loss.positive(sigmoid(logit + step)) - loss.positive(sigmoid(logit - step));
                let found = loss.slope(sigmoid(logit));
                // The error of central differences is of the order of the step squared.
                assert!((found + rise / (2.0 * step)).abs() < 1e-8, "{gamma} {logit}: {found}");
            }
        }
    }

    #[test]
    fn gradients_of_cross_entropy_are_what_is_missing_to_one() {
        let scores = Scores { positives: 10.0, negatives: 1e6, of_positives: 0.01, of_negatives: 0.01 };
        let gradients = PairLoss::cross_entropy().gradients(&scores);
        close(gradients.positive, 9.9);
        close(gradients.negative, 1e4);
        close(PairLoss::balanced(0.25).gradients(&scores).negative, 7.5e3);
    }

    #[test]
    fn shares_do_not_depend_on_counts_alone() {
        let sums = PairLoss::cross_entropy().at_prior(0.5, 100.0, 1.0, 20.0);
        close(sums.positive_share(), 0.2);
        assert_eq!(Sums::default().positive_share(), 0.0);
    }
}
